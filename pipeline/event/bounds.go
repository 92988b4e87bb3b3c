package event

import "millrace/pipeline/spec"

// Bounds are how far an event time may lie from the timestamp of its own record.
type Bounds struct {
	future int64 // ms
	past   int64 // ms; 0: as far as it likes
}

// BoundsOf returns the bounds that a spec sets.
func BoundsOf(e *spec.Event) Bounds {
	return Bounds{future: e.MaxFuture.Millis(), past: e.MaxPast.Millis()}
}

// Ahead reports whether an event is too far ahead of its record's timestamp at, in ms. Its time is given in ns and in ms,
// rounded down.
func (b *Bounds) Ahead(ns, ms, at int64) bool {
	limit := ms - b.future
	return limit > at || limit == at && ns > ms*1e6
}

// Past reports whether an event time is too far before its record's timestamp; both are in ms.
func (b *Bounds) Past(ms, at int64) bool { return b.past > 0 && ms < at-b.past }
