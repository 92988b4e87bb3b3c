package workflows

import (
	"fmt"

	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/workflow"
)

// traceOf is the W3C trace context of the workflow's span, "" where it is not traced. It may go into what others are told and must
// decide nothing: after a replay the span is another one.
func traceOf(ctx workflow.Context) string {
	span, ok := opentelemetry.SpanFromWorkflowContext(ctx)
	if !ok {
		return ""
	}
	of := span.SpanContext()
	if !of.IsSampled() {
		return ""
	}
	return fmt.Sprintf("00-%s-%s-%s", of.TraceID(), of.SpanID(), of.TraceFlags())
}
