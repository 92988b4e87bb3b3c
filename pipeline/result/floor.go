package result

import (
	"context"
	"errors"
	"log/slog"
	"math"

	"millrace/pipeline/ledger"
	"millrace/pipeline/parallel"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/window"
)

// advanceFinality takes over what a round found. All lanes have committed a watermark or a seal at or past the deadline
// of a window that ends at t.DropBefore minus the lateness, and all windows with an event up to there are final. So no
// lane folds an event into any of these windows again, and those without a row stay without one.
func (c *Closer) advanceFinality(v *view, t WindowTimes) {
	if t.DropBefore == window.NoTime {
		return
	}
	end := t.DropBefore - c.cfg.Spec.AllowedLateness.Millis()
	edition := c.edition()
	if edition != c.known.edition {
		return // what was seen is of the edition before
	}
	if c.finality != nil && c.finality.Edition == edition && end <= c.finality.End {
		return
	}
	c.finality = &publish.Finality{Edition: edition, End: end}
	for i := range v.Lanes {
		l := &v.Lanes[i]
		c.finality.Lanes = append(c.finality.Lanes, ledger.FloorLane{
			Topic: l.ID.Topic, Partition: l.ID.Partition, Offset: max(l.Meta.Offset, 0), TopicID: l.Meta.TopicID,
			Era: l.Meta.Era,
		})
	}
}

// flooredBefore is the deadline up to which the floors of all slots say that every window is final; window.NoTime while
// a slot or a family has none.
func (c *Closer) flooredBefore() int64 {
	low := int64(math.MaxInt64)
	for _, s := range c.slots {
		low = min(low, s.LowestFloor()) // window.NoTime is the least
	}
	if low == window.NoTime {
		return low
	}
	return low + c.cfg.Spec.AllowedLateness.Millis()
}

// isFloored reports whether a window lies at or below its slot's floor.
func (c *Closer) isFloored(ref window.Ref) bool {
	id := c.windowID(ref)
	return c.slots[c.slotOf(ref)].Floor(id.Window, c.plan.End(ref)) != nil
}

// closeFloored answers for a window at or below a floor without asking for its row: it is final. An incident is what a
// lane holds of it from offsets that the floor does not know; events below them were counted when it became final, or
// were late, and have come back because a lane reads again.
func (c *Closer) closeFloored(t *task, f *ledger.Floor) (outcome, error) {
	ranges := c.plan.SlicesOf(t.ref)
	for i := range t.view.Lanes {
		l := &t.view.Lanes[i]
		_, offset, folded := l.Share(ranges)
		known, ok := f.Lane(l.ID.Topic, l.ID.Partition)
		if folded == 0 || ok && (l.Meta.Era != known.Era || offset < known.Offset) {
			continue
		}
		id := c.windowID(t.ref)
		return outcome{final: true}, &GrewError{
			Lane: l.ID, Window: id.Window, Start: id.Start, Offset: offset, Cover: known.Offset,
		}
	}
	return outcome{final: true}, nil
}

// flooredRow returns the row of a window that lies at or below a floor, or what is still known of it when its row was
// given up.
func (c *Closer) flooredRow(ctx context.Context, ref window.Ref) (ledger.Row, error) {
	id := c.windowID(ref)
	var row ledger.Row
	err := c.slots[c.slotOf(ref)].Do(func(s *publish.Held) error {
		latest, err := s.LatestRow(ctx, id)
		if err != nil {
			return err
		}
		if latest != nil {
			row = *latest
			return nil
		}
		row = ledger.Row{
			Version: ledger.RowVersion, Pipeline: c.cfg.Spec.Name, Window: id.Window, Start: id.Start, End: c.plan.End(ref),
			Edition: s.Edition(), Final: true,
		}
		return nil
	})
	return row, err
}

// maintainFloors raises the floors of all slots and gives up rows that are due. What fails is tried again after a pause.
func (c *Closer) maintainFloors(ctx context.Context, v *view) {
	final := c.finalityWithRollups()
	_ = parallel.Do(ctx, c.cfg.Parallel, len(c.slots), func(ctx context.Context, i int) error {
		prove := func(ctx context.Context, s *publish.Held) error { return c.prove(ctx, s, i, v) }
		if err := c.slots[i].MaintainFloors(ctx, final, prove); err != nil && ctx.Err() == nil {
			level := slog.LevelWarn
			if errors.Is(err, publish.ErrFenced) { // the other closer raises them
				level = slog.LevelDebug
			}
			c.cfg.Log.Log(ctx, level, "the ledger's floors stay where they are", "slot", i, "error", err)
		}
		return nil
	})
}

// sweepViews goes on with the sweeps of all slots and counts what is kept.
func (c *Closer) sweepViews(ctx context.Context) *report.Kept {
	kept := make([]report.Kept, len(c.slots))
	_ = parallel.Do(ctx, c.cfg.Parallel, len(c.slots), func(ctx context.Context, i int) (err error) {
		kept[i], err = c.slots[i].Sweep(ctx)
		if err != nil && ctx.Err() == nil {
			c.cfg.Log.WarnContext(ctx, "contents of windows stay in Redis beyond their retention", "pipeline", c.cfg.Spec.Name, "slot", i,
				"windows", kept[i].Backlog, "error", err)
		}
		return nil
	})
	all := new(report.Kept)
	for _, k := range kept {
		all.Rows += k.Rows
		all.Results += k.Results
		all.Backlog += k.Backlog
		if k.Oldest != 0 && (all.Oldest == 0 || k.Oldest < all.Oldest) {
			all.Oldest = k.Oldest
		}
	}
	if before := c.flooredBefore(); before != window.NoTime {
		all.Floor = before - c.cfg.Spec.AllowedLateness.Millis()
	}
	return all
}
