package app

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/traces"
)

// movesOf is a state machine that makes all its moves at once, when moved is closed.
type movesOf struct {
	activities.Level
	changes []report.LevelChange
	moved   chan struct{}
}

func (m movesOf) Await(ctx context.Context, after int64) ([]report.LevelChange, error) {
	select {
	case <-m.moved:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if i := slices.IndexFunc(m.changes, func(c report.LevelChange) bool { return c.Seq > after }); i >= 0 {
		return m.changes[i:], nil
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// A degradation is told to Temporal late or never; its spans have the times at which the levels changed.
func TestADegradationHasASpanForEveryLevel(t *testing.T) {
	began := time.Unix(1000, 0)
	change := func(seq int64, after time.Duration, from, to report.Level) report.LevelChange {
		return report.LevelChange{Seq: seq, At: began.Add(after), From: from, To: to, Reason: "redis"}
	}
	moves := movesOf{moved: make(chan struct{}), changes: []report.LevelChange{
		change(4, 0, report.LevelNormal, report.LevelJournal), change(5, 3*time.Second, report.LevelJournal, report.LevelThrottled),
		change(6, 5*time.Second, report.LevelThrottled, report.LevelNormal), change(7, 9*time.Second, report.LevelNormal, report.LevelJournal),
	}}
	kept := tracetest.NewInMemoryExporter()
	d := &degrades{tracer: sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)).Tracer(traces.Scope)}
	told := d.trace(t.Context(), "orders", 1, report.DependencyRedis, moves, moves.changes[0])
	require.NotEmpty(t, traces.Sampled(told), "it goes along with the workflow's start")
	close(moves.moved)
	require.Eventually(t, func() bool { return len(kept.GetSpans()) == 3 }, time.Minute, time.Millisecond)
	type lasting struct {
		name       string
		from, took time.Duration
	}
	var got []lasting
	for _, s := range kept.GetSpans() {
		got = append(got, lasting{s.Name, s.StartTime.Sub(began), s.EndTime.Sub(s.StartTime)})
	}
	require.Equal(t, []lasting{
		{"degradation.journal", 0, 3 * time.Second}, {"degradation.throttled", 3 * time.Second, 2 * time.Second},
		{"degradation", 0, 5 * time.Second},
	}, got)

	untraced := &degrades{}
	require.Equal(t, t.Context(), untraced.trace(t.Context(), "orders", 1, report.DependencyRedis, moves, moves.changes[0]))
}

// The closer's own workflow carries jobs out: their spans belong to whoever asked, and link to the activity.
func TestAJobBelongsToTheTraceOfWhoeverAsks(t *testing.T) {
	const asks = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	kept := tracetest.NewInMemoryExporter()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)).Tracer(traces.Scope)
	c := &closer{tracer: tracer}
	activity, span := tracer.Start(t.Context(), "RunActivity:CarryOut")
	ctx, end := c.traceJob(activity, contract.CarryOutJob{Kind: contract.JobCorrections, Trace: asks})
	require.Equal(t, asks[:35], traces.Sampled(ctx)[:35])
	end(nil)
	job := kept.GetSpans()[0]
	require.Equal(t, "closer."+contract.JobCorrections, job.Name)
	require.Equal(t, asks[36:52], job.Parent.SpanID().String())
	require.Equal(t, span.SpanContext().SpanID(), job.Links[0].SpanContext.SpanID())

	same, _ := c.traceJob(activity, contract.CarryOutJob{})
	require.Equal(t, activity, same)
}
