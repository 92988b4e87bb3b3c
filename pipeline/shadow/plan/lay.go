package plan

import (
	"fmt"
	"slices"

	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// lay finds what the lanes read for these windows.
func (b *builder) lay(windows []picked) (layout, *unlaid, error) {
	earliest := windows[0].ref.Start
	for i := range windows {
		earliest = min(earliest, windows[i].ref.Start)
	}
	first, err := b.offsets(earliest - b.ask.Spec.Event.MaxFuture.Millis())
	if err != nil {
		return layout{}, nil, fmt.Errorf("offsets of %s: %w", window.FormatTime(earliest), err)
	}
	if b.ask.Lateness == None {
		l, why := b.layEverything(windows, first)
		return l, why, nil
	}
	whole, why := b.layAsRead(windows, first, Whole)
	if b.ask.Scope == Whole || !b.same || b.ask.Lateness == FromLate { // events below the first that was counted may count now
		return whole, why, nil
	}
	part, whyNot := b.layAsRead(windows, first, FromFirstOffset)
	switch {
	case why != nil:
		return part, whyNot, nil
	case whyNot == nil && b.ask.Scope == FromFirstOffset, whyNot == nil && b.ask.Scope == "" && whole.offsets() > dear*part.offsets():
		return part, nil, nil
	}
	return whole, nil, nil
}

// dear is how many times as many records reading from the first possible offset may cost as reading from the first event.
const dear = 10

func (l *layout) offsets() int64 {
	n := int64(0)
	for i := range l.lanes {
		n += l.lanes[i].Offsets()
	}
	return n
}

// layEverything reads all that arrived.
func (b *builder) layEverything(windows []picked, first []int64) (layout, *unlaid) {
	l := layout{scope: Whole}
	for i := range b.facts {
		f := &b.facts[i]
		if b.isTrimmed(f, first[i]) {
			return l, &unlaid{reason: ReasonTrimmed, lane: f}
		}
		lane := Lane{
			Topic: f.Topic, Partition: f.Partition, TopicID: f.TopicID, Start: first[i], End: max(first[i], f.LogEnd), Basis: nothing,
		}
		if era, ok := b.eraOf(f); ok {
			lane.Era = era
		}
		if b.ask.Spec.Event.MaxJump > 0 && lane.Start < lane.End {
			// Which jumps are refused follows from the greatest event time before, whatever is late.
			h := b.historyOf(i, lane.Era)
			a, ok := h.anchorAtOrBelow(f.LogStart, first[i])
			if !ok {
				return l, &unlaid{reason: ReasonControl, lane: f}
			}
			lane.Start, lane.Basis = a.offset, a.basis
			lane.Basis.Sealed = window.NoTime
			lane.Accepted = h.acceptedIn(lane.Start, lane.End)
		}
		l.lanes = append(l.lanes, lane)
	}
	return l, nil
}

// nothing is the basis of a lane that begins with nothing.
var nothing = store.Basis{Known: true, Watermark: window.NoTime, Sealed: window.NoTime}

// isTrimmed reports whether the log may have held records of the windows below its start. first is the first offset that a
// record of them may have.
func (b *builder) isTrimmed(f *Facts, first int64) bool { return f.LogStart > 0 && first <= f.LogStart }

// historyOf is what is known of one past of a lane.
func (b *builder) historyOf(lane int, era int64) *laneHistory {
	past := lanePast{lane, era}
	h := b.known[past]
	if h == nil {
		h = newHistory(b.book, &b.facts[lane], era, b.ask.Live.AllowedLateness.Millis(), b.ask.Live.Event.MaxJump > 0)
		b.known[past] = h
	}
	return h
}

// layAsRead reads what decides about the windows as it was decided.
func (b *builder) layAsRead(windows []picked, first []int64, scope Scope) (layout, *unlaid) {
	l := layout{scope: scope}
	for i := range b.facts {
		f := &b.facts[i]
		lane := Lane{Topic: f.Topic, Partition: f.Partition, TopicID: f.TopicID, Basis: nothing}
		if era, ok := b.eraOf(f); ok {
			lane.Era = era
		}
		var cuts []store.Seal
		for k := range windows {
			c := windows[k].cover(f.Topic, f.Partition)
			cuts = append(cuts, store.Seal{Offset: max(c.Offset, 0), Before: b.windows.Deadline(windows[k].ref)})
			lane.End = max(lane.End, c.Offset)
		}
		h := b.historyOf(i, lane.Era)
		if why := b.beginLane(&lane, h, f, windows, first[i], scope); why != nil {
			return l, why
		}
		if b.ask.Lateness == FromLate {
			b.admitLate(&lane, f, windows)
		}
		lane.Seals = h.sealsFor(lane.Start, lane.End, lane.Basis, cuts)
		l.lanes = append(l.lanes, lane)
	}
	return l, nil
}

// beginLane finds where a lane that ends at lane.End begins, and whether it is known how it decided from there.
func (b *builder) beginLane(lane *Lane, h *laneHistory, f *Facts, windows []picked, first int64, scope Scope) *unlaid {
	var a anchor
	var why *unlaid
	if scope == Whole {
		a, why = b.anchorBelow(lane, h, f, first)
	} else {
		a, why = b.anchorAtFirst(lane, h, f, windows)
	}
	if why != nil {
		return why
	}
	if a.basis.Known {
		lane.Start, lane.Basis = a.offset, a.basis
		lane.End = max(lane.End, lane.Start)
	} else {
		lane.Start = lane.End // no event is to be found
	}
	if gap, ok := h.covers(a.unknownFrom(), lane.End); a.basis.Known && !ok {
		return &unlaid{reason: ReasonControl, lane: f, gap: gap}
	}
	lane.Accepted = h.acceptedIn(lane.Start, lane.End)
	return nil
}

// anchorBelow finds the anchor at or below the first offset that an event of the windows may have. Its basis is not known
// when nothing was read for the windows that can belong to them.
func (b *builder) anchorBelow(lane *Lane, h *laneHistory, f *Facts, first int64) (anchor, *unlaid) {
	if b.isTrimmed(f, first) {
		return anchor{}, &unlaid{reason: ReasonTrimmed, lane: f}
	}
	refuses := b.ask.Lateness == FromLate && b.ask.Live.Event.MaxJump > 0 // which late records are refused follows from the basis
	if lane.End <= first && !refuses {
		return anchor{}, nil
	}
	a, ok := h.anchorAtOrBelow(f.LogStart, first)
	switch {
	case ok:
		return a, nil
	case a.basis.Known: // below the log's start
		return a, &unlaid{reason: ReasonTrimmed, lane: f}
	}
	return a, &unlaid{reason: ReasonControl, lane: f}
}

// anchorAtFirst finds the anchor at the first event that one of the windows has in the lane. Its basis is not known when
// there is no event. The lane ends where the windows with an event end.
func (b *builder) anchorAtFirst(lane *Lane, h *laneHistory, f *Facts, windows []picked) (anchor, *unlaid) {
	start, end := int64(-1), int64(0)
	for k := range windows {
		c := windows[k].cover(f.Topic, f.Partition)
		switch { // a replay may have published none of the events that the lane has counted, so their number says nothing
		case c.FirstOffset < 0 && c.Folded == 0:
			continue
		case c.FirstOffset < 0:
			return anchor{}, &unlaid{reason: ReasonControl, lane: f}
		}
		if start < 0 || c.FirstOffset < start {
			start = c.FirstOffset
		}
		end = max(end, c.Offset)
	}
	if start < 0 {
		return anchor{}, nil
	}
	lane.End = end
	a, ok := h.anchorAtOrBelow(start, start)
	if !ok {
		return a, &unlaid{reason: ReasonControl, lane: f}
	}
	return a, nil
}

// admitLate lets the lane count what the late topic holds for the windows.
func (b *builder) admitLate(lane *Lane, f *Facts, windows []picked) {
	wanted := make(map[ledger.WindowID]bool, len(windows))
	for k := range windows {
		wanted[windows[k].id] = true
	}
	for _, r := range f.Late {
		if r.Offset >= lane.Start && r.Offset < f.LogEnd &&
			(r.More || slices.ContainsFunc(r.Windows, func(id ledger.WindowID) bool { return wanted[id] })) {
			lane.Late = append(lane.Late, r.Offset)
		}
	}
	slices.Sort(lane.Late)
	lane.Late = slices.Compact(lane.Late)
	if n := len(lane.Late); n > 0 {
		lane.End = max(lane.End, lane.Late[n-1]+1)
	}
}
