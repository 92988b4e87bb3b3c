package fold

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// cpuTime is the time of processors that this process has had.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkLoad builds a lane's state from pages that are in memory: what a restore does beside reading them.
func BenchmarkLoad(b *testing.B) {
	const entries = 500_000
	for _, count := range []int64{60, 2} {
		b.Run(fmt.Sprintf("slices=%d", count), func(b *testing.B) {
			parsed, err := spec.Parse("orders.yaml", []byte(foldtest.Spec))
			require.NoError(b, err)
			parsed.AllowedLateness *= 1000
			p, err := Compile(parsed)
			require.NoError(b, err)
			plan, err := window.NewPlan(p.Spec)
			require.NoError(b, err)
			h, s, c := newShelf(b), NewState(p, testLane, "id", 0, store.Cursor{}), &Commit{}
			for i := range int64(entries) {
				s.Fold(foldtest.Batch(foldtest.EventAt(i, fmt.Sprintf("user-%010d", i), foldtest.KafkaTime-i%count*plan.Width, 1)))
				if i%100_000 == 99_999 {
					s.Snapshot(c, Control{IdleAt: -1, SealBefore: none, DropBefore: none, Pages: true, DeleteUpTo: s.Cursor().Seq - 1})
					h.put(c)
				}
			}
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				_, sum, err := h.load(p)
				require.NoError(b, err)
				require.Equal(b, entries, sum.Entries)
			}
			b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N*entries), "cpu-ns/entry")
		})
	}
}
