package calendar

import (
	"slices"
	"time"
)

// Grid divides time into periods without gaps; *Calendar and Steps are two.
type Grid interface {
	// Bounds returns the period that holds a time in milliseconds.
	Bounds(ms int64) (start, end int64)
}

// Steps are the periods [Offset + k*Size, Offset + (k+1)*Size), in milliseconds.
type Steps struct{ Size, Offset int64 }

// Bounds implements Grid.
func (s Steps) Bounds(ms int64) (start, end int64) {
	start = ms - floorMod(ms-s.Offset, s.Size)
	return start, start + s.Size
}

// The horizon within which periods are checked to be made of others, in seconds. Before 1970 zones have offsets that no
// window fits; what a zone will do after 2100 nobody knows.
var (
	horizonStart = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	horizonEnd   = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
)

// Split returns the first bound of the calendar, between 1970 and 2100, that is no bound of the child: one of the child's
// periods would lie in two of the calendar's. It returns false when the calendar's periods are made of the child's.
func (c *Calendar) Split(child Grid) (at int64, found bool) {
	if !c.repeats(child) {
		return c.splitAnywhere(child)
	}
	other, _ := child.(*Calendar)
	for _, bound := range c.samples(other) {
		if !isBound(child, bound) {
			return bound, true
		}
	}
	return 0, false
}

// samples lists bounds of the calendar in the horizon, ascending: those around each transition of its zone, and of that of
// another calendar, which may be nil.
func (c *Calendar) samples(other *Calendar) []int64 {
	points := append([]int64{horizonStart}, c.zone.transitions(horizonStart, horizonEnd)...)
	if other != nil {
		points = append(points, other.zone.transitions(horizonStart, horizonEnd)...)
	}
	slices.Sort(points)
	var bounds []int64
	for _, p := range points {
		start, end := c.Bounds(p * 1000)
		_, next := c.Bounds(end)
		bounds = append(bounds, start, end, next)
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	return slices.DeleteFunc(bounds, func(b int64) bool { return b < horizonStart*1000 })
}

// Grain is the greatest number of milliseconds that divides every bound of the calendar between 1970 and 2100, and 24 hours.
func (c *Calendar) Grain() int64 {
	grain := int64(daySeconds * 1000)
	for _, bound := range c.samples(nil) {
		for b := bound; b != 0; {
			grain, b = b, grain%b
		}
	}
	return grain
}

// repeats reports whether the bounds of the calendar between two transitions are either all bounds of the child or none
// of them: both repeat with the hour, or with the day.
func (c *Calendar) repeats(child Grid) bool {
	switch g := child.(type) {
	case Steps:
		if c.unit == Hour {
			return hourSeconds*1000%g.Size == 0
		}
		return daySeconds*1000%g.Size == 0
	case *Calendar:
		return g.unit == Hour || g.unit == Day && c.unit != Hour
	}
	return false
}

// splitAnywhere is Split over every bound of the calendar in the horizon.
func (c *Calendar) splitAnywhere(child Grid) (at int64, found bool) {
	_, at = c.Bounds(horizonStart * 1000)
	for ; at < horizonEnd*1000; _, at = c.Bounds(at) {
		if !isBound(child, at) {
			return at, true
		}
	}
	return 0, false
}

func isBound(g Grid, ms int64) bool {
	start, _ := g.Bounds(ms)
	return start == ms
}
