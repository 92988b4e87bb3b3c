package result

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"millrace/pipeline/calendar"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/rollup"
	"millrace/pipeline/window"
)

// JobRollup is the kind of the jobs that roll windows up.
const JobRollup = "rollup"

// Rollups rolls up every window that ends at or before the job's upper bound and whose children are all final. It does what is
// missing, so an attempt that begins anew books what earlier ones have not done. What was not done, and why, is in the report
// that it concludes with.
type Rollups struct {
	Late rollup.LateReader // nil: how many events were late for children is not known
}

// rollupBody is the body of the job.
type rollupBody struct {
	UpperBound int64 `json:"upper_bound"` // ms
}

// CarryOut implements JobKind.
func (k Rollups) CarryOut(ctx context.Context, d *Desk, job Job) error {
	var body rollupBody
	if err := json.Unmarshal(job.Body, &body); err != nil || body.UpperBound == 0 {
		return &RefusedJobError{job.ID, "it does not say up to where; want {\"upper_bound\":MILLISECONDS}"}
	}
	contents, err := d.Contents()
	if err != nil {
		return err
	}
	c := d.closer
	runner, err := rollup.New(rollup.Config{
		Spec: c.cfg.Spec, Slots: len(c.slots), Log: c.cfg.Kafka, Contents: contents,
		Desk: rollupDesk{d, contents}, Topics: d.Topics(ctx), Late: k.Late,
		By: c.cfg.By, Build: c.cfg.Build, Now: c.cfg.Now, Alone: isOfOneWindow,
		Book: func(o rollup.Outcome) {
			d.book(Carried{Window: o.Window, Verdict: o.Verdict, Revision: o.Revision, Problem: o.Problem})
		},
	})
	if err != nil {
		return err
	}
	ledgerID, _ := c.lookAtTopics(ctx)
	done, err := runner.Run(ctx, body.UpperBound)
	if err != nil {
		return err
	}
	c.noteRolled(ledgerID, done.Floors())
	d.book(Carried{Rollup: &done})
	return nil
}

// rollupDesk publishes at the desk of a job.
type rollupDesk struct {
	*Desk
	contents ContentReader
}

func (d rollupDesk) Correct(ctx context.Context, corr *publish.Correction) (publish.Corrected, error) {
	return d.Desk.Correct(ctx, corr, d.contents)
}

func (d rollupDesk) AmendLatest(ctx context.Context, id ledger.WindowID, revision int, checksum string,
	change func(*ledger.Row) bool) (answer publish.Corrected, err error) {
	err = d.InSlot(ctx, id, func(ctx context.Context, s *publish.Held) (err error) {
		answer, err = s.AmendLatest(ctx, id, revision, checksum, change)
		return err
	})
	return answer, err
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

// childrenNeeded returns a function that reports whether a window's row is needed after its retention. A row
// is until every window that it was rolled up into is final, and can not be made anew any more: each sibling may be corrected
// as long as its row is kept, and the last of them was published before the parent.
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
