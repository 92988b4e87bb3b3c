package merge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"millrace/pipeline/page"
	"millrace/pipeline/parallel"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
	"millrace/pipeline/window"
)

// opening is a window that is being opened, and where its slices lie.
type opening struct {
	ref    window.Ref
	ranges []window.SliceRange
	span   store.Span
}

// isIn reports whether a lane has folded events into the window.
func (w *opening) isIn(l *survey.Lane) bool {
	_, _, folded := l.Share(w.ranges)
	return folded > 0
}

// OpenTogether opens windows under one view, with about as many calls as one of them takes. As long
// as the pages of the first of them take no more than keep bytes, they are read, too, and stay in
// memory until their window is merged. An error is as of Open, about some of the windows.
func (m *Merger) OpenTogether(ctx context.Context, v *survey.View, refs []window.Ref, keep int64) ([]*Opened, error) {
	windows := make([]opening, len(refs))
	for i, ref := range refs {
		windows[i] = opening{ref, m.plan.SlicesOf(ref), store.Span{After: ref.Start, UpTo: m.plan.End(ref)}}
	}
	found := make([]*share, len(v.Lanes))
	err := parallel.Do(ctx, m.cfg.Parallel, len(v.Lanes), func(ctx context.Context, i int) (err error) {
		l := &v.Lanes[i]
		if !l.Found || l.Meta.Done == store.NoCommit {
			return nil
		}
		var within []opening
		for k := range windows {
			if windows[k].isIn(l) {
				within = append(within, windows[k])
			}
		}
		if len(within) > 0 {
			found[i], err = m.indexShare(ctx, l, within)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	opened := make([]*Opened, len(windows))
	for i := range windows {
		opened[i] = m.assign(v, &windows[i], found)
	}
	return opened, m.keepPages(ctx, len(v.Lanes), opened, keep)
}

// share is what a lane has of the windows that are opened, at one instant.
type share struct {
	meta   store.Meta
	slices map[store.SliceID]*store.SliceIndex
}

// assign gives a window its part of what the lanes have of all that are opened.
func (m *Merger) assign(v *survey.View, w *opening, found []*share) *Opened {
	fresh := *v
	fresh.Lanes = slices.Clone(v.Lanes)
	for i, x := range found {
		l := &fresh.Lanes[i]
		if x == nil || !w.isIn(l) {
			continue
		}
		l.Meta, l.Slices = x.meta, make(map[survey.SliceKey]store.SliceStat)
		for id, s := range x.slices {
			if s.Folded > 0 && w.span.Holds(id) {
				l.Slices[survey.SliceKey{Start: s.Start, Gen: s.Gen}] = s.SliceStat
			}
		}
	}
	o := &Opened{View: &fresh, merger: m, ref: w.ref, parts: m.partsOf(&fresh, w.ref)}
	for i := range o.parts {
		p := &o.parts[i]
		if found[p.lane] == nil {
			continue
		}
		if x := found[p.lane].slices[p.slice]; x != nil {
			p.paged, p.pages, p.beneath = true, x.Pages, !x.Paged
		}
	}
	return o
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

// indexShare reads the index of a lane's slices in windows.
func (m *Merger) indexShare(ctx context.Context, l *survey.Lane, windows []opening) (*share, error) {
	var spans store.Spans
	var known []store.SliceStat
	for i := range windows {
		w := &windows[i]
		spans = append(spans, w.span)
		known = append(known, m.knownIn(l, w.ranges, w.span)...)
	}
	x, err := m.cfg.Reader.Index(ctx, l.ID, m.stateID, spans, known)
	switch {
	case errors.Is(err, store.ErrLaneMoved), errors.Is(err, store.ErrNoMeta):
		return nil, fmt.Errorf("lane %s: %w: %w", l.ID, ErrMoved, err)
	case err != nil:
		return nil, fmt.Errorf("lane %s: %w", l.ID, err)
	case !x.Meta.Guard().Follows(l.Meta.Guard()), x.Meta.Era != l.Meta.Era, x.Meta.TopicID != l.Meta.TopicID,
		x.Meta.Done == store.NoCommit:
		return nil, fmt.Errorf("lane %s: %w", l.ID, ErrMoved)
	}
	found := &share{meta: x.Meta, slices: make(map[store.SliceID]*store.SliceIndex, len(x.Slices))}
	for i := range x.Slices {
		found.slices[x.Slices[i].SliceID] = &x.Slices[i]
	}
	for _, s := range known {
		now := int64(0)
		if x := found.slices[s.SliceID]; x != nil {
			now = x.Folded
		}
		if now < s.Folded { // dropped, or lost: the next view says which
			return nil, fmt.Errorf("lane %s: slice %s: %w", l.ID, s.SliceID, ErrMoved)
		}
	}
	return found, nil
}

// keepPages reads the pages of the first windows that take no more than limit bytes together, with
// one call for each lane. What is merged by way of the cache is left out: it may be there.
func (m *Merger) keepPages(ctx context.Context, lanes int, opened []*Opened, limit int64) error {
	byLane := make([]keeping, lanes)
	for _, o := range opened {
		if limit -= o.Bytes(); limit < 0 {
			break
		}
		if !o.ByHash() || m.cfg.Cache != nil && m.panes[o.ref.Window] != 0 {
			continue
		}
		o.kept = make(map[keptPage]*page.Page)
		for i := range o.parts {
			p := &o.parts[i]
			k := &byLane[p.lane]
			for _, stored := range p.pages {
				k.pages = append(k.pages, store.SlicePage{Slice: p.slice, StoredPage: stored})
				k.uses = append(k.uses, keptUse{o, keptPage{i, stored.Name}})
			}
		}
	}
	var mu sync.Mutex // guards the pages of the windows
	return parallel.Do(ctx, m.cfg.ReadAhead, len(byLane), func(ctx context.Context, lane int) error {
		k := &byLane[lane]
		if len(k.pages) == 0 {
			return nil
		}
		return m.readPages(ctx, &k.uses[0].opened.View.Lanes[lane], k.pages, func(i int, p *page.Page) error {
			mu.Lock()
			defer mu.Unlock()
			k.uses[i].opened.kept[k.uses[i].page] = p
			return nil
		})
	})
}

// keeping is the pages of a lane that are read for several windows, and what each is for.
type keeping struct {
	pages []store.SlicePage
	uses  []keptUse
}

type keptUse struct {
	opened *Opened
	page   keptPage
}
