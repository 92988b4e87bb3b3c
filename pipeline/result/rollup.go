package result

import (
	"context"
	"math"
	"time"

	"millrace/pipeline/agg"
	"millrace/pipeline/calendar"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/rollup"
	"millrace/pipeline/window"
)

// RollUp rolls up every window that ends at or before upper (ms) and whose children are all final. It takes the closers' turn
// for each window that it publishes, so rounds go on beside it. progress may be nil.
func (c *Closer) RollUp(ctx context.Context, upper int64, progress func(report.Rollup)) (report.Rollup, error) {
	ledgerID, topics := c.lookAtTopics(ctx)
	renderer, err := agg.NewRenderer(c.cfg.Spec)
	if err != nil {
		return report.Rollup{}, err
	}
	runner, err := rollup.New(rollup.Config{
		Spec: c.cfg.Spec, Slots: len(c.slots), Log: c.cfg.Kafka, Desk: rollupDesk{c}, Topics: topics, Late: c.cfg.Late,
		Contents: &publish.Contents{Kafka: c.cfg.Kafka, State: c.cfg.State, Render: renderer.Render},
		By:       c.cfg.By, Build: c.cfg.Build, Now: c.cfg.Now, Progress: progress,
	})
	if err != nil {
		return report.Rollup{}, err
	}
	done, err := runner.Run(ctx, upper)
	if err == nil {
		c.noteRolled(ledgerID, done.Floors())
	}
	return done, err
}

// rollupDesk publishes in the closer's slots.
type rollupDesk struct{ c *Closer }

func (d rollupDesk) Correct(ctx context.Context, corr *publish.Correction) (answer publish.Corrected, err error) {
	err = d.inSlot(ctx, corr.Row.ID(), func(s *publish.Held) (err error) {
		answer, err = s.Correct(ctx, corr)
		return err
	})
	return answer, err
}

func (d rollupDesk) AmendLatest(ctx context.Context, id ledger.WindowID, revision int, checksum string,
	change func(*ledger.Row) bool) (answer publish.Corrected, err error) {
	err = d.inSlot(ctx, id, func(s *publish.Held) (err error) {
		answer, err = s.AmendLatest(ctx, id, revision, checksum, change)
		return err
	})
	return answer, err
}

// inSlot publishes in the slot of a window, and shows it.
func (d rollupDesk) inSlot(ctx context.Context, id ledger.WindowID, write func(*publish.Held) error) error {
	d.c.turn.Lock()
	defer d.c.turn.Unlock()
	return d.c.slots[id.Slot(len(d.c.slots))].Do(func(s *publish.Held) error {
		if err := write(s); err != nil {
			return err
		}
		if err := s.ShowRows(ctx); err != nil {
			d.c.warnView(err)
		}
		return nil
	})
}

// rolled is how far roll-ups were found to be final, in one incarnation of the pipeline.
type rolled struct {
	in   incarnation
	ends map[string]int64 // by roll-up, ms
}

// noteRolled remembers how far a run found roll-ups to be final; the next rounds raise their floors.
func (c *Closer) noteRolled(ledgerID string, ends map[string]int64) {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.rolled = rolled{incarnation{ledgerID, c.edition()}, ends}
}

// finalityWithRollups is what the round found, with what is known of roll-ups. It is nil when nothing is known and no row
// may be needed. c.turn is held.
func (c *Closer) finalityWithRollups() *publish.Finality {
	if len(c.cfg.Spec.Rollups) == 0 {
		return c.finality
	}
	all := publish.Finality{Edition: c.edition(), End: window.NoTime, Needed: c.childrenNeeded()}
	if f := c.finality; f != nil && f.Edition == all.Edition {
		all.End, all.Lanes = f.End, f.Lanes
	}
	if c.rolled.in == c.known {
		all.Rollups = c.rolled.ends
	}
	return &all
}

// childrenNeeded returns what tells whether a window's row is needed after its retention. It is until every window that it was
// rolled up into is final, and can not be made anew any more: each sibling may be corrected as long as its row is kept, and
// the last of them was published before the parent.
func (c *Closer) childrenNeeded() func(ledger.WindowID) bool {
	known := make([]publish.Rolled, len(c.slots))
	for i, s := range c.slots {
		known[i] = s.Rolled()
	}
	type parent struct {
		name    string
		periods *calendar.Calendar
	}
	parents := make(map[string][]parent)
	for i := range c.cfg.Spec.Rollups {
		r := &c.cfg.Spec.Rollups[i]
		if periods, err := r.Periods(); err == nil { // the spec is valid
			parents[r.From] = append(parents[r.From], parent{r.Name, periods})
		}
	}
	now := c.cfg.Now()
	return func(id ledger.WindowID) bool {
		for _, p := range parents[id.Window] {
			start, end := p.periods.Bounds(id.Start)
			up := ledger.WindowID{Window: p.name, Start: start}
			slot := &known[up.Slot(len(c.slots))]
			if floor := slot.Floors[p.name]; floor == math.MinInt64 || floor < end {
				return true
			}
			closedAt, ok := slot.ClosedAt[up]
			if ok && now.Before(time.UnixMilli(closedAt).Add(c.cfg.Spec.Keeps(id.Window).Ledger.Std())) {
				return true
			}
		}
		return false
	}
}
