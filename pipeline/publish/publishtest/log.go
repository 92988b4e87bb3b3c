package publishtest

import (
	"context"
	"maps"
	"time"

	"millrace/pipeline/source"
)

// OffsetsAt answers as *source.Cluster does: the offset of the first record of each partition whose timestamp is not before at
// (ms), and the last stable offset where there is none.
func (k *Kafka) OffsetsAt(_ context.Context, at int64, tps ...source.TopicPartition) (map[source.TopicPartition]int64, error) {
	out := map[source.TopicPartition]int64{}
	err := k.do("offsets", -1, func() error {
		for _, tp := range tps {
			p, err := k.partition(tp)
			if err != nil {
				return err
			}
			out[tp] = k.stable(p)
			for _, r := range k.committed(p, p.start) {
				if r.Timestamp >= at {
					out[tp] = r.Offset
					break
				}
			}
		}
		return nil
	})
	return out, err
}

// TopicSettings answers what SetTopicSetting was told of a topic, whichever names are asked for.
func (k *Kafka) TopicSettings(_ context.Context, topic string, _ ...string) (map[string]string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.settings[topic]), nil
}

// SetTopicSetting sets one setting of a topic.
func (k *Kafka) SetTopicSetting(topic, name, value string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.settings[topic] == nil {
		k.settings[topic] = map[string]string{}
	}
	k.settings[topic][name] = value
}

// SetClock sets the clock that the timestamps of what producers send are from.
func (k *Kafka) SetClock(now func() time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.clock = now
}

// timestamp is that of a record which is sent now, ms. k.mu is held.
func (k *Kafka) timestamp() int64 {
	if k.clock == nil {
		return 0
	}
	return k.clock().UnixMilli()
}

// Headers returns the headers of all records of a topic, committed or not.
func (k *Kafka) Headers(topic string) (all [][]source.Header) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, p := range k.topics[topic] {
		for _, e := range p.records {
			if !e.marker {
				all = append(all, e.headers)
			}
		}
	}
	return all
}

// Trim lets the log of a partition begin at start, as retention does.
func (k *Kafka) Trim(tp source.TopicPartition, start int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	p := k.topics[tp.Topic][tp.Partition]
	if cut := min(start, p.end()) - p.start; cut > 0 {
		p.records, p.start = p.records[cut:], p.start+cut
	}
}

// committed copies the records from an offset on that a reader of committed records sees now.
func (k *Kafka) committed(p *partition, from int64) []source.Record {
	var records []source.Record
	for at, stable := max(from, p.start), k.stable(p); at < stable; at++ {
		if e := p.records[at-p.start]; !e.marker && (e.txn == nil || e.txn.committed) {
			records = append(records, e.record)
		}
	}
	return records
}

// batchRecords is how many records a reader delivers at a time.
const batchRecords = 7

// OpenReader opens a reader of one partition. It delivers, in small batches, what the partition holds when it is opened, and
// nothing that is appended later. The plan of faults is not asked: a reader tries for ever. taken, if not nil, is called from
// the reader's goroutine with the position after every batch that was taken.
func (k *Kafka) OpenReader(cfg source.ReaderConfig, taken func(next int64)) source.Reader {
	ctx, stop := context.WithCancel(context.Background())
	r := &reader{batches: make(chan source.Batch), stop: stop, done: make(chan struct{}), taken: taken}
	tp := source.TopicPartition{Topic: cfg.Topic, Partition: cfg.Partition}
	k.mu.Lock()
	defer k.mu.Unlock()
	p, err := k.partition(tp)
	if err == nil {
		if r.next = k.stable(p); cfg.Offset < p.start || cfg.Offset > r.next {
			err = &source.OutOfRangeError{
				TopicPartition: tp, Offset: cfg.Offset, Ends: source.Ends{Start: p.start, End: r.next, HighWatermark: p.end()},
			}
		} else {
			r.records = k.committed(p, cfg.Offset)
		}
	}
	r.failed = err
	go r.run(ctx)
	return r
}

// reader delivers a copy of a log. Its goroutine alone uses records and next.
type reader struct {
	records []source.Record
	next    int64 // the end of the log
	taken   func(next int64)

	batches chan source.Batch
	stop    context.CancelFunc
	done    chan struct{}
	failed  error // set before the goroutine begins
}

func (r *reader) run(ctx context.Context) {
	defer close(r.done)
	defer close(r.batches)
	if r.failed != nil {
		return
	}
	for more := true; more; {
		n := min(batchRecords, len(r.records))
		b := source.Batch{Records: r.records[:n], Next: r.next}
		if r.records = r.records[n:]; len(r.records) > 0 {
			b.Next = r.records[0].Offset
		} else {
			more = false // markers may follow the last record, or be all there is
		}
		select {
		case r.batches <- b:
		case <-ctx.Done():
			return
		}
		if r.taken != nil {
			r.taken(b.Next)
		}
	}
	<-ctx.Done()
}

func (r *reader) Batches() <-chan source.Batch { return r.batches }

func (r *reader) Err() error {
	<-r.done
	return r.failed
}

func (r *reader) Status() source.ReaderStatus { return source.ReaderStatus{} }
func (r *reader) Pause()                      {}
func (r *reader) Resume()                     {}

func (r *reader) Close() error {
	r.stop()
	<-r.done
	return nil
}
