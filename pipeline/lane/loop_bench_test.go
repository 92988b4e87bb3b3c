package lane

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/lane/inflight"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// cpuTime is the time of processors that this process has had: what a benchmark costs, also on a machine that others use.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkFoldBatch is what a running lane does with a batch that the reader brings: the fold and everything beside it, in batches
// of a thousand records, with stamps that all differ.
func BenchmarkFoldBatch(b *testing.B) {
	const records, perBatch = 500_000, 1000
	for _, keys := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			in := benchLog(records, keys)
			r := benchLoop(b)
			stamps := benchStamps(perBatch)
			run := func() {
				r.state.ReadFrom("id", 0)
				for from := 0; from < records; from += perBatch {
					batch := source.Batch{Records: in.Records[from : from+perBatch], Next: in.Records[from+perBatch-1].Offset + 1}
					batch.Stamps = stamps
					r.foldBatch(&batch)
				}
			}
			run()
			require.EqualValues(b, records, r.state.Offset())
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				run()
			}
			b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N*records), "cpu-ns/event")
		})
	}
}

// benchLoop is a loop that only folds: it has nobody to commit to.
func benchLoop(b *testing.B) *loop {
	p := mustProgram(b)
	budget := NewBudget(1 << 40)
	deps := &Deps{Log: slog.New(slog.DiscardHandler), Budget: budget, Desired: NewDesired()}
	s := fold.NewState(p, testLane, "id", 0, store.Cursor{})
	l := &Lane{Holder: &Holder{deps: deps, program: p, id: testLane, state: s}, share: budget.Join()}
	now := time.Now()
	r := &loop{Lane: l, ctx: context.Background(), commits: inflight.New(s, 1, time.Second, now)}
	r.idle = inflight.NewIdleness(r.commits, time.Minute, now)
	return r
}

// benchStamps are the stamps that a batch brings, about, where no two records were stamped in one millisecond.
func benchStamps(records int64) []source.Stamp {
	stamps := make([]source.Stamp, 63)
	for i := range stamps {
		stamps[i] = source.Stamp{At: time.Now().UnixMilli() + int64(i), Records: records / 63}
	}
	return stamps
}
