package shadow_test

import (
	"context"
	"sync"
	"sync/atomic"

	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/source"
)

const topicID = "topic"

// logs is the Kafka in memory with what planning asks beyond publishing.
type logs struct {
	*publishtest.Kafka
	mu       sync.Mutex
	settings map[string]string
	start    map[source.TopicPartition]int64 // where the log was cut off

	delivered [8]atomic.Int64 // batches that lanes have taken, by partition
}

func (k *logs) trim(tp source.TopicPartition, start int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.start[tp] = start
}

func (k *logs) startOf(tp source.TopicPartition) int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.start[tp]
}

func (k *logs) Ends(ctx context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error) {
	ends, err := k.Kafka.Ends(ctx, tps...)
	for tp, e := range ends {
		e.Start = k.startOf(tp)
		ends[tp] = e
	}
	return ends, err
}

func (k *logs) ReadCommitted(ctx context.Context, tp source.TopicPartition, from int64, fn func(source.Record) error) (int64, error) {
	return k.Kafka.ReadCommitted(ctx, tp, max(from, k.startOf(tp)), fn)
}

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
	return out, nil
}

func (k *logs) TopicSettings(context.Context, string, ...string) (map[string]string, error) {
	return k.settings, nil
}

// open reads a partition in batches of a few records.
func (k *logs) open(cfg source.ReaderConfig) source.Reader {
	ctx, stop := context.WithCancel(context.Background())
	r := &logReader{batches: make(chan source.Batch), stop: stop, done: make(chan struct{})}
	go r.read(ctx, k, cfg)
	return r
}

type logReader struct {
	batches chan source.Batch
	stop    context.CancelFunc
	done    chan struct{}
	err     error
}

func (r *logReader) read(ctx context.Context, k *logs, cfg source.ReaderConfig) {
	defer close(r.done)
	defer close(r.batches)
	tp := source.TopicPartition{Topic: cfg.Topic, Partition: cfg.Partition}
	if start := k.startOf(tp); cfg.Offset < start {
		r.err = &source.OutOfRangeError{TopicPartition: tp, Offset: cfg.Offset, Ends: source.Ends{Start: start}}
		return
	}
	var records []source.Record
	next, err := k.ReadCommitted(ctx, tp, cfg.Offset, func(rec source.Record) error {
		records = append(records, rec)
		return nil
	})
	if err != nil {
		r.err = err
		return
	}
	const size = 7
	for len(records) > 0 {
		n := min(size, len(records))
		b := source.Batch{Records: records[:n], Next: records[n-1].Offset + 1}
		if records = records[n:]; len(records) == 0 {
			b.Next = next
		}
		select {
		case r.batches <- b:
			k.delivered[cfg.Partition].Add(1)
		case <-ctx.Done():
			return
		}
	}
	select { // markers alone may lie at the end
	case r.batches <- source.Batch{Next: next}:
	case <-ctx.Done():
		return
	}
	<-ctx.Done()
}

func (r *logReader) Batches() <-chan source.Batch { return r.batches }
func (r *logReader) Err() error {
	<-r.done
	return r.err
}
func (r *logReader) Status() source.ReaderStatus { return source.ReaderStatus{} }
func (r *logReader) Pause()                      {}
func (r *logReader) Resume()                     {}
func (r *logReader) Close() error {
	r.stop()
	<-r.done
	return nil
}
