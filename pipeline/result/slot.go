package result

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// slot owns one partition of the ledger topic: its transactional producer and what the ledger says. What it knows is
// the truth as long as its transactions succeed, because whoever else publishes in the slot fences its producer first.
type slot struct {
	n        int
	pipeline string
	topic    source.TopicPartition // of the ledger
	kafka    Kafka
	state    State
	keep     keeper

	mu       sync.Mutex // held while a window of the slot is closed
	producer Producer   // nil before the first use and after a failure
	loaded   bool       // the partition was read
	next     int64      // position in the partition up to which index holds everything
	index    index
	views    map[ledger.WindowID]*ledger.Row // rows whose Redis view may lag behind
	check    bool                            // Redis may have forgotten rows that it has shown
	sweep    sweep
	kept     time.Time // when floors were last looked after
	counts   Kept      // as of then
}

func newSlot(n int, pipeline string, kafka Kafka, state State, keep keeper) *slot {
	return &slot{
		n: n, pipeline: pipeline, kafka: kafka, state: state, keep: keep,
		topic: source.TopicPartition{Topic: ledger.Topic(pipeline), Partition: int32(n)},
		index: newIndex(), views: make(map[ledger.WindowID]*ledger.Row),
	}
}

func (s *slot) storeID(id ledger.WindowID) store.WindowID {
	return store.WindowID{Pipeline: s.pipeline, Window: id.Window, Start: id.Start}
}

// open makes sure that the slot has a producer and knows the ledger as of its InitProducerId. mu is held.
func (s *slot) open(ctx context.Context) error {
	if s.producer != nil {
		return nil
	}
	producer, err := s.kafka.Open(ctx, s.n)
	if err != nil {
		return fmt.Errorf("take over slot %d: %w", s.n, err)
	}
	if err := s.catchUp(ctx); err != nil {
		return errors.Join(err, producer.Close())
	}
	s.producer, s.check = producer, true
	return nil
}

// catchUp reads the ledger partition from where the slot stands to its end. The last row read may belong to a
// transaction whose view was never flipped.
func (s *slot) catchUp(ctx context.Context) error {
	err := s.readOn(ctx)
	if errors.Is(err, source.ErrOffsetOutOfRange) {
		s.index, s.loaded = newIndex(), false
		err = s.readOn(ctx)
	}
	if err != nil {
		return fmt.Errorf("read ledger %s: %w", s.topic, err)
	}
	return nil
}

func (s *slot) readOn(ctx context.Context) error {
	from := s.next
	if !s.loaded {
		var err error
		if from, err = s.rowsInForce(ctx); err != nil {
			return err
		}
	}
	var last *ledger.Row
	next, err := s.kafka.ReadCommitted(ctx, s.topic, from, func(r source.Record) error {
		rec, err := ledger.ParseRecord(s.topic, r)
		if err != nil {
			return err
		}
		switch {
		case rec.Row != nil:
			last = rec.Row
			s.index.put(rec.Row, r.Offset)
			if id := rec.Row.ID(); s.views[id] != nil {
				s.views[id] = rec.Row // what waited to be shown is not the latest any more
			}
		case rec.Tombstone != nil:
			s.index.remove(*rec.Tombstone)
			delete(s.views, *rec.Tombstone)
		case rec.Floor != nil:
			s.index.putFloor(rec.Floor)
		case rec.Ended != nil:
			last = nil
			s.index.begin(rec.Ended.Edition + 1)
			clear(s.views)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.next, s.loaded = next, true
	s.index.letGoFloored()
	if last != nil && s.index.entries[last.ID()] != nil {
		s.views[last.ID()] = last
	}
	return nil
}

// discard gives the producer up after a failure: the next use takes the slot over anew and reads the ledger on.
func (s *slot) discard() {
	if s.producer != nil {
		_ = s.producer.Close() // it failed before, and the next owner fences whatever it left
		s.producer = nil
	}
}

// last returns the latest row of a window, nil when it was never published or its row was given up. The slot is open.
func (s *slot) last(ctx context.Context, id ledger.WindowID) (*ledger.Row, error) {
	e := s.index.entries[id]
	if e == nil || s.index.past(e) {
		return nil, nil
	}
	return s.fetch(ctx, e)
}

// recall looks whether Redis still shows what it has shown of open windows. A server that was emptied lost everything, a
// replica that took over only what it had not received: the latest rows. What is missing is shown again. Final windows
// are left to the sweep.
func (s *slot) recall(ctx context.Context) error {
	open := func(id ledger.WindowID, e *entry) bool {
		return !s.index.past(e) && !s.index.done(id, e) && s.views[id] == nil
	}
	for _, id := range s.index.ids(open) {
		row := s.index.entries[id].row
		p, found, err := s.state.Published(ctx, storeID(row))
		if err != nil {
			return fmt.Errorf("read what Redis shows of window %s: %w", id, err)
		}
		if !found || p.Current < row.Revision {
			s.views[id] = row
		}
	}
	s.check, s.sweep.again = false, true
	return nil
}

// flip brings the Redis view up to the rows that were published. What fails stays to be done.
func (s *slot) flip(ctx context.Context) error {
	if s.check {
		if err := s.recall(ctx); err != nil {
			return err
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(s.views), compareWindows) {
		if err := s.showRow(ctx, s.views[id]); err != nil {
			return err
		}
		delete(s.views, id)
	}
	return nil
}
