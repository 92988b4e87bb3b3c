package verify

import (
	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
)

// checkRollups compares the windows of roll-ups with the windows that they were made from. A child that was corrected since is
// no problem: the next run makes the window anew.
func (v *Report) checkRollups(s *spec.Spec, l *ledgerTopic) {
	for id, state := range l.windows {
		up := s.Rollup(id.Window)
		if up == nil {
			continue
		}
		periods, ok := s.Grid(id.Window)
		if !ok {
			continue
		}
		row := &state.last
		if start, end := periods.Bounds(id.Start); start != row.Start || end != row.End {
			v.problem(ProblemLedger, id.String(), "it is no period of the calendar that the spec has")
			continue
		}
		v.checkChildren(up.From, row, l)
	}
}

// checkChildren looks whether a window holds the events of its children.
func (v *Report) checkChildren(from string, row *ledger.Row, l *ledgerTopic) {
	events, known := int64(0), true
	before := row.Start - 1
	for _, c := range row.Children {
		if c.Window != from || c.Start <= before || c.Start >= row.End {
			v.problem(ProblemLedger, row.ID().String(), "revision %d names %s as a child, which is none, or not in order", row.Revision,
				ledger.WindowID{Window: c.Window, Start: c.Start})
			return
		}
		before = c.Start
		child := l.windows[ledger.WindowID{Window: c.Window, Start: c.Start}]
		if child == nil {
			known = false // its row was given up
			continue
		}
		published, ok := child.rows[c.Revision] // a later revision was published since the child's slot was read
		if ok && published.Checksum != c.Checksum {
			v.problem(ProblemLedger, row.ID().String(), "revision %d was made from revision %d of %s with checksum %s, the ledger says %s",
				row.Revision, c.Revision, child.last.ID(), c.Checksum, published.Checksum)
		}
		if known = known && ok; ok {
			events += published.Events
		}
	}
	if known && events != row.Events {
		v.problem(ProblemLedger, row.ID().String(), "revision %d holds %d events, its children hold %d", row.Revision, row.Events, events)
	}
}
