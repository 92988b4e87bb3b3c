package merge

import (
	"math/bits"
	"slices"

	"millrace/pipeline/page"
)

const (
	// leastEntry is about the fewest bytes that a key and its entry take in a page.
	leastEntry = 16

	// mostUnits bounds how many units a window is cut into.
	mostUnits = 1 << 16
)

// unit is what a worker merges at a time: ranges of the hash that lie within one of the equal parts
// that the range of all hashes is cut into.
type unit []page.HashRange

// cut cuts ranges into units of which each is expected to have no more than unitEntries and half
// of groupBytes.
func (o *Opened) cut(ranges []page.HashRange) []unit {
	size := o.Bytes()
	ranges = slices.Clone(ranges)
	n := int(min(mostUnits, 1+max(min(o.Events(), size/leastEntry)/unitEntries, size/(groupBytes/2))))
	var units []unit
	for i := 0; i < n && len(ranges) > 0; i++ {
		last := startOf(i+1, n) - 1 // that of the last part wraps round
		var u unit
		for len(ranges) > 0 && ranges[0].First <= last {
			if ranges[0].Last > last {
				u = append(u, page.HashRange{First: ranges[0].First, Last: last})
				ranges[0].First = last + 1
				break
			}
			u = append(u, ranges[0])
			ranges = ranges[1:]
		}
		if len(u) > 0 {
			units = append(units, u)
		}
	}
	return units
}

// startOf is where part i of n equal parts of the range of all hashes begins.
func startOf(i, n int) uint64 {
	if i == n {
		return 0
	}
	start, rest := bits.Div64(uint64(i), 0, uint64(n))
	if rest > 0 {
		start++
	}
	return start
}

// mayNarrow reports whether the unit can be split in two.
func (u unit) mayNarrow() bool { return len(u) > 1 || u[0].First < u[0].Last }

// split splits a unit in two that may be.
func (u unit) split() (low, high unit) {
	if n := len(u); n > 1 {
		return u[:n/2], u[n/2:]
	}
	middle := u[0].First + (u[0].Last-u[0].First)/2
	return unit{{First: u[0].First, Last: middle}}, unit{{First: middle + 1, Last: u[0].Last}}
}
