package result

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/parallel"
	"millrace/pipeline/source"
	"millrace/pipeline/window"
)

const (
	// floorPause is how long a slot waits between two transactions that raise floors or give rows up.
	floorPause = time.Minute

	// floorRest is how long a floor stays that could be raised without any row to lie below it.
	floorRest = time.Hour

	// giveUpBatch is how many rows one of these transactions gives up at most.
	giveUpBatch = 512

	// A slot moves its oldest rows to the end of the log when it is longer than spanPerRow offsets for every row in force,
	// beyond spanAtLeast: a row that is old and still in force would otherwise hold readers back to where it stands.
	spanPerRow  = 16
	spanAtLeast = 4096
	moveBatch   = 64
)

// finality is how far every window of the pipeline is known to be final.
type finality struct {
	edition int                // it says nothing of others
	end     int64              // ms: every window that ends at or before it is final, whether it was published or not
	lanes   []ledger.FloorLane // what the lanes had committed when this was found
}

// advanceFinality takes over what a round found. All lanes have committed a watermark or a seal at or past the deadline
// of a window that ends at t.DropBefore minus the lateness, and all windows with an event up to there are final. So no
// lane folds an event into any of these windows again, and those without a row stay without one.
func (c *Closer) advanceFinality(v *view, t WindowTimes) {
	if t.DropBefore == window.NoTime {
		return
	}
	end := t.DropBefore - c.cfg.Spec.AllowedLateness.Millis()
	edition := 0
	for _, s := range c.slots {
		s.mu.Lock()
		edition = max(edition, s.index.edition)
		s.mu.Unlock()
	}
	if c.finality != nil && c.finality.edition == edition && end <= c.finality.end {
		return
	}
	c.finality = &finality{edition: edition, end: end}
	for i := range v.Lanes {
		l := &v.Lanes[i]
		c.finality.lanes = append(c.finality.lanes, ledger.FloorLane{
			Topic: l.ID.Topic, Partition: l.ID.Partition, Offset: max(l.Meta.Offset, 0), Era: l.Meta.Era,
		})
	}
}

// flooredBefore is the deadline up to which the floors of all slots say that every window is final; window.NoTime while
// a slot or a family has none.
func (c *Closer) flooredBefore() int64 {
	low := int64(math.MaxInt64)
	for _, s := range c.slots {
		s.mu.Lock()
		for _, w := range c.cfg.Spec.Windows {
			if f := s.index.floors[floorID{w.Name, s.index.edition}]; f == nil {
				low = window.NoTime
			} else {
				low = min(low, f.End)
			}
		}
		s.mu.Unlock()
	}
	if low == window.NoTime {
		return low
	}
	return low + c.cfg.Spec.AllowedLateness.Millis()
}

// floored reports whether a window lies at or below its slot's floor.
func (c *Closer) floored(ref window.Ref) bool {
	id := c.windowID(ref)
	s := c.slots[c.slotOf(ref)]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.index.floor(id.Window, c.plan.End(ref)) != nil
}

// closeFloored answers for a window at or below a floor without asking for its row: it is final. An incident is what a
// lane holds of it from offsets that the floor does not know; events below them were counted when it became final, or
// were late, and have come back because a lane reads again.
func (c *Closer) closeFloored(t *task, f *ledger.Floor) (outcome, error) {
	ranges := c.plan.SlicesOf(t.ref)
	for i := range t.view.Lanes {
		l := &t.view.Lanes[i]
		_, offset, folded := l.Share(ranges)
		known, ok := f.Lane(l.ID.Topic, l.ID.Partition)
		if folded == 0 || ok && (l.Meta.Era != known.Era || offset < known.Offset) {
			continue
		}
		id := c.windowID(t.ref)
		return outcome{final: true}, &GrewError{
			Lane: l.ID, Window: id.Window, Start: id.Start, Offset: offset, Cover: known.Offset,
		}
	}
	return outcome{final: true}, nil
}

// flooredRow returns the row of a window that lies at or below a floor, or what is still known of it when its row was
// given up.
func (c *Closer) flooredRow(ctx context.Context, ref window.Ref) (ledger.Row, error) {
	id := c.windowID(ref)
	s := c.slots[c.slotOf(ref)]
	s.mu.Lock()
	defer s.mu.Unlock()
	row, err := s.last(ctx, id)
	if err != nil {
		return ledger.Row{}, &SlotError{Slot: s.n, Err: err}
	}
	if row == nil {
		row = &ledger.Row{
			Version: ledger.RowVersion, Pipeline: s.pipeline, Window: id.Window, Start: id.Start, End: c.plan.End(ref),
			Edition: s.index.edition, Final: true,
		}
	}
	return *row, nil
}

// keepFloors raises the floors of all slots and gives up rows that are due. What fails is tried again after a pause.
func (c *Closer) keepFloors(ctx context.Context) {
	families := make([]string, len(c.cfg.Spec.Windows))
	for i, w := range c.cfg.Spec.Windows {
		families[i] = w.Name
	}
	_ = parallel.Do(ctx, c.cfg.Parallel, len(c.slots), func(ctx context.Context, i int) error {
		s := c.slots[i]
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := s.keepFloors(ctx, families, c.finality, c.version); err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("the ledger's floors stay where they are", "pipeline", s.pipeline, "slot", s.n, "error", err)
		}
		return nil
	})
}

// keepFloors does what is due of the slot's floors and old rows, at most once in floorPause. mu is held.
func (s *slot) keepFloors(ctx context.Context, families []string, final *finality, version string) error {
	now := s.keep.now()
	if !s.kept.IsZero() && now.Sub(s.kept) < floorPause {
		return nil
	}
	s.kept = now
	if s.producer == nil {
		if err := s.catchUp(ctx); err != nil { // another closer may have done it, and must not be fenced for nothing
			return err
		}
	}
	if final != nil && final.edition != s.index.edition {
		final = nil
	}
	s.counts = s.countKept()
	if !s.floorsDue(families, final) {
		return nil
	}
	if err := s.open(ctx); err != nil {
		return fmt.Errorf("take over slot %d: %w", s.n, err)
	}
	if final != nil && final.edition != s.index.edition {
		final = nil // the edition has ended since
	}
	gone, err := s.removeDue(ctx)
	if err != nil {
		return err
	}
	moved, err := s.rowsToMove(ctx, gone)
	if err != nil {
		return err
	}
	if err := s.writeFloors(ctx, s.raisedFloors(families, final, version, gone, moved), gone, moved); err != nil {
		s.discard()
		return err
	}
	return nil
}

// floorsDue reports whether a transaction of floors would change anything that is worth it.
func (s *slot) floorsDue(families []string, final *finality) bool {
	if final != nil {
		rests := s.keep.now().Add(-floorRest).UnixMilli()
		for _, family := range families {
			if f := s.index.floors[floorID{family, s.index.edition}]; f == nil || f.End < final.end && f.RaisedAt <= rests {
				return true
			}
		}
	}
	for id, e := range s.index.entries {
		if s.mayGiveUp(id, e) || final != nil && !s.index.past(e) && e.end <= final.end && !s.index.floored(id, e) {
			return true
		}
	}
	return len(s.index.floors) > 0 && s.stretched(s.rowsFrom(nil, nil), len(s.index.entries))
}

// mayGiveUp reports whether the row of a window is due to be tombstoned. Only rows at or below the floor of their own
// edition are, because without the row it is the floor that says that the window is final, and rows of ended editions.
func (s *slot) mayGiveUp(id ledger.WindowID, e *entry) bool {
	return (s.index.past(e) || s.index.floored(id, e)) && s.keep.rowDue(e.closedAt) && s.views[id] == nil
}

// removeDue removes from Redis what is left of windows whose rows are due, and returns them. It comes before the
// tombstone: without a row nothing would look for what an expiry that was lost has left.
func (s *slot) removeDue(ctx context.Context) (map[ledger.WindowID]bool, error) {
	due := s.index.ids(s.mayGiveUp)
	due = due[:min(len(due), giveUpBatch)]
	gone := make(map[ledger.WindowID]bool, len(due))
	for _, id := range due {
		gone[id] = true
		if s.index.past(s.index.entries[id]) {
			continue
		}
		if _, err := s.state.ExpireWindow(ctx, s.storeID(id), s.index.entries[id].revision, 0); err != nil {
			return nil, fmt.Errorf("remove window %s: %w", id, err)
		}
	}
	return gone, nil
}

// rowsFrom is the lowest offset of a row in force, leaving out those that are gone or moved; s.next without one.
func (s *slot) rowsFrom(gone map[ledger.WindowID]bool, moved map[ledger.WindowID]*Record) int64 {
	low := s.next
	for id, e := range s.index.entries {
		if !gone[id] && moved[id] == nil {
			low = min(low, e.offset)
		}
	}
	return low
}

// stretched reports whether the log from an offset on is too long for the rows it holds.
func (s *slot) stretched(from int64, rows int) bool {
	return s.next-from > spanPerRow*int64(rows)+spanAtLeast
}

// rowsToMove reads the oldest rows in force, when the log has become too long for what it holds, to write them anew.
func (s *slot) rowsToMove(ctx context.Context, gone map[ledger.WindowID]bool) (map[ledger.WindowID]*Record, error) {
	if !s.stretched(s.rowsFrom(gone, nil), len(s.index.entries)-len(gone)) {
		return nil, nil
	}
	oldest := s.index.ids(func(id ledger.WindowID, _ *entry) bool { return !gone[id] })
	slices.SortFunc(oldest, func(a, b ledger.WindowID) int {
		return cmp.Compare(s.index.entries[a].offset, s.index.entries[b].offset)
	})
	moved := make(map[ledger.WindowID]*Record)
	for _, id := range oldest[:min(len(oldest), moveBatch)] {
		row, err := s.fetch(ctx, s.index.entries[id])
		if err != nil {
			return nil, err
		}
		text, err := json.Marshal(row)
		if err != nil {
			return nil, fmt.Errorf("encode ledger row: %w", err)
		}
		moved[id] = &Record{Key: id.Key(), Value: text}
	}
	return moved, nil
}

// raisedFloors lists the slot's floors as they will be. All of them are written every time, those of other editions as
// they are: together they stand at the end of the log, and the log before the oldest row in force is of no use.
func (s *slot) raisedFloors(families []string, final *finality, version string,
	gone map[ledger.WindowID]bool, moved map[ledger.WindowID]*Record) []*ledger.Floor {
	floors := maps.Clone(s.index.floors)
	for _, family := range families {
		id := floorID{family, s.index.edition}
		if f := floors[id]; final != nil && (f == nil || f.End < final.end) {
			floors[id] = &ledger.Floor{
				Pipeline: s.pipeline, Window: family, Edition: s.index.edition, End: final.end, Spec: version,
				RaisedAt: s.keep.now().UnixMilli(), Lanes: final.lanes,
			}
		}
	}
	from := s.rowsFrom(gone, moved)
	list := make([]*ledger.Floor, 0, len(floors))
	for _, f := range floors {
		raised := *f
		raised.RowsFrom, raised.Ended = from, s.index.edition-1
		list = append(list, &raised)
	}
	slices.SortFunc(list, func(a, b *ledger.Floor) int {
		return cmp.Or(cmp.Compare(a.Edition, b.Edition), cmp.Compare(a.Window, b.Window))
	})
	return list
}

// writeFloors writes tombstones, rows that move, and floors in one transaction.
func (s *slot) writeFloors(ctx context.Context, floors []*ledger.Floor,
	gone map[ledger.WindowID]bool, moved map[ledger.WindowID]*Record) error {
	records := make([]Record, 0, len(gone)+len(moved)+len(floors))
	for _, id := range slices.SortedFunc(maps.Keys(gone), compareWindows) {
		records = append(records, Record{Key: id.Key()})
	}
	moves := slices.SortedFunc(maps.Keys(moved), compareWindows)
	for _, id := range moves {
		records = append(records, *moved[id])
	}
	for _, f := range floors {
		text, err := json.Marshal(f)
		if err != nil {
			return fmt.Errorf("encode floor: %w", err)
		}
		records = append(records, Record{Key: f.Key(), Value: text})
	}
	for i := range records {
		records[i].Topic, records[i].Partition = s.topic.Topic, s.topic.Partition
	}
	if err := s.producer.Begin(); err != nil {
		return err
	}
	if err := s.producer.Send(ctx, records); err != nil {
		return err
	}
	if err := s.producer.Commit(); err != nil {
		return err
	}
	for id := range gone {
		s.index.remove(id)
	}
	for i, id := range moves {
		s.index.entries[id].offset = records[len(gone)+i].Offset
	}
	for _, f := range floors {
		s.index.putFloor(f)
	}
	s.index.letGoFloored()
	s.next = max(s.next, records[len(records)-1].Offset+1)
	return nil
}

// How far back from the end of a partition the latest floor is looked for, in offsets, before all of it is read.
const (
	searchFirst = 1 << 10
	searchMost  = 1 << 16
	searchStep  = 1 << 3
)

// rowsInForce finds the offset from which the partition has to be read, without reading what is not in force any more.
// Whoever keeps the floors writes them together at the end of the log, about once a minute, and each says where the
// oldest row in force stands. So it reads back from the end until it meets one. A partition that has none, because an
// earlier version of millrace wrote it, is read from its start.
func (s *slot) rowsInForce(ctx context.Context) (int64, error) {
	all, err := s.kafka.Ends(ctx, s.topic)
	if err != nil {
		return 0, err
	}
	ends, to := all[s.topic], all[s.topic].End
	for span := int64(searchFirst); span <= searchMost && ends.End-span > ends.Start; span *= searchStep {
		from, found := ends.End-span, int64(-1)
		_, err := s.kafka.ReadCommitted(ctx, s.topic, from, func(r source.Record) error {
			if r.Offset >= to {
				return errFound
			}
			if !ledger.IsFloorKey(r.Key) {
				return nil
			}
			rec, err := ledger.ParseRecord(s.topic, r)
			if err == nil && rec.Floor != nil {
				found = max(found, rec.Floor.RowsFrom)
			}
			return err
		})
		if err != nil && !errors.Is(err, errFound) {
			return 0, err
		}
		if found >= 0 {
			return max(found, ends.Start), nil
		}
		to = from
	}
	return ends.Start, nil
}

// errFound ends a reading that has what it wanted.
var errFound = errors.New("found")

// fetch returns the row of an entry, reading it where it stands when the slot let it go.
func (s *slot) fetch(ctx context.Context, e *entry) (row *ledger.Row, err error) {
	if e.row != nil {
		return e.row, nil
	}
	_, err = s.kafka.ReadCommitted(ctx, s.topic, e.offset, func(r source.Record) error {
		if r.Offset == e.offset {
			rec, err := ledger.ParseRecord(s.topic, r)
			if err != nil {
				return err
			}
			row = rec.Row
		}
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return nil, fmt.Errorf("read ledger %s, offset %d: %w", s.topic, e.offset, err)
	}
	if row == nil { // compaction took it: another closer has written a newer one
		return nil, fmt.Errorf("ledger %s has no row at offset %d any more: %w", s.topic, e.offset, merge.ErrMoved)
	}
	return row, nil
}
