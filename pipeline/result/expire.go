package result

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/parallel"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

const (
	// sweepBatch is how many final windows of a slot one round looks at in Redis.
	sweepBatch = 64

	// sweepRest is how long after a sweep the next one begins. It finds what a process that was frozen for long has shown
	// again, and expiries that a fail-over of Redis lost without any lane noticing.
	sweepRest = time.Hour
)

// keeper says how long what was published of a final window is kept.
type keeper struct {
	spec.Retention
	now func() time.Time
}

// left is how much longer Redis keeps contents and view of a window that was made final at closedAt (ms).
func (k *keeper) left(closedAt int64) time.Duration { return k.Left(closedAt, k.now()) }

// rowDue reports whether the row of a window that was made final at closedAt may be given up.
func (k *keeper) rowDue(closedAt int64) bool {
	return !k.now().Before(time.UnixMilli(closedAt).Add(k.Ledger.Std()))
}

// sweep goes once over all final windows of a slot and brings what Redis has of them in line with the ledger: it expires
// what has no time to live, removes what is due, and shows again what Redis forgot. A closer that takes over begins one,
// because the closer before it may have died between a ledger row and its expiry, and windows that were published by an
// earlier version of millrace never expire by themselves.
type sweep struct {
	todo  []ledger.WindowID // what is left of it, the newest windows last: they are looked at first
	again bool              // Redis may have forgotten something since todo was made
	next  time.Time         // when it begins again although nothing happened
}

// showRow brings the view of one window up to its row. The view of a final window is given its time to live, or is
// removed when that is over.
func (s *slot) showRow(ctx context.Context, row *ledger.Row) error {
	id := storeID(row)
	e := s.index.entries[row.ID()]
	expires := row.Final || e != nil && s.index.done(row.ID(), e)
	left := s.keep.left(row.ClosedAt)
	if !expires || left > 0 {
		text, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("encode ledger row: %w", err)
		}
		if err := s.state.Flip(ctx, id, row.Revision, row.Final, text); err != nil && !errors.Is(err, store.ErrRevisionBack) {
			return fmt.Errorf("show revision %d of window %s: %w", row.Revision, row.ID(), err)
		}
		if row.Revision > 2 {
			if _, err := s.state.Trim(ctx, id); err != nil {
				return fmt.Errorf("trim window %s: %w", row.ID(), err)
			}
		}
	}
	if !expires {
		return nil
	}
	if _, err := s.state.ExpireWindow(ctx, id, row.Revision, left); err != nil {
		return fmt.Errorf("expire window %s: %w", row.ID(), err)
	}
	return nil
}

// sweepSome goes on with the slot's sweep. It returns how many windows are left of it.
func (s *slot) sweepSome(ctx context.Context, batch int) (backlog int, err error) {
	w := &s.sweep
	if len(w.todo) == 0 && (w.again || !s.keep.now().Before(w.next)) {
		w.again = false
		w.todo = s.index.ids(s.index.expires)
		slices.SortStableFunc(w.todo, func(a, b ledger.WindowID) int {
			return cmp.Compare(s.index.entries[a].closedAt, s.index.entries[b].closedAt)
		})
	}
	for ; batch > 0 && len(w.todo) > 0; batch-- {
		last := len(w.todo) - 1
		if err := s.settleView(ctx, w.todo[last]); err != nil {
			return len(w.todo), err
		}
		w.todo = w.todo[:last]
		w.next = s.keep.now().Add(sweepRest)
	}
	return len(w.todo), nil
}

// settleView brings what Redis has of one final window in line with the ledger.
func (s *slot) settleView(ctx context.Context, id ledger.WindowID) error {
	e := s.index.entries[id]
	if e == nil || s.views[id] != nil || !s.index.expires(id, e) {
		return nil // it was given up since, or is about to be shown
	}
	left := s.keep.left(e.closedAt)
	shown, err := s.state.ExpireWindow(ctx, s.storeID(id), e.revision, left)
	if err != nil {
		return fmt.Errorf("expire window %s: %w", id, err)
	}
	if shown || left <= 0 || !e.final {
		return nil
	}
	row, err := s.fetch(ctx, e)
	if err != nil {
		return err
	}
	return s.showRow(ctx, row)
}

// sweepViews goes on with the sweeps of all slots and counts what is kept.
func (c *Closer) sweepViews(ctx context.Context) Kept {
	kept := make([]Kept, len(c.slots))
	_ = parallel.Do(ctx, c.cfg.Parallel, len(c.slots), func(ctx context.Context, i int) error {
		s := c.slots[i]
		s.mu.Lock()
		defer s.mu.Unlock()
		backlog, err := s.sweepSome(ctx, sweepBatch)
		if err != nil && ctx.Err() == nil {
			c.cfg.Log.Warn("contents of windows stay in Redis beyond their retention", "pipeline", s.pipeline, "slot", s.n,
				"windows", backlog, "error", err)
		}
		kept[i] = s.counts
		kept[i].Backlog = backlog
		return nil
	})
	all := Kept{Oldest: window.NoTime, Floor: window.NoTime}
	for i, k := range kept {
		if c.slots[i].kept.IsZero() {
			continue
		}
		all.Rows += k.Rows
		all.Results += k.Results
		all.Backlog += k.Backlog
		if k.Oldest != window.NoTime && (all.Oldest == window.NoTime || k.Oldest < all.Oldest) {
			all.Oldest = k.Oldest
		}
	}
	if before := c.flooredBefore(); before != window.NoTime {
		all.Floor = before - c.cfg.Spec.AllowedLateness.Millis()
	}
	return all
}

func (s *slot) countKept() Kept {
	k := Kept{Rows: len(s.index.entries), Oldest: window.NoTime}
	for id, e := range s.index.entries {
		if s.index.past(e) {
			continue
		}
		done := s.index.done(id, e)
		if !done || s.keep.left(e.closedAt) > 0 {
			k.Results++
		}
		if done && (k.Oldest == window.NoTime || e.closedAt < k.Oldest) {
			k.Oldest = e.closedAt
		}
	}
	return k
}

func storeID(row *ledger.Row) store.WindowID {
	return store.WindowID{Pipeline: row.Pipeline, Window: row.Window, Start: row.Start}
}
