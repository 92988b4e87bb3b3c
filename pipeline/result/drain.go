package result

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/report"
	"millrace/pipeline/survey"
	"millrace/pipeline/window"
)

// drainLooks is how many looks a flush or a drain takes at windows whose lanes are in the middle of a commit.
const drainLooks = 5

// Flush publishes what is committed now of every open window that has changed since its last revision. Rows say
// final: false, and nothing is sealed. A lane that is in the middle of a commit at every look makes a first revision
// that is not exact, or leaves a window to the next call: then Done is false.
func (c *Closer) Flush(ctx context.Context) (Receipt, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	v, err := c.begin(ctx)
	if err != nil {
		return Receipt{Emitted: report.Emitted{Reason: ledger.ReasonFlush}}, err
	}
	return c.publishOpen(ctx, v, ledger.ReasonFlush, nil)
}

// Drain closes every open window once every lane's committed offset has reached its end offset. An offset is a position:
// behind a transaction's marker it is past it, although no record was delivered. While a lane is not there Drain
// publishes nothing and says which one and why; call it again. Rows say final: false, and nothing is sealed.
func (c *Closer) Drain(ctx context.Context, ends []report.LaneEnd) (Receipt, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	v, err := c.begin(ctx)
	if err != nil {
		return Receipt{Emitted: report.Emitted{Reason: ledger.ReasonDrain}}, err
	}
	if missing := c.missing(v, ends); len(missing) > 0 {
		return Receipt{Emitted: report.Emitted{Reason: ledger.ReasonDrain, Covered: coveredBy(v)}, Missing: missing}, nil
	}
	return c.publishOpen(ctx, v, ledger.ReasonDrain, func(v *view, _ window.Ref) error {
		if missing := c.missing(v, ends); len(missing) > 0 {
			return fmt.Errorf("lane %s: %s: %w", missing[0].Lane(), missing[0].Reason, merge.ErrMoved)
		}
		return nil
	})
}

// missing lists the lanes that have not reached their ends, by topic and partition.
func (c *Closer) missing(v *view, ends []report.LaneEnd) []report.LaneMissing {
	lanes := make(map[report.LaneRef]*survey.Lane, len(v.Lanes))
	for i := range v.Lanes {
		lanes[report.LaneRef{Topic: v.Lanes[i].ID.Topic, Partition: v.Lanes[i].ID.Partition}] = &v.Lanes[i]
	}
	var missing []report.LaneMissing
	for _, e := range ends {
		m := report.LaneMissing{Topic: e.Topic, Partition: e.Partition, Offset: -1, Want: e.End}
		l, ok := lanes[m.Lane()]
		switch {
		case e.End <= 0:
			continue
		case !ok:
			m.Reason = "the partition is not one of the source topics'"
		case l.Gone:
			m.Offset, m.Reason = l.Meta.Offset, l.Why
		case !l.Found || l.Meta.Offset < 0:
			m.Reason = "it has committed nothing yet"
		case l.Meta.Offset < e.End:
			m.Offset = l.Meta.Offset
			m.Reason = fmt.Sprintf("it has committed up to offset %d of %d", l.Meta.Offset, e.End)
		default:
			continue
		}
		missing = append(missing, m)
	}
	slices.SortFunc(missing, func(a, b report.LaneMissing) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return missing
}

// coveredBy is what the lanes had committed at a look.
func coveredBy(v *view) []report.LaneReceipt {
	lanes := make([]report.LaneReceipt, len(v.Lanes))
	for i := range v.Lanes {
		l := &v.Lanes[i]
		lanes[i] = report.LaneReceipt{Topic: l.ID.Topic, Partition: l.ID.Partition, Offset: -1}
		if l.Found {
			lanes[i].Offset = l.Meta.Offset
		}
	}
	return lanes
}

func (c *Closer) publishOpen(ctx context.Context, v *view, reason string, still func(*view, window.Ref) error) (Receipt, error) {
	c.showRows(ctx, v)
	refs := v.Open(c.plan)
	c.remember(v, refs)
	refs = slices.DeleteFunc(refs, func(ref window.Ref) bool { return c.states[ref] == final })
	receipt := Receipt{Emitted: report.Emitted{Reason: reason, Covered: coveredBy(v), Windows: len(refs)}}
	if err := c.wholeView(v); err != nil { // there may be windows that it does not show
		receipt.Missing = []report.LaneMissing{{Topic: err.Lane.Topic, Partition: err.Lane.Partition, Offset: -1, Reason: err.Error()}}
		return receipt, nil
	}
	for i := range v.Lanes {
		if l := &v.Lanes[i]; l.Gone { // other lanes of the log may not even be listed any more
			receipt.Missing = append(receipt.Missing, report.LaneMissing{
				Topic: l.ID.Topic, Partition: l.ID.Partition, Offset: l.Meta.Offset, Reason: l.Why,
			})
		}
	}
	if len(receipt.Missing) > 0 {
		return receipt, nil
	}
	results, err := c.closeAll(ctx, v, refs, reason, drainLooks, still)
	if err != nil {
		return receipt, err
	}
	receipt.Done = true
	for i := range results {
		d := &results[i]
		if d.published {
			receipt.addRevision(d.row)
			delete(c.states, d.ref)
		}
		var grew *GrewError
		switch {
		case d.err != nil && !errors.As(d.err, &grew):
			receipt.Failed = append(receipt.Failed, c.trouble(d, 1))
		case !d.published:
			receipt.Unchanged++
		}
		receipt.Done = receipt.Done && len(receipt.Failed) == 0 && !d.again
	}
	c.sweepViews(ctx)
	return receipt, nil
}
