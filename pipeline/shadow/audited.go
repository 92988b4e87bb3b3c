package shadow

import (
	"context"
	"fmt"
	"slices"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/shadow/audit"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/survey"
	"millrace/pipeline/window"
)

const (
	markerLooks  = 10
	markerLook   = 300 * time.Millisecond
	auditedReads = 3
)

// loadAudited reads the ledger and looks through the result topics for records that no row of the plan's windows accounts for.
//
// The markers of a transaction are written partition by partition, so its rows may be visible before its ledger row is: a later
// revision than the ledger knows is waited for before it counts as a stray.
func (r *running) loadAudited(ctx context.Context) error {
	if err := r.loadRows(ctx); err != nil {
		return err
	}
	for range auditedReads {
		ends, err := r.resultEnds(ctx)
		if err != nil {
			return err
		}
		if err := r.loadRows(ctx); err != nil {
			return err
		}
		rows := make(map[ledger.WindowID]*ledger.Row, len(r.plan.Windows))
		for i := range r.plan.Windows {
			id := r.plan.Windows[i].ID()
			rows[id] = r.ofEdition(r.rows[id])
		}
		later, err := r.cfg.Audit.FindStrays(ctx, r.edition, rows, ends)
		if err != nil || len(later) == 0 {
			return err
		}
		if follows, err := r.ledgerFollows(ctx, later, rows); err != nil || !follows {
			return err
		}
	}
	return nil
}

// ledgerFollows waits a moment for later revisions of windows than rows has, and reports whether there is one.
func (r *running) ledgerFollows(ctx context.Context, windows []ledger.WindowID, rows map[ledger.WindowID]*ledger.Row) (bool, error) {
	for range markerLooks {
		if !sleep(ctx, markerLook) {
			return false, ctx.Err()
		}
		if err := r.loadRows(ctx); err != nil {
			return false, err
		}
		for _, id := range windows {
			row, old := r.ofEdition(r.rows[id]), rows[id]
			if row != nil && (old == nil || row.Revision > old.Revision) {
				return true, nil
			}
		}
	}
	return false, nil
}

// resultEnds asks for the ends of the topics that the plan's windows were published to.
func (r *running) resultEnds(ctx context.Context) (map[source.TopicPartition]int64, error) {
	topics := make(map[string]bool)
	for i := range r.plan.Windows {
		if row := r.rows[r.plan.Windows[i].ID()]; row != nil && row.PublishedTo != "" {
			topics[row.PublishedTo] = true
		}
	}
	out := make(map[source.TopicPartition]int64)
	for topic := range topics {
		partitions, err := r.cfg.Ledger.Partitions(ctx, topic)
		if err != nil {
			return nil, fmt.Errorf("result topic %s: %w", topic, err)
		}
		var tps []source.TopicPartition
		for _, p := range partitions {
			tps = append(tps, source.TopicPartition{Topic: topic, Partition: p})
		}
		ends, err := r.cfg.Ledger.Ends(ctx, tps...)
		if err != nil {
			return nil, fmt.Errorf("ends of result topic %s: %w", topic, err)
		}
		for tp, e := range ends {
			out[tp] = e.End
		}
	}
	return out, nil
}

// ofEdition is the row unless it is of a life of the pipeline that has ended.
func (r *running) ofEdition(row *ledger.Row) *ledger.Row {
	if row != nil && row.Edition != r.edition {
		return nil
	}
	return row
}

// auditWindow compares every place where a window stands with what was counted. Of a window that is wrong somewhere it keeps
// the whole content, so that a correction relies on nothing that is published of it.
func (r *running) auditWindow(ctx context.Context, row *ledger.Row, counted *audit.Counted, h *diff.Header) error {
	f, err := r.cfg.Audit.Compare(ctx, row, counted)
	if err != nil {
		return err
	}
	h.Wrong = f.Wrong
	if h.Agrees() {
		return nil
	}
	h.Whole, h.Taken = true, f.Taken
	h.Row.Revision = max(h.Row.Revision, h.Taken+1)
	c := diff.NewWhole()
	for _, shown := range f.Shown {
		c.AddBase(shown)
	}
	if f.Shown == nil { // no place shows another content, but for strays
		err := counted.Rows(func(row ledger.Content) error {
			c.AddBase(row)
			return nil
		})
		if err != nil {
			return err
		}
	}
	for _, stray := range f.Stray {
		c.AddBase(stray)
	}
	err = counted.Rows(func(row ledger.Content) error {
		c.AddNew(row)
		return nil
	})
	if err != nil {
		return err
	}
	return r.writePages(ctx, counted.ID, c.Rows(), h)
}

// countedOf is what was counted of a window, for the audit.
func (r *running) countedOf(ctx context.Context, view *survey.View, ref window.Ref, w *plan.Window, found counting) *audit.Counted {
	return &audit.Counted{
		ID: w.ID(), Keys: found.keys, Events: found.events, Checksum: found.checksum,
		RollsUp: r.rollsUp(w.ID()),
		Rows: func(fn func(ledger.Content) error) error {
			_, _, err := r.merger.Window(ctx, view, ref, true, fn)
			return err
		},
	}
}

// rollsUp reports whether a roll-up of the window is missing in the ledger, or was made from other revisions than there are now.
func (r *running) rollsUp(id ledger.WindowID) bool {
	for i := range r.spec.Rollups {
		up := &r.spec.Rollups[i]
		if up.From != id.Window {
			continue
		}
		periods, ok := r.spec.Grid(up.Name)
		if !ok {
			continue
		}
		start, end := periods.Bounds(id.Start)
		parent := ledger.WindowID{Window: up.Name, Start: start}
		stale, known := r.stale[parent]
		if !known {
			stale = r.isStale(r.ofEdition(r.rows[parent]), id.Window, start, end)
			r.stale[parent] = stale
		}
		if stale {
			return true
		}
	}
	return false
}

// isStale reports whether a rolled-up window from start to end (ms) is not made from the latest revisions of its children.
func (r *running) isStale(parent *ledger.Row, children string, start, end int64) bool {
	if parent == nil {
		return true
	}
	for id, row := range r.rows {
		if id.Window != children || id.Start < start || id.Start >= end || r.ofEdition(row) == nil {
			continue
		}
		if !slices.Contains(parent.Children, ledger.Child{Window: id.Window, Start: id.Start, Revision: row.Revision, Checksum: row.Checksum}) {
			return true
		}
	}
	return false
}
