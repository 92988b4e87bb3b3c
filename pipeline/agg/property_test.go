package agg

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/event"
)

func randomValue(r *rand.Rand) event.Value {
	switch r.IntN(8) {
	case 0:
		return event.Value{}
	case 1:
		return integer(r.Int64() - r.Int64())
	case 2:
		return event.Value{Kind: event.Bool, Int: r.Int64N(2)}
	case 3:
		return float(float64(r.IntN(1000)) / 7)
	case 4:
		return event.Value{Kind: event.Int, Big: true, Float: 1e19, Str: []byte("1000000000000000000" + fmt.Sprint(r.IntN(9)))}
	}
	return text(strings.Repeat("é\"", r.IntN(20)) + fmt.Sprint(r.IntN(1000)))
}

func randomEvent(r *rand.Rand) event.Event {
	ev := event.Event{
		Time:   (r.Int64N(20) - 10) * []int64{1, 1e3, 1e9, 5e9}[r.IntN(4)],
		Key:    fmt.Appendf(nil, "key-%d-%s", r.IntN(40), strings.Repeat("k", 20)[:r.IntN(2)*20]),
		Values: []event.Value{integer(r.Int64N(1<<62) - 1<<61), float(float64(r.Int64N(1<<40)-1<<39) / 4), randomValue(r)},
	}
	for i := range ev.Values {
		if r.IntN(10) == 0 {
			ev.Values[i] = event.Value{}
		}
	}
	return ev
}

// stored is what a store holds of a lane: entries, and the offset up to which all of them are complete.
type stored struct {
	entries map[string][]byte
	offset  int64
}

// runLane folds a lane's events with random commits, commits cut short, and crashes, each followed by a restore and a
// re-read from the committed offset.
func runLane(t *testing.T, r *rand.Rand, l *Layout, events []*occurrence) *stored {
	s := &stored{entries: map[string][]byte{}}
	table := l.NewTable()
	commit := func(offset int64, share int) {
		for _, row := range table.Dirty() {
			if r.IntN(100) < share {
				s.entries[string(table.Key(row))] = table.AppendEntry(nil, row, offset)
			}
		}
		if share == 100 {
			s.offset = offset
			table.BeginEpoch(table.epoch + 1)
		}
	}
	crash := func() int64 {
		table.Reset()
		for k, entry := range s.entries {
			require.NoError(t, table.LoadEntry([]byte(k), entry))
		}
		require.Empty(t, table.Dirty())
		return s.offset
	}
	for at := int64(0); at < int64(len(events)); {
		e := events[at]
		table.Add(table.Row(e.Key), &e.Event, at)
		at++
		switch r.IntN(30) {
		case 0:
			commit(at, 100)
		case 1:
			commit(at, 60) // cut short: some entries are ahead of the offset
			at = crash()
		case 2:
			table.MarkAllDirty()
		case 3:
			if r.IntN(3) == 0 {
				at = crash()
			}
		}
	}
	commit(int64(len(events)), 100)
	return s
}

// However events are spread over lanes and whatever commits, crashes and restores happen, the merged values are those of
// the definition, and merging again gives the same bytes.
func TestAnyPartitionAndAnyCrashGiveTheSameValues(t *testing.T) {
	l, err := NewLayout(allSpec())
	require.NoError(t, err)
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		lanes := make([][]*occurrence, 1+r.IntN(5))
		byKey := map[string][]*occurrence{}
		for range 50 + r.IntN(1500) {
			lane := r.IntN(len(lanes))
			e := &occurrence{Event: randomEvent(r), lane: int32(lane), offset: int64(len(lanes[lane]))}
			lanes[lane] = append(lanes[lane], e)
			byKey[string(e.Key)] = append(byKey[string(e.Key)], e)
		}
		var stores []*stored
		for _, events := range lanes {
			stores = append(stores, runLane(t, r, l, events))
		}
		merge := func() *Table {
			table := l.NewTable()
			for lane, s := range stores {
				for _, k := range slices.Sorted(maps.Keys(s.entries)) {
					require.NoError(t, table.MergeEntry([]byte(k), s.entries[k], int32(lane)))
				}
			}
			return table
		}
		merged, again := merge(), merge()
		require.Equal(t, len(byKey), merged.Len())
		for row := range uint32(merged.Len()) {
			events := byKey[string(merged.Key(row))]
			require.EqualValues(t, len(events), merged.Count(row))
			require.Equal(t, naive(t, events), string(merged.AppendValues(nil, row)), "seed %d", seed)
			require.Equal(t, merged.AppendEntry(nil, row, 0), again.AppendEntry(nil, row, 0))
		}
	}
}

// Merging in another lane order must not change values either, since the rank travels with the partial.
func TestMergeOrderDoesNotDecideTies(t *testing.T) {
	l, err := NewLayout(allSpec())
	require.NoError(t, err)
	r := rand.New(rand.NewPCG(7, 7))
	var parts [][]byte
	for lane := range int32(6) {
		table := l.NewTable()
		row := table.Row([]byte("k"))
		for offset := range int64(5) {
			ev := randomEvent(r)
			ev.Time, ev.Values[2] = r.Int64N(2), text(fmt.Sprint("lane ", lane, " offset ", offset))
			table.Add(row, &ev, offset)
		}
		parts = append(parts, table.AppendEntry(nil, row, 5))
	}
	want := ""
	for range 50 {
		table := l.NewTable()
		for _, lane := range r.Perm(len(parts)) {
			require.NoError(t, table.MergeEntry([]byte("k"), parts[lane], int32(lane)))
		}
		got := string(table.AppendValues(nil, 0))
		if want == "" {
			want = got
		}
		require.Equal(t, want, got)
	}
}
