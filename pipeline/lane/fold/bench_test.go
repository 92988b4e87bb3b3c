package fold

import (
	"fmt"
	"testing"

	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/store"
)

func BenchmarkFold(b *testing.B) {
	for _, keys := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			in := foldtest.BenchLog(500_000, keys)
			s := NewState(mustProgram(b), testLane, "id", 0, store.Cursor{})
			s.Fold(in)
			b.ReportAllocs()
			for b.Loop() {
				s.offset = 0
				s.Fold(in)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(in.Records)), "ns/event")
		})
	}
}

func BenchmarkSnapshot(b *testing.B) {
	for _, pages := range []bool{false, true} {
		b.Run(fmt.Sprintf("pages=%t", pages), func(b *testing.B) {
			in := foldtest.BenchLog(500_000, 100_000)
			s := NewState(mustProgram(b), testLane, "id", 0, store.Cursor{})
			s.Fold(in)
			c, ctl := &Commit{}, Control{SealBefore: none, DropBefore: none, IdleAt: -1, Pages: pages}
			s.Snapshot(c, ctl)
			b.ReportAllocs()
			for b.Loop() {
				for _, sl := range s.slices {
					sl.table.MarkAllDirty()
				}
				s.Snapshot(c, ctl)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.Entries), "ns/entry")
		})
	}
}
