package publish

import (
	"bytes"
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

// unshown is a row that Redis is to show.
type unshown struct {
	row *ledger.Row
	difference
}

// difference is what Redis does not have yet of a revision that changes the one before.
type difference struct {
	fields []store.ViewField // pages that differ, and the directory
	gone   []string          // fields that nobody reads any more once the revision is shown
	page   []byte            // the rows that differ
}

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
		if u := h.pending[id]; u != nil {
			if err := h.showRow(ctx, u); err != nil {
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
		amiss := !found || p.Current.Less(e.version()) || h.rowsAmiss(p) || e.row.View != nil && !p.HasContent
		if !amiss && p.Current == e.version() {
			text, err := json.Marshal(e.row)
			if err != nil {
				return fmt.Errorf("encode ledger row: %w", err)
			}
			amiss = !bytes.Equal(p.Row, text) // a later row of the same revision
		}
		if amiss {
			h.pending[id] = &unshown{row: e.row}
		}
	}
	h.doubtful, h.sweep.again = false, true
	return nil
}

// showRow brings the view of one window up to its row. The view of a final window is given its time to live, or is
// removed when that is over.
func (h *Held) showRow(ctx context.Context, u *unshown) error {
	row := u.row
	id := h.storeID(row.ID())
	e := h.index.entries[row.ID()]
	expires := row.Final || e != nil && h.index.isFinal(row.ID(), e)
	left := h.shownFor(row)
	if !expires || left > 0 {
		text, err := json.Marshal(row)
		if err != nil {
			return fmt.Errorf("encode ledger row: %w", err)
		}
		if err := h.flip(ctx, id, u, text); err != nil {
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

// flip writes what the revision has changed, and shows it with its plain rows. A later one that is shown stays.
func (h *Held) flip(ctx context.Context, id store.WindowID, u *unshown, text []byte) error {
	view, fields, bytes := viewOf(u.row), u.fields, 0
	for i := range fields {
		bytes += len(fields[i].Value)
	}
	if bytes > callBytes {
		if err := h.state.WriteView(ctx, id, versionOf(u.row), view, fields); err != nil && !isSuperseded(err) {
			return err
		}
		fields = nil
	}
	rows, err := h.rowsFor(ctx, id, u)
	if err != nil {
		return err
	}
	err = h.state.Flip(ctx, id, versionOf(u.row), u.row.Final, text, view, fields, u.gone, rows)
	if errors.Is(err, store.ErrNoRows) {
		err = h.remakeRows(ctx, id, u.row, text)
	}
	if errors.Is(err, store.ErrRevisionBack) {
		return nil
	}
	return err
}

func versionOf(row *ledger.Row) store.Version {
	return store.Version{Edition: row.Edition, Revision: row.Revision}
}

// isSuperseded reports whether Redis shows, or is being told, something newer than what is written there: only the ledger
// decides, so the revision is published without being shown.
func isSuperseded(err error) bool { return errors.Is(err, store.ErrSuperseded) }
