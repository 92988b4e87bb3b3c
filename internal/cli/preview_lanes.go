package cli

import (
	"context"
	"slices"

	"millrace/pipeline/merge"
	"millrace/pipeline/page"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
)

// memoryLanes are lanes that exist in memory alone: what each would have written in its only commit.
type memoryLanes struct {
	lanes  []survey.Lane // by rank
	slices map[store.LaneID][]store.SliceIndex
	pages  map[memoryPage][]byte
}

var _ merge.SliceReader = (*memoryLanes)(nil)

// memoryPage names a page of one slice generation of one lane.
type memoryPage struct {
	lane  store.LaneID
	slice store.SliceID
	name  string
}

func newMemoryLanes() *memoryLanes {
	return &memoryLanes{slices: make(map[store.LaneID][]store.SliceIndex), pages: make(map[memoryPage][]byte)}
}

// add copies a lane's commit, whose memory is used again.
func (m *memoryLanes) add(id store.LaneID, calls []store.Call) error {
	l := survey.Lane{ID: id, Found: true, Slices: make(map[survey.SliceKey]store.SliceStat)}
	written := make(map[store.SliceID][]store.StoredPage)
	for _, call := range calls {
		for _, p := range call.Pages {
			name, err := page.ParseName(p.Name)
			if err != nil {
				return err
			}
			written[p.Slice] = append(written[p.Slice], store.StoredPage{Name: name, Hash: p.Hash})
			m.pages[memoryPage{id, p.Slice, p.Name}] = []byte(p.Value)
		}
		if call.Meta != nil {
			l.Meta.Offset, l.Meta.Done = call.Meta.Offset, call.Next.Seq
			for _, s := range call.Meta.Slices {
				l.Slices[survey.SliceKey{Start: s.Start, Gen: s.Gen}] = s
				m.slices[id] = append(m.slices[id], store.SliceIndex{SliceStat: s, Pages: written[s.SliceID]})
			}
		}
	}
	m.lanes = append(m.lanes, l)
	return nil
}

func (m *memoryLanes) view() *survey.View { return &survey.View{Lanes: m.lanes} }

func (m *memoryLanes) lane(id store.LaneID) *survey.Lane {
	i := slices.IndexFunc(m.lanes, func(l survey.Lane) bool { return l.ID == id })
	return &m.lanes[i]
}

// ReadSlice implements merge.SliceReader: no lane has fields.
func (m *memoryLanes) ReadSlice(_ context.Context, id store.LaneID, _ string, _ store.SliceID, _, _ int,
	_ func(bucket int, key, entry []byte) error) (store.Guard, error) {
	return m.lane(id).Meta.Guard(), nil
}

// Index implements merge.SliceReader.
func (m *memoryLanes) Index(_ context.Context, id store.LaneID, _ string, spans store.Spans, _ []store.SliceStat) (store.LaneIndex, error) {
	x := store.LaneIndex{Meta: m.lane(id).Meta}
	for _, slice := range m.slices[id] {
		if spans.Holds(slice.SliceID) {
			x.Slices = append(x.Slices, slice)
		}
	}
	return x, nil
}

// ReadPages implements merge.SliceReader.
func (m *memoryLanes) ReadPages(_ context.Context, id store.LaneID, stateID string, pages []store.SlicePage,
	fn func(i int, p *page.Page) error) (store.Guard, error) {
	for i, wanted := range pages {
		p, err := page.Parse(wanted.Name, stateID, m.pages[memoryPage{id, wanted.Slice, wanted.String()}])
		if err == nil {
			err = fn(i, p)
		}
		if err != nil {
			return store.Guard{}, err
		}
	}
	return m.lane(id).Meta.Guard(), nil
}

// ReadGuards implements merge.SliceReader.
func (m *memoryLanes) ReadGuards(_ context.Context, ids ...store.LaneID) ([]store.Guard, error) {
	guards := make([]store.Guard, len(ids))
	for i, id := range ids {
		guards[i] = m.lane(id).Meta.Guard()
	}
	return guards, nil
}

// LaneView implements merge.SliceReader.
func (m *memoryLanes) LaneView(_ context.Context, id store.LaneID, _ string) (store.Meta, []store.SliceStat, error) {
	l := m.lane(id)
	stats := make([]store.SliceStat, 0, len(l.Slices))
	for _, s := range l.Slices {
		stats = append(stats, s)
	}
	return l.Meta, stats, nil
}
