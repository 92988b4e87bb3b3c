package lane

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/lane/inflight"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// BenchmarkFoldBatch is what a running lane does with a batch that the reader brings: the fold and everything beside it, in batches
// of a thousand records, with stamps that all differ.
func BenchmarkFoldBatch(b *testing.B) {
	const records, perBatch = 500_000, 1000
	for _, keys := range []int{100, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			p := mustProgram(b)
			in := benchLog(records, keys)
			budget := NewBudget(1 << 40)
			s := fold.NewState(p, testLane, "id", 0, store.Cursor{})
			deps := &Deps{Log: slog.New(slog.DiscardHandler), Budget: budget, Desired: NewDesired()}
			l := &Lane{Holder: &Holder{deps: deps, program: p, id: testLane, state: s}, share: budget.Join()}
			now := time.Now()
			r := &loop{Lane: l, ctx: context.Background(), commits: inflight.New(s, 1, time.Second, now)}
			r.idle = inflight.NewIdleness(r.commits, time.Minute, now)
			stamps := make([]source.Stamp, 64)
			for i := range stamps {
				stamps[i] = source.Stamp{At: now.UnixMilli() + int64(i), Records: perBatch / 64}
			}
			run := func() {
				s.ReadFrom("id", 0)
				for from := 0; from < records; from += perBatch {
					batch := source.Batch{Records: in.Records[from : from+perBatch], Next: in.Records[from+perBatch-1].Offset + 1}
					batch.Stamps = stamps
					r.foldBatch(&batch)
				}
			}
			run()
			require.EqualValues(b, records, s.Offset())
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*records), "ns/event")
		})
	}
}
