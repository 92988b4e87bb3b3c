package publish

import (
	"context"
	"encoding/json"
	"errors"

	"millrace/pipeline/measure"
)

// Publish checks a revision and publishes it in a transaction of its own.
func (h *Held) Publish(ctx context.Context, d *Draft, content Content) (*Revision, error) {
	c, err := h.Check(ctx, d, content)
	if err != nil {
		return nil, err
	}
	h.Commit(ctx, c)
	return c.Revision()
}

// Say publishes a row without content.
func (h *Held) Say(ctx context.Context, d *Draft) (*Revision, error) {
	c := h.CheckRow(ctx, d)
	h.Commit(ctx, c)
	return c.Revision()
}

// Commit publishes revisions that were checked, in one transaction as far as they wait for one; the
// slot was taken over. When that fails each goes alone, so that none fails for another's sake. What
// was published is shown by ShowRows; what failed is told by Revision. All of them are done with
// afterwards.
func (h *Held) Commit(ctx context.Context, all ...*Checked) {
	group := make([]*Checked, 0, len(all))
	for _, c := range all {
		if !c.done {
			group = append(group, c)
		}
	}
	defer discardAll(group...)
	if len(group) > 1 {
		group = h.commitTogether(ctx, group)
	}
	for i, c := range group {
		err := h.commitAlone(ctx, c)
		if c.finish(err); IsOfSlot(err) {
			finishAll(group[i+1:], err)
			return
		}
	}
}

// commitTogether publishes revisions in one transaction, and returns those that are to go alone:
// none, or all but those that another closer has overtaken.
func (h *Held) commitTogether(ctx context.Context, group []*Checked) []*Checked {
	ready := make([]*Checked, 0, len(group))
	for i, c := range group {
		err := h.confirm(ctx, c)
		switch {
		case IsOfSlot(err):
			finishAll(ready, err)
			finishAll(group[i:], err)
			return nil
		case err != nil:
			c.finish(err)
		default:
			ready = append(ready, c)
		}
	}
	if len(ready) == 0 {
		return nil
	}
	if h.transact(ctx, ready) != nil {
		h.GiveUpProducer()
		return ready
	}
	finishAll(ready, nil)
	return nil
}

func finishAll(all []*Checked, err error) {
	for _, c := range all {
		c.finish(err)
	}
}

// fencedTries is how often a content that is held is sent while other closers fence this one.
// Merging it again each time could go on for ever between closers that take as long.
const fencedTries = 3

func (h *Held) commitAlone(ctx context.Context, c *Checked) (err error) {
	for range fencedTries {
		if err := h.confirm(ctx, c); err != nil {
			return err
		}
		if err = h.transact(ctx, []*Checked{c}); err == nil {
			return nil
		}
		h.GiveUpProducer()
		if !errors.Is(err, ErrFenced) {
			break
		}
	}
	return revisionError(c.draft.Row, err)
}

// confirm makes sure that a draft still is what its window lacks when the slot was taken over since
// it was checked.
func (h *Held) confirm(ctx context.Context, c *Checked) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if h.producer != nil && c.takeOvers == h.TakeOvers() {
		return nil
	}
	if err := h.takeOverFor(ctx, c.draft); err != nil {
		return err
	}
	c.takeOvers = h.TakeOvers()
	return nil
}

// transact publishes revisions whose content is held in one transaction.
func (h *Held) transact(ctx context.Context, group []*Checked) error {
	if err := h.producer.Begin(); err != nil {
		return err
	}
	for _, c := range group {
		if err := c.send(ctx, h.producer); err != nil {
			return err
		}
	}
	return h.endTransaction(ctx, group)
}

// endTransaction commits a transaction with the rows of revisions, whose content was sent, and
// takes them over.
func (h *Held) endTransaction(ctx context.Context, group []*Checked) error {
	began := h.keep.now()
	appended, err := h.producer.Flush(ctx)
	if err != nil {
		return err
	}
	records := make([]Record, len(group))
	stand := newStanding(appended)
	for i, c := range group {
		if err := c.place(stand); err != nil {
			return err
		}
		row := c.made.Row
		text, err := json.Marshal(row) // where the content stands is known now
		if err != nil {
			return err
		}
		records[i] = Record{
			Topic: h.topic.Topic, Partition: h.topic.Partition, Key: row.ID().Key(), Value: text, Headers: traceHeaders(c.ctx),
		}
	}
	if err := Send(ctx, h.producer, records); err != nil {
		return err
	}
	for _, c := range group {
		c.made.asked = true
	}
	if err := h.producer.Commit(); err != nil {
		return err
	}
	for i, c := range group {
		h.takeOverRow(c, records[i].Offset)
	}
	h.asOf = began
	return nil
}

// takeOverRow takes a published row over into what the slot knows.
func (h *Held) takeOverRow(c *Checked, offset int64) {
	row := c.made.Row
	h.index.addRow(row, offset)
	h.next = max(h.next, offset+1)
	u := &unshown{row, c.untold}
	old := h.pending[row.ID()]
	if old != nil && u.fields == nil && c.made.Amends && old.row.Revision == row.Revision {
		u.difference = old.difference // the content is the same, and Redis does not have it yet
	}
	h.pending[row.ID()] = u
	h.measure.Published(measure.Revision{
		Reason: row.Reason, Number: row.Revision, Amends: c.made.Amends, Final: row.Final, Rows: c.made.rows, Bytes: c.made.bytes,
	})
}

// takeOverLong takes the slot over anew for a transaction that takes long, if the draft still is
// what the window lacks. The producer is given up after it.
func (h *Held) takeOverLong(ctx context.Context, d *Draft) error {
	h.GiveUpProducer()
	h.long = true
	err := h.takeOverFor(ctx, d)
	if err != nil {
		h.GiveUpProducer()
	}
	return err
}

func (h *Held) takeOverFor(ctx context.Context, d *Draft) error {
	if err := h.TakeOver(ctx); err != nil {
		return err
	}
	if d.Prove != nil {
		if err := d.Prove(ctx); err != nil {
			return err
		}
	}
	return h.checkDraft(d)
}
