package agg

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMergedEntriesOfOtherTimesMergeOnce spreads events over lanes and windows of one second, merges the lanes of every
// window, and then the windows, in any order and over any number of levels: values are those of all events at once, and
// bytes do not depend on the order.
func TestMergedEntriesOfOtherTimesMergeOnce(t *testing.T) {
	l, err := NewLayout(allSpec())
	require.NoError(t, err)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		windows := map[int64][]*Table{} // by second and lane
		byKey := map[string][]*occurrence{}
		offsets := make([]int64, 1+r.IntN(4))
		for range 50 + r.IntN(1500) {
			e := &occurrence{Event: randomEvent(r), lane: int32(r.IntN(len(offsets)))}
			e.offset = offsets[e.lane]
			offsets[e.lane]++
			byKey[string(e.Key)] = append(byKey[string(e.Key)], e)
			second := (e.Time + 100e9) / 1e9
			if windows[second] == nil {
				windows[second] = make([]*Table, len(offsets))
				for lane := range offsets {
					windows[second][lane] = l.NewTable()
				}
			}
			table := windows[second][e.lane]
			table.Add(table.Row(e.Key), &e.Event, e.offset)
		}
		var states []map[string][]byte
		for _, lanes := range windows {
			merged := l.NewTable()
			for rank, lane := range lanes {
				for row := range uint32(lane.Len()) {
					require.NoError(t, merged.MergeEntry(lane.Key(row), lane.AppendEntry(nil, row, 1000), int32(rank)))
				}
			}
			states = append(states, mergedEntries(merged))
		}
		once := mergeStates(t, l, states)
		for key, entry := range mergedEntries(once) {
			_, stamp, count, err := EntryHeader(entry)
			require.NoError(t, err)
			require.Zero(t, stamp)
			require.EqualValues(t, len(byKey[key]), count)
		}
		require.Equal(t, len(byKey), once.Len())
		for row := range uint32(once.Len()) {
			require.Equal(t, naive(t, byKey[string(once.Key(row))]), string(once.AppendValues(nil, row)), "seed %d", seed)
		}

		r.Shuffle(len(states), func(i, j int) { states[i], states[j] = states[j], states[i] })
		var coarser []map[string][]byte
		for chunk := range slices.Chunk(states, 3) {
			coarser = append(coarser, mergedEntries(mergeStates(t, l, chunk)))
		}
		require.Equal(t, mergedEntries(once), mergedEntries(mergeStates(t, l, coarser)), "seed %d", seed)
	}
}

func mergeStates(t *testing.T, l *Layout, states []map[string][]byte) *Table {
	t.Helper()
	table := l.NewTable()
	for _, entries := range states {
		for key, entry := range entries {
			require.NoError(t, table.MergeEntry([]byte(key), entry, 0))
		}
	}
	return table
}

func mergedEntries(t *Table) map[string][]byte {
	entries := make(map[string][]byte, t.Len())
	for row := range uint32(t.Len()) {
		entries[string(t.Key(row))] = t.AppendMerged(nil, row)
	}
	return entries
}
