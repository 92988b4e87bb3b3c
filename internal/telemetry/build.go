package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"millrace/internal/build"
)

// ObserveBuild registers the metric that says which build of Millrace the process is.
func ObserveBuild(meter metric.Meter) error {
	_, err := meter.Int64ObservableGauge(nameBuild, metric.WithDescription("1, with the build of the process as labels"),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			o.Observe(1, metric.WithAttributes(attribute.String("version", build.Version()), attribute.String("go", build.Go())))
			return nil
		}))
	return err
}
