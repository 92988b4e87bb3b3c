package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"millrace/internal/build"
	"millrace/pipeline/traces"
)

var quiet = slog.New(slog.DiscardHandler)

func TestTracesAreOffUnlessAnEndpointIsNamed(t *testing.T) {
	for _, c := range []struct {
		name  string
		env   map[string]string
		on    bool
		wrong string
	}{
		{"nothing", nil, false, ""},
		{"an endpoint", map[string]string{envEndpoint: "http://127.0.0.1:1"}, true, ""},
		{"an endpoint for traces", map[string]string{envTracesEndpoint: "http://127.0.0.1:1/v1/traces", envTracesProtocol: "http/protobuf"}, true, ""},
		{"gRPC", map[string]string{envEndpoint: "http://127.0.0.1:1", envProtocol: "grpc"}, true, ""},
		{"metrics alone", map[string]string{envEndpoint: "http://127.0.0.1:1", envTracesExporter: "none"}, false, ""},
		{"disabled", map[string]string{envEndpoint: "http://127.0.0.1:1", envDisabled: "TRUE"}, false, ""},
		{"another protocol", map[string]string{envEndpoint: "http://127.0.0.1:1", envProtocol: "http/json"}, false,
			`OTEL_EXPORTER_OTLP_PROTOCOL is "http/json"; want grpc or http/protobuf`},
		{"another exporter", map[string]string{envEndpoint: "http://127.0.0.1:1", envTracesExporter: "zipkin"}, false,
			`OTEL_TRACES_EXPORTER is "zipkin"; want otlp or none`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range []string{envEndpoint, envTracesEndpoint, envProtocol, envTracesProtocol, envTracesExporter, envDisabled} {
				t.Setenv(name, c.env[name])
			}
			made, err := StartTraces(t.Context(), Instance{Service: "s"}, quiet)
			if c.wrong != "" {
				require.ErrorContains(t, err, c.wrong)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.on, made != nil)
			tracer := made.Tracer()
			require.Equal(t, c.on, tracer != nil)
			tracing, err := made.Interceptor()
			require.NoError(t, err)
			require.Equal(t, c.on, tracing != nil)
			_, span := made.Start(context.Background(), "s")
			require.Equal(t, c.on, span.IsRecording())
			made.Close() // the span has not ended: nothing is exported
		})
	}
}

func TestSpansSayWhoHasMadeThem(t *testing.T) {
	t.Setenv("OTEL_SERVICE_NAME", "")
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test,service.instance.id=named")
	kept := &keptAtShutdown{InMemoryExporter: tracetest.NewInMemoryExporter()}
	made, err := NewTraces(t.Context(), Instance{Service: "millrace-worker", ID: "host:1"}, kept)
	require.NoError(t, err)
	_, span := made.Start(t.Context(), "s")
	span.End()
	made.Close()
	require.Len(t, kept.last, 1, "the last spans leave with the process")
	about := make(map[string]string)
	for _, a := range kept.last[0].Resource.Attributes() {
		about[string(a.Key)] = a.Value.String()
	}
	require.Equal(t, "millrace-worker", about["service.name"])
	require.Equal(t, build.Version(), about["service.version"])
	require.Equal(t, "named", about["service.instance.id"], "the environment wins")
	require.Equal(t, "test", about["deployment.environment"])
}

// keptAtShutdown is an in-memory exporter that does not forget.
type keptAtShutdown struct {
	*tracetest.InMemoryExporter
	last tracetest.SpanStubs
}

func (k *keptAtShutdown) Shutdown(ctx context.Context) error {
	k.last = k.GetSpans()
	return k.InMemoryExporter.Shutdown(ctx)
}

// A pipeline's workflow runs for ever: each of its runs is a trace of its own that links to what began it.
func TestEndlessWorkflowsBeginTracesOfTheirOwn(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(kept)).Tracer(traces.Scope)
	before, starting := tracer.Start(t.Context(), "StartWorkflow:Pipeline")
	startSpan(before, tracer, "RunWorkflow:Pipeline").End()
	startSpan(before, tracer, "RunWorkflow:RecoverLanes").End()
	spans := kept.GetSpans()
	require.NotEqual(t, starting.SpanContext().TraceID(), spans[0].SpanContext.TraceID())
	require.Equal(t, starting.SpanContext().SpanID(), spans[0].Links[0].SpanContext.SpanID())
	require.Equal(t, starting.SpanContext().SpanID(), spans[1].Parent.SpanID())
	require.Empty(t, spans[1].Links)
}

func TestFailedExportsAreToldOnceAMinute(t *testing.T) {
	var out strings.Builder
	reportExports(slog.New(slog.NewTextHandler(&out, nil)))
	defer reportExports(quiet)
	for range 3 {
		otel.Handle(errors.New("connection refused"))
	}
	require.Equal(t, 1, strings.Count(out.String(), "telemetry is not exported"))
	require.Contains(t, out.String(), "connection refused")
}
