package cli

import (
	"context"
	"slices"

	"millrace/pipeline/merge"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
)

// memoryLanes are lanes that exist in memory alone: what each would have written in its only commit.
type memoryLanes struct {
	lanes   []survey.Lane // by rank
	entries map[sliceOf][]memoryEntry
}

var _ merge.SliceReader = (*memoryLanes)(nil)

// sliceOf names one slice generation of one lane.
type sliceOf struct {
	lane  store.LaneID
	slice store.SliceID
}

// memoryEntry is one entry of a slice.
type memoryEntry struct {
	bucket     int
	key, entry []byte
}

// add copies a lane's commit, whose memory is used again.
func (m *memoryLanes) add(id store.LaneID, calls []store.Call) {
	l := survey.Lane{ID: id, Found: true, Slices: make(map[survey.SliceKey]store.SliceStat)}
	for _, call := range calls {
		for _, w := range call.Writes {
			at := sliceOf{id, w.Slice}
			for i := 0; i+1 < len(w.Fields); i += 2 {
				m.entries[at] = append(m.entries[at], memoryEntry{w.Bucket, []byte(w.Fields[i]), []byte(w.Fields[i+1])})
			}
		}
		if call.Meta != nil {
			l.Meta.Offset = call.Meta.Offset
			for _, s := range call.Meta.Slices {
				l.Slices[survey.SliceKey{Start: s.Start, Gen: s.Gen}] = s
			}
		}
	}
	m.lanes = append(m.lanes, l)
}

func (m *memoryLanes) view() *survey.View { return &survey.View{Lanes: m.lanes} }

func (m *memoryLanes) lane(id store.LaneID) *survey.Lane {
	i := slices.IndexFunc(m.lanes, func(l survey.Lane) bool { return l.ID == id })
	return &m.lanes[i]
}

// ReadSlice implements merge.SliceReader.
func (m *memoryLanes) ReadSlice(_ context.Context, id store.LaneID, _ string, slice store.SliceID, from, to int,
	fn func(bucket int, key, entry []byte) error) (store.Guard, error) {
	for _, e := range m.entries[sliceOf{id, slice}] {
		if e.bucket < from || e.bucket >= to {
			continue
		}
		if err := fn(e.bucket, e.key, e.entry); err != nil {
			return store.Guard{}, err
		}
	}
	return m.lane(id).Meta.Guard(), nil
}

// ReadMeta implements merge.SliceReader.
func (m *memoryLanes) ReadMeta(_ context.Context, id store.LaneID) (store.Meta, bool, error) {
	return m.lane(id).Meta, true, nil
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
