package oracle

import (
	"fmt"
	"sort"
	"time"
	_ "time/tzdata" // for machines without zones of their own
)

// Rollup is a family of windows that are periods of a calendar. Whether an event counts is decided by the deadline of the
// tumbling window at the bottom of the chain of From.
type Rollup struct {
	Name, From, Calendar string
	Zone                 *time.Location
}

func readRollups(list []any) ([]Rollup, error) {
	var out []Rollup
	for _, item := range list {
		m := object(item)
		name := text(m["timezone"])
		if name == "" {
			name = "UTC"
		}
		zone, err := time.LoadLocation(name)
		if err != nil {
			return nil, err
		}
		out = append(out, Rollup{text(m["name"]), text(m["from"]), text(m["calendar"]), zone})
	}
	return out, nil
}

// bottom is the window that a roll-up is made from in the end.
func (s *Spec) bottom(r Rollup) string {
	from := r.From
	for i := 0; i < len(s.Rollups); i++ {
		if s.Rollups[i].Name == from {
			from, i = s.Rollups[i].From, -1
		}
	}
	return from
}

// counted is an event that a window took, or that missed it.
type counted struct {
	window string
	ev     *event
	at     place
}

// addRollups adds the rows of all roll-ups, and says how many events each of their windows lacks because they missed the
// windows it is made from.
func (r *Result) addRollups(taken, missed []counted, cells map[cell]*Row) {
	r.ChildLate = map[string]map[int64]int64{}
	for _, up := range r.Spec.Rollups {
		bottom := r.Spec.bottom(up)
		var all []int64
		for _, c := range append(append([]counted(nil), taken...), missed...) {
			all = append(all, floorDiv(c.ev.time, 1e6))
		}
		bounds := up.bounds(all)
		for _, c := range taken {
			if c.window != bottom {
				continue
			}
			start, end := around(bounds, floorDiv(c.ev.time, 1e6))
			at := cell{up.Name, start, c.ev.key}
			if cells[at] == nil {
				cells[at] = &Row{Window: up.Name, Start: start, End: end, Key: c.ev.key, acc: newAccumulator(r.Spec)}
			}
			cells[at].acc.add(c.ev, c.at)
		}
		r.ChildLate[up.Name] = map[int64]int64{}
		for _, c := range missed {
			if c.window == bottom {
				start, _ := around(bounds, floorDiv(c.ev.time, 1e6))
				r.ChildLate[up.Name][start]++
			}
		}
	}
}

// bounds looks at the clock minute by minute, from long before the first time to long after the last one, and notes when a
// period begins.
func (up Rollup) bounds(times []int64) []int64 {
	if len(times) == 0 {
		return nil
	}
	sort.Slice(times, func(i, j int) bool { return times[i] < times[j] })
	span := map[string]int64{"hour": 3, "day": 72, "week": 24 * 16, "month": 24 * 64, "quarter": 24 * 190, "year": 24 * 740}[up.Calendar]
	around := span * time.Hour.Milliseconds()
	const minute = 60_000
	var bounds []int64
	latest := ""
	for at := floorDiv(times[0]-around, minute) * minute; at < times[len(times)-1]+around; at += minute {
		clock := time.UnixMilli(at).In(up.Zone)
		if up.Calendar == "hour" {
			// The clock shows a full hour. Clocks that skip one are not in this oracle.
			if clock.Minute() == 0 {
				bounds = append(bounds, at)
			}
			continue
		}
		if name := up.period(clock); name > latest {
			if latest != "" {
				bounds = append(bounds, at)
			}
			latest = name
		}
	}
	return bounds
}

// period names the period that the clock is in. Later ones have greater names.
func (up Rollup) period(clock time.Time) string {
	date := time.Date(clock.Year(), clock.Month(), clock.Day(), 0, 0, 0, 0, time.UTC)
	switch up.Calendar {
	case "week":
		for date.Weekday() != time.Monday {
			date = date.AddDate(0, 0, -1)
		}
		return date.Format("2006-01-02")
	case "month":
		return date.Format("2006-01")
	case "quarter":
		return fmt.Sprintf("%s.%d", date.Format("2006"), (date.Month()-1)/3)
	case "year":
		return date.Format("2006")
	}
	return date.Format("2006-01-02")
}

// around returns the bounds before and after a time.
func around(bounds []int64, ms int64) (start, end int64) {
	i := sort.Search(len(bounds), func(i int) bool { return bounds[i] > ms })
	return bounds[i-1], bounds[i]
}
