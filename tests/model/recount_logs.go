package model

import (
	"context"
	"sync/atomic"

	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/source"
)

// logs is the Kafka in memory as recounts ask about it.
type logs struct {
	*publishtest.Kafka
	w        *World
	planning bool
	named    []int64 // ends of the source partitions as they were named to the plan
}

// Ends notes what a plan may read.
func (k *logs) Ends(ctx context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error) {
	ends, err := k.Kafka.Ends(ctx, tps...)
	if k.planning && err == nil {
		k.named = make([]int64, len(k.w.parts))
		for p := range k.named {
			k.named[p] = ends[source.TopicPartition{Topic: topic, Partition: int32(p)}].End
		}
	}
	return ends, err
}

// OffsetsAt lets events arrive while a plan is being made, some of them for windows that it counts.
func (k *logs) OffsetsAt(ctx context.Context, at int64, tps ...source.TopicPartition) (map[source.TopicPartition]int64, error) {
	offsets, err := k.Kafka.OffsetsAt(ctx, at, tps...)
	for n := range k.w.parts {
		ms := k.w.now - k.w.rng.Int64N(1+min(k.w.now-origin, 50*60_000))
		k.w.put(n, event{kind: good, ms: ms, key: 'a', at: k.w.step}, 21)
	}
	return offsets, err
}

// openFor returns how the runners of a recount open a partition. Each reader has a copy of the log of its own, since the model
// appends to its partitions while runners are frozen.
func (k *logs) openFor(r *recount) func(source.ReaderConfig) source.Reader {
	return func(cfg source.ReaderConfig) source.Reader {
		top := &r.tops[cfg.Partition]
		if k.w.is(ownCommits) {
			cfg.Offset = max(cfg.Offset, top.Load())
		}
		return k.OpenReader(cfg, func(next int64) { raise(top, next) })
	}
}

// raise makes an offset at least next.
func raise(offset *atomic.Int64, next int64) {
	for old := offset.Load(); old < next && !offset.CompareAndSwap(old, next); old = offset.Load() {
	}
}
