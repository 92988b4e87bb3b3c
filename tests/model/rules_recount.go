package model

import (
	"slices"

	"millrace/pipeline/result"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/store"
)

// Rules of recounts.
const (
	sealsAgain  Rule = "a recount adopts the seals that were adopted in between"
	endsFirst   Rule = "a recount reads nothing above the ends asked first"
	baseChecked Rule = "a correction is published on nothing but its base"
	endFences   Rule = "the end of a recount fences before it deletes"
	ownCommits  Rule = "a recount goes on from its own commits"
)

// twistPlan changes a plan as the rule that is off would have prevented.
func (w *World) twistPlan(p *plan.Plan, k *logs) {
	for i := range p.Lanes {
		l := &p.Lanes[i]
		switch w.off {
		case sealsAgain:
			l.Seals = slices.DeleteFunc(l.Seals, func(s store.Seal) bool {
				return !slices.ContainsFunc(p.Windows, func(win plan.Window) bool { return win.Ends[i] == s.Offset && win.Deadline == s.Before })
			})
		case endsFirst:
			l.End = k.w.parts[l.Partition].end()
			for n := range p.Windows {
				p.Windows[n].Ends[i] = l.End
			}
		}
	}
}

// twistBase changes what a correction says of its base.
func (rs *recounting) twistBase(c *counted, one *result.Counted) {
	w := rs.w
	if !w.is(baseChecked) {
		return
	}
	rs.steady = true
	defer func() { rs.steady = false }()
	if err := w.ledger.read(); err != nil {
		w.fail("ledger: %v", err)
		return
	}
	if rows := w.ledger.rows[windowID{c.id.Window, c.id.Start}]; len(rows) > 0 {
		last := rows[len(rows)-1]
		one.BaseRevision, one.BaseChecksum = last.Revision, last.Checksum
	}
}
