package spec

import (
	"fmt"
	"path"
	"strings"
	"time"

	"millrace/pipeline/calendar"
)

const (
	maxRollups = 32

	// MaxChildren bounds how many windows one window of a roll-up is made from: its ledger row names them all.
	MaxChildren = 2000

	wantZone = "an IANA time zone such as Europe/Berlin or UTC"
	wantDir  = "the absolute path of a directory, such as /var/lib/millrace/archive"
)

func checkRollups(s *Spec, fail report) {
	if len(s.Rollups) > maxRollups {
		fail("rollups", "", fmt.Sprintf("has %d elements", len(s.Rollups)), wantCount(maxRollups))
		return
	}
	used := make(map[string]bool)
	for i := range s.Windows {
		used[s.Windows[i].Name] = true
	}
	for i := range s.Rollups {
		r, at := &s.Rollups[i], fmt.Sprintf("rollups[%d]", i)
		checkName(at+".name", r.Name, fail)
		if used[r.Name] && r.Name != "" {
			fail(at+".name", r.Name, "is given twice", "each window and roll-up under a name of its own")
		}
		used[r.Name] = true
		checkKept(at+".retention", r.Retention, fail)
		checkRollup(s, i, at, fail)
	}
}

// checkRollup checks what a roll-up is made from and into.
func checkRollup(s *Spec, i int, at string, fail report) {
	r := &s.Rollups[i]
	periods := checkPeriods(r, at, fail)
	child := checkFrom(s, i, at+".from", fail)
	if periods == nil || child == nil {
		return
	}
	if ms, found := periods.Split(child); found {
		fail(at+".from", r.From, fmt.Sprintf("has a window over %s, where one of the roll-up's ends (%s)",
			time.UnixMilli(ms).UTC().Format(time.RFC3339), periods), wantChild(periods, child))
		return
	}
	if most := longestPeriod[calendar.Unit(r.Calendar)] / shortestOf(child); most > MaxChildren {
		fail(at+".from", r.From, fmt.Sprintf("has up to %d windows in one %s", most, r.Calendar),
			fmt.Sprintf("at most %d: a roll-up from a coarser window or roll-up", MaxChildren))
	}
}

// checkPeriods returns the calendar of a roll-up, nil when it is not valid.
func checkPeriods(r *Rollup, at string, fail report) *calendar.Calendar {
	sound := true
	if _, known := longestPeriod[calendar.Unit(r.Calendar)]; !known {
		sound = false
		if r.Calendar == "" {
			fail(at+".calendar", "", missing, calendar.UnitNames())
		} else {
			fail(at+".calendar", r.Calendar, "is no unit of a calendar", calendar.UnitNames())
		}
	}
	if _, err := calendar.LoadZone(r.Timezone); err != nil {
		sound = false
		problem := "is no time zone"
		if near := nearestZone(r.Timezone); near != "" {
			problem += fmt.Sprintf(" (did you mean %s?)", near)
		}
		fail(at+".timezone", r.Timezone, problem, wantZone)
	}
	if !sound {
		return nil
	}
	periods, err := r.Periods()
	if err != nil {
		fail(at+".timezone", r.Timezone, err.Error(), wantZone)
		return nil
	}
	return periods
}

// nearestZone is Nearest over the zones there are, whatever their case.
func nearestZone(name string) string {
	zones := calendar.Zones()
	lower := make([]string, len(zones))
	for i, zone := range zones {
		lower[i] = strings.ToLower(zone)
	}
	near := Nearest(name, lower)
	for i, zone := range zones {
		if lower[i] == near {
			return zone
		}
	}
	return ""
}

// checkFrom returns the windows that a roll-up is made from, nil when it cannot be.
func checkFrom(s *Spec, i int, at string, fail report) calendar.Grid {
	r := &s.Rollups[i]
	var names []string
	for j := range s.Windows {
		if w := &s.Windows[j]; w.Slide == w.Size {
			names = append(names, w.Name)
		}
	}
	for j := range i {
		names = append(names, s.Rollups[j].Name)
	}
	want := "a tumbling window, or a roll-up above"
	if len(names) > 0 && len(names) <= 16 {
		want += ": " + strings.Join(names, ", ")
	}
	w, above := s.Window(r.From), s.Rollup(r.From)
	switch {
	case r.From == "":
		fail(at, "", missing, want)
	case w != nil && w.Slide != w.Size:
		fail(at, r.From, "has windows that overlap, one every "+w.Slide.String(), want)
	case w != nil:
		if w.Size.Millis() > 0 {
			return calendar.Steps{Size: w.Size.Millis(), Offset: w.Offset.Millis()}
		}
	case above == nil:
		problem := "is no window and no roll-up"
		if near := Nearest(r.From, names); near != "" {
			problem += fmt.Sprintf(" (did you mean %s?)", near)
		}
		fail(at, r.From, problem, want)
	default:
		for j := range i {
			if &s.Rollups[j] == above {
				if periods, err := above.Periods(); err == nil {
					return periods
				}
				return nil // which was said there
			}
		}
		fail(at, r.From, "does not stand above", want)
	}
	return nil
}

// wantChild says what a roll-up whose windows are cut could be made from.
func wantChild(periods *calendar.Calendar, child calendar.Grid) string {
	grain := Duration(time.Duration(periods.Grain()) * time.Millisecond)
	if _, rollup := child.(*calendar.Calendar); rollup {
		return fmt.Sprintf("a roll-up whose windows end wherever these do, or a tumbling window whose size divides %s", grain)
	}
	return fmt.Sprintf("a tumbling window whose size divides %s, without an offset", grain)
}

// shortestOf is about how long the shortest period of a grid is.
func shortestOf(g calendar.Grid) time.Duration {
	start, end := g.Bounds(time.Date(2024, 2, 10, 12, 0, 0, 0, time.UTC).UnixMilli())
	return time.Duration(end-start) * time.Millisecond
}

func checkArchive(a *Archive, fail report) {
	switch {
	case a == nil:
	case a.Dir == "":
		fail("archive.dir", "", missing, wantDir)
	case !path.IsAbs(a.Dir) || len(a.Dir) > 4096:
		fail("archive.dir", a.Dir, "is no absolute path", wantDir)
	}
}
