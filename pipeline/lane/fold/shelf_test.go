package fold

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/page"
	"millrace/pipeline/store"
)

// shelf holds in memory what Redis would hold of one lane that has applied every call of its commits.
type shelf struct {
	t      testing.TB
	meta   store.Meta
	slices map[store.SliceID]*shelved
}

// shelved is one slice generation on a shelf.
type shelved struct {
	stat   store.SliceStat
	fields map[string]string // key → entry
	pages  map[string]string // name → value
}

func newShelf(t testing.TB) *shelf {
	return &shelf{t: t, meta: store.Meta{Done: store.NoCommit}, slices: map[store.SliceID]*shelved{}}
}

func (h *shelf) slice(id store.SliceID) *shelved {
	sl := h.slices[id]
	if sl == nil {
		sl = &shelved{fields: map[string]string{}, pages: map[string]string{}}
		h.slices[id] = sl
	}
	return sl
}

// clone returns what the shelf holds now.
func (h *shelf) clone() *shelf {
	other := &shelf{t: h.t, meta: h.meta, slices: map[store.SliceID]*shelved{}}
	for id, sl := range h.slices {
		other.slices[id] = &shelved{stat: sl.stat, fields: maps.Clone(sl.fields), pages: maps.Clone(sl.pages)}
	}
	return other
}

// put applies a commit, which may be used again afterwards.
func (h *shelf) put(c *Commit) {
	for i := range c.Calls {
		call := &c.Calls[i]
		for _, w := range call.Writes {
			for f := 0; f < len(w.Fields); f += 2 {
				h.slice(w.Slice).fields[strings.Clone(w.Fields[f])] = strings.Clone(w.Fields[f+1])
			}
		}
		for _, d := range call.Drop {
			delete(h.slices, d.SliceID)
		}
		for _, id := range call.Purge {
			delete(h.slices, id)
		}
		for _, d := range call.Delete {
			for _, name := range d.Names {
				delete(h.slice(d.Slice).pages, name)
			}
		}
		for _, id := range call.Unfield {
			clear(h.slice(id).fields)
		}
		for _, w := range call.Pages {
			h.slice(w.Slice).pages[w.Name] = strings.Clone(w.Value)
		}
		if h.meta.Cursor = call.Next; call.Meta != nil {
			h.putMeta(call)
		}
	}
}

func (h *shelf) putMeta(call *store.Call) {
	m := call.Meta
	if call.Format == store.PageFormat {
		h.meta.Done = call.Next.Seq
	}
	h.meta.TopicID, h.meta.Offset, h.meta.Watermark, h.meta.Sealed = m.TopicID, m.Offset, m.Watermark, m.Sealed
	h.meta.IdleEnd, h.meta.Counters, h.meta.Balance = m.IdleEnd, m.Counters, m.Balance
	h.meta.Era, h.meta.Seals, h.meta.Decided = m.Era, slices.Clone(m.Seals), m.Decided
	h.meta.Jumps, h.meta.Accepted, h.meta.Begun = m.Jumps, slices.Clone(m.Accepted), m.Begun
	for _, stat := range m.Slices {
		h.slice(stat.SliceID).stat = stat
	}
}

// index is what an index of the lane would say.
func (h *shelf) index() store.LaneIndex {
	x := store.LaneIndex{Meta: h.meta}
	for _, sl := range h.slices {
		found := store.SliceIndex{SliceStat: sl.stat}
		for text := range sl.pages {
			name, err := page.ParseName(text)
			require.NoError(h.t, err)
			found.Pages = append(found.Pages, store.StoredPage{Name: name})
		}
		slices.SortFunc(found.Pages, func(p, q store.StoredPage) int {
			return cmp.Or(cmp.Compare(q.Seq, p.Seq), cmp.Compare(q.Chunk, p.Chunk), cmp.Compare(p.First, q.First))
		})
		x.Slices = append(x.Slices, found)
	}
	slices.SortFunc(x.Slices, func(p, q store.SliceIndex) int {
		return cmp.Or(cmp.Compare(p.End(), q.End()), cmp.Compare(p.Gen, q.Gen))
	})
	return x
}

// load restores the lane.
func (h *shelf) load(p *Program) (*State, Restored, error) { return h.loadWith(p, true) }

// loadAwake restores the lane without letting any slice rest.
func (h *shelf) loadAwake(p *Program) (*State, Restored, error) { return h.loadWith(p, false) }

func (h *shelf) loadWith(p *Program, mayRest bool) (*State, Restored, error) {
	l, err := NewLoader(p, testLane, h.index())
	if err != nil {
		return nil, Restored{}, err
	}
	for i := range l.loads {
		l.loads[i].rests = l.loads[i].rests && mayRest
	}
	for i, x := range l.Slices() {
		sl := h.slices[x.SliceID]
		for _, stored := range x.Pages {
			got, err := page.Parse(stored.Name, p.StateID, []byte(sl.pages[stored.String()]))
			if err == nil {
				err = l.AddPage(i, got)
			}
			if err != nil {
				return nil, Restored{}, err
			}
		}
		if x.Paged {
			continue // what fields hold is out of date
		}
		for _, key := range slices.Sorted(maps.Keys(sl.fields)) {
			add := l.Add
			if h.meta.Done != store.NoCommit {
				add = l.AddBeneath
			}
			if err := add(i, []byte(key), []byte(sl.fields[key])); err != nil {
				return nil, Restored{}, err
			}
		}
	}
	return l.Done()
}
