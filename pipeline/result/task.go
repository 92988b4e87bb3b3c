package result

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/trace"

	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/publish"
	"millrace/pipeline/window"
)

// task is one window to be closed.
type task struct {
	ref     window.Ref
	view    *view
	reason  string // ledger.ReasonFlush, ledger.ReasonDrain, or "" to close by the watermark
	early   bool   // a first revision need not be exact
	alone   bool   // nothing waits for its merge
	edition int    // of the slot it is closed in, set when that is open

	next     []*task       // those of the slot that are closed after it
	opened   *merge.Opened // together with others, nil unless it was
	openedAt time.Time     // by the closer's clock
	apart    bool          // it is not opened together with others

	publication
	outcome
	err error
}

// publication is a revision on its way.
type publication struct {
	checked *publish.Checked // nil when there is nothing to publish
	began   time.Time        // by the closer's clock
	ctx     context.Context  // with the window's span
	endSpan func(outcome, error)
}

// outcome is what became of one task.
type outcome struct {
	row       *ledger.Row   // the window's latest, nil when there is none
	final     bool          // the window lies at or below a floor, whatever row is
	published bool          // row was written just now
	at        time.Time     // when it was published
	stale     bool          // row is older than the task's view, or not exact: the window needs another look
	took      time.Duration // this window, and its share of what several took together
}

// Bounds of the windows that share a transaction. None of them waits for long for the others.
const (
	mostTogether  = 64
	bytesTogether = publish.MaxHeld
	timeTogether  = 200 * time.Millisecond

	// openedTogether is how many events windows may have that are opened with the same calls. One
	// that has more takes so long that the calls of its own do not count.
	openedTogether = 64 << 10

	// openedFor is how long a window that was opened together with others may wait for its merge. A
	// lane deletes pages two seconds after it has replaced them.
	openedFor = time.Second
)

// errLarge says of a window that merging it takes long: those that are ready are published before.
var errLarge = errors.New("the window is merged when nothing waits for it")

// closeTogether brings windows of one slot up to date, under their views and in their order, as
// many as share a transaction. It returns how many it is done with.
func (c *Closer) closeTogether(ctx context.Context, s *publish.Held, tasks []*task) int {
	began, n, bytes, waiting := c.cfg.Now(), 0, 0, false
	for n < len(tasks) && n < mostTogether && bytes < bytesTogether && ctx.Err() == nil {
		t := tasks[n]
		t.alone, t.next = !waiting, tasks[n+1:]
		c.prepare(ctx, s, t)
		if errors.Is(t.err, errLarge) {
			break
		}
		n++
		if t.checked != nil {
			if !t.checked.Waits() { // it is published, and is to be shown
				break
			}
			waiting = true
			bytes += t.checked.Bytes()
		}
		if c.cfg.Now().Sub(began) > timeTogether || publish.IsOfSlot(t.err) {
			break
		}
	}
	c.commit(ctx, s, tasks[:n])
	return n
}

// prepare decides what a window lacks.
func (c *Closer) prepare(ctx context.Context, s *publish.Held, t *task) {
	began := c.cfg.Now()
	known := s.HasProducer()
	t.outcome, t.err = c.decide(ctx, s, t)
	if known && Incident(t.err) {
		// The ledger may have gone on since it was read: another closer made the window final, and
		// lanes followed.
		s.GiveUpProducer()
		t.outcome, t.err = c.decide(ctx, s, t)
	}
	t.took = c.cfg.Now().Sub(began)
}

// commit publishes what the tasks lack and then shows their rows in Redis; only the first decides.
func (c *Closer) commit(ctx context.Context, s *publish.Held, tasks []*task) {
	var all []*publish.Checked
	for _, t := range tasks {
		if t.checked != nil {
			all = append(all, t.checked)
		}
	}
	if len(all) == 0 {
		return
	}
	began, watch := c.cfg.Now(), time.Now()
	s.Commit(ctx, all...)
	at := c.cfg.Now()
	c.tasks.publish.Add(int64(time.Since(watch)))
	for _, t := range tasks {
		if t.checked != nil {
			c.conclude(t, at)
		}
	}
	watch = time.Now()
	if err := s.ShowRows(showsUnder(ctx, tasks)); err != nil {
		c.warnView(err)
	}
	c.tasks.show.Add(int64(time.Since(watch)))
	share := c.cfg.Now().Sub(began) / time.Duration(len(all))
	for _, t := range tasks {
		if t.checked != nil {
			t.took += share
			t.endSpan(t.outcome, t.err)
		}
	}
}

// showsUnder is ctx with the span of the first window that has one.
func showsUnder(ctx context.Context, tasks []*task) context.Context {
	for _, t := range tasks {
		if t.checked != nil && trace.SpanFromContext(t.ctx).IsRecording() {
			return t.ctx
		}
	}
	return ctx
}

// conclude notes what became of a revision that was committed, or not, at a time.
func (c *Closer) conclude(t *task, at time.Time) {
	r, err := t.checked.Revision()
	if err != nil {
		t.err = err
		return
	}
	t.row, t.published, t.at, t.stale = r.Row, true, at, !r.Row.Exact
	if r.Row.Revision == 1 && r.Row.Reason == ledger.ReasonWatermark {
		after := at.Sub(time.UnixMilli(r.Row.End))
		c.cfg.Measure.WindowEnd.Observe(after)
		explain(t.ctx, c.cfg.Measure.WindowEnd, after)
	}
	if !r.Amends {
		c.cfg.Measure.Close.Observe(at.Sub(t.began))
		explain(t.ctx, c.cfg.Measure.Close, at.Sub(t.began))
	}
}

// decide finds out what the window lacks, and lets its slot check it: that is left in the task.
// Without it, the outcome is all.
func (c *Closer) decide(ctx context.Context, s *publish.Held, t *task) (outcome, error) {
	began := time.Now()
	t.publication = publication{began: c.cfg.Now()}
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
	old := outcome{row: last}
	n, err := c.need(t.view, t.ref, last)
	if err != nil || last != nil && last.Final {
		return old, err
	}
	if t.view.Dropped(c.plan.Deadline(t.ref)) {
		return old, c.grew(t)
	}
	if !n.changed && last.Exact && (!n.sealed || t.reason != "") {
		return old, nil
	}
	if !n.changed && last.Exact {
		t.ctx, t.endSpan = c.traceClose(ctx, t, began)
		t.checked = s.CheckRow(t.ctx, &publish.Draft{Row: publish.Amend(c.newRow(t, last), last), Latest: last, Prove: prove})
		return old, nil
	}
	opened, err := c.open(ctx, s, t, last)
	if err == nil && !t.alone && opened.Bytes() > bytesTogether {
		return old, errLarge
	}
	t.ctx, t.endSpan = c.traceClose(ctx, t, began)
	if err == nil {
		t.checked, err = c.checkContent(s, t, opened, last, prove)
	}
	if err != nil {
		t.endSpan(old, err)
	}
	return old, err
}

// open opens a window. A small one that was never published is opened together with those that
// follow it and were not either: calls are most of what they cost.
func (c *Closer) open(ctx context.Context, s *publish.Held, t *task, last *ledger.Row) (*merge.Opened, error) {
	if o := t.opened; o != nil {
		t.opened = nil
		if c.cfg.Now().Sub(t.openedAt) <= openedFor {
			return o, nil
		}
		return c.merger.Open(ctx, t.view.View, t.ref)
	}
	if last == nil && !t.apart {
		some := c.openable(s, t)
		refs := make([]window.Ref, len(some))
		for i := range some {
			refs[i] = some[i].ref
		}
		all, err := c.merger.OpenTogether(ctx, t.view.View, refs, bytesTogether)
		if now := c.cfg.Now(); err == nil {
			for i, other := range some[1:] {
				other.opened, other.openedAt = all[i+1], now
			}
			return all[0], nil
		}
		for _, other := range some { // whichever it is that cannot be opened, it alone says so
			other.apart = true
		}
	}
	return c.merger.Open(ctx, t.view.View, t.ref)
}

// openable lists a task and those after it whose windows are opened together.
func (c *Closer) openable(s *publish.Held, t *task) []*task {
	some, events := []*task{t}, c.foldedIn(t)
	for _, other := range t.next[:min(len(t.next), mostTogether-1)] {
		if other.opened != nil || other.apart || other.view != t.view || !s.IsNew(c.windowID(other.ref)) {
			continue
		}
		if events += c.foldedIn(other); events > openedTogether {
			break
		}
		some = append(some, other)
	}
	return some
}

// foldedIn is how many events the lanes of a task's view have folded into its window.
func (c *Closer) foldedIn(t *task) (n int64) {
	ranges := c.plan.SlicesOf(t.ref)
	for i := range t.view.Lanes {
		_, _, folded := t.view.Lanes[i].Share(ranges)
		n += folded
	}
	return n
}

// checkContent merges a window that was opened, as far as it has changed.
func (c *Closer) checkContent(s *publish.Held, t *task, opened *merge.Opened, last *ledger.Row,
	prove func(context.Context) error) (*publish.Checked, error) {
	t.view = t.view.opened(opened.View, c.slotOf(t.ref))
	n, err := c.need(t.view, t.ref, last)
	if err != nil {
		return nil, err
	}
	draft := &publish.Draft{
		Row: c.newRow(t, last), Latest: last, Topics: t.view.topics, Prove: prove, Forgets: last != nil && hasOtherPast(t.view, last),
	}
	content := &windowContent{
		Opened: opened, closer: c, latest: last,
		exact: last != nil || n.sealed && t.reason == "" || t.reason == ledger.ReasonDrain || !t.early,
	}
	began := time.Now()
	checked, err := s.Check(t.ctx, draft, content)
	c.tasks.merge.Add(int64(content.took))
	c.tasks.publish.Add(int64(time.Since(began) - content.took))
	return checked, err
}

// hasOtherPast reports whether an operator's decision has given a lane another past than the row
// says.
func hasOtherPast(v *view, row *ledger.Row) bool {
	for i := range v.Lanes {
		l := &v.Lanes[i]
		if c, known := row.Cover(l.ID.Topic, l.ID.Partition); known && c.Offset > 0 && l.Meta.Era != c.Era {
			return true
		}
	}
	return false
}

func (c *Closer) warnView(err error) {
	c.cfg.Log.Warn("the view in Redis lags behind the ledger", "pipeline", c.cfg.Spec.Name, "error", err)
}

// newRow is the ledger row of the window's next revision under the task's view, without what
// reading it will tell.
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

// grew describes a window that the lanes were told is final, although the ledger has no final row
// of it.
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
