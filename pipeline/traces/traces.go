// Package traces joins the work of the hot path to distributed traces: spans below the span of a context, and trace contexts
// as they travel in the headers of records and in Redis. It uses OpenTelemetry's API alone; without a tracer, and without a
// span in the context, everything here does nothing.
package traces

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Scope names the instrumentation that makes the spans.
const Scope = "millrace"

// Header is the header of a record that carries a W3C trace context.
const Header = "traceparent"

// contextLength is the length of a trace context of version 00: version, trace id, span id, flags.
const contextLength = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")

// Start begins a span below the one in ctx, with the provider of that one. Without a span that is recorded in ctx it returns
// ctx and a span that does nothing.
func Start(ctx context.Context, name string, attributes ...attribute.KeyValue) (context.Context, trace.Span) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, trace.SpanFromContext(context.Background())
	}
	return parent.TracerProvider().Tracer(Scope).Start(ctx, name, trace.WithAttributes(attributes...))
}

// Done records below the span in ctx what has run from began to ended.
func Done(ctx context.Context, name string, began, ended time.Time, attributes ...attribute.KeyValue) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return
	}
	_, span := parent.TracerProvider().Tracer(Scope).Start(ctx, name, trace.WithTimestamp(began), trace.WithAttributes(attributes...))
	span.End(trace.WithTimestamp(ended))
}

// End ends a span with what its work came to. A context that was cancelled is no error of the work.
func End(span trace.Span, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// IsSampled reports whether text is a trace context whose sender records the trace. It allocates nothing and looks no
// closer than that: Parse says whether the context is valid.
func IsSampled(text []byte) bool {
	if len(text) < contextLength {
		return false
	}
	switch c := text[contextLength-1]; {
	case '0' <= c && c <= '9':
		return c&1 == 1
	case 'a' <= c && c <= 'f':
		return (c-'a')&1 == 1 // b, d and f are 11, 13 and 15
	}
	return false
}

// Parse reads a trace context; ok is false for one that is not valid.
func Parse(text string) (sc trace.SpanContext, ok bool) {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{Header: text})
	sc = trace.SpanContextFromContext(ctx)
	return sc, sc.IsValid()
}

// Format returns the trace context of sc, "" for one that is not valid.
func Format(sc trace.SpanContext) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), sc), carrier)
	return carrier[Header]
}

// Quiet returns ctx with its span as one that is recorded elsewhere: nothing is started below it, and links may name it.
func Quiet(ctx context.Context) context.Context {
	return trace.ContextWithSpanContext(ctx, trace.SpanContextFromContext(ctx))
}

// Sampled is the trace context of the span in ctx, "" unless the span is recorded here.
func Sampled(ctx context.Context) string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsSampled() || !trace.SpanFromContext(ctx).IsRecording() {
		return ""
	}
	return Format(sc)
}

// Under returns ctx with the remote span that text names as the parent of what is started next; ctx itself when text names none.
func Under(ctx context.Context, text string) context.Context {
	sc, ok := Parse(text)
	if !ok {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, sc)
}

// Share picks an even share of what passes by. It is not safe for concurrent use.
type Share struct {
	share float64
	sum   float64
}

// NewShare picks share of what passes, 0 to 1, the first one among it.
func NewShare(share float64) Share { return Share{share: share, sum: 1 - share} }

// Pick reports whether the next one is picked.
func (s *Share) Pick() bool {
	if s.share <= 0 {
		return false
	}
	s.sum += s.share
	if s.sum < 1 {
		return false
	}
	s.sum -= 1
	return true
}
