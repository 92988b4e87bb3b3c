package contract

import (
	"fmt"
	"slices"
	"time"

	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

// A window that waits is something for a person to look at when OverdueRuns runs in a row have found it waiting, and for
// OverdueGrace longer than the spec says that a window stays open after its end.
const (
	OverdueRuns  = 3
	OverdueGrace = time.Hour
)

// CarryWaiting notes how long the windows of r that wait have done so, from what the run before has left, which may be nil.
func CarryWaiting(r, before *report.Rollup) {
	for i := range r.Waiting {
		u := &r.Waiting[i]
		u.Runs, u.Since = 1, r.UpperBound
		if before == nil {
			continue
		}
		at := slices.IndexFunc(before.Waiting, func(e report.Unfinished) bool { return e.Ref() == u.Ref() })
		if at >= 0 && before.Waiting[at].Runs > 0 {
			u.Runs, u.Since = before.Waiting[at].Runs+1, before.Waiting[at].Since
		}
	}
}

// overdue are the windows that wait for longer than they should.
func overdue(s *spec.Spec, r *report.Rollup) (late []report.Unfinished) {
	most := s.AllowedLateness.Std() + s.Watermark.OutOfOrderness.Std() + OverdueGrace
	for _, u := range r.Waiting {
		if u.Runs >= OverdueRuns && r.UpperBound-u.Since >= most.Milliseconds() {
			late = append(late, u)
		}
	}
	return late
}

// FindProblems says what in the work somebody has to see to, one line for each kind.
func (w *CompactWork) FindProblems(s *spec.Spec) (found []string) {
	add := func(n int, what string, named []report.Unfinished) {
		if n == 0 {
			return
		}
		line := fmt.Sprintf("%d windows %s", n, what)
		if n == 1 {
			line = "1 window " + what
		}
		if len(named) > 0 {
			line += ": " + DescribeUnfinished(named[0])
			if n > 1 {
				line += fmt.Sprintf("; and %d more", n-1)
			}
		}
		found = append(found, Cut(line))
	}
	if r := w.Rollup; r != nil {
		incidents, failed := 0, 0
		for _, f := range r.Families {
			incidents, failed = incidents+f.Incidents, failed+f.Failed
		}
		late := overdue(s, r)
		add(incidents, "cannot be rolled up", r.Incidents)
		add(failed, "could not be rolled up this time", r.Failed)
		add(len(late), fmt.Sprintf("to roll up have waited for %d runs or longer", OverdueRuns), late)
	}
	if a := w.Archived; a != nil {
		failed := 0
		for _, f := range a.Families {
			failed += f.Failed
		}
		add(failed, "could not be archived", a.Failed)
	}
	return found
}

// DescribeUnfinished says in one line which window was not done, and why.
func DescribeUnfinished(u report.Unfinished) string {
	text := u.Ref().String()
	child, ok := u.ChildRef()
	if ok && u.Runs > 0 {
		return fmt.Sprintf("%s waits for %s: %s", text, child, u.Why)
	}
	return text + ": " + u.Why
}
