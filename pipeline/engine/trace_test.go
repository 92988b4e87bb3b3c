package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/pipeline/traces"
)

// parents says of every span below which one it is, as "parent > name", sorted.
func parents(spans tracetest.SpanStubs) []string {
	names := make(map[trace.SpanID]string)
	for _, s := range spans {
		names[s.SpanContext.SpanID()] = s.Name
	}
	var out []string
	for _, s := range spans {
		out = append(out, fmt.Sprintf("%s > %s", names[s.Parent.SpanID()], s.Name))
	}
	slices.Sort(out)
	return out
}

// Whoever comes first runs a step, and its spans go below whoever that was: all of one trace, with the times of the steps.
func TestARecoveryIsOneTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := tracetest.NewInMemoryExporter()
		provider := sdk.NewTracerProvider(sdk.WithSyncer(kept))
		tracer := provider.Tracer(traces.Scope)
		var seen hooks
		h := newHall(t, func(cfg *Config) {
			seen.into(cfg)
			cfg.Tracing = &lane.Tracing{Tracer: tracer}
		})
		defer h.close()
		began := time.Now()
		h.claim(partitions(0, 2)...)
		pass(Collect)
		batches, _ := seen.seen(t, 1, 0)
		require.NotEmpty(t, batches[0].Trace)

		outside, span := tracer.Start(traces.Under(t.Context(), batches[0].Trace), "RunActivity:RecoverStep")
		_, err := h.RecoverStep(outside, batches[0].Batch, report.StepAcquire)
		require.NoError(t, err)
		span.End()
		alien, other := tracer.Start(context.Background(), "somebody else's")
		_, err = h.RecoverStep(alien, batches[0].Batch, report.StepJournal)
		require.NoError(t, err)
		other.End()
		pass(2 * TemporalWait) // nobody comes any more
		_, reports := seen.seen(t, 1, 1)

		spans := kept.GetSpans()
		require.Equal(t, []string{
			" > recovery", " > somebody else's",
			"RunActivity:RecoverStep > recovery.acquire", "RunActivity:RecoverStep > recovery.acquire",
			"recovery > RunActivity:RecoverStep",
			"recovery > recovery.journal", "recovery > recovery.journal", "recovery > recovery.restore", "recovery > recovery.restore",
			"recovery > recovery.resume", "recovery > recovery.resume", "recovery > recovery.verify", "recovery > recovery.verify",
		}, parents(spans))
		for _, s := range spans {
			if s.Name == traces.SpanRecovery {
				require.True(t, s.StartTime.Equal(began))
				require.True(t, s.EndTime.Equal(reports[0].Ended))
			}
			if s.Name == traces.SpanStep+report.StepRestore {
				require.Equal(t, Collect+TemporalWait, s.StartTime.Sub(began))
			}
		}
	})
}
