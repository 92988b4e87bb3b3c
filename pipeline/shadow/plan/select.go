package plan

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/pipeline/window"
)

// MaxWindows is how many windows one plan counts at the most.
const MaxWindows = 20_000

// Selection is which windows of a range can be counted again as far as the ledger knows.
type Selection struct {
	ask     Ask
	book    *Book
	windows *window.Plan // of ask.Spec
	picked  []picked     // by deadline, family and start
	refused []Refusal
}

// picked is a window that may be counted.
type picked struct {
	ref   window.Ref
	id    ledger.WindowID
	end   int64
	row   *ledger.Row   // nil: it was never published
	floor *ledger.Floor // set when row is nil: what says that the window is final
}

// cover is what was read of a lane for the window. A lane that is not there contributed nothing.
func (p *picked) cover(topic string, partition int32) ledger.Cover {
	if p.row != nil {
		if c, ok := p.row.Cover(topic, partition); ok {
			return c
		}
	} else if l, ok := p.floor.Lane(topic, partition); ok {
		return ledger.Cover{Topic: topic, Partition: partition, Offset: l.Offset, TopicID: l.TopicID, Era: l.Era, FirstOffset: -1, LastOffset: -1}
	}
	return ledger.Cover{Topic: topic, Partition: partition, FirstOffset: -1, LastOffset: -1}
}

// Select finds the windows. It is a *RefusedError when none is left.
func Select(ask Ask, book *Book) (*Selection, error) {
	if !ask.Lateness.Valid() {
		return nil, fmt.Errorf("lateness %q is unknown; want %s, %s or %s", ask.Lateness, AsRead, None, FromLate)
	}
	if a, b := topicsOf(ask.Live), topicsOf(ask.Spec); a != b {
		return nil, refuseAll(ReasonOtherTopics, "the spec that counts reads %s and the pipeline reads %s; give both the same topics", b, a)
	}
	if ask.Lateness == FromLate && ask.Live.Late.Kafka == nil {
		return nil, refuseAll(ReasonNoLate, "the spec of %s names no late topic, so late events cannot be counted from one; "+
			"use lateness %s, which counts whatever arrived", ask.Pipeline, None)
	}
	windows, err := window.NewPlan(ask.Spec)
	if err != nil {
		return nil, err
	}
	s := &Selection{ask: ask, book: book, windows: windows}
	if err := s.pick(); err != nil {
		return nil, err
	}
	return s, nil
}

func topicsOf(s *spec.Spec) string {
	return strings.Join(slices.Sorted(slices.Values(s.Source.Topics)), ", ")
}

// pick goes through all windows of the range.
func (s *Selection) pick() error {
	families, err := s.families()
	if err != nil {
		return err
	}
	total := int64(0)
	for _, i := range families {
		total += s.countIn(i)
	}
	if total > MaxWindows {
		return refuseAll(ReasonRange, "%d windows lie between %s and %s, and one replay counts %d at the most; "+
			"choose a shorter range or one window family",
			total, window.FormatTime(s.ask.From), window.FormatTime(s.ask.To), MaxWindows)
	}
	for _, i := range families {
		for _, ref := range s.refsIn(i) {
			if p, r := s.judge(ref); r != nil {
				s.refused = append(s.refused, *r)
			} else {
				s.picked = append(s.picked, p)
			}
		}
	}
	switch {
	case len(s.picked) > 0:
	case len(s.refused) > 0:
		return refusedError(s.refused)
	default:
		return refuseAll(ReasonRange, "no window begins and ends between %s and %s", window.FormatTime(s.ask.From), window.FormatTime(s.ask.To))
	}
	slices.SortFunc(s.picked, func(a, b picked) int {
		return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.ref.Window, b.ref.Window))
	})
	return nil
}

// families lists the indexes of the window families asked for.
func (s *Selection) families() ([]int, error) {
	var out []int
	for i, w := range s.ask.Spec.Windows {
		if len(s.ask.Families) == 0 || slices.Contains(s.ask.Families, w.Name) {
			out = append(out, i)
		}
	}
	for _, name := range s.ask.Families {
		if s.ask.Spec.Window(name) == nil {
			return nil, s.refuseFamily(name)
		}
	}
	return out, nil
}

// refuseFamily says why a name cannot be counted again: no record of the source is folded into a roll-up.
func (s *Selection) refuseFamily(name string) error {
	if r := s.ask.Spec.Rollup(name); r != nil {
		return refuseAll(ReasonRange, "%s is a roll-up, made of the windows %s and not of what Kafka holds: replay %s; "+
			"`millrace compact run %s` then rolls up again what was corrected", name, r.From, s.ask.Spec.FoldedInto(name), s.ask.Pipeline)
	}
	return refuseAll(ReasonRange, "the spec has no window %q; it has %s", name, strings.Join(s.ask.Spec.Families(), ", "))
}

// countIn is how many windows of a family lie in the range.
func (s *Selection) countIn(family int) int64 {
	first := s.firstStart(family)
	w := s.ask.Spec.Windows[family]
	if last := s.ask.To - w.Size.Millis(); last >= first {
		return (last-first)/w.Slide.Millis() + 1
	}
	return 0
}

// firstStart is the first start of a window of the family that is not before the range.
func (s *Selection) firstStart(family int) int64 {
	w := s.ask.Spec.Windows[family]
	slide, offset := w.Slide.Millis(), w.Offset.Millis()
	behind := (s.ask.From - offset) % slide
	if behind < 0 {
		behind += slide
	}
	if behind == 0 {
		return s.ask.From
	}
	return s.ask.From + slide - behind
}

func (s *Selection) refsIn(family int) []window.Ref {
	refs := make([]window.Ref, 0, s.countIn(family))
	for start, n := s.firstStart(family), s.countIn(family); n > 0; n-- {
		refs = append(refs, window.Ref{Window: family, Start: start})
		start += s.ask.Spec.Windows[family].Slide.Millis()
	}
	return refs
}

// judge finds out whether the ledger lets a window be counted again.
func (s *Selection) judge(ref window.Ref) (picked, *Refusal) {
	id := ledger.WindowID{Window: s.ask.Spec.Windows[ref.Window].Name, Start: ref.Start}
	p := picked{ref: ref, id: id, end: s.windows.End(ref)}
	row := s.book.Rows[id]
	if row == nil || row.Edition != s.book.Edition {
		return s.judgeUnpublished(p)
	}
	p.row = row
	switch {
	case row.End != p.end:
		return p, refuse(id, ReasonRange, "it was published up to %s, and the spec that counts lets it end at %s",
			window.FormatTime(row.End), window.FormatTime(p.end))
	case !row.Final:
		return p, refuse(id, ReasonNotFinal, "lanes may still revise it (revision %d is not final); wait until it is", row.Revision)
	case !row.Exact:
		return p, refuse(id, ReasonNotExact, "revision %d does not say exactly which events it holds", row.Revision)
	case s.ask.Recount && isCorrectedOtherwise(row, s.ask.Live):
		return p, refuse(id, ReasonCorrected, "revision %d was published by replay %s, with lateness %s and version %s of the spec, which a "+
			"recount does not count", row.Revision, row.Replay.ID, row.Replay.Lateness, row.Spec)
	case row.Version < 2 && s.ask.Lateness != None:
		return p, refuse(id, ReasonVersion, "its row was written by a version that kept no anchors; use lateness %s", None)
	}
	return p, nil
}

// isCorrectedOtherwise reports whether a replay has published the row in another way than the pipeline's lanes would have.
func isCorrectedOtherwise(row *ledger.Row, live *spec.Spec) bool {
	return row.Replay != nil && (row.Replay.Lateness != ledger.LatenessAsRead || row.Spec != live.Version())
}

// judgeUnpublished decides about a window without a row: it is final and empty if it lies at or below its floor, unless its
// row may have been given up.
func (s *Selection) judgeUnpublished(p picked) (picked, *Refusal) {
	if s.book.Tombstones[p.id] {
		return p, refuse(p.id, ReasonTombstoned, "its row was given up, because retention.ledger is over "+
			"or a start has discarded the state that it was made of")
	}
	if p.floor = s.book.floorOf(p.id, p.end); p.floor == nil {
		return p, refuse(p.id, ReasonNotFinal, "it is not final: it has no row, and the floor of %s is not past it yet: %s",
			p.id.Window, ledger.FloorRises)
	}
	if p.end < s.book.oldestEnd() {
		return p, refuse(p.id, ReasonTombstoned, "it has no row, and no row of an earlier window is left that would show that it never had one")
	}
	return p, nil
}

// oldestEnd is the end of the oldest window whose row was not written again later: rows go in the order in which windows
// became final, so those behind it are all there that ever were.
func (b *Book) oldestEnd() int64 {
	oldest := int64(math.MaxInt64)
	for _, row := range b.Rows {
		if row.Edition == b.Edition && row.Final && row.ByLanes() {
			oldest = min(oldest, row.End)
		}
	}
	return oldest
}
