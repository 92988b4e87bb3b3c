package spec

import (
	"time"

	"millrace/pipeline/calendar"
)

// Rollup is one family of coarser windows: the periods of a calendar, each made of the final windows of another family that
// lie in it. No event is folded into it.
type Rollup struct {
	Name      string   `json:"name"`
	From      string   `json:"from"`      // a tumbling window, or a roll-up that stands before this one
	Calendar  string   `json:"calendar"`  // a calendar.Unit
	Timezone  string   `json:"timezone"`  // an IANA name
	Retention Duration `json:"retention"` // of contents and view, from closed_at; whole seconds
}

// Archive says where contents go before they expire.
type Archive struct {
	Dir string `json:"dir"` // on the worker
}

// Rollup returns the roll-up of that name, nil for a window or a name that the spec does not have.
func (s *Spec) Rollup(name string) *Rollup {
	for i := range s.Rollups {
		if s.Rollups[i].Name == name {
			return &s.Rollups[i]
		}
	}
	return nil
}

// Window returns the window of that name, nil for a roll-up or a name that the spec does not have.
func (s *Spec) Window(name string) *Window {
	for i := range s.Windows {
		if s.Windows[i].Name == name {
			return &s.Windows[i]
		}
	}
	return nil
}

// Families lists the names of windows and roll-ups, in the order of the file.
func (s *Spec) Families() []string {
	names := make([]string, 0, len(s.Windows)+len(s.Rollups))
	for i := range s.Windows {
		names = append(names, s.Windows[i].Name)
	}
	for i := range s.Rollups {
		names = append(names, s.Rollups[i].Name)
	}
	return names
}

// RolledUp reports whether a roll-up is made from the family of that name, so that the states of its windows are published.
func (s *Spec) RolledUp(family string) bool {
	for i := range s.Rollups {
		if s.Rollups[i].From == family {
			return true
		}
	}
	return false
}

// FoldedInto returns the name of the windows that a family is made from in the end: those that lanes fold events into.
func (s *Spec) FoldedInto(family string) string {
	for up := s.Rollup(family); up != nil; up = s.Rollup(family) {
		family = up.From
	}
	return family
}

// Periods is the calendar of the roll-up of a validated spec.
func (r *Rollup) Periods() (*calendar.Calendar, error) {
	return calendar.New(calendar.Unit(r.Calendar), r.Timezone)
}

// Grid returns the periods of a tumbling window, or of a roll-up, of a validated spec; false for other names.
func (s *Spec) Grid(family string) (calendar.Grid, bool) {
	if r := s.Rollup(family); r != nil {
		periods, err := r.Periods()
		return periods, err == nil
	}
	if w := s.Window(family); w != nil && w.Slide == w.Size {
		return calendar.Steps{Size: w.Size.Millis(), Offset: w.Offset.Millis()}, true
	}
	return nil, false
}

// Keeps says how long what was published of a final window of a family is kept. The row of a roll-up stays as long as its
// contents do.
func (s *Spec) Keeps(family string) Retention {
	keep := s.Retention
	if r := s.Rollup(family); r != nil {
		keep.Results = r.Retention
		keep.Ledger = max(keep.Ledger, keep.Results)
	}
	return keep
}

// KeepResults is how long the result topic must keep rows: a window's first revision has to be there as long as the
// window takes late events and what is final of it is shown.
func (s *Spec) KeepResults() Duration { return s.AllowedLateness + s.longestResults() }

// KeepCorrected is how long the result topic keeps rows so that a correction need not publish those again that it does not
// change: what is shown may be corrected as long as it is shown, and is then shown as long once more.
func (s *Spec) KeepCorrected() Duration { return s.KeepResults() + s.longestResults() }

// longestResults is how long the contents of any window are shown at most.
func (s *Spec) longestResults() Duration {
	most := s.Retention.Results
	for i := range s.Rollups {
		most = max(most, s.Rollups[i].Retention)
	}
	return most
}

// KeepStates is how long the states topic must keep states; 0 without roll-ups. A window may be corrected as long as the
// ledger has its row, and then its parent is made anew from the states of all its children: the first of them became final
// a period before the last.
func (s *Spec) KeepStates() Duration {
	var most Duration
	for i := range s.Rollups {
		r := &s.Rollups[i]
		most = max(most, Duration(longestPeriod[calendar.Unit(r.Calendar)])+s.Keeps(r.From).Ledger)
	}
	if most > 0 {
		most += s.AllowedLateness
	}
	return most
}

// longestPeriod bounds how long the periods of a unit are, whatever the clocks of a zone do.
var longestPeriod = map[calendar.Unit]time.Duration{
	calendar.Hour: 90 * time.Minute, calendar.Day: 30 * time.Hour, calendar.Week: 8 * day, calendar.Month: 32 * day,
	calendar.Quarter: 93 * day, calendar.Year: 367 * day,
}
