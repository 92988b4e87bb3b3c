package lane

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/journal"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
	"millrace/pipeline/wal"
)

// BenchmarkDrain compares commits that go to Redis one by one, as the lane makes them, with the same commits on their way out
// of the journal. Both against a redis-server, in turns.
func BenchmarkDrain(b *testing.B) {
	const commits, keys = 40, 5_000
	ctx := context.Background()
	p := mustProgram(b)
	p.Spec.Lane.ChunkFields = 512
	st := store.New(storetest.Client(b, storetest.StartRedis(b), false))
	j, _, err := journal.Open(journal.Config{Log: wal.Config{Dir: b.TempDir()}})
	require.NoError(b, err)
	defer j.Close()
	in := benchLog(commits*keys, 2*keys)
	var plain, spill, drain time.Duration
	entries := 0
	for b.Loop() {
		for _, journaled := range []bool{false, true} {
			before, _, err := st.ReadMeta(ctx, testLane)
			require.NoError(b, err)
			owner := store.NextToken(before.Owner)
			meta, _, err := st.Acquire(ctx, testLane, p.StateID, before.Owner, owner)
			require.NoError(b, err)
			s := fold.NewState(p, testLane, "id", 0, meta.Cursor)
			tail := j.Tail(testLane, p.StateID, owner)
			c := &fold.Commit{}
			for i := range commits {
				s.Fold(batch(in.Records[i*keys : (i+1)*keys]...))
				s.Snapshot(c, fold.Control{SealBefore: none, DropBefore: none, IdleAt: -1})
				entries += c.Entries
				c.Side = nil
				began := time.Now()
				if journaled {
					require.NoError(b, tail.Append(ctx, c.Offset, c.Calls, nil))
					spill += time.Since(began)
					continue
				}
				_, err := st.Apply(ctx, testLane, p.StateID, owner, c.Calls)
				require.NoError(b, err)
				plain += time.Since(began)
			}
			began := time.Now()
			for tail.Pending().Calls > 0 {
				_, err := tail.Drain(ctx, st, nil)
				require.NoError(b, err)
			}
			if journaled {
				drain += time.Since(began)
			}
			tail.Close()
		}
	}
	perEntry := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(entries) * 2 }
	b.ReportMetric(perEntry(plain), "plain-ns/entry")
	b.ReportMetric(perEntry(spill), "append-ns/entry")
	b.ReportMetric(perEntry(drain), "drain-ns/entry")
	b.ReportMetric(plain.Seconds()/drain.Seconds(), "drain/plain")
}
