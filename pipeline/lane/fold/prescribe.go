package fold

import (
	"math"
	"slices"

	"millrace/pipeline/store"
)

// Prescription is how a state decides that reads again what another lane has decided: under the seals that lane had adopted,
// each at its offset, and keeping only what is wanted. It holds for records below the decided offset.
type Prescription struct {
	// Seals rise in offset and time: records at or above Offset are decided under Before. No commit keeps them, so whoever
	// restores the state prescribes them again.
	Seals []store.Seal
	// Late are offsets of events that are folded in generation 0, whatever the watermark is. They rise.
	Late []int64
	// Keeps reports whether the slice that begins at start (ms) is wanted. Events of others are decided and counted, and not
	// kept: they count as folded and dropped.
	Keeps func(start int64) bool
}

// prescribed is a prescription as far as it was followed.
type prescribed struct {
	Prescription
	next int64 // offset of the next seal
}

// Prescribe makes the state follow p from its offset on.
func (s *State) Prescribe(p Prescription) {
	s.prescribed = &prescribed{Prescription: p}
	s.adoptPrescribed(s.offset)
}

// adoptPrescribed adopts the seals that the record at offset was decided under.
func (s *State) adoptPrescribed(offset int64) {
	p := s.prescribed
	for len(p.Seals) > 0 && p.Seals[0].Offset <= offset {
		if before := p.Seals[0].Before; before > s.sealed {
			s.sealed = before
			s.effective = max(s.effective, before)
		}
		p.Seals = p.Seals[1:]
	}
	p.next = math.MaxInt64
	if len(p.Seals) > 0 {
		p.next = p.Seals[0].Offset
	}
}

// admits reports whether the event at offset is folded in generation 0 although it is late.
func (p *prescribed) admits(offset int64) bool {
	_, found := slices.BinarySearch(p.Late, offset)
	return found
}

// passOver counts the event that is being decided as folded into a slice that is gone.
func (s *State) passOver() {
	s.counters.Folded++
	s.dropped++
}

// Discard drops the slices that keeps does not want; Redis drops them with the next commit. It returns how many they are.
func (s *State) Discard(keeps func(start int64) bool) int {
	n := 0
	for k, sl := range s.slices {
		if !keeps(k.start) {
			s.stale = append(s.stale, sl.stat.SliceID)
			s.forgetSlice(k)
			n++
		}
	}
	s.touched = s.touched || n > 0
	return n
}
