package telemetry

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdk "go.opentelemetry.io/otel/sdk/metric"
)

// Registry holds the metrics of a process: those of definitions, for which its Observe methods are told whom to ask, those of its
// meter, and those of the Go runtime and the process. Its methods may be called from any goroutine.
type Registry struct {
	sources  *sources
	registry *prometheus.Registry
	provider *sdk.MeterProvider
}

// NewRegistry returns a registry that asks nobody yet. Where the environment names an endpoint of OTLP, everything goes there, too.
func NewRegistry(ctx context.Context, getenv func(string) string) (*Registry, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	from := &sources{began: time.Now()}
	// Scopes are left out: a process has one build, which build_info names, and every query would have to sum over them.
	exporter, err := otelprom.New(otelprom.WithRegisterer(registry), otelprom.WithTranslationStrategy(translation),
		otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo(), otelprom.WithProducer(from))
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	options := []sdk.Option{sdk.WithReader(exporter), sdk.WithView(temporalView())}
	otlp, err := otlpReader(ctx, getenv, from)
	if err != nil {
		return nil, err
	}
	if otlp != nil {
		options = append(options, sdk.WithReader(otlp), sdk.WithResource(thisProcess()))
	}
	return &Registry{sources: from, registry: registry, provider: sdk.NewMeterProvider(options...)}, nil
}

// Handler answers Prometheus; with exemplars where it asks for OpenMetrics.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
}

// Meter returns a meter for what is not in definitions: the metrics that libraries make of themselves.
func (r *Registry) Meter() metric.Meter { return r.provider.Meter(scopeName) }

// Close ends the collection, after what there is has been sent over OTLP.
func (r *Registry) Close(ctx context.Context) error { return r.provider.Shutdown(ctx) }
