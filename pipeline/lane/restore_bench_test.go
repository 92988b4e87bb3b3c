package lane

import (
	"context"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
	"millrace/pipeline/window"
)

// restoreSizes are a lane with many slices and one with a few big ones, a million entries each.
var restoreSizes = []struct {
	name    string
	slices  int
	entries int
}{{"slices=60", 60, 1_000_000}, {"slices=2", 2, 1_000_000}}

// stored writes a lane's state to a real server and returns a client of it.
func stored(tb testing.TB, p *fold.Program, slices, entries int, pages bool) (redis.UniversalClient, store.Token) {
	tb.Helper()
	client := storetest.Client(tb, storetest.StartRedis(tb), false)
	st := store.New(client)
	ctx := context.Background()
	meta, _, err := st.Acquire(ctx, testLane, p.StateID, "", store.NextToken(""))
	require.NoError(tb, err)
	s := fold.NewState(p, testLane, "id", 0, meta.Cursor)
	c := &fold.Commit{}
	w := width(tb, p)
	for i := range int64(entries) {
		slice := i % int64(slices)
		s.Fold(batch(eventAt(i, fmt.Sprintf("user-%010d", i), kafkaTime-slice*w, 1)))
		if i%100_000 == 99_999 || i == int64(entries)-1 {
			s.Snapshot(c, fold.Control{IdleAt: -1, SealBefore: none, DropBefore: none, Pages: pages, DeleteUpTo: s.Cursor().Seq - 1})
			require.NoError(tb, deliverCommit(ctx, st, &sideLog{}, testLane, p.StateID, meta.Owner, c))
		}
	}
	return client, meta.Owner
}

// width is that of the program's slices, in ms.
func width(tb testing.TB, p *fold.Program) int64 {
	tb.Helper()
	plan, err := window.NewPlan(p.Spec)
	require.NoError(tb, err)
	return plan.Width
}

func benchProgram(tb testing.TB) *fold.Program {
	p := mustProgram(tb)
	p.Spec.AllowedLateness *= 1000
	p.Spec.Lane.Buckets, p.Spec.Lane.ChunkFields = 16, 512
	again, err := fold.Compile(p.Spec)
	require.NoError(tb, err)
	return again
}

// BenchmarkRestore compares restoring a lane with reading the same bytes with a bare client.
func BenchmarkRestore(b *testing.B) {
	for _, size := range restoreSizes {
		b.Run(size.name, func(b *testing.B) {
			b.Run("fields", func(b *testing.B) { benchRestore(b, size.slices, size.entries, false) })
			b.Run("pages", func(b *testing.B) { benchRestore(b, size.slices, size.entries, true) })
		})
	}
}

func benchRestore(b *testing.B, slices, entries int, pages bool) {
	ctx := context.Background()
	p := benchProgram(b)
	client, owner := stored(b, p, slices, entries, pages)
	bytes, pattern := int64(0), "*:s:*"
	if pages {
		pattern = "*:p:*"
	}
	// measure reports the processor time of this process beside the time that it waits for Redis.
	measure := func(b *testing.B, op func()) {
		b.ReportAllocs()
		before := cpuTime(b)
		for b.Loop() {
			op()
		}
		b.SetBytes(bytes)
		b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
	}
	b.Run("restore", func(b *testing.B) {
		measure(b, func() {
			_, sum, err := Restore(ctx, store.New(client), p, testLane, owner)
			require.NoError(b, err)
			require.Equal(b, entries, sum.Entries)
			bytes = sum.Bytes
		})
	})
	keys, err := client.Keys(ctx, pattern).Result()
	require.NoError(b, err)
	memory := int64(0)
	for _, key := range keys {
		memory += client.MemoryUsage(ctx, key, 0).Val()
	}
	b.Run("bare", func(b *testing.B) {
		measure(b, func() {
			for _, key := range keys {
				require.NoError(b, client.HGetAll(ctx, key).Err())
			}
		})
		b.ReportMetric(float64(memory)/float64(entries), "redis-B/entry")
	})
}

// A big state is read ahead while it is decoded, a small one is not: both give what was committed.
func TestRestoreOfABigState(t *testing.T) {
	p := benchProgram(t)
	for _, slices := range []int{1, 7} {
		client, owner := stored(t, p, slices, 2*loadFrom, false)
		got, sum, err := Restore(t.Context(), store.New(client), p, testLane, owner)
		require.NoError(t, err)
		require.Equal(t, []int{slices, 2 * loadFrom}, []int{sum.Slices, sum.Entries})
		require.Equal(t, int64(2*loadFrom), got.Stamped())
		want := fold.NewState(p, testLane, "id", 0, store.Cursor{})
		w := width(t, p)
		for i := range int64(2 * loadFrom) {
			want.Fold(batch(eventAt(i, fmt.Sprintf("user-%010d", i), kafkaTime-i%int64(slices)*w, 1)))
		}
		require.Equal(t, contents(want), contents(got))

		_, _, err = Restore(t.Context(), store.New(client), p, testLane, "1:other")
		require.ErrorIs(t, err, store.ErrFenced)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, _, err = Restore(ctx, store.New(client), p, testLane, owner)
		require.ErrorIs(t, err, context.Canceled)
	}
}
