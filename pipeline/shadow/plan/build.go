package plan

import (
	"cmp"
	"errors"
	"slices"
	"sort"

	"millrace/pipeline/window"
)

// OffsetsOf answers, for every lane of the facts in their order, the offset of the first record whose timestamp is not
// before at (ms). A lane without such a record answers its end, as of before the question.
type OffsetsOf func(at int64) ([]int64, error)

// maxEnds bounds the ends of windows in lanes that a plan names: it is one value in Redis.
const maxEnds = 1 << 20

// Build lays out what the lanes read. Windows that cannot be counted are left out and named in the plan; a *RefusedError is
// what is returned when none is left.
func (s *Selection) Build(facts []Facts, offsets OffsetsOf) (*Plan, error) {
	if n := len(s.picked) * len(facts); n > maxEnds {
		return nil, refuseAll(ReasonRange, "%d windows of %d lanes are more than one replay counts; choose a shorter range or one window family",
			len(s.picked), len(facts))
	}
	b := &builder{
		Selection: s, facts: facts, offsets: offsets, same: s.ask.Spec.StateID() == s.ask.Live.StateID(),
		known: make(map[lanePast]*laneHistory),
	}
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
				return refuse(p.id, ReasonOtherTopic, "topic %s was deleted and made again since (its id was %s and is %s)",
					f.Topic, c.TopicID, f.TopicID)
			case b.ask.Lateness == None:
				return nil
			case known && c.Era != era:
				return refuse(p.id, ReasonEra, "an operator's decision gave lane %s/%d another past within the range; "+
					"count what lies before it and what lies after it apart", f.Topic, f.Partition)
			case c.FirstOffset >= 0 && c.FirstOffset < f.LogStart:
				return refuseTrimmed(p.id, f, b.earliestWhole(p.ref.Window))
			case c.Offset > f.LogEnd:
				return refuse(p.id, ReasonTruncated, "its row covers %s/%d up to offset %d, and the log ends at %d",
					f.Topic, f.Partition, c.Offset, f.LogEnd)
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
		return refuse(p.id, why.reason, "no row of lane %s/%d that is left says how it decided at or below the first offset the window "+
			"may have an event at; use lateness %s", f.Topic, f.Partition, None)
	}
	return refuse(p.id, why.reason, "no row that is left says which seals lane %s/%d had adopted between offsets %d and %d; "+
		"count this window apart from later ones, or use lateness %s", f.Topic, f.Partition, why.gap.from, why.gap.to, None)
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

// windowOf says what a window is compared with, and where its events end.
func (b *builder) windowOf(p *picked, lanes []Lane) Window {
	w := Window{
		Name: p.id.Window, Start: p.ref.Start, End: p.end, Deadline: b.windows.Deadline(p.ref),
		Ends: make([]int64, len(lanes)), Covered: make([]int64, len(lanes)),
	}
	if row := p.row; row != nil {
		w.Base = &Base{
			Edition: row.Edition, Revision: row.Revision, Checksum: row.Checksum, Keys: row.Keys, Events: row.Events, Spec: row.Spec,
		}
	}
	for i := range lanes {
		l := &lanes[i]
		c := p.cover(l.Topic, l.Partition)
		w.Covered[i], w.Ends[i] = max(c.Offset, 0), l.End
		if b.ask.Lateness == AsRead {
			w.Ends[i] = min(max(c.Offset, l.Start), l.End)
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
