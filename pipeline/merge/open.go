package merge

import (
	"context"

	"millrace/pipeline/page"
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
	kept   map[keptPage]*page.Page // read before they are merged, by OpenTogether or ChangedHashes, or nodes
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
	all, err := m.OpenTogether(ctx, v, []window.Ref{ref}, 0)
	if err != nil {
		return nil, err
	}
	return all[0], nil
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
