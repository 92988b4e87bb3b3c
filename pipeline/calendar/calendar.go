package calendar

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Unit is the length of the periods of a calendar.
type Unit string

// The units there are.
const (
	Hour    Unit = "hour"
	Day     Unit = "day"
	Week    Unit = "week" // from Monday
	Month   Unit = "month"
	Quarter Unit = "quarter"
	Year    Unit = "year"
)

// Units lists the units, the shortest first.
func Units() []Unit { return []Unit{Hour, Day, Week, Month, Quarter, Year} }

// ErrUnit means a unit that there is not.
var ErrUnit = errors.New("no such unit of a calendar")

const (
	hourSeconds = 60 * 60
	daySeconds  = 24 * hourSeconds
)

// Calendar divides time into the periods of one unit in one zone. It is immutable and safe for concurrent use.
type Calendar struct {
	unit Unit
	zone *Zone
}

// New returns the calendar of a unit in the zone of that name. Errors wrap ErrUnit or ErrZone.
func New(unit Unit, zone string) (*Calendar, error) {
	if !slices.Contains(Units(), unit) {
		return nil, fmt.Errorf("%w: %q", ErrUnit, unit)
	}
	z, err := LoadZone(zone)
	if err != nil {
		return nil, err
	}
	return &Calendar{unit, z}, nil
}

// String is the unit and the zone, for people.
func (c *Calendar) String() string { return string(c.unit) + " in " + c.zone.name }

// Bounds returns the period that holds a time.
func (c *Calendar) Bounds(ms int64) (start, end int64) {
	sec := floorDiv(ms, 1000)
	if c.unit == Hour {
		return c.zone.hourBefore(sec) * 1000, c.zone.hourAfter(sec) * 1000
	}
	first, next := c.datesAround(c.zone.dayOf(sec))
	return c.zone.dayStart(first) * 1000, c.zone.dayStart(next) * 1000
}

// datesAround returns the first date of the period that holds a date, and the first date of the next one. Dates are days
// since 1 January 1970.
func (c *Calendar) datesAround(date int64) (first, next int64) {
	if c.unit == Day {
		return date, date + 1
	}
	if c.unit == Week {
		first = date - floorMod(date+3, 7) // 1 January 1970 was a Thursday
		return first, first + 7
	}
	year, month, _ := time.Unix(date*daySeconds, 0).UTC().Date()
	months := map[Unit]int{Month: 1, Quarter: 3, Year: 12}[c.unit]
	month -= (month - 1) % time.Month(months)
	return dateOf(year, month), dateOf(year, month+time.Month(months))
}

// dateOf is the first date of a month; months beyond December belong to the next year.
func dateOf(year int, month time.Month) int64 {
	return floorDiv(time.Date(year, month, 1, 0, 0, 0, 0, time.UTC).Unix(), daySeconds)
}

// mostOffset is more than the local clock of any zone is ever away from UTC, in seconds.
const mostOffset = 2 * daySeconds

// dayStart returns the first second whose local date is the given one or a later one.
func (z *Zone) dayStart(date int64) int64 {
	midnight := date * daySeconds // on a clock without an offset
	s := z.spanAt(midnight - mostOffset)
	for ; s.to <= midnight-s.offset; s = z.spanAt(s.to) {
	}
	return max(s.from, midnight-s.offset)
}

// dayOf returns the date of the day that holds a time in seconds: the greatest that has begun.
func (z *Zone) dayOf(sec int64) int64 {
	date := floorDiv(sec+z.spanAt(sec).offset, daySeconds)
	for z.dayStart(date+1) <= sec { // the clock was put back over midnight
		date++
	}
	return date
}

// hourBefore returns the start of the hour that holds a time in seconds.
func (z *Zone) hourBefore(sec int64) int64 {
	for s := z.spanAt(sec); ; s = z.spanAt(s.from - 1) {
		if mark := sec - floorMod(sec+s.offset, hourSeconds); mark >= s.from {
			return mark
		}
		if z.beginsHour(s) {
			return s.from
		}
		sec = s.from - 1
	}
}

// hourAfter returns the end of the hour that holds a time in seconds.
func (z *Zone) hourAfter(sec int64) int64 {
	for s := z.spanAt(sec); ; s = z.spanAt(sec) {
		if mark := sec - floorMod(sec+s.offset, hourSeconds) + hourSeconds; mark < s.to {
			return mark
		}
		if sec = s.to; z.beginsHour(z.spanAt(sec)) {
			return sec
		}
	}
}

// beginsHour reports whether an hour begins at the transition to a span: the clock shows a full hour then, or was put
// forward over one.
func (z *Zone) beginsHour(s span) bool {
	before := s.from + z.spanAt(s.from-1).offset
	now := s.from + s.offset
	return floorMod(now, hourSeconds) == 0 || floorDiv(now, hourSeconds) > floorDiv(before-1, hourSeconds) && now > before
}

// UnitNames lists the units as text.
func UnitNames() string {
	names := make([]string, len(Units()))
	for i, u := range Units() {
		names[i] = string(u)
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// floorDiv is a/b rounded down; b must be positive.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// floorMod is the rest of floorDiv, in [0, b).
func floorMod(a, b int64) int64 {
	m := a % b
	if m < 0 {
		m += b
	}
	return m
}
