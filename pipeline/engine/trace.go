package engine

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/pipeline/traces"
)

// tracedLanes bounds the lanes of a batch whose steps get spans.
const tracedLanes = 32

// batchTrace is the trace of a recovery: a span for the batch, and below it one for every step of a lane, with the times that the
// lane has noted. Steps that somebody outside runs go below that one's span, which the recovery's trace context has reached with
// the announcement. recovery.mu guards it; the zero value traces nothing.
type batchTrace struct {
	ctx   context.Context // with the span; nil: nothing is traced
	span  trace.Span
	steps map[string]context.Context // of steps that were asked for from outside
	lanes int                        // that have spans
}

// beginTrace begins the span of a batch; the caller holds mu.
func (b *batch) beginTrace() {
	if b.r.tracing == nil {
		return
	}
	ctx, span := b.r.tracing.Tracer.Start(context.Background(), traces.SpanRecovery, trace.WithTimestamp(b.Began), trace.WithAttributes(
		traces.Pipeline.String(b.Pipeline), traces.Replica.Int(b.Replica), traces.Batch.Int64(b.Batch)))
	if span.IsRecording() {
		b.trace = batchTrace{ctx: ctx, span: span, steps: make(map[string]context.Context)}
		b.Trace = traces.Sampled(ctx)
	}
}

// tracedBy notes that a step is asked for under the span in ctx, if that is of the batch's trace: the first one counts.
func (b *batch) tracedBy(ctx context.Context, step string) {
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	if b.trace.ctx == nil || b.trace.steps[step] != nil || b.by[step] == report.ByInline {
		return
	}
	asking := trace.SpanContextFromContext(ctx)
	if asking.IsValid() && asking.TraceID() == b.trace.span.SpanContext().TraceID() {
		b.trace.steps[step] = trace.ContextWithSpanContext(b.trace.ctx, asking)
	}
}

// traceLane records the steps of an acquisition that has an outcome; the caller holds mu.
func (b *batch) traceLane(a *lane.Acquisition) {
	if b.trace.ctx == nil || b.trace.lanes == tracedLanes {
		return
	}
	b.trace.lanes++
	id := a.Lane()
	steps, state := a.Results()
	for i := range steps {
		s := &steps[i]
		if s.Tries == 0 {
			continue
		}
		parent := b.trace.ctx
		if s.By == report.ByTemporal && b.trace.steps[s.Step] != nil {
			parent = b.trace.steps[s.Step]
		}
		attributes := []attribute.KeyValue{
			traces.Pipeline.String(id.Pipeline), traces.Lane.String(report.LaneRef{Topic: id.Topic, Partition: id.Partition}.String()),
			traces.By.String(s.By), traces.State.String(state),
		}
		if s.Step == report.StepRestore {
			attributes = append(attributes, traces.Entries.Int64(s.Entries), traces.Bytes.Int64(s.Bytes))
		}
		_, span := b.r.tracing.Tracer.Start(parent, traces.SpanStep+s.Step, trace.WithTimestamp(s.Began), trace.WithAttributes(attributes...))
		if s.Error != "" {
			span.SetStatus(codes.Error, cut(s.Error))
		}
		span.End(trace.WithTimestamp(s.Began.Add(time.Duration(s.Took) * time.Microsecond)))
	}
}

// endTrace ends the span of a batch that has closed; the caller holds mu.
func (b *batch) endTrace() {
	if b.trace.ctx == nil {
		return
	}
	b.trace.span.SetAttributes(traces.Lanes.Int(max(len(b.lanes), len(b.parked))))
	b.trace.span.End(trace.WithTimestamp(b.closed))
}
