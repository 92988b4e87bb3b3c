package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

// endBatch is how many rows one transaction gives up.
const endBatch = 1000

// EndIncarnation fences every closer of the pipeline, also one that is frozen: what it had open is decided, and it cannot
// publish any more without reading the ledger again. With rows it also gives up every row and floor of the ledger and ends
// their edition, so that a pipeline of the same name begins anew beside them. A ledger topic that is not there has no
// rows. progress is told of the records given up so far. Repeating it is safe.
func EndIncarnation(ctx context.Context, k Kafka, pipeline string, rows bool, progress func(int64)) error {
	partitions, err := k.Partitions(ctx, ledger.Topic(pipeline))
	if err != nil && !errors.Is(err, source.ErrUnknownTopic) {
		return fmt.Errorf("end the ledger of %s: %w", pipeline, err)
	}
	e := &ending{kafka: k, pipeline: pipeline, progress: progress}
	for n := range max(ledger.DefaultSlots, len(partitions)) {
		if err := e.fenceSlot(ctx, n); err != nil {
			return fmt.Errorf("fence slot %d of the ledger of %s: %w", n, pipeline, err)
		}
	}
	if !rows {
		return nil
	}
	slots := make([]*endingSlot, len(partitions))
	for i, n := range partitions {
		if slots[i], err = e.readSlot(ctx, n); err != nil {
			return fmt.Errorf("read slot %d of the ledger of %s: %w", n, pipeline, err)
		}
		e.edition = max(e.edition, slots[i].edition, slots[i].ended)
	}
	for _, s := range slots {
		if err := e.giveUpRows(ctx, s); err != nil {
			return fmt.Errorf("end slot %d of the ledger of %s: %w", s.tp.Partition, pipeline, err)
		}
	}
	return nil
}

// ending is the end of one incarnation.
type ending struct {
	kafka    Kafka
	pipeline string
	edition  int // the latest in any slot
	given    int64
	progress func(int64)
}

// endingSlot is what a slot's partition holds.
type endingSlot struct {
	tp      source.TopicPartition
	live    map[string]struct{} // keys of rows and floors that have not been given up
	edition int                 // the latest among them, 0 without any
	ended   int                 // the latest that has been ended here, 0 before the first
}

func (e *ending) fenceSlot(ctx context.Context, n int) error {
	producer, err := e.kafka.Open(ctx, n)
	if err != nil {
		return err
	}
	return producer.Close()
}

func (e *ending) readSlot(ctx context.Context, n int32) (*endingSlot, error) {
	s := &endingSlot{tp: source.TopicPartition{Topic: ledger.Topic(e.pipeline), Partition: n}, live: make(map[string]struct{})}
	_, err := e.kafka.ReadCommitted(ctx, s.tp, 0, func(r source.Record) error {
		rec, err := ledger.ParseRecord(s.tp, r)
		switch {
		case r.Value == nil:
			delete(s.live, string(r.Key))
			return nil
		case rec.Ended != nil:
			s.ended = max(s.ended, rec.Ended.Edition)
			return nil
		case err == nil && rec.Row != nil:
			s.edition = max(s.edition, rec.Row.Edition)
		case err == nil && rec.Floor != nil:
			s.edition = max(s.edition, rec.Floor.Edition)
		}
		s.live[string(r.Key)] = struct{}{} // also what cannot be read
		return nil
	})
	return s, err
}

// giveUpRows tombstones what lives in a slot, and then says which edition has ended: whoever reads the slot meanwhile sees rows
// go and never the next edition beside them.
func (e *ending) giveUpRows(ctx context.Context, s *endingSlot) (err error) {
	if len(s.live) == 0 && s.ended >= e.edition {
		return nil
	}
	producer, err := e.kafka.Open(ctx, int(s.tp.Partition))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, producer.Close()) }()
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(s.live)), endBatch) {
		batch := make([]Record, len(keys))
		for i, key := range keys {
			batch[i] = Record{Topic: s.tp.Topic, Partition: s.tp.Partition, Key: []byte(key)}
		}
		if err := e.writeBatch(ctx, producer, batch); err != nil {
			return err
		}
	}
	end := ledger.Ended{Pipeline: e.pipeline, Edition: e.edition, EndedAt: time.Now().UnixMilli()}
	text, err := json.Marshal(end)
	if err != nil {
		return err
	}
	return e.writeBatch(ctx, producer, []Record{{Topic: s.tp.Topic, Partition: s.tp.Partition, Key: end.Key(), Value: text}})
}

func (e *ending) writeBatch(ctx context.Context, producer Producer, batch []Record) error {
	if err := producer.Begin(); err != nil {
		return err
	}
	if err := Send(ctx, producer, batch); err != nil {
		return err
	}
	if err := producer.Commit(); err != nil {
		return err
	}
	e.given += int64(len(batch))
	e.progress(e.given)
	return nil
}
