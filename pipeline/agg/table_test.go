package agg

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/event"
	"millrace/pipeline/spec"
)

func TestStamps(t *testing.T) {
	table := newTable(t, flightsSpec())
	row := table.Row([]byte("k"))
	ev := flight(1, "SAV")
	table.Add(row, &ev, 0)
	table.Add(row, &ev, 9)
	entry := table.AppendEntry(nil, row, 10)
	require.Equal(t, int64(10), table.Stamp(row))
	table.BeginEpoch(table.epoch + 1)

	table.Add(row, &ev, 9)
	require.Equal(t, int64(2), table.Count(row), "below the stamp: included already")
	require.Equal(t, []uint32{row}, table.Dirty(), "but every commit holds all entries touched in its range")
	require.Equal(t, entry, table.AppendEntry(nil, row, 5), "a stamp never goes down")

	table.Add(row, &ev, 10)
	require.Equal(t, int64(3), table.Count(row))
	require.Equal(t, int64(10), table.Stamp(row), "only a snapshot raises the stamp")
	_, stamp, count, err := EntryHeader(table.AppendEntry(nil, row, -1))
	require.NoError(t, err)
	require.Equal(t, []int64{10, 3}, []int64{stamp, count})
}

func TestDirty(t *testing.T) {
	table := newTable(t, flightsSpec())
	ev := flight(1, "SAV")
	add := func(key string) { table.Add(table.Row([]byte(key)), &ev, 0) }
	add("a")
	add("b")
	add("a")
	require.Equal(t, []uint32{0, 1}, table.Dirty())
	table.BeginEpoch(table.epoch + 1)
	require.Empty(t, table.Dirty())
	add("b")
	require.Equal(t, []uint32{1}, table.Dirty())
	table.MarkAllDirty()
	require.ElementsMatch(t, []uint32{0, 1}, table.Dirty())
	table.Reset()
	require.Empty(t, table.Dirty())
	add("b")
	require.Equal(t, []uint32{0}, table.Dirty())
	require.Equal(t, int64(1), table.Count(0))
}

// Keys of all lengths are found again, through growth, resets and collisions made on purpose.
func TestRowsAgainstAMap(t *testing.T) {
	table := newTable(t, &spec.Spec{Aggregates: []spec.Aggregate{{Name: "n", Func: "count"}}})
	for _, c := range []struct {
		name string
		keys int
		hash func(key []byte) uint64
	}{
		{"hashed", 60_000, Hash},
		{"again after a reset", 20_000, Hash},
		{"equal high bits", 12_000, func(key []byte) uint64 { return Hash(key) >> 24 }},
		{"equal tags", 2_000, func(key []byte) uint64 { return Hash(key) & 0xffffffff }},
		{"equal hashes", 1_000, func([]byte) uint64 { return 1 << 63 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			table.Reset()
			rows := map[string]uint32{}
			for i := range c.keys {
				key := fmt.Appendf(nil, "%d%s", i, strings.Repeat("x", i%40))
				hash := c.hash(key)
				table.HintIndex(hash)
				table.HintRow(hash)
				rows[string(key)] = table.RowOf(hash, key)
				require.EqualValues(t, i, rows[string(key)])
			}
			require.Equal(t, c.keys, table.Len())
			for key, row := range rows {
				require.Equal(t, row, table.RowOf(c.hash([]byte(key)), []byte(key)))
				require.Equal(t, key, string(table.Key(row)))
				require.Equal(t, Hash([]byte(key)), table.Hash(row))
			}
			require.Less(t, len(table.index.dir), 64)
		})
	}
}

// Room that was made at once is what growing step by step comes to, and it is enough.
func TestReserve(t *testing.T) {
	for _, n := range []int{0, 1, 7, 300, 2_880, 3_100, 60_000} {
		t.Run(fmt.Sprint(n, " keys"), func(t *testing.T) {
			s := &spec.Spec{Aggregates: []spec.Aggregate{{Name: "n", Func: "count"}}}
			table, grown := newTable(t, s), newTable(t, s)
			entry := grown.AppendUnstamped(nil, grown.Row([]byte("one")))
			grown.Reset()
			table.Reserve(n)
			for i := range n {
				key := fmt.Appendf(nil, "key-%d", i)
				require.NoError(t, table.LoadNew(Hash(key), key, entry, 3))
				grown.Row(key)
			}
			require.LessOrEqual(t, table.index.bytes, grown.index.bytes*3/2+firstSegment*16)
			for i := range n {
				require.EqualValues(t, i, table.Row(fmt.Appendf(nil, "key-%d", i)))
			}
			require.Equal(t, n, table.Len())
			require.Empty(t, table.Dirty())
		})
	}
}

func TestBuckets(t *testing.T) {
	counts := make([]int, 16)
	for i := range 16_000 {
		counts[Bucket(Hash(fmt.Appendf(nil, "key-%d", i)), 16)]++
	}
	for _, n := range counts {
		require.InDelta(t, 1000, n, 150)
	}
	require.Equal(t, uint64(0xef46db3751d8e999), Hash(nil), "the hash is part of the stored format")
	require.Equal(t, 9, Bucket(Hash(nil), 16))
}

// Texts that come and go, of all lengths, are kept apart, and memory is bounded by what is held.
func TestTextsAreBounded(t *testing.T) {
	table := newTable(t, &spec.Spec{Aggregates: []spec.Aggregate{{Name: "a", Func: "last", Field: "x"}, {Name: "b", Func: "first", Field: "x"}}})
	r := rand.New(rand.NewPCG(8, 8))
	const keys = 50
	var lasts, firsts [keys]string
	settled := 0
	for at := range int64(24_000) {
		k := r.IntN(keys)
		size := r.IntN(60)
		if r.IntN(100) == 0 {
			size = r.IntN(3 * largestBlock)
		}
		s := strings.Repeat(string(rune('a'+at%26)), size)
		ev := event.Event{Time: at, Values: []event.Value{text(s)}}
		if r.IntN(3) == 0 {
			ev.Time, firsts[k] = -at, s
		}
		if ev.Time >= 0 {
			lasts[k] = s
			if firsts[k] == "" && table.Len() <= k {
				firsts[k] = s
			}
		}
		key := fmt.Appendf(nil, "%d", k)
		row := table.Row(key)
		if table.Count(row) == 0 {
			lasts[k], firsts[k] = s, s
		}
		table.Add(row, &ev, at)
		require.Equal(t, fmt.Sprintf(`{"a":%q,"b":%q}`, lasts[k], firsts[k]), string(table.AppendValues(nil, row)))
		if at == 12_000 {
			settled = table.Bytes()
		}
	}
	require.Less(t, table.Bytes(), settled*3/2)
	table.Reset()
	require.Less(t, table.Bytes(), 40_000)
}

func TestBytesIsTheMemoryInUse(t *testing.T) {
	for _, n := range []int{1, 10, 1_000, 50_000} {
		t.Run(fmt.Sprint(n, " keys"), func(t *testing.T) {
			l, err := NewLayout(flightsSpec())
			require.NoError(t, err)
			held := make([]*Table, max(2, 20_000/n)) // enough to drown what else the process holds
			before := heap()
			for i := range held {
				held[i] = l.NewTable()
				for k := range n {
					ev := flight(1, "a destination with a long name")
					held[i].Add(held[i].Row(fmt.Appendf(nil, "a key that is not short %d", k)), &ev, int64(k))
				}
			}
			used := heap() - before
			said := 0
			for _, table := range held {
				said += table.Bytes()
			}
			require.InEpsilon(t, used, said, 0.15)
			runtime.KeepAlive(held)
		})
	}
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func TestNoAllocations(t *testing.T) {
	table := newTable(t, flightsSpec())
	keys := [][]byte{[]byte("short"), []byte("a key that does not fit the row")}
	values := []string{"SAV", "a text in the arena", "a text of another size class in the arena"}
	var entry, out []byte
	at := int64(0)
	ev := flight(-9, "")
	fold := func() {
		for i := range 100 {
			at++
			ev.Time = at
			ev.Values[1].Str = append(ev.Values[1].Str[:0], values[i%len(values)]...)
			table.Add(table.Row(keys[i%len(keys)]), &ev, at)
		}
		for _, row := range table.Dirty() {
			entry = table.AppendEntry(entry[:0], row, at)
			out = table.AppendValues(out[:0], row)
		}
		table.BeginEpoch(table.epoch + 1)
	}
	fold()
	require.Zero(t, testing.AllocsPerRun(50, fold))

	merged := table.layout.NewTable()
	load := func() {
		for i, key := range keys {
			_ = merged.LoadEntry(key, entry)
			_ = merged.MergeEntry(key, entry, int32(i))
		}
	}
	load()
	require.Equal(t, 2, merged.Len())
	require.Zero(t, testing.AllocsPerRun(50, load))
}

func TestLayoutRefuses(t *testing.T) {
	for _, a := range []spec.Aggregate{
		{Name: "a", Func: "median", Field: "x"},
		{Name: "a", Func: "sum", Field: "x", Type: "string"},
		{Name: "a", Func: "sum"},
	} {
		_, err := NewLayout(&spec.Spec{Aggregates: []spec.Aggregate{a}})
		require.ErrorIs(t, err, ErrLayout)
		require.ErrorContains(t, err, "a: ")
	}
}

// Every function and type that a spec may name has a column, and there are no others.
func TestEveryFunctionHasItsColumn(t *testing.T) {
	named := map[string]bool{}
	for _, f := range spec.Functions() {
		named[f.Name] = true
		for _, typ := range append([]string{""}, f.Types...) {
			a := spec.Aggregate{Name: "a", Func: f.Name, Type: typ}
			if f.Takes != "" {
				a.Field = "x"
			}
			l, err := NewLayout(&spec.Spec{Aggregates: []spec.Aggregate{a}})
			require.NoError(t, err)
			c := l.fields[0].column
			require.Zero(t, c.size()%8)
			require.Equal(t, f.Takes == "", c.op() == opNone)
			_, folds := c.(folder)
			require.Equal(t, c.op() == opCall, folds)
		}
		_, err := NewLayout(&spec.Spec{Aggregates: []spec.Aggregate{{Name: "a", Func: f.Name, Field: "x", Type: "decimal"}}})
		require.ErrorIs(t, err, ErrLayout)
	}
	for name := range columns {
		require.True(t, named[name], name)
	}
}
