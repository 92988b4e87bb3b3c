package agg

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/event"
	"millrace/pipeline/spec"
)

// flightsSpec is the aggregates of the flights example: field 0 is delay, field 1 destination.
func flightsSpec() *spec.Spec {
	return &spec.Spec{Aggregates: []spec.Aggregate{
		{Name: "flights", Func: "count"},
		{Name: "delay_sum", Func: "sum", Field: "delay", Type: "int"},
		{Name: "delay_avg", Func: "avg", Field: "delay"},
		{Name: "delay_min", Func: "min", Field: "delay"},
		{Name: "delay_max", Func: "max", Field: "delay"},
		{Name: "last_to", Func: "last", Field: "destination"},
	}}
}

func newTable(t testing.TB, s *spec.Spec) *Table {
	t.Helper()
	l, err := NewLayout(s)
	require.NoError(t, err)
	return l.NewTable()
}

// benchKeys returns n keys of 11 bytes end to end in the order of insertion, and many more in random order: as in a lane,
// the key itself is read from memory that is at hand.
const benchKey = 11

func benchKeys(n int) (each, random []byte) {
	r := rand.New(rand.NewPCG(1, 1))
	for i := range n {
		each = fmt.Appendf(each, "s\x09us%07d", i)
	}
	for range 1 << 20 {
		i := r.IntN(n) * benchKey
		random = append(random, each[i:i+benchKey]...)
	}
	return each, random
}

func flight(delay int64, to string) event.Event {
	return event.Event{Values: []event.Value{
		{Kind: event.Int, Int: delay, Float: float64(delay)},
		{Kind: event.String, Str: []byte(to)},
	}}
}

func BenchmarkAdd(b *testing.B) {
	for _, n := range []int{100, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("flights/keys=%d", n), func(b *testing.B) {
			each, random := benchKeys(n)
			t := newTable(b, flightsSpec())
			for i := 0; i < len(each); i += benchKey {
				t.Row(each[i : i+benchKey])
			}
			t.MarkAllDirty()
			t.BeginEpoch(t.epoch + 1)
			ev := flight(-9, "SAV")
			b.ReportAllocs()
			i := int64(0)
			for b.Loop() {
				i++
				ev.Time = i << 20
				at := i & (1<<20 - 1) * benchKey
				t.Add(t.Row(random[at:at+benchKey]), &ev, i)
			}
		})
	}
}

func BenchmarkAddHinted(b *testing.B) {
	for _, n := range []int{100, 100_000, 1_000_000} {
		for _, group := range []int{8, 32} {
			b.Run(fmt.Sprintf("flights/keys=%d/group=%d", n, group), func(b *testing.B) {
				each, random := benchKeys(n)
				t := newTable(b, flightsSpec())
				for i := 0; i < len(each); i += benchKey {
					t.Row(each[i : i+benchKey])
				}
				t.MarkAllDirty()
				t.BeginEpoch(t.epoch + 1)
				ev := flight(-9, "SAV")
				hashes := make([]uint64, group)
				b.ReportAllocs()
				i := int64(0)
				for b.Loop() {
					if i%int64(group) == 0 {
						for g := range hashes {
							at := (i + int64(g)) & (1<<20 - 1) * benchKey
							hashes[g] = Hash(random[at : at+benchKey])
							t.HintIndex(hashes[g])
						}
						for _, h := range hashes {
							t.HintRow(h)
						}
					}
					at := i & (1<<20 - 1) * benchKey
					ev.Time = i << 20
					t.Add(t.RowOf(hashes[i%int64(group)], random[at:at+benchKey]), &ev, i)
					i++
				}
			})
		}
	}
}

// BenchmarkInsert reports, besides the mean, the longest single insertion on the way to n keys.
func BenchmarkInsert(b *testing.B) {
	for _, n := range []int{100_000, 2_000_000} {
		b.Run(fmt.Sprintf("keys=%d", n), func(b *testing.B) {
			var longest time.Duration
			each, _ := benchKeys(n)
			b.ReportAllocs()
			for b.Loop() {
				t := newTable(b, flightsSpec())
				ev := flight(-9, "SAV")
				worst := time.Duration(0)
				for i := 0; i < len(each); i += benchKey {
					began := time.Now()
					t.Add(t.Row(each[i:i+benchKey]), &ev, int64(i))
					worst = max(worst, time.Since(began))
				}
				if longest == 0 || worst < longest {
					longest = worst
				}
			}
			b.ReportMetric(float64(longest.Microseconds()), "longest-us")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/key")
		})
	}
}

func BenchmarkEntries(b *testing.B) {
	const n = 100_000
	each, _ := benchKeys(n)
	table := newTable(b, flightsSpec())
	ev := flight(-9, "SAV")
	ev.Time = 978307200_000000000
	for i := 0; i < len(each); i += benchKey {
		table.Add(table.Row(each[i:i+benchKey]), &ev, int64(i))
	}
	var entries, out []byte
	ends := make([]int, n+1)
	for row := range uint32(n) {
		entries = table.AppendEntry(entries, row, 1)
		ends[row+1] = len(entries)
	}
	for _, c := range []struct {
		name string
		do   func(row uint32)
	}{
		{"append", func(row uint32) { out = table.AppendEntry(out[:0], row, 1) }},
		{"load", func(row uint32) { _ = table.LoadEntry(table.Key(row), entries[ends[row]:ends[row+1]]) }},
		{"merge", func(row uint32) { _ = table.MergeEntry(table.Key(row), entries[ends[row]:ends[row+1]], 1) }},
		{"values", func(row uint32) { out = table.AppendValues(out[:0], row) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			row := uint32(0)
			for b.Loop() {
				c.do(row)
				row = (row + 1) % n
			}
		})
	}
}
