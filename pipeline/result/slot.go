package result

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// maxFinals is how many final windows a slot remembers at most; others are looked up in the ledger topic when a lane
// still has events of them.
const maxFinals = 4096

// slot owns one partition of the ledger topic: its transactional producer and what the ledger says. What it knows is
// the truth as long as its transactions succeed, because whoever else publishes in the slot fences its producer first.
type slot struct {
	n     int
	topic source.TopicPartition // of the ledger
	kafka Kafka
	state State

	mu       sync.Mutex // held while a window of the slot is closed
	producer Producer   // nil before the first use and after a failure
	next     int64      // position in the ledger partition up to which rows holds everything
	rows     map[ledger.WindowID]*ledger.Row
	edition  int // of what is published next
	finals   int
	gone     int64                           // greatest end of a final window that was forgotten
	forgot   bool                            // gone is set
	views    map[ledger.WindowID]*ledger.Row // rows whose Redis view may lag behind
	check    bool                            // Redis may have forgotten rows that it has shown
}

func newSlot(n int, pipeline string, kafka Kafka, state State) *slot {
	return &slot{
		n: n, kafka: kafka, state: state, edition: ledger.Edition,
		topic: source.TopicPartition{Topic: ledger.Topic(pipeline), Partition: int32(n)},
		rows:  make(map[ledger.WindowID]*ledger.Row), views: make(map[ledger.WindowID]*ledger.Row),
	}
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
	s.producer = producer
	return nil
}

// catchUp reads the ledger partition from where the slot stands to its end. The last row read may belong to a
// transaction whose view was never flipped.
func (s *slot) catchUp(ctx context.Context) error {
	var last *ledger.Row
	read := func(r source.Record) error {
		rec, err := ledger.ParseRecord(s.topic, r)
		if rec.Ended != nil && err == nil {
			last = nil
			s.begin(rec.Ended.Edition + 1)
		}
		if err != nil || rec.Row == nil {
			return err
		}
		row := rec.Row
		last = row
		s.put(row)
		if id := row.ID(); s.views[id] != nil {
			s.views[id] = row // what waited to be shown is not the latest any more
		}
		return nil
	}
	next, err := s.kafka.ReadCommitted(ctx, s.topic, s.next, read)
	if errors.Is(err, source.ErrOffsetOutOfRange) {
		s.begin(s.edition)
		next, err = s.kafka.ReadCommitted(ctx, s.topic, 0, read)
	}
	if err != nil {
		return fmt.Errorf("read ledger %s: %w", s.topic, err)
	}
	s.next = next
	if last != nil {
		s.views[last.ID()] = last
	}
	s.check = true
	return nil
}

// begin forgets what earlier editions have published.
func (s *slot) begin(edition int) {
	clear(s.rows)
	clear(s.views)
	s.edition, s.finals, s.forgot = edition, 0, false
}

// discard gives the producer up after a failure: the next use takes the slot over anew and reads the ledger on.
func (s *slot) discard() {
	if s.producer != nil {
		_ = s.producer.Close() // it failed before, and the next owner fences whatever it left
		s.producer = nil
	}
}

// last returns the latest row of a window, nil when it was never published. The slot is open.
func (s *slot) last(ctx context.Context, id ledger.WindowID, end int64) (*ledger.Row, error) {
	if row, ok := s.rows[id]; ok {
		return row, nil
	}
	if !s.forgot || end > s.gone {
		return nil, nil
	}
	var found *ledger.Row
	_, err := s.kafka.ReadCommitted(ctx, s.topic, 0, func(r source.Record) error {
		rec, err := ledger.ParseRecord(s.topic, r)
		switch {
		case rec.Ended != nil:
			found = nil
		case rec.Row != nil && rec.Row.ID() == id:
			found = rec.Row
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read ledger %s: %w", s.topic, err)
	}
	return found, nil
}

func (s *slot) put(row *ledger.Row) {
	id := row.ID()
	if old, ok := s.rows[id]; ok && old.Final {
		s.finals--
	}
	s.rows[id] = row
	if row.Final {
		s.finals++
	}
	if s.finals > maxFinals {
		s.forget()
	}
}

// forget drops the older half of the final windows.
func (s *slot) forget() {
	finals := make([]*ledger.Row, 0, s.finals)
	for _, row := range s.rows {
		if row.Final {
			finals = append(finals, row)
		}
	}
	slices.SortFunc(finals, func(a, b *ledger.Row) int {
		return cmp.Or(cmp.Compare(a.End, b.End), cmp.Compare(a.Window, b.Window))
	})
	for _, row := range finals[:len(finals)/2] {
		delete(s.rows, row.ID())
		s.finals--
		if !s.forgot || row.End > s.gone {
			s.gone, s.forgot = row.End, true
		}
	}
}

// recall looks whether Redis still shows what it has shown. A server that was emptied lost everything, a replica that
// took over only what it had not received: the latest rows. What is missing is shown again.
func (s *slot) recall(ctx context.Context) error {
	for _, id := range sorted(s.rows) {
		if _, pending := s.views[id]; pending {
			continue
		}
		row := s.rows[id]
		p, found, err := s.state.Published(ctx, store.WindowID{Pipeline: row.Pipeline, Window: row.Window, Start: row.Start})
		if err != nil {
			return fmt.Errorf("read what Redis shows of window %s: %w", id, err)
		}
		if !found || p.Current < row.Revision || p.Current == row.Revision && row.Final && !showsFinal(p.Row) {
			s.views[id] = row
		}
	}
	s.check = false
	return nil
}

func showsFinal(text []byte) bool {
	var row ledger.Row
	return json.Unmarshal(text, &row) == nil && row.Final
}

// sorted lists windows in a fixed order, so that equal runs make equal calls.
func sorted(rows map[ledger.WindowID]*ledger.Row) []ledger.WindowID {
	return slices.SortedFunc(maps.Keys(rows), func(a, b ledger.WindowID) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Window, b.Window))
	})
}

// flip brings the Redis view up to the rows that were published. What fails stays to be done.
func (s *slot) flip(ctx context.Context) error {
	if s.check {
		if err := s.recall(ctx); err != nil {
			return err
		}
	}
	for _, id := range sorted(s.views) {
		row := s.views[id]
		text, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("encode ledger row: %w", err)
		}
		wid := store.WindowID{Pipeline: row.Pipeline, Window: row.Window, Start: row.Start}
		err = s.state.Flip(ctx, wid, row.Revision, row.Final, text)
		if err != nil && !errors.Is(err, store.ErrRevisionBack) {
			return fmt.Errorf("show revision %d of window %s: %w", row.Revision, id, err)
		}
		if row.Revision > 2 {
			if _, err := s.state.Trim(ctx, wid); err != nil {
				return fmt.Errorf("trim window %s: %w", id, err)
			}
		}
		delete(s.views, id)
	}
	return nil
}
