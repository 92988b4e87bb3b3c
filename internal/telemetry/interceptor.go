package telemetry

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	temporalotel "go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"

	"millrace/internal/contract"
)

// endless are the workflows that go on as long as their pipeline does. Every run of them is a trace of its own that links to what
// started it: otherwise a pipeline would be one trace that grows for ever.
var endless = map[string]bool{
	"RunWorkflow:" + contract.WorkflowPipeline:     true,
	"RunWorkflow:" + contract.WorkflowReplica:      true,
	"RunWorkflow:" + contract.WorkflowCloseWindows: true,
}

// Interceptor traces the workflows and activities of a client and of the workers that are made from it; nil without traces. Trace
// contexts travel in headers, which no replay of a history compares. Queries are not traced: whoever looks at a pipeline asks
// once a second.
func (t *Traces) Interceptor() (interceptor.Interceptor, error) {
	if t == nil {
		return nil, nil
	}
	made, err := temporalotel.NewTracingInterceptor(temporalotel.TracerOptions{
		Tracer:              t.Tracer(),
		DisableQueryTracing: true,
		DisableBaggage:      true,
		TextMapPropagator:   propagation.TraceContext{},
		// A header that a later version or another library wrote must not fail a workflow.
		AllowInvalidParentSpans: true,
		SpanStarter:             startSpan,
	})
	if err != nil {
		return nil, fmt.Errorf("traces of workflows: %w", err)
	}
	return made, nil
}

func startSpan(ctx context.Context, t trace.Tracer, name string, options ...trace.SpanStartOption) trace.Span {
	if endless[name] {
		options = append(options, trace.WithNewRoot(), trace.WithLinks(trace.LinkFromContext(ctx)))
	}
	_, span := t.Start(ctx, name, options...)
	return span
}
