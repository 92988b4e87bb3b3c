package shadow

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
	"millrace/pipeline/window"
)

// pagesPerCall bounds the pages that are written in one call.
const pagesPerCall = 16

// counting is what a window holds, as counted.
type counting struct {
	keys, events int64
	checksum     string
}

// compareWindow counts a window and keeps what it finds.
func (r *running) compareWindow(ctx context.Context, view *survey.View, w *plan.Window) error {
	ref, err := r.refOf(w)
	if err != nil {
		return err
	}
	var sum ledger.Checksum
	events, _, err := r.merger.Window(ctx, view, ref, true, func(row ledger.Content) error {
		sum.AddContent(row)
		return nil
	})
	if err != nil {
		return err
	}
	found := counting{keys: sum.Rows(), events: events, checksum: sum.String()}
	row := r.ofEdition(r.rows[w.ID()])
	h := r.headerOf(view, ref, w, row, found)
	if hasMoved(w, row) {
		h.Problem = "the window was published anew since the plan was made; begin another replay"
		return r.keepHeader(ctx, h)
	}
	switch {
	case r.cfg.Audit != nil:
		err = r.auditWindow(ctx, row, r.countedOf(ctx, view, ref, w, found), h)
	case !h.Equal:
		err = r.writeDifference(ctx, view, ref, w, row, h)
	}
	if err != nil {
		return err
	}
	return r.keepHeader(ctx, h)
}

// hasMoved reports whether a window's row is not the one that the plan was made for.
func hasMoved(w *plan.Window, row *ledger.Row) bool {
	if w.Base == nil || row == nil {
		return (w.Base == nil) != (row == nil)
	}
	return row.Edition != w.Base.Edition || row.Revision != w.Base.Revision || row.Checksum != w.Base.Checksum
}

func (r *running) refOf(w *plan.Window) (window.Ref, error) {
	for i := range r.spec.Windows {
		if r.spec.Windows[i].Name == w.Name {
			return window.Ref{Window: i, Start: w.Start}, nil
		}
	}
	return window.Ref{}, fmt.Errorf("plan of %s: the spec has no window %q", r.id, w.Name)
}

// headerOf says what was found, without the difference.
func (r *running) headerOf(view *survey.View, ref window.Ref, w *plan.Window, row *ledger.Row, found counting) *diff.Header {
	h := &diff.Header{
		Version: diff.HeaderVersion, Lateness: string(r.plan.Lateness), Scope: string(r.plan.Scope),
		Row: ledger.Row{
			Version: ledger.RowVersion, Pipeline: r.plan.Pipeline, Window: w.Name, Start: w.Start, End: w.End, Edition: r.edition,
			Spec: r.plan.SpecVersion, Build: r.cfg.Build, Revision: 1, Reason: ledger.ReasonReplay, Final: true, Exact: true, By: r.cfg.By,
			Keys: found.keys, Events: found.events, Checksum: found.checksum, Algorithm: ledger.ChecksumAlgorithm,
			Lanes: r.covers(view, ref, w, row),
		},
	}
	var base plan.Base
	if w.Base != nil {
		base = *w.Base
		h.Row.Revision = base.Revision + 1
	} else {
		base.Checksum = new(ledger.Checksum).String()
	}
	if row != nil {
		h.Row.PublishedTo = row.PublishedTo
	}
	h.BaseEdition, h.BaseRevision, h.BaseChecksum = base.Edition, base.Revision, base.Checksum
	h.BaseKeys, h.BaseEvents, h.BaseSpec = base.Keys, base.Events, base.Spec
	h.Equal = found == counting{base.Keys, base.Events, base.Checksum}
	return h
}

// covers are the lanes of the row that a correction publishes. What it says of how the lanes themselves have decided stays as
// it is, or is what the floor says where there is no row: a later replay begins there. What they hold of the window is what was
// counted.
func (r *running) covers(view *survey.View, ref window.Ref, w *plan.Window, row *ledger.Row) []ledger.Cover {
	var covers []ledger.Cover
	if row != nil {
		covers = slices.Clone(row.Lanes)
	}
	ranges := r.window.SlicesOf(ref)
	for i := range view.Lanes {
		l, p := &view.Lanes[i], &r.plan.Lanes[i]
		_, last, folded := l.Share(ranges)
		k := slices.IndexFunc(covers, func(c ledger.Cover) bool { return c.Partition == p.Partition && c.Topic == p.Topic })
		if k < 0 {
			if folded == 0 && (row != nil || w.Covered[i] == 0) {
				continue
			}
			k = len(covers)
			covers = append(covers, ledger.Cover{
				Topic: p.Topic, Partition: p.Partition, Offset: w.Covered[i], Era: p.Era, TopicID: p.TopicID, FirstOffset: -1,
			})
		}
		covers[k].LastOffset, covers[k].Folded = last, folded
	}
	return covers
}

// writeDifference keeps the rows that differ. A base that cannot be read whole is a problem of the window.
func (r *running) writeDifference(ctx context.Context, view *survey.View, ref window.Ref, w *plan.Window, row *ledger.Row,
	h *diff.Header) error {
	c := diff.NewCompare()
	if row != nil {
		rows, err := r.readBase(ctx, row)
		var gone *publish.GoneError
		if errors.As(err, &gone) {
			h.Problem = "what is published of it cannot be read: " + err.Error()
			return nil
		}
		if err != nil {
			return err
		}
		for i := range rows {
			c.AddBase(rows[i])
		}
	}
	_, _, err := r.merger.Window(ctx, view, ref, true, func(row ledger.Content) error {
		c.AddNew(row)
		return nil
	})
	if err != nil {
		return err
	}
	return r.writePages(ctx, w.ID(), c.Rows(), h)
}

// readBase reads what is published of a window, with its states as long as they stand anywhere.
func (r *running) readBase(ctx context.Context, row *ledger.Row) ([]ledger.Content, error) {
	if len(row.States) > 0 {
		rows, err := r.cfg.Base.ReadStates(ctx, row)
		var gone *publish.GoneError
		if !errors.As(err, &gone) {
			return rows, err
		}
	}
	return r.cfg.Base.Read(ctx, row)
}

// writePages writes rows in pages, and counts them in the header.
func (r *running) writePages(ctx context.Context, id ledger.WindowID, rows []diff.Row, h *diff.Header) error {
	name := windowName(id)
	var digest diff.Digest
	var batch []store.ShadowPage
	reset := true
	flush := func() error {
		if len(batch) == 0 && !reset {
			return nil
		}
		err := r.cfg.Store.WriteShadowPages(ctx, r.id, r.token, name, reset, batch)
		batch, reset = batch[:0], false
		return err
	}
	pages := diff.NewPages(func(page []byte) error {
		digest.Add(page)
		batch = append(batch, store.ShadowPage{Number: h.Pages, Bytes: slices.Clone(page)})
		h.Pages++
		if len(batch) == pagesPerCall {
			return flush()
		}
		return nil
	})
	for i := range rows {
		h.Count(&rows[i])
		if err := pages.Add(&rows[i]); err != nil {
			return err
		}
	}
	if err := pages.Flush(); err != nil {
		return err
	}
	h.Digest = digest.String()
	return flush()
}

// keepHeader keeps what was found out about a window: it is compared from now on.
func (r *running) keepHeader(ctx context.Context, h *diff.Header) error {
	b, err := h.Encode()
	if err != nil {
		return err
	}
	name := windowName(h.ID())
	if err := r.cfg.Store.WriteShadowHeader(ctx, r.id, r.token, name, b); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers[name] = h
	return nil
}
