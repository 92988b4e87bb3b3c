package publish

import (
	"context"

	"go.opentelemetry.io/otel/trace"

	"millrace/pipeline/ledger"
	"millrace/pipeline/report"
	"millrace/pipeline/traces"
	"millrace/pipeline/view"
)

// Checked is a revision that is known to be right, and waits for a transaction. It belongs to the
// Held that made it, and is to be passed to Commit before that is given back.
type Checked struct {
	ctx       context.Context // with span
	span      trace.Span
	draft     *Draft
	made      *Revision
	takeOvers int64 // of the slot when the draft was last found to be what the window lacks

	pages   [][]byte         // rows to be sent
	left    []ledger.Content // and keys that have left
	states  []byte           // and rows of which only the state is to be sent
	sending *sending         // nil before something is sent, and of a row without content
	differs bool             // the rows are what differs from the latest revision

	untold  difference   // until the row is shown
	drafted *draftWriter // what Redis was told of the revision; nil for nothing

	done bool
	err  error
}

// Check finds out what a revision is to publish, and holds it. Of a content of which Redis shows
// the latest revision as the ledger says, that is what has changed. A content that is that of the
// latest revision amends it, unless the draft wants it again. A content that is larger than what is
// held is published at once, in a transaction of its own. What fails in Kafka is a *RevisionError
// and gives the slot's producer up; errors of the content are returned as they are.
//
// The slot was taken over. Where the span in ctx is recorded, the records carry its trace context.
func (h *Held) Check(ctx context.Context, d *Draft, content Content) (*Checked, error) {
	c := h.newChecked(ctx, d)
	err := h.check(c, content)
	if err != nil || c.done {
		c.finish(err)
		discardAll(c)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// CheckRow is Check for a row without content: it says more about the content of the latest
// revision, whose number it has.
func (h *Held) CheckRow(ctx context.Context, d *Draft) *Checked {
	c := h.newChecked(ctx, d)
	c.made.Amends = true
	return c
}

func (h *Held) newChecked(ctx context.Context, d *Draft) *Checked {
	d.stands = h.latestStands(d.Row.ID())
	c := &Checked{draft: d, made: &Revision{Row: d.Row}, takeOvers: h.TakeOvers()}
	c.ctx, c.span = traces.Start(ctx, traces.SpanPublish, traces.Pipeline.String(h.pipeline),
		traces.Window.String(d.Row.ID().String()))
	return c
}

func (h *Held) check(c *Checked, content Content) error {
	d := c.draft
	if err := h.catchUp(c.ctx); err != nil {
		return err
	}
	if err := h.checkDraft(d); err != nil {
		return err
	}
	changes, err := h.findChanges(c, content)
	switch {
	case err != nil:
		return err
	case changes == nil && d.lacksBase():
		return &BaseUnreadError{d.Latest}
	case changes == nil:
		discardAll(c)
		return h.checkWhole(c, content)
	case !changes.any():
		d.Row.Events, d.Row.Exact, d.Row.Keys, d.Row.Checksum = changes.events, true, d.Latest.Keys, d.Latest.Checksum
		if c.amend(); !c.done && changes.recounted {
			c.untold.fields = changes.fields(d.Row.Revision)
		}
		return nil
	}
	c.takeChanges(changes)
	return nil
}

// takeChanges makes the revision one of rows that differ from the latest revision.
func (c *Checked) takeChanges(x *changes) {
	row, total := c.draft.Row, x.directory.Total()
	row.Events, row.Exact, row.Keys, row.Checksum = x.events, true, total.Rows(), total.String()
	row.Changed = x.rows
	if x.rows == 0 { // no value shows the events that have come
		row.Mends = report.PlaceStates
	}
	c.made.rows, c.made.bytes = x.rows, int64(len(x.page)+len(x.states))
	c.states, c.differs = x.states, true
	if x.rows > 0 {
		c.pages = [][]byte{x.page}
	}
	if x.anew {
		return
	}
	row.View = &ledger.View{Whole: c.draft.Latest.View.Whole, Attempt: c.draft.Latest.View.Attempt}
	if c.drafted != nil {
		row.View.Change = c.drafted.attempt
	}
	c.untold = difference{fields: x.fields(row.Revision), gone: x.gone, page: x.page}
}

// amend makes the revision one that says more about the latest one, which has its content; nothing
// when the draft wants no such row.
func (c *Checked) amend() {
	d := c.draft
	c.made.Amends = true
	if d.UnlessSame {
		c.made.Row, c.done = d.Latest, true
		return
	}
	d.Row.Revision, d.Row.Links = d.Latest.Revision, d.Latest.Links
	d.Row.KeepAttributes(d.Latest)
}

// Bytes is how much of its content is held, about: rows that are to be sent, and what Redis is told
// when they are shown.
func (c *Checked) Bytes() (n int) {
	for _, page := range c.pages {
		n += len(page)
	}
	for _, row := range c.left {
		n += len(row.Key) + len(row.Values)
	}
	n += len(c.states)
	for _, f := range c.untold.fields {
		n += len(f.Name) + len(f.Value)
	}
	return n
}

// Waits reports whether the revision waits for Commit.
func (c *Checked) Waits() bool { return !c.done }

// Revision is what became of the revision, once it is done with.
func (c *Checked) Revision() (*Revision, error) {
	if c.err != nil {
		return nil, c.err
	}
	return c.made, nil
}

// finish lets go of what the revision holds, but for what Redis was told of it.
func (c *Checked) finish(err error) {
	c.done, c.err = true, err
	c.pages, c.left, c.states, c.untold, c.sending = nil, nil, nil, difference{}, nil
	if c.drafted != nil {
		_, _ = c.drafted.close()
	}
	if row := c.made.Row; err == nil {
		c.span.SetAttributes(traces.Revision.Int(row.Revision), traces.Final.Bool(row.Final), traces.Keys.Int64(row.Keys))
	}
	traces.End(c.span, err)
}

// discardAll lets Redis forget what it was told of revisions that are not published, in the time that
// one of them may take. It keeps that of one that is published or may be: it expires if it is not.
func discardAll(all ...*Checked) {
	if len(all) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(all[0].ctx), discardTimeout)
	defer cancel()
	for _, c := range all {
		if c.drafted != nil && !c.made.asked {
			c.drafted.discard(ctx)
		}
		c.drafted = nil
	}
}

// send appends what is held to the open transaction. A row without content has nothing.
func (c *Checked) send(ctx context.Context, p Producer) error {
	c.sending = nil
	if c.made.Amends {
		return nil
	}
	c.sending = newSending(c.draft, traceHeaders(c.ctx), !c.differs)
	for _, page := range c.pages {
		err := view.EachRow(page, func(row ledger.Content) error { return c.sending.addRow(ctx, p, row) })
		if err != nil {
			return err
		}
	}
	for _, row := range c.left {
		if err := c.sending.addRow(ctx, p, row); err != nil {
			return err
		}
	}
	if len(c.states) == 0 {
		return nil
	}
	return view.EachRow(c.states, func(row ledger.Content) error { return c.sending.addState(ctx, p, row) })
}

// place lets the row say where its content stands.
func (c *Checked) place(stand standing) error {
	if c.sending == nil {
		return nil
	}
	if err := c.sending.place(stand); err != nil {
		return err
	}
	c.draft.Row.Links, c.draft.Row.States = c.sending.links()
	return nil
}
