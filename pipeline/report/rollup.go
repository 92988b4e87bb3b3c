package report

import "math"

// Rollup is what a run of roll-ups did and what it left.
type Rollup struct {
	UpperBound int64          `json:"upper_bound"` // ms: windows that end at or before it were to be rolled up
	Families   []RolledFamily `json:"families"`    // in the order of the spec

	// What was not rolled up, at most 100 of each; the families count all.
	Waiting   []Unfinished `json:"waiting,omitempty"`
	Incidents []Unfinished `json:"incidents,omitempty"` // trying again does not help: somebody has to look
	Failed    []Unfinished `json:"failed,omitempty"`    // the next run tries again
}

// RolledFamily is what became of the windows of one roll-up.
type RolledFamily struct {
	Name      string `json:"name"`
	Published int    `json:"published"` // windows that had no row
	Corrected int    `json:"corrected"` // windows whose content differs from their last revision's
	Unchanged int    `json:"unchanged"`
	Waiting   int    `json:"waiting"`
	Incidents int    `json:"incidents"`
	Failed    int    `json:"failed"`
	Expired   int    `json:"expired"`    // windows whose contents are past their retention
	Keys      int64  `json:"keys"`       // published by this run
	Bytes     int64  `json:"bytes"`      // of keys, values and states that it published
	ChildLate int64  `json:"child_late"` // events that were late for the children of the windows it published
	Floor     int64  `json:"floor"`      // every window that ends at or before it is final, ms; math.MinInt64 without one
}

// Unfinished is a window that was not rolled up, or not archived, and why.
type Unfinished struct {
	Window string `json:"window"`
	Start  int64  `json:"start"` // ms
	// Child is the window that it waits for, or that cannot be read; "" when it is neither.
	Child      string `json:"child,omitempty"`
	ChildStart int64  `json:"child_start,omitempty"` // ms
	Why        string `json:"why"`

	// As far as runs know of one another.
	Runs  int   `json:"runs,omitempty"`     // in a row that have found it so
	Since int64 `json:"since_ms,omitempty"` // the upper bound of the first of them
}

// Done reports whether everything that was to be rolled up is.
func (r *Rollup) Done() bool {
	return len(r.Waiting) == 0 && len(r.Incidents) == 0 && len(r.Failed) == 0
}

// Floors is, by roll-up, the end up to which every window is final, ms.
func (r *Rollup) Floors() map[string]int64 {
	floors := make(map[string]int64)
	for i := range r.Families {
		if f := &r.Families[i]; f.Floor != math.MinInt64 {
			floors[f.Name] = f.Floor
		}
	}
	return floors
}
