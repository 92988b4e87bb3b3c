package app

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/traces"
)

// traceHotPath lets lanes follow records and closers continue their traces, where the process makes spans at all.
func (p *process) traceHotPath() {
	tracer := p.cfg.Traces.Tracer()
	if tracer == nil {
		return
	}
	p.engines.tracing = &lane.Tracing{Tracer: tracer, Batches: p.cfg.TracedBatches, Note: p.store.NoteTrace}
	p.closers.tracing = &result.Tracing{Tracer: tracer, Traces: p.store.Traces}
}

// traceJob begins the span of a job below that of the workflow which asks for it: the closer's own workflow, of which the activity
// is, carries out jobs of many.
func (c *closer) traceJob(ctx context.Context, job contract.CarryOutJob) (context.Context, func(error)) {
	if c.tracer == nil || job.Trace == "" {
		return ctx, func(error) {}
	}
	activity := trace.LinkFromContext(ctx)
	ctx, span := c.tracer.Start(traces.Under(ctx, job.Trace), traces.SpanJob+job.Kind, trace.WithLinks(activity),
		trace.WithAttributes(traces.Pipeline.String(job.Pipeline)))
	return ctx, func(err error) { traces.End(span, err) }
}

// trace begins the span of a degradation at the change that left normal, and returns ctx with it. The span ends when the level is
// normal again, or with ctx; below it every level has one, with the times at which the state machine moved.
func (d *degrades) trace(ctx context.Context, pipeline string, replica int, dependency string, level activities.Level,
	left report.LevelChange) context.Context {
	if d.tracer == nil {
		return ctx
	}
	about := []attribute.KeyValue{traces.Pipeline.String(pipeline), traces.Replica.Int(replica), traces.Dependency.String(dependency)}
	under, span := d.tracer.Start(context.WithoutCancel(traces.Quiet(ctx)), traces.SpanDegradation, trace.WithNewRoot(),
		trace.WithTimestamp(left.At), trace.WithAttributes(about...))
	if !span.IsRecording() {
		return ctx
	}
	go d.traceLevels(ctx, under, span, level, left)
	return trace.ContextWithSpan(ctx, span)
}

func (d *degrades) traceLevels(ctx, under context.Context, span trace.Span, level activities.Level, at report.LevelChange) {
	for {
		changes, err := level.Await(ctx, at.Seq)
		if err != nil { // the hot path ends
			now := time.Now()
			traces.Done(under, traces.SpanLevel+string(at.To), at.At, now, traces.Reason.String(at.Reason))
			span.End(trace.WithTimestamp(now))
			return
		}
		for _, c := range changes {
			traces.Done(under, traces.SpanLevel+string(at.To), at.At, c.At, traces.Reason.String(at.Reason))
			if at = c; c.To == report.LevelNormal {
				span.End(trace.WithTimestamp(c.At))
				return
			}
		}
	}
}
