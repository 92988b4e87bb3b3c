package merge

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"millrace/pipeline/page"
	"millrace/pipeline/parallel"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
	"millrace/pipeline/window"
)

// Opened is a window that is ready to be merged. What the lanes hold of it in pages is fixed: their
// content as of the metas in View. It belongs to one goroutine.
type Opened struct {
	// View is the view that the window was opened under, with the lanes that keep a share of the
	// window as they were when it was opened. Of their slices it has those that lie in the window.
	View *survey.View

	merger *Merger
	ref    window.Ref
	parts  []part
	kept   map[keptPage]*page.Page // read by ChangedHashes, or nodes, until they are merged
	asNode bool                    // rows are to be entries: the key as lanes have it, and the state
}

// part is one lane's share of one slice generation of a window, or a node in the place of several.
type part struct {
	lane    int // rank
	slice   store.SliceID
	folded  int64
	paged   bool // the lane keeps pages
	pages   []store.StoredPage
	beneath bool // fields lie beneath the pages
	node    *node
}

// ByHash reports whether all of the window is kept in pages: rows come in ascending order of hash
// and key then.
func (o *Opened) ByHash() bool {
	for i := range o.parts {
		if p := &o.parts[i]; !p.paged || p.beneath {
			return false
		}
	}
	return true
}

// Bytes is what the pages of the window take in Redis; fields count as 0.
func (o *Opened) Bytes() (n int64) {
	for i := range o.parts {
		for k := range o.parts[i].pages {
			n += int64(o.parts[i].pages[k].Bytes)
		}
	}
	return n
}

// Events is what the lanes have folded into the window, as opened.
func (o *Opened) Events() (n int64) {
	for i := range o.parts {
		n += o.parts[i].folded
	}
	return n
}

// lanes lists the lanes that have a share of the window.
func (o *Opened) lanes() []*survey.Lane {
	seen := make([]bool, len(o.View.Lanes))
	var lanes []*survey.Lane
	for i := range o.parts {
		if n := o.parts[i].lane; !seen[n] {
			seen[n] = true
			lanes = append(lanes, &o.View.Lanes[n])
		}
	}
	return lanes
}

// Open reads which pages hold a window. Lanes whose state is in fields are read as they are found.
// ErrMoved means that a lane changed since the view was taken.
func (m *Merger) Open(ctx context.Context, v *survey.View, ref window.Ref) (*Opened, error) {
	ranges := m.plan.SlicesOf(ref)
	fresh := *v
	fresh.Lanes = slices.Clone(v.Lanes)
	found := make([]store.LaneIndex, len(v.Lanes))
	span := store.Span{After: ref.Start, UpTo: m.plan.End(ref)}
	err := parallel.Do(ctx, m.cfg.Parallel, len(v.Lanes), func(ctx context.Context, i int) (err error) {
		l := &fresh.Lanes[i]
		if !l.Found || l.Meta.Done == store.NoCommit {
			return nil
		}
		if _, _, folded := l.Share(ranges); folded == 0 {
			return nil
		}
		found[i], err = m.indexShare(ctx, l, ranges, span)
		return err
	})
	if err != nil {
		return nil, err
	}
	o := &Opened{View: &fresh, merger: m, ref: ref, parts: m.partsOf(&fresh, ref)}
	indexed := make([]map[store.SliceID]*store.SliceIndex, len(found))
	for lane := range found {
		indexed[lane] = make(map[store.SliceID]*store.SliceIndex, len(found[lane].Slices))
		for k := range found[lane].Slices {
			x := &found[lane].Slices[k]
			indexed[lane][x.SliceID] = x
		}
	}
	for i := range o.parts {
		p := &o.parts[i]
		if x := indexed[p.lane][p.slice]; x != nil {
			p.paged, p.pages, p.beneath = true, x.Pages, !x.Paged
		}
	}
	return o, nil
}

// partsOf lists what a window merges, in the order of the merge: by slice, generation, topic and
// partition.
func (m *Merger) partsOf(v *survey.View, ref window.Ref) []part {
	var parts []part
	for _, r := range m.plan.SlicesOf(ref) {
		for gen := 0; gen <= r.MaxGen; gen++ {
			for i := range v.Lanes {
				if s, ok := v.Lanes[i].Slices[survey.SliceKey{Start: r.Start, Gen: gen}]; ok {
					parts = append(parts, part{lane: i, slice: s.SliceID, folded: s.Folded})
				}
			}
		}
	}
	return parts
}

// knownIn lists the slices that a view has of a lane in the span of a window, whose slices begin
// where ranges say.
func (m *Merger) knownIn(l *survey.Lane, ranges []window.SliceRange, span store.Span) (known []store.SliceStat) {
	most := 0
	for _, r := range ranges {
		most += m.plan.Generations(r.Start)
	}
	if most > len(l.Slices) {
		for _, s := range l.Slices {
			if span.Holds(s.SliceID) {
				known = append(known, s)
			}
		}
		return known
	}
	// A lane has the slices of thousands of small windows, and one of them has few.
	for _, r := range ranges {
		for gen := range m.plan.Generations(r.Start) {
			if s, ok := l.Slices[survey.SliceKey{Start: r.Start, Gen: gen}]; ok && span.Holds(s.SliceID) {
				known = append(known, s)
			}
		}
	}
	return known
}

// indexShare reads the index of a lane's slices in span, and makes l what the lane was then, with these slices alone.
func (m *Merger) indexShare(ctx context.Context, l *survey.Lane, ranges []window.SliceRange, span store.Span) (store.LaneIndex, error) {
	known := m.knownIn(l, ranges, span)
	x, err := m.cfg.Reader.Index(ctx, l.ID, m.stateID, span, known)
	switch {
	case errors.Is(err, store.ErrLaneMoved), errors.Is(err, store.ErrNoMeta):
		return x, fmt.Errorf("lane %s: %w: %w", l.ID, ErrMoved, err)
	case err != nil:
		return x, fmt.Errorf("lane %s: %w", l.ID, err)
	case !x.Meta.Guard().Follows(l.Meta.Guard()), x.Meta.Era != l.Meta.Era, x.Meta.TopicID != l.Meta.TopicID,
		x.Meta.Done == store.NoCommit:
		return x, fmt.Errorf("lane %s: %w", l.ID, ErrMoved)
	}
	held := make(map[survey.SliceKey]store.SliceStat, len(x.Slices))
	for i := range x.Slices {
		if s := &x.Slices[i]; s.Folded > 0 {
			held[survey.SliceKey{Start: s.Start, Gen: s.Gen}] = s.SliceStat
		}
	}
	for _, s := range known {
		if held[survey.SliceKey{Start: s.Start, Gen: s.Gen}].Folded < s.Folded { // dropped, or lost: the next view says which
			return x, fmt.Errorf("lane %s: slice %s: %w", l.ID, s.SliceID, ErrMoved)
		}
	}
	l.Meta, l.Slices = x.Meta, held
	return x, nil
}
