package agg

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"millrace/pipeline/event"
	"millrace/pipeline/spec"
)

// BenchmarkShared compares the table that one goroutine owns with maps that goroutines share: the same keys in the same order, a
// count, a sum and a greatest value each. A table's workers own one table each, as lanes do, which ask for the memory of a group of events
// before they fold it. The kinds take turns and processor time
// counts, so that what else the machine does slows all of them alike.
func BenchmarkShared(b *testing.B) {
	const keys, turn = 100_000, 16_384
	each, random := benchKeys(keys)
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			kinds := []struct {
				name string
				add  func(worker int, key []byte, value int64)
				took time.Duration
			}{
				{name: "table", add: ownTables(b, workers, 1)}, {name: "table-in-groups", add: ownTables(b, workers, 16)},
				{name: "sync.Map", add: syncMap()}, {name: "cas", add: casMap(4 * keys)},
			}
			for w := range workers {
				for i := 0; i < len(each); i += benchKey {
					for _, k := range kinds {
						k.add(w, each[i:i+benchKey], 1)
					}
				}
			}
			n := 0
			for b.Loop() {
				for k := range kinds {
					began := processTime(b)
					var all sync.WaitGroup
					for w := range workers {
						all.Go(func() {
							for i := range turn {
								at := (n + w*7919 + i) & (1<<20 - 1) * benchKey
								kinds[k].add(w, random[at:at+benchKey], int64(i))
							}
						})
					}
					all.Wait()
					kinds[k].took += processTime(b) - began
				}
				n += turn
			}
			for _, k := range kinds {
				b.ReportMetric(float64(k.took.Nanoseconds())/float64(b.N*turn*workers), k.name+"-ns/event")
			}
		})
	}
}

// processTime is the processor time of this process.
func processTime(tb testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func ownTables(b *testing.B, workers, group int) func(int, []byte, int64) {
	type own struct {
		table *Table
		event event.Event
		keys  [][]byte
		hash  []uint64
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
		o := &tables[w]
		o.keys, o.hash = append(o.keys, key), append(o.hash, Hash(key))
		o.table.HintIndex(o.hash[len(o.hash)-1])
		if len(o.keys) < group {
			return
		}
		for _, h := range o.hash {
			if row, ok := o.table.HintRow(h); ok {
				o.table.HintKey(row)
			}
		}
		for i, key := range o.keys {
			o.event.Values[0].Int, o.event.Values[0].Float, o.event.Time = value, float64(value), value
			o.table.Add(o.table.RowOf(o.hash[i], key), &o.event, value)
		}
		o.keys, o.hash = o.keys[:0], o.hash[:0]
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
