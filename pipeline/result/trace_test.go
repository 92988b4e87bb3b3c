package result_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"millrace/pipeline/ledger"
	"millrace/pipeline/measure"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/traces"
)

const (
	firstTrace = "00-0af7651916cd43dd8448eb2100000001-b7ad6b7169203331-01"
	otherTrace = "00-0af7651916cd43dd8448eb2100000002-b7ad6b7169203332-01"
)

func spanNames(spans tracetest.SpanStubs) (names []string) {
	for _, s := range spans {
		names = append(names, s.Name)
	}
	return names
}

// A window continues the trace of one of its records and links the others; what it publishes carries the trace on.
func TestAWindowContinuesTheTraceOfItsRecord(t *testing.T) {
	w := hourWorld(t)
	kept := tracetest.NewInMemoryExporter()
	tracer := sdk.NewTracerProvider(sdk.WithSyncer(kept)).Tracer(traces.Scope)
	note := func(lane int, start int64, parent string) {
		l := w.lanes[lane]
		slice := store.SliceID{Width: hour, Start: start}
		require.NoError(t, w.store.NoteTrace(w.ctx, l.id, l.token, store.SliceTrace{Slice: slice, Parent: parent}))
	}
	note(0, base, firstTrace)
	note(0, base, "unreadable")
	note(1, base, otherTrace)
	note(1, base, firstTrace)
	note(1, base+hour, "00-0af7651916cd43dd8448eb2100000003-b7ad6b7169203333-01")
	measured := measure.NewProcess().Pipeline("orders")
	c := w.closer(func(cfg *result.Config) {
		cfg.Tracing, cfg.Measure = &result.Tracing{Tracer: tracer, Traces: w.store.Traces}, measured
	})

	asked, asking := tracer.Start(w.ctx, "RunActivity:CloseDue")
	_, err := c.Round(asked)
	require.NoError(t, err)
	spans := kept.GetSpans()
	require.Equal(t, []string{traces.SpanMerge, traces.SpanPublish, traces.SpanShow, traces.SpanClose}, spanNames(spans))
	for _, s := range spans {
		require.Equal(t, firstTrace[3:35], s.SpanContext.TraceID().String())
	}
	closed := spans[3]
	require.Equal(t, firstTrace[36:52], closed.Parent.SpanID().String())
	require.Contains(t, closed.Attributes, attribute.Int("millrace.traced_records", 2))
	require.Contains(t, closed.Attributes, attribute.Int("millrace.revision", 1))
	for _, h := range []*measure.Histogram{measured.Close, measured.WindowEnd} {
		exemplars := h.Counts().Exemplars
		require.Len(t, exemplars, 1)
		require.EqualValues(t, closed.SpanContext.TraceID(), exemplars[0].TraceID)
	}
	var links []string
	for _, l := range closed.Links {
		links = append(links, l.SpanContext.SpanID().String())
	}
	require.Equal(t, []string{asking.SpanContext().SpanID().String(), otherTrace[36:52]}, links)

	want := []source.Header{{Key: traces.Header, Value: []byte(
		"00-" + firstTrace[3:35] + "-" + spans[1].SpanContext.SpanID().String() + "-01")}}
	for _, topic := range []string{"orders.windows", ledger.Topic("orders")} {
		sent := w.kafka.Headers(topic)
		require.NotEmpty(t, sent)
		for _, headers := range sent {
			require.Equal(t, want, slices.DeleteFunc(slices.Clone(headers), func(h source.Header) bool { return h.Key != traces.Header }))
		}
	}
}

// Rounds go on for ever, so a window of which no record is traced has no span there. One that is asked for has.
func TestWindowsWithoutTracedRecords(t *testing.T) {
	w := hourWorld(t)
	kept := tracetest.NewInMemoryExporter()
	tracer := sdk.NewTracerProvider(sdk.WithSyncer(kept)).Tracer(traces.Scope)
	c := w.closer(func(cfg *result.Config) { cfg.Tracing = &result.Tracing{Tracer: tracer, Traces: w.store.Traces} })
	asked, _ := tracer.Start(w.ctx, "RunActivity:CloseDue")
	_, err := c.Round(asked)
	require.NoError(t, err)
	require.Equal(t, []string{"r1 watermark"}, w.history("hourly", base))
	require.Empty(t, kept.GetSpans())
	for _, headers := range w.kafka.Headers("orders.windows") {
		require.Len(t, headers, 1, "that of the window")
	}

	_, err = c.Flush(asked)
	require.NoError(t, err)
	require.Contains(t, spanNames(kept.GetSpans()), traces.SpanClose)
	kept.Reset()
	_, err = c.Flush(w.ctx)
	require.NoError(t, err)
	require.Empty(t, kept.GetSpans())
}
