package publish

import (
	"slices"

	"millrace/pipeline/ledger"
	"millrace/pipeline/window"
)

// Rolled is what a slot knows of the roll-ups of its pipeline.
type Rolled struct {
	ClosedAt map[ledger.WindowID]int64 // of every roll-up window that has a row, ms
	Floors   map[string]int64          // by roll-up, ms; window.NoTime for one without
}

// Rolled returns what the slot knows of roll-ups, as far as its ledger was read.
func (s *Slot) Rolled() Rolled {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.held
	r := Rolled{ClosedAt: make(map[ledger.WindowID]int64), Floors: make(map[string]int64)}
	if len(h.rollups) == 0 {
		return r
	}
	for id, e := range h.index.entries {
		if _, rollup := slices.BinarySearch(h.rollups, id.Window); rollup && !h.index.isPast(e) {
			r.ClosedAt[id] = e.closedAt
		}
	}
	for _, family := range h.rollups {
		r.Floors[family] = window.NoTime
		if f := h.index.floors[floorID{family, h.index.edition}]; f != nil {
			r.Floors[family] = f.End
		}
	}
	return r
}
