package model

import (
	"context"

	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/source"
)

// logs is the Kafka in memory as a shadow asks about it.
type logs struct {
	*publishtest.Kafka
	w        *World
	planning bool
	named    []int64 // ends of the source partitions as they were named to the plan
	tops     map[string][]int64
}

func newLogs(w *World) *logs { return &logs{Kafka: w.kafka, w: w, tops: map[string][]int64{}} }

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

// OffsetsAt answers by timestamps. Events come while a plan is being made, some of them for windows that it counts.
func (k *logs) OffsetsAt(ctx context.Context, at int64, tps ...source.TopicPartition) (map[source.TopicPartition]int64, error) {
	out := map[source.TopicPartition]int64{}
	for _, tp := range tps {
		found := int64(-1)
		next, err := k.ReadCommitted(ctx, tp, 0, func(r source.Record) error {
			if found < 0 && r.Timestamp >= at {
				found = r.Offset
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if out[tp] = found; found < 0 {
			out[tp] = next
		}
	}
	for n := range k.w.parts {
		ms := k.w.now - k.w.rng.Int64N(1+min(k.w.now-origin, 50*60_000))
		k.w.put(n, event{kind: good, ms: ms, key: 'a', at: k.w.step}, 21)
	}
	return out, nil
}

// TopicSettings are the defaults.
func (k *logs) TopicSettings(context.Context, string, ...string) (map[string]string, error) {
	return map[string]string{}, nil
}

// openFor returns how a recount's runners open a partition.
func (k *logs) openFor(r *recount) func(source.ReaderConfig) source.Reader {
	tops := k.tops[r.id]
	if tops == nil {
		tops = make([]int64, len(k.w.parts))
		k.tops[r.id] = tops
	}
	return func(cfg source.ReaderConfig) source.Reader {
		from := cfg.Offset
		if k.w.is(ownCommits) {
			from = max(from, tops[cfg.Partition])
		}
		ctx, stop := context.WithCancel(context.Background())
		l := &logReader{batches: make(chan source.Batch), stop: stop, done: make(chan struct{})}
		go l.read(ctx, k.w.parts[cfg.Partition], from, &tops[cfg.Partition])
		return l
	}
}

// logReader passes on what a partition holds, in small batches.
type logReader struct {
	batches chan source.Batch
	stop    context.CancelFunc
	done    chan struct{}
}

func (l *logReader) read(ctx context.Context, p *partition, from int64, top *int64) {
	defer close(l.done)
	defer close(l.batches)
	const size = 5
	for from < p.end() {
		b := p.batch(from, size)
		select {
		case l.batches <- *b:
		case <-ctx.Done():
			return
		}
		from = b.Next
		*top = max(*top, from)
	}
	<-ctx.Done()
}

func (l *logReader) Batches() <-chan source.Batch { return l.batches }
func (l *logReader) Err() error                   { <-l.done; return nil }
func (l *logReader) Status() source.ReaderStatus  { return source.ReaderStatus{} }
func (l *logReader) Pause()                       {}
func (l *logReader) Resume()                      {}
func (l *logReader) Close() error {
	l.stop()
	<-l.done
	return nil
}
