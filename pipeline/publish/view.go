package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
	"millrace/pipeline/traces"
)

// ShowRows brings Redis up to the rows that were published. What fails stays to be done.
func (h *Held) ShowRows(ctx context.Context) error {
	if len(h.pending) == 0 && !h.doubtful {
		return nil
	}
	ctx, span := traces.Start(ctx, traces.SpanShow)
	err := h.showPending(ctx)
	traces.End(span, err)
	return err
}

func (h *Held) showPending(ctx context.Context) error {
	if h.doubtful {
		if err := h.findForgottenRows(ctx); err != nil {
			return err
		}
	}
	for _, id := range slices.SortedFunc(maps.Keys(h.pending), compareWindows) {
		if err := h.catchUp(ctx); err != nil {
			return err
		}
		if row := h.pending[id]; row != nil {
			if err := h.showRow(ctx, row); err != nil {
				return err
			}
		}
		delete(h.pending, id)
	}
	return nil
}

// findForgottenRows looks whether Redis still shows what it has shown of open windows. A server that was emptied lost
// everything, a replica that took over only what it had not received: the latest rows. What is missing is shown again.
// Final windows are left to the sweep.
func (h *Held) findForgottenRows(ctx context.Context) error {
	open := func(id ledger.WindowID, e *entry) bool {
		return !h.index.isPast(e) && !h.index.isFinal(id, e) && h.pending[id] == nil
	}
	for _, id := range h.index.windowsWhere(open) {
		e := h.index.entries[id]
		p, found, err := h.state.Published(ctx, h.storeID(id))
		if err != nil {
			return fmt.Errorf("read what Redis shows of window %s: %w", id, err)
		}
		if !found || p.Current.Less(e.version()) {
			h.pending[id] = e.row
		}
	}
	h.doubtful, h.sweep.again = false, true
	return nil
}

// showRow brings the view of one window up to its row. The view of a final window is given its time to live, or is
// removed when that is over.
func (h *Held) showRow(ctx context.Context, row *ledger.Row) error {
	id := h.storeID(row.ID())
	e := h.index.entries[row.ID()]
	expires := row.Final || e != nil && h.index.isFinal(row.ID(), e)
	left := h.keep.timeLeft(row.Window, row.ClosedAt)
	if h.archives && row.Archive == nil {
		left = untilArchived
	}
	if !expires || left > 0 {
		text, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("encode ledger row: %w", err)
		}
		if err := h.state.Flip(ctx, id, versionOf(row), row.Final, text); err != nil && !errors.Is(err, store.ErrRevisionBack) {
			return fmt.Errorf("show revision %d of window %s: %w", row.Revision, row.ID(), err)
		}
		if row.Revision > 2 {
			if _, err := h.state.Trim(ctx, id); err != nil {
				return fmt.Errorf("trim window %s: %w", row.ID(), err)
			}
		}
	}
	if !expires {
		return nil
	}
	if _, err := h.state.ExpireWindow(ctx, id, versionOf(row), left); err != nil {
		return fmt.Errorf("expire window %s: %w", row.ID(), err)
	}
	return nil
}

func versionOf(row *ledger.Row) store.Version {
	return store.Version{Edition: row.Edition, Revision: row.Revision}
}
