package logs

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"
)

// Names of what a line says of the span that it was written in.
const (
	traceID = "trace_id"
	spanID  = "span_id"
)

// traced adds the span of the context to every line, if its trace is recorded: an id that no store knows helps nobody.
type traced struct{ slog.Handler }

// Handle implements slog.Handler.
func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsSampled() {
		r.AddAttrs(slog.String(traceID, sc.TraceID().String()), slog.String(spanID, sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }

// WithGroup implements slog.Handler.
func (h traced) WithGroup(name string) slog.Handler { return traced{h.Handler.WithGroup(name)} }
