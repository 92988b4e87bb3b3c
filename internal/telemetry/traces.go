package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"millrace/internal/build"
	"millrace/pipeline/traces"
)

// The variables of OpenTelemetry that decide whether and how spans are exported, beside those that metrics share. Those for headers, certificates, timeouts, the
// sampler and the bounds of the queue are read by its SDK.
const (
	envTracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
	envTracesProtocol = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"
	envTracesExporter = "OTEL_TRACES_EXPORTER"
	envDisabled       = "OTEL_SDK_DISABLED"
)

// Traces makes the spans of a process and exports them with OTLP. A nil Traces makes none: that is what everything below does
// with it.
type Traces struct {
	provider *sdktrace.TracerProvider
}

// Instance says which process makes the spans.
type Instance struct {
	Service string // unless OTEL_SERVICE_NAME says another
	ID      string // unless OTEL_RESOURCE_ATTRIBUTES says another
}

// StartTraces returns nil unless the environment names an endpoint for spans. Nothing is connected to here: a collector that is
// away costs the spans that the queue does not hold, and a line in log once a minute.
func StartTraces(ctx context.Context, who Instance, log *slog.Logger) (*Traces, error) {
	exporter, err := newExporter(ctx)
	if err != nil || exporter == nil {
		return nil, err
	}
	reportExports(log)
	return NewTraces(ctx, who, exporter)
}

// NewTraces exports spans to exporter, which Close ends.
func NewTraces(ctx context.Context, who Instance, exporter sdktrace.SpanExporter) (*Traces, error) {
	about, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", who.Service), attribute.String("service.version", build.Version()),
		attribute.String("service.instance.id", who.ID),
	), resource.WithFromEnv())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("traces: OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return &Traces{provider: sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))}, nil
}

// newExporter returns nil when the environment asks for no traces.
func newExporter(ctx context.Context) (sdktrace.SpanExporter, error) {
	switch {
	case strings.EqualFold(os.Getenv(envDisabled), "true"), os.Getenv(envTracesExporter) == "none":
		return nil, nil
	case os.Getenv(envEndpoint) == "" && os.Getenv(envTracesEndpoint) == "":
		return nil, nil
	}
	if other := os.Getenv(envTracesExporter); other != "" && other != "otlp" {
		return nil, fmt.Errorf("traces: %s is %q; want otlp or none", envTracesExporter, other)
	}
	protocol, from := os.Getenv(envTracesProtocol), envTracesProtocol
	if protocol == "" {
		protocol, from = os.Getenv(envProtocol), envProtocol
	}
	var exporter sdktrace.SpanExporter
	var err error
	switch protocol {
	case protocolGRPC:
		exporter, err = otlptracegrpc.New(ctx)
	case "", protocolHTTP:
		exporter, err = otlptracehttp.New(ctx)
	default:
		return nil, fmt.Errorf("traces: %s is %q; want %s or %s, which is the default", from, protocol, protocolGRPC, protocolHTTP)
	}
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	return exporter, nil
}

// Tracer makes the spans of the hot path; nil without traces.
func (t *Traces) Tracer() trace.Tracer {
	if t == nil {
		return nil
	}
	return t.provider.Tracer(traces.Scope, trace.WithInstrumentationVersion(build.Version()))
}

// Start begins a root span, or one below that of ctx.
func (t *Traces) Start(ctx context.Context, name string, attributes ...attribute.KeyValue) (context.Context, trace.Span) {
	if t == nil {
		return ctx, trace.SpanFromContext(context.Background())
	}
	return t.Tracer().Start(ctx, name, trace.WithAttributes(attributes...))
}

// flushLimit bounds how long the last spans may take to leave the process.
const flushLimit = 5 * time.Second

// Close exports what is left and ends. A collector that is away is no error of the process: reportExports tells of it.
func (t *Traces) Close() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), flushLimit)
	defer cancel()
	_ = t.provider.Shutdown(ctx)
}
