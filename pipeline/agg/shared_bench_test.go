package agg

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"millrace/pipeline/event"
	"millrace/pipeline/spec"
)

// BenchmarkShared compares the table that one goroutine owns with maps that goroutines share: the same keys in the same order, a
// count, a sum and a greatest value each. An operation is one event of each worker; a table's workers own one table each, as lanes do.
func BenchmarkShared(b *testing.B) {
	const keys = 100_000
	each, random := benchKeys(keys)
	for _, workers := range []int{1, 2} {
		for _, kind := range []struct {
			name string
			make func() func(worker int, key []byte, value int64)
		}{
			{"table", func() func(int, []byte, int64) { return ownTables(b, workers) }},
			{"sync.Map", func() func(int, []byte, int64) { return syncMap() }},
			{"cas", func() func(int, []byte, int64) { return casMap(4 * keys) }},
		} {
			b.Run(fmt.Sprintf("workers=%d/%s", workers, kind.name), func(b *testing.B) {
				add := kind.make()
				const batch = 1024
				for w := range workers {
					for i := 0; i < len(each); i += benchKey {
						add(w, each[i:i+benchKey], 1)
					}
				}
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					var all sync.WaitGroup
					for w := range workers {
						all.Go(func() {
							for i := range batch {
								at := (n + w*7919 + i) & (1<<20 - 1) * benchKey
								add(w, random[at:at+benchKey], int64(i))
							}
						})
					}
					all.Wait()
					n += batch
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch*workers), "ns/event")
			})
		}
	}
}

func ownTables(b *testing.B, workers int) func(int, []byte, int64) {
	type own struct {
		table *Table
		event event.Event
		_     [64]byte // workers share no cache line
	}
	tables := make([]own, workers)
	for i := range tables {
		tables[i].table = newTable(b, &spec.Spec{Aggregates: []spec.Aggregate{
			{Name: "n", Func: "count"}, {Name: "sum", Func: "sum", Field: "delay", Type: "int"}, {Name: "peak", Func: "max", Field: "delay"},
		}})
		tables[i].event = flight(0, "")
	}
	return func(w int, key []byte, value int64) {
		t, ev := tables[w].table, &tables[w].event
		ev.Values[0].Int, ev.Values[0].Float, ev.Time = value, float64(value), value
		t.Add(t.Row(key), ev, value)
	}
}

// counted is an entry of a shared map.
type counted struct{ n, sum, peak atomic.Int64 }

func (c *counted) add(value int64) {
	c.n.Add(1)
	c.sum.Add(value)
	for at := c.peak.Load(); value > at && !c.peak.CompareAndSwap(at, value); at = c.peak.Load() {
	}
}

func syncMap() func(int, []byte, int64) {
	var m sync.Map
	return func(_ int, key []byte, value int64) {
		e, ok := m.Load(string(key))
		if !ok {
			e, _ = m.LoadOrStore(string(key), new(counted))
		}
		e.(*counted).add(value)
	}
}

// casMap is open addressing over pointers that are put in place by compare-and-swap and never moved: a map that never grows, which
// is more than fair.
func casMap(size int) func(int, []byte, int64) {
	type entry struct {
		key []byte
		counted
	}
	slots := make([]atomic.Pointer[entry], size)
	return func(_ int, key []byte, value int64) {
		for i := Hash(key) % uint64(size); ; i = (i + 1) % uint64(size) {
			e := slots[i].Load()
			if e == nil {
				e = &entry{key: bytes.Clone(key)}
				if !slots[i].CompareAndSwap(nil, e) {
					e = slots[i].Load()
				}
			}
			if bytes.Equal(e.key, key) {
				e.add(value)
				return
			}
		}
	}
}
