package plan

import (
	"cmp"
	"math"
	"slices"
	"sort"

	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// laneHistory is what rows, floors and the lane's own meta tell of one past of a lane: under which control values it decided
// the records of its log. Three kinds of facts go together.
//
//   - A row names every seal adopted in a stretch of offsets, and so does the meta.
//   - A row that is final says that at the offset it covers the greater of watermark and seal had reached the window's
//     deadline, whatever brought it there.
//   - The basis of a row says which seal was in force at an offset. Seals only rise, so none above it was adopted before.
//
// Between two stretches there may be a gap that no row describes: a lane was idle, or records in it were late or filtered.
// If no seal adopted in the gap can have been above what was in force at its beginning, nothing that was adopted there
// mattered, and the gap is closed.
type laneHistory struct {
	stretches []stretch // by from
	anchors   []anchor  // by offset
	seals     []store.Seal
	meta      *store.Meta // of this past; nil when it is of another or not known
	jumps     bool        // the spec bounds jumps, so accepted ones are control values too
}

// stretch is a range of offsets such that every seal is known that was adopted at one of them.
type stretch struct{ from, to int64 }

// anchor is an offset at which the basis is known. It has the seals that were adopted there, except where the lane begins.
type anchor struct {
	offset int64
	basis  store.Basis
	begins bool
	passed int64 // the greatest watermark or seal of a basis up to here, ms
}

// unknownFrom is the offset from which on seals matter that are not in the basis.
func (a *anchor) unknownFrom() int64 {
	if a.begins {
		return a.offset
	}
	return a.offset + 1
}

// newHistory collects what is known of a lane in the past called era. lateness is that of the spec that published the rows.
func newHistory(book *Book, f *Facts, era, lateness int64, jumps bool) *laneHistory {
	h := &laneHistory{jumps: jumps}
	for _, row := range book.Rows {
		c, ok := row.Cover(f.Topic, f.Partition)
		if row.Edition != book.Edition || !ok || c.Era != era || c.Offset <= 0 || isOther(c.TopicID, f.TopicID) {
			continue
		}
		if row.Final {
			h.seals = append(h.seals, store.Seal{Offset: c.Offset, Before: row.End + lateness})
		}
		h.addCover(&c)
	}
	for _, floor := range book.Floors {
		l, ok := floor.Lane(f.Topic, f.Partition)
		if ok && floor.Edition == book.Edition && l.Era == era && l.Offset > 0 && !isOther(l.TopicID, f.TopicID) {
			h.seals = append(h.seals, store.Seal{Offset: l.Offset, Before: floor.End + lateness})
		}
	}
	h.addMeta(f, era)
	slices.SortFunc(h.stretches, func(a, b stretch) int { return cmp.Compare(a.from, b.from) })
	slices.SortFunc(h.anchors, func(a, b anchor) int { return cmp.Compare(a.offset, b.offset) })
	h.seals = rising(h.seals)
	passed := int64(window.NoTime)
	for i := range h.anchors {
		a := &h.anchors[i]
		passed = max(passed, a.basis.Watermark, a.basis.Sealed)
		a.passed = passed
	}
	return h
}

func (h *laneHistory) addCover(c *ledger.Cover) {
	if c.FirstOffset < 0 || !c.Basis.Known {
		return
	}
	h.anchors = append(h.anchors, anchor{offset: c.FirstOffset, basis: c.Basis})
	if c.Recountable {
		h.stretches = append(h.stretches, stretch{c.FirstOffset, c.Offset})
		h.seals = append(h.seals, c.Seals...)
	}
}

// addMeta adds what the live lane remembers. A lane whose first past it still is has another anchor where it began: with
// nothing.
func (h *laneHistory) addMeta(f *Facts, era int64) {
	m := f.Meta
	if m == nil || m.Era != era || m.Offset <= 0 || isOther(m.TopicID, f.TopicID) {
		return
	}
	h.meta = m
	began := m.Begun
	if era == 0 && (began > 0 || f.LogStart == 0) {
		h.anchors = append(h.anchors, anchor{offset: began, basis: nothing, begins: true})
	}
	if known := h.rememberedFrom(); known < m.Offset {
		h.stretches = append(h.stretches, stretch{known, m.Offset})
	}
	for _, s := range m.Seals {
		if s.Before != window.NoTime {
			h.seals = append(h.seals, s)
		}
	}
}

// rememberedFrom is the offset from which on the lane's meta names every seal that was adopted. The one at the mark of what
// was forgotten is forgotten too.
func (h *laneHistory) rememberedFrom() int64 {
	if len(h.meta.Seals) > 0 && h.meta.Seals[0].Before == window.NoTime {
		return h.meta.Seals[0].Offset + 1
	}
	return max(h.meta.Begun, 0)
}

// isOther reports whether two topic ids are known and differ.
func isOther(a, b string) bool { return a != "" && b != "" && a != b }

// rising sorts seals by offset and leaves those that raise what was in force.
func rising(seals []store.Seal) []store.Seal {
	slices.SortFunc(seals, func(a, b store.Seal) int {
		return cmp.Or(cmp.Compare(a.Offset, b.Offset), cmp.Compare(b.Before, a.Before))
	})
	out, top := seals[:0], int64(window.NoTime)
	for _, s := range seals {
		if s.Before > top {
			out, top = append(out, s), s.Before
		}
	}
	return out
}

// anchorAtOrBelow returns the greatest anchor from offset low up to and including offset high. Without one it returns the
// greatest below low, if there is any.
func (h *laneHistory) anchorAtOrBelow(low, high int64) (anchor, bool) {
	i := h.anchorsUpTo(high)
	if i == 0 {
		return anchor{}, false
	}
	a := h.anchors[i-1]
	return a, a.offset >= low
}

// anchorsUpTo is how many anchors lie at or below offset.
func (h *laneHistory) anchorsUpTo(offset int64) int {
	return sort.Search(len(h.anchors), func(i int) bool { return h.anchors[i].offset > offset })
}

// covers reports whether every seal is known that was adopted in [from, to) and mattered; where not, gap is what is missing.
func (h *laneHistory) covers(from, to int64) (gap stretch, ok bool) {
	next := 0
	for pos := from; pos < to; {
		reached := pos
		for ; next < len(h.stretches) && h.stretches[next].from <= pos; next++ {
			reached = max(reached, h.stretches[next].to)
		}
		if reached > pos {
			pos = reached
			continue
		}
		end := to
		if next < len(h.stretches) {
			end = min(end, h.stretches[next].from)
		}
		if !h.closes(pos, end) {
			return stretch{pos, end}, false
		}
		pos = end
	}
	return stretch{}, true
}

// closes reports whether nothing that was adopted in the gap [from, to) mattered.
func (h *laneHistory) closes(from, to int64) bool {
	if h.jumps && !h.knowsAccepted(from, to) {
		return false
	}
	return h.sealedAtMost(to) <= h.effectiveAtLeast(from)
}

// knowsAccepted reports whether no jump in [from, to) was accepted.
func (h *laneHistory) knowsAccepted(from, to int64) bool {
	if h.meta == nil || h.rememberedFrom() > from+1 || to > h.meta.Offset {
		return false
	}
	return !slices.ContainsFunc(h.meta.Accepted, func(offset int64) bool { return offset >= from && offset < to })
}

// sealedAtMost bounds the seals that were adopted below offset, ms.
func (h *laneHistory) sealedAtMost(offset int64) int64 {
	if i := h.anchorsUpTo(offset - 1); i < len(h.anchors) {
		return h.anchors[i].basis.Sealed
	}
	if h.meta != nil && h.meta.Offset >= offset {
		return h.meta.Sealed
	}
	return math.MaxInt64
}

// effectiveAtLeast bounds from below what lateness was decided with from offset on, ms.
func (h *laneHistory) effectiveAtLeast(offset int64) int64 {
	low := int64(window.NoTime)
	if i := sort.Search(len(h.seals), func(i int) bool { return h.seals[i].Offset > offset }); i > 0 {
		low = h.seals[i-1].Before
	}
	if i := h.anchorsUpTo(offset); i > 0 {
		low = max(low, h.anchors[i-1].passed)
	}
	return low
}

// acceptedIn lists the jumps in [from, to) that the operator is known to have accepted.
func (h *laneHistory) acceptedIn(from, to int64) (offsets []int64) {
	if h.meta == nil {
		return nil
	}
	for _, offset := range h.meta.Accepted {
		if offset >= from && offset < to {
			offsets = append(offsets, offset)
		}
	}
	return offsets
}

// sealsFor returns what a lane that begins with the basis adopts up to end, with the deadlines from which on its windows
// take nothing more.
func (h *laneHistory) sealsFor(start, end int64, basis store.Basis, cuts []store.Seal) []store.Seal {
	seals := make([]store.Seal, 0, len(h.seals)+len(cuts))
	for _, s := range slices.Concat(h.seals, cuts) {
		if s.Offset = max(s.Offset, start); s.Offset < end && s.Before > basis.Sealed {
			seals = append(seals, s)
		}
	}
	return slices.Clip(rising(seals))
}
