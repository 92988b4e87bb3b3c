package lane

import (
	"context"
	"fmt"

	"millrace/pipeline/agg"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// entryReader is what a restore needs of the store.
type entryReader interface {
	LaneView(ctx context.Context, id store.LaneID, stateID string) (store.Meta, []store.SliceStat, error)
	ReadSlice(ctx context.Context, id store.LaneID, stateID string, sl store.SliceID, from, to int,
		fn func(bucket int, key, entry []byte) error) (store.Guard, error)
	Load(ctx context.Context, id store.LaneID, stateID string, slices []store.SliceID, buckets int,
		fn func(slice int, key, entry []byte) error) (sizes []int, guard store.Guard, err error)
}

// loadFrom is from how many folded events on a state is read ahead while it is decoded. A small one takes a few calls.
const loadFrom = 1 << 14

// Restored counts what a restore read.
type Restored struct {
	Slices  int   `json:"slices"`
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

// Restore reads a lane's committed state back into memory. The caller owns the lane (its token is owner), so nothing
// moves underneath unless Redis itself goes back or another owner takes over: that is store.ErrFenced or
// store.ErrLostWrites, and the caller acquires again. With store.ErrPartialLoss comes what is left of a state of which a
// part is gone: it says where the lane stood, and nothing may go on from it.
func Restore(ctx context.Context, st entryReader, p *Program, id store.LaneID, owner store.Token) (*State, Restored, error) {
	var sum Restored
	meta, stats, err := st.LaneView(ctx, id, p.StateID)
	if err != nil {
		return nil, sum, fmt.Errorf("restore lane %s: %w", id, err)
	}
	if meta.Owner != owner {
		return nil, sum, fmt.Errorf("restore lane %s: %w", id, store.ErrFenced)
	}
	s := NewState(p, id, meta.TopicID, meta.Offset, meta.Cursor)
	if meta.Watermark != window.NoTime {
		s.maxTime = meta.Watermark + p.Spec.Watermark.OutOfOrderness.Millis()
	}
	s.sealed = meta.Sealed
	s.counters, s.readBefore, s.idleEnd = meta.Counters, meta.Counters.Read, meta.IdleEnd
	s.ctlGen, s.specGen = meta.CtlGen, meta.SpecGen
	s.era, s.seals, s.decided, s.sides.from = meta.Era, meta.Seals, meta.Decided, meta.Decided
	s.jumps, s.accepted, s.begun = meta.Jumps, meta.Accepted, meta.Begun
	s.halted = s.maxJump > 0 && s.jumps >= int64(p.Spec.Event.MaxJumpStreak) && s.offset >= s.decided
	s.effective = max(s.Watermark(), s.sealed)
	s.committed = s.effective
	s.reseal(s.offset)
	if meta.Offset == store.NotStarted {
		// What stands there belongs to a commit that never ended, and was decided under control values that are not
		// committed. Everything is read again, so it goes with the first commit.
		for _, stat := range stats {
			s.stale = append(s.stale, stat.SliceID)
		}
		return s, sum, nil
	}
	tables, stamps := make([]*agg.Table, len(stats)), make([]int64, len(stats))
	for i, stat := range stats {
		if stat.Width != p.plan.Width {
			return nil, sum, fmt.Errorf("restore lane %s: slice %s is of width %d ms, this spec's slices have %d ms: %w",
				id, stat.SliceID, stat.Width, p.plan.Width, store.ErrCorrupt)
		}
		tables[i] = s.newTable()
		// A slice whose first commit never ended has no folds yet. It gets them with the first commit, like any other.
		s.slices[sliceKey{stat.Start, int32(stat.Gen)}] = &slice{stat: stat, table: tables[i], changed: stat.FirstOffset == store.NoOffset}
	}
	take := func(i int, key, entry []byte) error {
		sum.Bytes += int64(len(key) + len(entry))
		_, stamp, _, err := agg.EntryHeader(entry)
		if err != nil {
			return err
		}
		stamps[i] = max(stamps[i], stamp)
		return tables[i].LoadEntry(key, entry)
	}
	folded := store.OpenFolded(stats)
	if folded < loadFrom {
		err = readSlices(ctx, st, p, id, meta, stats, take)
	} else {
		err = loadSlices(ctx, st, p, id, meta, stats, tables, take)
	}
	if err != nil {
		return nil, sum, fmt.Errorf("restore lane %s: %w", id, err)
	}
	sum.Slices, sum.Entries = len(stats), s.Entries()
	if s.dropped = meta.Balance.Dropped; !meta.Balance.Known {
		s.dropped = meta.Counters.Folded - folded
		meta.Balance = store.Balance{Known: true, Dropped: s.dropped}
	}
	if err = meta.CheckBalance(id, stats); err == nil {
		err = s.compare(stats, stamps)
	}
	return s, sum, err
}

// compare holds what a restore found against what the lane had folded. Entries without anything newer than the committed
// offset hold exactly that; with something newer they hold more, and how much more shows when it was read again. stamps
// are the highest of each slice.
func (s *State) compare(stats []store.SliceStat, stamps []int64) error {
	for i := range stats {
		sl := s.slices[sliceKey{stats[i].Start, int32(stats[i].Gen)}]
		more, newer := sl.unconfirmed(), stamps[i] > s.offset
		if more < 0 || more > 0 && !newer {
			return s.missing(sl)
		}
		s.ahead, s.uncompared = max(s.ahead, stamps[i]), s.uncompared || newer
	}
	return nil
}

// prove compares entries with what was folded as soon as everything that entries held beyond the committed offset was
// read again. A lost entry may have been hidden by newer ones before.
func (s *State) prove() {
	if !s.uncompared || s.offset < s.ahead {
		return
	}
	s.uncompared = false
	for _, k := range s.sorted() {
		if sl := s.slices[k]; sl.unconfirmed() != 0 {
			s.lost = s.missing(sl)
			return
		}
	}
}

// Lost is not nil when the state turned out not to be whole: store.ErrPartialLoss. Nothing may go on from it.
func (s *State) Lost() error { return s.lost }

func (s *State) missing(sl *slice) error {
	return fmt.Errorf("lane %s: %w: the entries of slice %s hold %d events, the lane folded %d",
		s.id, store.ErrPartialLoss, sl.stat.SliceID, sl.stat.Folded+sl.unconfirmed(), sl.stat.Folded)
}

func readSlices(ctx context.Context, st entryReader, p *Program, id store.LaneID, meta store.Meta, stats []store.SliceStat,
	take func(slice int, key, entry []byte) error) error {
	for i, stat := range stats {
		guard, err := st.ReadSlice(ctx, id, p.StateID, stat.SliceID, 0, p.Spec.Lane.Buckets, func(_ int, key, entry []byte) error {
			return take(i, key, entry)
		})
		if err == nil {
			err = unmoved(guard, meta)
		}
		if err != nil {
			return fmt.Errorf("slice %s: %w", stat.SliceID, err)
		}
	}
	return nil
}

func loadSlices(ctx context.Context, st entryReader, p *Program, id store.LaneID, meta store.Meta, stats []store.SliceStat,
	tables []*agg.Table, take func(slice int, key, entry []byte) error) error {
	ids := make([]store.SliceID, len(stats))
	for i := range stats {
		ids[i] = stats[i].SliceID
	}
	sizes, guard, err := st.Load(ctx, id, p.StateID, ids, p.Spec.Lane.Buckets, take)
	if err != nil {
		return err
	}
	for i, n := range sizes {
		if got := tables[i].Len(); got != n {
			return fmt.Errorf("slice %s: %w: %d entries of %d", ids[i], store.ErrLaneMoved, got, n)
		}
	}
	return unmoved(guard, meta)
}

// unmoved tells whether what was read together with guard is the state that meta speaks of.
func unmoved(guard store.Guard, meta store.Meta) error {
	switch {
	case guard == store.Guard{}: // nothing was read
		return nil
	case guard.Owner != meta.Owner:
		return store.ErrFenced
	case guard.Cursor != meta.Cursor:
		return store.ErrLostWrites
	}
	return nil
}
