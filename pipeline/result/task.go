package result

import (
	"context"
	"errors"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/publish"
	"millrace/pipeline/traces"
	"millrace/pipeline/window"
)

// task is one window to be closed.
type task struct {
	ref     window.Ref
	view    *view
	reason  string // ledger.ReasonFlush, ledger.ReasonDrain, or "" to close by the watermark
	edition int    // of the slot it is closed in, set when that is open
	began   time.Time
}

// outcome is what became of one task.
type outcome struct {
	row       *ledger.Row // the window's latest, nil when there is none
	final     bool        // the window lies at or below a floor, whatever row is
	published bool        // row was written just now
	frozen    bool        // row and content were frozen by an earlier attempt
	at        time.Time   // when it was published
	stale     bool        // row is older than the task's view, or not exact: the window needs another look
}

// closeTask does one task under its view. early allows a first revision that is not exact.
func (c *Closer) closeTask(ctx context.Context, t *task, early bool) (o outcome, err error) {
	t.began = time.Now()
	err = c.slots[c.slotOf(t.ref)].Do(func(s *publish.Held) (err error) {
		known := s.HasProducer()
		o, err = c.closeIn(ctx, s, t, early)
		if known && Incident(err) {
			// The ledger may have gone on since it was read: another closer made the window final, and lanes followed.
			s.GiveUpProducer()
			o, err = c.closeIn(ctx, s, t, early)
		}
		return err
	})
	return o, err
}

// closeIn decides what the window lacks and publishes it in its slot.
func (c *Closer) closeIn(ctx context.Context, s *publish.Held, t *task, early bool) (o outcome, err error) {
	if err := c.wholeView(t.view); err != nil {
		return outcome{}, err
	}
	if err := s.TakeOver(ctx); err != nil {
		return outcome{}, err
	}
	prove := func(ctx context.Context) error { return c.prove(ctx, s, c.slotOf(t.ref), t.view) }
	if err := prove(ctx); err != nil {
		return outcome{}, err
	}
	t.edition = s.Edition()
	id := c.windowID(t.ref)
	if f := s.FloorInstead(id, c.plan.End(t.ref)); f != nil {
		return c.closeFloored(t, f)
	}
	last, err := s.LatestRow(ctx, id)
	if err != nil {
		return outcome{}, err
	}
	began := c.cfg.Now()
	n, err := c.need(t.view, t.ref, last)
	if err != nil || last != nil && last.Final {
		return outcome{row: last}, err
	}
	if t.view.Dropped(c.plan.Deadline(t.ref)) {
		return outcome{row: last}, c.grew(t)
	}
	finalise := n.sealed && t.reason == ""
	if !n.changed && last.Exact && !finalise {
		return outcome{row: last}, nil
	}
	ctx, end := c.traceClose(ctx, t)
	defer func() { end(o, err) }()
	if !n.changed && last.Exact {
		return c.publishAndShow(ctx, s, publish.Amend(c.newRow(t, last), last))
	}
	exact := last != nil || finalise || t.reason == ledger.ReasonDrain || !early
	draft := publish.Draft{Row: c.newRow(t, last), Latest: last, Topics: t.view.topics, Prove: prove}
	merging := time.Now()
	freezing, span := traces.Start(ctx, traces.SpanFreeze)
	r, err := s.Freeze(freezing, draft, func(emit func(ledger.Content) error) (events int64, isExact bool, err error) {
		return c.mergeWindow(freezing, t, exact, emit)
	})
	traces.End(span, err)
	c.tasks.merge.Add(int64(time.Since(merging)))
	if err != nil {
		return outcome{row: last}, err
	}
	o, err = c.publishAndShow(ctx, s, r)
	if err == nil {
		c.cfg.Measure.Close.Observe(o.at.Sub(began))
		explain(ctx, c.cfg.Measure.Close, o.at.Sub(began))
	}
	return o, err
}

// mergeWindow merges the task's window. A lane whose entries do not add up or cannot be read is asked to write them again.
func (c *Closer) mergeWindow(ctx context.Context, t *task, exact bool,
	emit func(ledger.Content) error) (events int64, isExact bool, err error) {
	ctx, span := traces.Start(ctx, traces.SpanMerge, traces.Lanes.Int(len(t.view.Lanes)))
	events, isExact, err = c.merger.Window(ctx, t.view.View, t.ref, exact, emit)
	traces.End(span, err)
	var missing *merge.MissingError
	var corrupt *merge.CorruptError
	switch {
	case errors.As(err, &missing):
		err = c.askForEntries(ctx, missing.Lane, missing)
	case errors.As(err, &corrupt):
		err = c.askForEntries(ctx, corrupt.Lane, corrupt)
	}
	return events, isExact, err
}

// publishAndShow publishes a revision and then shows its row in Redis; only the first decides.
func (c *Closer) publishAndShow(ctx context.Context, s *publish.Held, r *publish.Revision) (outcome, error) {
	began := time.Now()
	err := s.PublishRevision(ctx, r)
	published := time.Now()
	c.tasks.publish.Add(int64(published.Sub(began)))
	if err != nil {
		return outcome{}, err
	}
	now := c.cfg.Now()
	if r.Row.Revision == 1 && r.Row.Reason == ledger.ReasonWatermark {
		after := now.Sub(time.UnixMilli(r.Row.End))
		c.cfg.Measure.WindowEnd.Observe(after)
		explain(ctx, c.cfg.Measure.WindowEnd, after)
	}
	if err := s.ShowRows(ctx); err != nil {
		c.warnView(err)
	}
	c.tasks.show.Add(int64(time.Since(published)))
	return outcome{row: r.Row, published: true, at: now, frozen: r.Frozen, stale: r.Frozen || !r.Row.Exact}, nil
}

func (c *Closer) warnView(err error) {
	c.cfg.Log.Warn("the view in Redis lags behind the ledger", "pipeline", c.cfg.Spec.Name, "error", err)
}

// newRow is the ledger row of the window's next revision under the task's view, without what reading it will tell.
func (c *Closer) newRow(t *task, last *ledger.Row) *ledger.Row {
	id := c.windowID(t.ref)
	row := &ledger.Row{
		Version: ledger.RowVersion, Pipeline: c.cfg.Spec.Name, Window: id.Window, Start: id.Start, End: c.plan.End(t.ref),
		Edition: t.edition, Spec: c.version, Build: c.cfg.Build, Algorithm: ledger.ChecksumAlgorithm,
		Revision: 1, Reason: t.reason, By: c.cfg.By, ClosedAt: c.cfg.Now().UnixMilli(), Lanes: c.covers(t.view, t.ref),
	}
	if sink := c.cfg.Spec.Results.Kafka; sink != nil {
		row.PublishedTo = sink.Topic
	}
	if last != nil {
		row.Revision = last.Revision + 1
	}
	if t.reason != "" {
		return row
	}
	row.Final = t.view.Sealed(c.plan.Deadline(t.ref))
	switch {
	case last == nil || last.Reason == ledger.ReasonFlush || last.Reason == ledger.ReasonDrain:
		row.Reason = ledger.ReasonWatermark
	case row.Final:
		row.Reason = ledger.ReasonFinal
	default:
		row.Reason = ledger.ReasonLate
	}
	return row
}

// grew describes a window that the lanes were told is final, although the ledger has no final row of it.
func (c *Closer) grew(t *task) error {
	ranges := c.plan.SlicesOf(t.ref)
	for i := range t.view.Lanes {
		if _, offset, folded := t.view.Lanes[i].Share(ranges); folded > 0 {
			id := c.windowID(t.ref)
			return &GrewError{Lane: t.view.Lanes[i].ID, Window: id.Window, Start: id.Start, Offset: offset}
		}
	}
	return nil
}
