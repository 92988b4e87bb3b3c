package telemetry

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"

	"millrace/internal/build"
)

// Variables that OpenTelemetry gives the same meaning everywhere. The exporters read the others: headers, certificates, timeouts,
// compression.
const (
	envEndpoint        = "OTEL_EXPORTER_OTLP_ENDPOINT"
	envMetricsEndpoint = "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"
	envProtocol        = "OTEL_EXPORTER_OTLP_PROTOCOL"
	envMetricsProtocol = "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"
	envExporter        = "OTEL_METRICS_EXPORTER"
)

// Protocols of OTLP.
const (
	protocolGRPC = "grpc"
	protocolHTTP = "http/protobuf"
)

// otlpReader returns a reader that sends everything over OTLP about once a minute (OTEL_METRIC_EXPORT_INTERVAL), nil where the
// environment names no endpoint. An endpoint that does not answer is tried again and again, and holds nothing up.
func otlpReader(ctx context.Context, getenv func(string) string, from sdk.Producer) (sdk.Reader, error) {
	first := func(names ...string) (name, value string) {
		for _, name := range names {
			if value := getenv(name); value != "" {
				return name, value
			}
		}
		return "", ""
	}
	if _, endpoint := first(envMetricsEndpoint, envEndpoint); endpoint == "" || getenv(envExporter) == "none" {
		return nil, nil
	}
	var exporter sdk.Exporter
	var err error
	switch name, protocol := first(envMetricsProtocol, envProtocol); protocol {
	case protocolGRPC:
		exporter, err = otlpmetricgrpc.New(ctx)
	case protocolHTTP, "":
		exporter, err = otlpmetrichttp.New(ctx)
	default:
		return nil, fmt.Errorf("%s is %q, want %s or %s", name, protocol, protocolGRPC, protocolHTTP)
	}
	if err != nil {
		return nil, fmt.Errorf("metrics over OTLP: %w", err)
	}
	return sdk.NewPeriodicReader(exporter, sdk.WithProducer(from)), nil
}

// thisProcess says over OTLP who sends: Millrace, unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES says otherwise.
func thisProcess() *resource.Resource {
	own := resource.NewSchemaless(attribute.String("service.name", "millrace"), attribute.String("service.version", build.Version()))
	named, err := resource.Merge(own, resource.Environment())
	if err != nil {
		return own
	}
	return named
}
