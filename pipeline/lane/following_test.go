package lane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/traces"
)

// parentOf is the trace context of a record, one trace each.
func parentOf(offset int64) string {
	return fmt.Sprintf("00-0af7651916cd43dd8448eb21%08x-b7ad6b7169203331-01", offset)
}

// named groups spans by trace and lists their names in the order in which they ended.
func named(spans tracetest.SpanStubs) map[string][]string {
	names := make(map[string][]string)
	for _, s := range spans {
		id := s.SpanContext.TraceID().String()
		names[id] = append(names[id], s.Name)
	}
	return names
}

func attributeOf(s tracetest.SpanStub, key string) string {
	for _, a := range s.Attributes {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

// tracing follows into kept, and leaves notes in st.
func tracing(kept *tracetest.InMemoryExporter, st *store.Store, batches float64) *Tracing {
	provider := sdk.NewTracerProvider(sdk.WithSyncer(kept))
	return &Tracing{Tracer: provider.Tracer(traces.Scope), Batches: batches, Note: st.NoteTrace}
}

func TestRecordsAreFollowedUntilRedisHasThem(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(5, 5)), 100))
	log.records[40] = foldtest.Record(40, `{"k":`)
	log.records[41] = foldtest.EventAt(41, "k", foldtest.Early, 7)
	log.traced = map[int64]string{40: parentOf(40), 41: parentOf(41), 99: parentOf(99)}
	st, redis := testStore(t)
	kept := tracetest.NewInMemoryExporter()
	b := start(t, log, st, redis, func(d *Deps) { d.Tracing = tracing(kept, st, 0) })
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 100 })
	eventually(t, "all spans ended", func() bool { return len(kept.GetSpans()) == 12 })
	require.NoError(t, b.stop(t))
	b.requireExact(t, reference(t, log.records))

	spans := kept.GetSpans()
	whole := []string{traces.SpanFetch, traces.SpanFold, traces.SpanCommit, traces.SpanRecord}
	names := named(spans)
	require.Len(t, names, 3)
	for id, got := range names {
		require.Equal(t, whole, got, id)
	}
	outcomes := make(map[string]string)
	for _, s := range spans {
		switch s.Name {
		case traces.SpanRecord:
			require.Equal(t, "b7ad6b7169203331", s.Parent.SpanID().String())
			require.True(t, s.Parent.IsRemote())
		case traces.SpanFold:
			outcomes[s.SpanContext.TraceID().String()[24:]] = attributeOf(s, "millrace.outcome")
		}
	}
	require.Equal(t, "invalid", outcomes["00000028"])
	require.Equal(t, "folded", outcomes["00000029"])

	noted, err := st.Traces(context.Background(), testLane)
	require.NoError(t, err)
	i := slices.IndexFunc(noted, func(n store.SliceTrace) bool { return n.Parent[:35] == parentOf(41)[:35] })
	require.GreaterOrEqual(t, i, 0)
	require.LessOrEqual(t, noted[i].Slice.Start, foldtest.Early)
	require.Greater(t, noted[i].Slice.End(), foldtest.Early)
	require.False(t, slices.ContainsFunc(noted, func(n store.SliceTrace) bool { return n.Parent[:35] == parentOf(40)[:35] }))
}

func TestAShareOfBatchesIsFollowed(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(6, 6)), 100)) // ten batches
	st, redis := testStore(t)
	kept := tracetest.NewInMemoryExporter()
	b := start(t, log, st, redis, func(d *Deps) { d.Tracing = tracing(kept, st, 0.2) })
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 100 })
	eventually(t, "all spans ended", func() bool { return len(kept.GetSpans()) == 8 })
	require.NoError(t, b.stop(t))
	b.requireExact(t, reference(t, log.records))
	for _, got := range named(kept.GetSpans()) {
		require.Equal(t, []string{traces.SpanFetch, traces.SpanFold, traces.SpanCommit, traces.SpanBatch}, got)
	}
}

// Cutting a batch at the records that are followed changes nothing of what is folded, also where records are read again.
func TestFollowedBatchesAreFoldedAlike(t *testing.T) {
	st, _ := testStore(t)
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		log := randomLog(rng, 300)
		want := reference(t, log)
		f := newFollowing(tracing(tracetest.NewInMemoryExporter(), st, 0.3), testLane, func() store.Token { return "1:a" })
		got := fold.NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
		for from := 0; from < len(log); {
			to := min(len(log), from+1+rng.IntN(40))
			b := batch(log[max(0, from-rng.IntN(5)):to]...) // some are delivered twice
			for i := range b.Records {
				if len(b.Traced) < source.MostTraced && rng.IntN(6) == 0 {
					b.Traced = append(b.Traced, source.Traced{Index: i, Parent: parentOf(int64(i))})
				}
			}
			f.fold(got, b)
			from = to
		}
		f.close()
		require.Equal(t, contents(want), contents(got), seed)
		require.Equal(t, want.Offset(), got.Offset())
	}
}

func TestFollowingIsBounded(t *testing.T) {
	st, _ := testStore(t)
	kept := tracetest.NewInMemoryExporter()
	held := make(chan struct{})
	trc := tracing(kept, st, 0)
	trc.Note = func(ctx context.Context, _ store.LaneID, _ store.Token, _ store.SliceTrace) error {
		select {
		case <-held:
		case <-ctx.Done():
		}
		return nil
	}
	f := newFollowing(trc, testLane, func() store.Token { return "1:a" })
	s := fold.NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
	for i := range int64(200) {
		b := batch(foldtest.EventAt(i, "k", foldtest.Early+i*60_000, 1))
		b.Traced = []source.Traced{{Parent: parentOf(i)}}
		f.fold(s, b)
	}
	require.Len(t, f.open, mostFollowed)
	require.LessOrEqual(t, len(f.noted), notesWaiting+1)
	require.Len(t, kept.GetSpans(), 200*2+200-mostFollowed)
	close(held)
	for i := range int64(200) {
		f.note(store.SliceID{Width: 1000, Start: i * 1000}, parentOf(i))
		require.LessOrEqual(t, len(f.noted), notedSlices)
	}
	f.handedOver(100)
	f.committed(50, time.Now(), nil)
	require.Len(t, f.open, mostFollowed-50)
	f.close()
	require.Len(t, kept.GetSpans(), 200*3+50, "what is open is given up")
}

// BenchmarkFollowing folds batches as the lane does: without a tracer, with one and nothing to follow, with one batch in a hundred
// followed, and with a trace context in every hundredth record, of which a batch follows MostTraced.
func BenchmarkFollowing(b *testing.B) {
	const records = 4096 // of a batch
	in := foldtest.BenchLog(500_000, 100_000)
	for _, c := range []struct {
		name    string
		tracer  bool
		batches float64
		every   int
	}{{"off", false, 0, 0}, {"on", true, 0, 0}, {"batches=1%", true, 0.01, 0}, {"records=1%", true, 0, 100}} {
		b.Run(c.name, func(b *testing.B) {
			var batches []source.Batch
			for part := range slices.Chunk(in.Records, records) {
				next := source.Batch{Records: part, Next: part[len(part)-1].Offset + 1}
				for i := 0; c.every > 0 && i < len(part) && len(next.Traced) < source.MostTraced; i += c.every {
					next.Traced = append(next.Traced, source.Traced{Index: i, Parent: parentOf(int64(i))})
				}
				batches = append(batches, next)
			}
			var trc *Tracing
			if c.tracer {
				provider := sdk.NewTracerProvider(sdk.WithBatcher(tracetest.NewNoopExporter()))
				defer provider.Shutdown(context.Background())
				trc = &Tracing{
					Tracer: provider.Tracer(traces.Scope), Batches: c.batches,
					Note: func(context.Context, store.LaneID, store.Token, store.SliceTrace) error { return nil },
				}
			}
			f := newFollowing(trc, testLane, func() store.Token { return "1:a" })
			defer f.close()
			s := fold.NewState(mustProgram(b), testLane, "id", 0, store.Cursor{})
			s.Fold(in)
			b.ReportAllocs()
			for b.Loop() {
				s.ReadFrom("id", 0)
				for i := range batches {
					f.fold(s, &batches[i])
					f.committed(batches[i].Next, time.Now(), nil)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(in.Records)), "ns/event")
		})
	}
}
