// Package profile labels the goroutines of the hot path, so that `go tool pprof -tagfocus` shows one pipeline, one lane or one
// kind of work. A goroutine takes its labels when it starts and what it starts inherits them: no event pays for it.
package profile

import (
	"context"
	"runtime/pprof"
	"strconv"
)

// Labels.
const (
	labelPart      = "part"
	labelPipeline  = "pipeline"
	labelTopic     = "topic"
	labelPartition = "partition"
)

// Parts: the kinds of work.
const (
	Lane      = "lane"      // decides and folds
	Reader    = "reader"    // fetches and unpacks
	Committer = "committer" // brings commits to Redis or to the journal
	Drain     = "drain"     // brings the journal to Redis
	Replica   = "replica"   // membership and desired state
	Closer    = "closer"    // merges and publishes windows
	Shadow    = "shadow"    // lanes, and the comparison, of a replay or a recount
	WAL       = "wal"       // prepares segments and syncs
)

// OfLane are the labels of a goroutine that works for one lane. A shadow's pipeline is pipeline@replay.
func OfLane(part, pipeline, topic string, partition int32) pprof.LabelSet {
	return pprof.Labels(labelPart, part, labelPipeline, pipeline, labelTopic, topic, labelPartition, strconv.Itoa(int(partition)))
}

// OfPipeline are the labels of a goroutine that works for a whole pipeline.
func OfPipeline(part, pipeline string) pprof.LabelSet {
	return pprof.Labels(labelPart, part, labelPipeline, pipeline)
}

// OfProcess are the labels of a goroutine that works for all pipelines.
func OfProcess(part string) pprof.LabelSet { return pprof.Labels(labelPart, part) }

// Set gives the calling goroutine labels until it ends. A goroutine that goes on with other work afterwards calls pprof.Do.
func Set(labels pprof.LabelSet) {
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), labels))
}
