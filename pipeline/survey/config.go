// Package survey says how the lanes of a pipeline stand: what each has committed, which are idle, what the pipeline's
// watermark is and which windows are open. Windows close by what it says, and status shows the same.
package survey

import (
	"context"

	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// State is what a survey reads of Redis; *store.Store is one.
type State interface {
	LaneView(ctx context.Context, id store.LaneID, stateID string) (store.Meta, []store.SliceStat, error)
	ReadCtl(ctx context.Context, ids ...store.LaneID) ([]store.Ctl, error)
}

// Topics answers what the brokers know now; *source.Cluster does. Answers must not come from a cache.
type Topics interface {
	// Topic names the partitions and the id of the topic's incarnation of now; the id is "" when the brokers know none.
	Topic(ctx context.Context, name string) (source.Topic, error)
	Ends(ctx context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error)
}

// Config says what to look at.
type Config struct {
	Spec     *spec.Spec
	Plan     *window.Plan // of Spec
	State    State
	Topics   Topics
	Parallel int // lanes read at a time; with 1 everything happens in the calling goroutine, in a fixed order
	// Asked are the ends that earlier looks of the same closer asked for. Nil: there were none.
	Asked *Asked
	// Lenient is for people, who want to see what there is: a topic that does not exist has no lanes, a lane whose state is
	// of another spec shows its meta alone, one whose state cannot be read says so, and the ends of all partitions are asked
	// for. Without it the first three are errors.
	Lenient bool
}
