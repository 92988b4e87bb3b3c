package lane

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// benchLog is a log of events over several slices with the given number of keys, in no order that caches like.
func benchLog(n, keys int) *source.Batch {
	rng := rand.New(rand.NewPCG(1, 1))
	log := make([]source.Record, n)
	for i := range log {
		log[i] = eventAt(int64(i), fmt.Sprintf("user-%010d", rng.IntN(keys)), kafkaTime-rng.Int64N(20_000), 5)
	}
	return batch(log...)
}

func BenchmarkFold(b *testing.B) {
	for _, keys := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			in := benchLog(500_000, keys)
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
	in := benchLog(500_000, 100_000)
	s := NewState(mustProgram(b), testLane, "id", 0, store.Cursor{})
	s.Fold(in)
	c := &Commit{}
	s.Snapshot(c, Control{SealBefore: none, DropBefore: none, IdleAt: -1})
	b.ReportAllocs()
	for b.Loop() {
		for _, sl := range s.slices {
			sl.table.MarkAllDirty()
		}
		s.Snapshot(c, Control{SealBefore: none, DropBefore: none, IdleAt: -1})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*c.Entries), "ns/entry")
}
