package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// ObserveConditions registers the metric of what keeps pipelines from their work, by pipeline and kind; docs/stuck-states.md
// describes the kinds. counts is called on every scrape, from any goroutine.
func ObserveConditions(meter metric.Meter, counts func() map[string]map[string]int) error {
	m := &engineMetrics{meter: meter}
	conditions := m.gauge(nameConditions, "{condition}", "Conditions that keep the pipeline from its work, as this process sees them")
	if m.err != nil {
		return m.err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for pipeline, kinds := range counts() {
			for kind, n := range kinds {
				o.ObserveInt64(conditions, int64(n), metric.WithAttributes(attribute.String("pipeline", pipeline), attribute.String("kind", kind)))
			}
		}
		return nil
	}, m.all...)
	return err
}
