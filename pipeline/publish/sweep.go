package publish

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

const (
	// SweepBatch is how many final windows one call of Slot.Sweep looks at in Redis.
	SweepBatch = 64

	// sweepRest is how long after a sweep the next one begins. It finds what a process that was frozen for long has shown
	// again, and expiries that a fail-over of Redis lost without any lane noticing.
	sweepRest = time.Hour
)

// retention says how long what was published of a final window is kept.
type retention struct {
	windows spec.Retention
	rollups map[string]spec.Retention
	now     func() time.Time
}

// of is the retention of a family.
func (r *retention) of(family string) spec.Retention {
	if keep, ok := r.rollups[family]; ok {
		return keep
	}
	return r.windows
}

// timeLeft is how much longer Redis keeps contents and view of a window of a family that was made final at closedAt (ms).
func (r *retention) timeLeft(family string, closedAt int64) time.Duration {
	return r.of(family).Left(closedAt, r.now())
}

// rowDue reports whether the row of a window of a family that was made final at closedAt (ms) may be given up.
func (r *retention) rowDue(family string, closedAt int64) bool {
	return !r.now().Before(time.UnixMilli(closedAt).Add(r.of(family).Ledger.Std()))
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

// Sweep goes on with the slot's sweep, by at most SweepBatch windows. What it returns is true also after an error; rows
// and results are counted as of the last MaintainFloors.
func (s *Slot) Sweep(ctx context.Context) (report.Kept, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.held.sweepWindows(ctx, SweepBatch)
	kept := s.held.keptAtFloor
	kept.Backlog = len(s.held.sweep.todo)
	return kept, err
}

func (h *Held) sweepWindows(ctx context.Context, batch int) error {
	w := &h.sweep
	if len(w.todo) == 0 && (w.again || !h.keep.now().Before(w.next)) {
		w.again = false
		w.todo = h.index.windowsWhere(h.index.expires)
		slices.SortStableFunc(w.todo, func(a, b ledger.WindowID) int {
			return cmp.Compare(h.index.entries[a].closedAt, h.index.entries[b].closedAt)
		})
	}
	for ; batch > 0 && len(w.todo) > 0; batch-- {
		last := len(w.todo) - 1
		if err := h.alignView(ctx, w.todo[last]); err != nil {
			return err
		}
		w.todo = w.todo[:last]
		w.next = h.keep.now().Add(sweepRest)
	}
	return nil
}

// alignView brings what Redis has of one final window in line with the ledger.
func (h *Held) alignView(ctx context.Context, id ledger.WindowID) error {
	if err := h.catchUp(ctx); err != nil {
		return err
	}
	e := h.index.entries[id]
	if e == nil || h.pending[id] != nil || !h.index.expires(id, e) {
		return nil // it was given up since, or is about to be shown
	}
	left := h.timeLeft(id, e)
	shown, err := h.state.ExpireWindow(ctx, h.storeID(id), e.version(), left)
	if err != nil {
		return fmt.Errorf("expire window %s: %w", id, err)
	}
	if shown && left > 0 && h.plainRows {
		p, _, err := h.state.Published(ctx, h.storeID(id))
		if err != nil {
			return fmt.Errorf("read what Redis shows of window %s: %w", id, err)
		}
		shown = !h.rowsAmiss(p)
	}
	if shown || left <= 0 || !e.final {
		return nil
	}
	row, err := h.readRow(ctx, id, e)
	if err != nil {
		return err
	}
	return h.showRow(ctx, &unshown{row: row})
}

// countKept counts rows and results that are kept now.
func (h *Held) countKept() report.Kept {
	k := report.Kept{Rows: len(h.index.entries)}
	for id, e := range h.index.entries {
		if h.index.isPast(e) {
			continue
		}
		final := h.index.isFinal(id, e)
		if !final || h.timeLeft(id, e) > 0 {
			k.Results++
		}
		if final && (k.Oldest == 0 || e.closedAt < k.Oldest) {
			k.Oldest = e.closedAt
		}
	}
	return k
}
