package window

import (
	"cmp"
	"slices"
)

// SliceStart returns the start of the slice that holds the event time ms.
func (p *Plan) SliceStart(ms int64) int64 {
	return ms - floorMod(ms, p.Width)
}

// Place decides an event of the slice that begins at start, under the lane's watermark wm just before the event. gen is
// the number of the slice's windows the event is late for, which is also the generation it folds into; late is true when
// that is all of them and the event folds nowhere. Deadlines are passed when they are at or before wm.
//
// The usual event is ahead of all deadlines and costs one comparison; any other costs two divisions per spec window.
func (p *Plan) Place(start, wm int64) (gen int, late bool) {
	if wm < start+p.onTime {
		return 0, false
	}
	return p.place(start, wm)
}

func (p *Plan) place(start, wm int64) (gen int, late bool) {
	gen = p.ended(start, wm-p.lateness)
	return gen, gen == p.Generations(start)
}

// ended counts the windows containing the slice that end at or before x. Windows containing the slice are those with an
// end in (start, start+size]: ends are multiples of the width as slice starts are.
func (p *Plan) ended(start, x int64) int {
	if x <= start {
		return 0
	}
	n := int64(0)
	for i := range p.families {
		f := &p.families[i]
		n += floorDiv(min(x, start+f.size)-f.phase, f.slide) - floorDiv(start-f.phase, f.slide)
	}
	return int(n)
}

// Generations is how many generations the slice that begins at start can have: one for each window
// that contains it, so at least one per family.
func (p *Plan) Generations(start int64) int {
	n := int64(0)
	for i := range p.families {
		f := &p.families[i]
		n += floorDiv(start+f.size-f.phase, f.slide) - floorDiv(start-f.phase, f.slide)
	}
	return int(n)
}

// WindowsOf returns the windows that contain the slice, by deadline, those of equal deadline by index in the spec.
func (p *Plan) WindowsOf(start int64) []Ref {
	refs := make([]Ref, 0, p.Generations(start))
	for i, f := range p.families {
		end := start - floorMod(start-f.phase, f.slide) + f.slide
		for ; end <= start+f.size; end += f.slide {
			refs = append(refs, Ref{Window: i, Start: end - f.size})
		}
	}
	slices.SortFunc(refs, func(a, b Ref) int {
		return cmp.Or(cmp.Compare(p.End(a), p.End(b)), cmp.Compare(a.Window, b.Window))
	})
	return refs
}

// Missed returns the windows for which an event of the slice is late under wm, in the order of WindowsOf.
func (p *Plan) Missed(start, wm int64) []Ref {
	gen, _ := p.Place(start, wm)
	if gen == 0 {
		return nil
	}
	return p.WindowsOf(start)[:gen]
}

// Deadlines returns the deadlines of the windows that contain the slice, ascending, with repetitions.
func (p *Plan) Deadlines(start int64) []int64 {
	refs := p.WindowsOf(start)
	deadlines := make([]int64, len(refs))
	for i, r := range refs {
		deadlines[i] = p.Deadline(r)
	}
	return deadlines
}

// LastDeadline returns the time at which the slice has no window left that could change: it may be dropped when the
// watermark has reached it.
func (p *Plan) LastDeadline(start int64) int64 {
	last := start
	for _, f := range p.families {
		last = max(last, start+f.size-floorMod(start+f.size-f.phase, f.slide))
	}
	return last + p.lateness
}

// SlicesOf returns the slices of a window in ascending order, each with the highest generation that the window merges:
// the number of the slice's deadlines strictly before the window's own.
func (p *Plan) SlicesOf(r Ref) []SliceRange {
	end := p.End(r)
	ranges := make([]SliceRange, 0, p.families[r.Window].size/p.Width)
	for start := r.Start; start < end; start += p.Width {
		ranges = append(ranges, SliceRange{Start: start, MaxGen: p.ended(start, end-1)})
	}
	return ranges
}

// End returns the end of the window in milliseconds; the window does not contain it.
func (p *Plan) End(r Ref) int64 { return r.Start + p.families[r.Window].size }

// Deadline returns the watermark in milliseconds at which the window takes no more events: its end plus the allowed
// lateness.
func (p *Plan) Deadline(r Ref) int64 { return p.End(r) + p.lateness }
