package plan

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sort"

	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// OffsetsOf answers, for every lane of the facts in their order, the offset of the first record whose timestamp is not
// before at (ms). A lane without such a record answers its end, as of before the question.
type OffsetsOf func(at int64) ([]int64, error)

// Build lays out what the lanes read. Windows that cannot be counted are left out and named in the plan; a *RefusedError is
// what is returned when none is left.
func (s *Selection) Build(facts []Facts, offsets OffsetsOf) (*Plan, error) {
	b := &builder{Selection: s, facts: facts, offsets: offsets, same: s.ask.Spec.StateID() == s.ask.Live.StateID(), known: make(map[lanePast]*laneHistory)}
	b.refuseUnreadable()
	if err := b.refuseUntilLaid(); err != nil {
		return nil, err
	}
	p := &Plan{
		Version: Version, Pipeline: s.ask.Pipeline, ID: s.ask.ID, Edition: s.book.Edition, Lateness: s.ask.Lateness, Scope: b.laid.scope,
		From: s.ask.From, To: s.ask.To, SpecVersion: s.ask.Spec.Version(), SameSpec: b.same,
		Lanes: b.laid.lanes, Refused: b.refused,
	}
	var err error
	if p.Spec, err = s.ask.Spec.JSON(); err != nil {
		return nil, err
	}
	for i := range s.picked {
		p.Windows = append(p.Windows, b.windowOf(&s.picked[i], p.Lanes))
	}
	p.Figures = b.estimate(p)
	return p, nil
}

// builder makes a plan of a selection.
type builder struct {
	*Selection
	facts   []Facts
	offsets OffsetsOf
	same    bool // the spec that counts keeps the lane state of the pipeline's own
	laid    layout
	known   map[lanePast]*laneHistory // collected once: a ledger may hold a hundred thousand rows
}

// lanePast names one past of one lane, by its index in the facts.
type lanePast struct {
	lane int
	era  int64
}

// layout is what the lanes read for some windows.
type layout struct {
	scope Scope
	lanes []Lane
}

// unlaid says why windows cannot be counted together; nil windows are meant all.
type unlaid struct {
	reason string
	lane   *Facts
	gap    stretch
}

// refuseUnreadable leaves out the windows that cannot be counted whatever else is asked for.
func (b *builder) refuseUnreadable() {
	for i := range b.facts {
		f := &b.facts[i]
		era, known := b.eraOf(f)
		b.drop(func(p *picked) *Refusal {
			c := p.cover(f.Topic, f.Partition)
			switch {
			case c.Offset <= 0:
				return nil
			case isOther(c.TopicID, f.TopicID):
				return refuse(p.id, ReasonOtherTopic, "topic %s was deleted and made again since (its id was %s and is %s)", f.Topic, c.TopicID, f.TopicID)
			case b.ask.Lateness == None:
				return nil
			case known && c.Era != era:
				return refuse(p.id, ReasonEra, "an operator's decision gave lane %s/%d another past within the range; count what lies before it and what lies after it apart",
					f.Topic, f.Partition)
			case c.Folded > 0 && c.FirstOffset < f.LogStart:
				return refuseTrimmed(p.id, f, b.earliestWhole(p.ref.Window))
			case c.Offset > f.LogEnd:
				return refuse(p.id, ReasonTruncated, "its row covers %s/%d up to offset %d, and the log ends at %d", f.Topic, f.Partition, c.Offset, f.LogEnd)
			}
			return nil
		})
	}
}

// eraOf is the past of the lane that the latest window belongs to.
func (b *builder) eraOf(f *Facts) (era int64, known bool) {
	for _, p := range slices.Backward(b.picked) {
		if c := p.cover(f.Topic, f.Partition); c.Offset > 0 && !isOther(c.TopicID, f.TopicID) {
			return c.Era, true
		}
	}
	return 0, false
}

// drop refuses the windows that fn has a refusal for.
func (b *builder) drop(fn func(*picked) *Refusal) {
	b.picked = slices.DeleteFunc(b.picked, func(p picked) bool {
		r := fn(&p)
		if r != nil {
			b.refused = append(b.refused, *r)
		}
		return r != nil
	})
}

// refuseUntilLaid finds the longest run of windows up to the last one that can be counted together: windows that begin
// later ask for less of the log. What begins before the run is refused for the reason that keeps the earliest out.
func (b *builder) refuseUntilLaid() error {
	if len(b.picked) == 0 {
		return refusedError(b.refused)
	}
	laid, why, err := b.lay(b.picked)
	if err != nil {
		return err
	}
	if why == nil {
		b.laid = laid
		return nil
	}
	var starts []int64
	for i := range b.picked {
		starts = append(starts, b.picked[i].ref.Start)
	}
	slices.Sort(starts)
	starts = slices.Compact(starts)
	from := func(start int64) []picked {
		return slices.DeleteFunc(slices.Clone(b.picked), func(p picked) bool { return p.ref.Start < start })
	}
	var failed error
	n := sort.Search(len(starts), func(i int) bool {
		_, why, err := b.lay(from(starts[i]))
		failed = errors.Join(failed, err)
		return why == nil && err == nil
	})
	if failed != nil {
		return failed
	}
	var kept []picked
	if n < len(starts) {
		kept = from(starts[n])
		if b.laid, _, err = b.lay(kept); err != nil {
			return err
		}
	}
	b.drop(func(p *picked) *Refusal {
		if len(kept) > 0 && p.ref.Start >= starts[n] {
			return nil
		}
		return b.refusalOf(p, why)
	})
	if len(b.picked) == 0 {
		return refusedError(b.refused)
	}
	return nil
}

func (b *builder) refusalOf(p *picked, why *unlaid) *Refusal {
	f := why.lane
	if why.reason == ReasonTrimmed {
		return refuseTrimmed(p.id, f, b.earliestWhole(p.ref.Window))
	}
	if why.gap == (stretch{}) {
		return refuse(p.id, why.reason, "no row of lane %s/%d that is left says how it decided at or below the first offset the window may have an event at; use lateness %s",
			f.Topic, f.Partition, None)
	}
	return refuse(p.id, why.reason, "no row that is left says which seals lane %s/%d had adopted between offsets %d and %d; count this window apart from later ones, or use lateness %s",
		f.Topic, f.Partition, why.gap.from, why.gap.to, None)
}

// earliestWhole is the first start of a window of the family whose events cannot lie below what the logs still hold.
func (b *builder) earliestWhole(family int) int64 {
	at := int64(window.NoTime)
	for i := range b.facts {
		if f := &b.facts[i]; f.LogStart > 0 && f.FirstTime != window.NoTime {
			at = max(at, f.FirstTime+1+b.ask.Spec.Event.MaxFuture.Millis())
		}
	}
	if at == window.NoTime {
		return at
	}
	s := Selection{ask: Ask{Spec: b.ask.Spec, From: at}}
	return s.firstStart(family)
}

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
		lane := Lane{Topic: f.Topic, Partition: f.Partition, TopicID: f.TopicID, Start: first[i], End: max(first[i], f.LogEnd), Basis: nothing}
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
		if c.Folded == 0 {
			continue
		}
		if c.FirstOffset < 0 {
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

// windowOf says what a window is compared with, and where its events end.
func (b *builder) windowOf(p *picked, lanes []Lane) Window {
	w := Window{Name: p.id.Window, Start: p.ref.Start, End: p.end, Deadline: b.windows.Deadline(p.ref), Ends: make([]int64, len(lanes))}
	if row := p.row; row != nil {
		w.Base = &Base{
			Edition: row.Edition, Revision: row.Revision, Checksum: row.Checksum, Keys: row.Keys, Events: row.Events, Spec: row.Spec,
		}
	}
	for i := range lanes {
		l := &lanes[i]
		switch c := p.cover(l.Topic, l.Partition); b.ask.Lateness {
		case AsRead:
			w.Ends[i] = min(max(c.Offset, l.Start), l.End)
		default:
			w.Ends[i] = l.End
		}
	}
	return w
}

// SortFacts puts lanes into the order of plans.
func SortFacts(facts []Facts) {
	slices.SortFunc(facts, func(a, b Facts) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
}
