package result

import (
	"context"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"millrace/pipeline/measure"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
	"millrace/pipeline/traces"
	"millrace/pipeline/window"
)

// Tracing is how a closer continues the traces of records: a window's span goes below the first record that is known to be in it,
// and links the others.
type Tracing struct {
	Tracer trace.Tracer
	// Traces reads what the lanes have noted; *store.Store does.
	Traces func(ctx context.Context, ids ...store.LaneID) ([]store.SliceTrace, error)
}

// mostLinked bounds the traces that a window's span belongs to or links.
const mostLinked = 8

// traceClose begins the span of a window that is to be published as of a time, and returns what ends it. Without traced records the span
// goes below the one in ctx; nothing is traced where there is neither.
func (c *Closer) traceClose(ctx context.Context, t *task, began time.Time) (context.Context, func(outcome, error)) {
	options := []trace.SpanStartOption{trace.WithTimestamp(began), trace.WithAttributes(
		traces.Pipeline.String(c.cfg.Spec.Name), traces.Window.String(c.windowID(t.ref).String()), traces.Lanes.Int(len(t.view.Lanes)),
	)}
	var span trace.Span
	records := c.tracesIn(ctx, t.view, t.ref)
	switch {
	case len(records) > 0:
		options = append(options, trace.WithAttributes(traces.Traced.Int(len(records))))
		if asked := trace.SpanContextFromContext(ctx); asked.IsValid() {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: asked}))
		}
		for _, r := range records[1:] {
			options = append(options, trace.WithLinks(trace.Link{SpanContext: r}))
		}
		ctx, span = c.cfg.Tracing.Tracer.Start(trace.ContextWithRemoteSpanContext(ctx, records[0]), traces.SpanClose, options...)
	case trace.SpanFromContext(ctx).IsRecording():
		provider := trace.SpanFromContext(ctx).TracerProvider()
		ctx, span = provider.Tracer(traces.Scope).Start(ctx, traces.SpanClose, options...)
	default:
		return ctx, func(outcome, error) {}
	}
	return ctx, func(o outcome, err error) {
		if o.row != nil && o.published {
			span.SetAttributes(traces.Revision.Int(o.row.Revision), traces.Reason.String(o.row.Reason), traces.Final.Bool(o.row.Final),
				traces.Keys.Int64(o.row.Keys), traces.Events.Int64(o.row.Events))
		}
		traces.End(span, err)
	}
}

// explain notes the window's span as what explains a duration, if there is one.
func explain(ctx context.Context, h *measure.Histogram, d time.Duration) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		of := span.SpanContext()
		h.Explain(d, measure.Trace{TraceID: of.TraceID(), SpanID: of.SpanID()}, time.Now())
	}
}

// tracesIn lists the traces of records that are known to be in a window, each once.
func (c *Closer) tracesIn(ctx context.Context, v *view, ref window.Ref) (in []trace.SpanContext) {
	if c.cfg.Tracing == nil {
		return nil
	}
	v.readTraces.Do(func() {
		ids := make([]store.LaneID, len(v.Lanes))
		for i := range v.Lanes {
			ids[i] = v.Lanes[i].ID
		}
		var err error
		if v.traces, err = c.cfg.Tracing.Traces(ctx, ids...); err != nil {
			c.cfg.Log.DebugContext(ctx, "windows are closed without the traces of their records", "error", err)
		}
	})
	for _, n := range v.traces {
		if len(in) == mostLinked {
			break
		}
		if !slices.Contains(survey.WindowsFrom(c.plan, n.Slice.Start, n.Slice.Gen), ref) {
			continue
		}
		sc, ok := traces.Parse(n.Parent)
		if ok && !slices.ContainsFunc(in, func(o trace.SpanContext) bool { return o.SpanID() == sc.SpanID() && o.TraceID() == sc.TraceID() }) {
			in = append(in, sc)
		}
	}
	return in
}
