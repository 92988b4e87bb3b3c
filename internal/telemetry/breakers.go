package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"millrace/pipeline/breaker"
	"millrace/pipeline/report"
)

// ObserveBreakers registers the metrics of all degradation machines that statuses returns. statuses is called on every
// scrape, from any goroutine.
func ObserveBreakers(meter metric.Meter, statuses func() []breaker.Status) error {
	m := &engineMetrics{meter: meter}
	level := m.gauge(nameLevel, "1", "Level of degradation: 0 normal, 1 journal, 2 throttled, 3 paused")
	state := m.gauge(nameBreaker, "1", "1 for the state the circuit breaker is in")
	override := m.gauge(nameOverride, "1", "1 for the override in force")
	changes := m.counter(nameChanges, "{change}", "Times a level was entered")
	tries := m.counter(nameTries, "{try}", "Tries on the dependency, by outcome")
	if m.err != nil {
		return m.err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, s := range statuses() {
			with := func(more ...attribute.KeyValue) metric.MeasurementOption {
				return metric.WithAttributes(append(more, attribute.String("pipeline", s.Pipeline),
					attribute.Int("replica", s.Replica), attribute.String("dependency", s.Dependency))...)
			}
			o.ObserveInt64(level, int64(s.Level.Rank()), with())
			o.ObserveInt64(state, 1, with(attribute.String("state", s.Breaker)))
			if s.Override != report.OverrideNone {
				o.ObserveInt64(override, 1, with(attribute.String("override", string(s.Override))))
			}
			for _, l := range report.Levels() {
				o.ObserveInt64(changes, s.Entered[l], with(attribute.String("level", string(l))))
			}
			o.ObserveInt64(tries, s.Totals.Succeeded, with(attribute.String("outcome", "succeeded")))
			o.ObserveInt64(tries, s.Totals.Failed, with(attribute.String("outcome", "failed")))
			o.ObserveInt64(tries, s.Totals.Cancelled, with(attribute.String("outcome", "cancelled")))
		}
		return nil
	}, m.all...)
	return err
}
