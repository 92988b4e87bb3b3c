package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"millrace/pipeline/report"
)

// ObserveKept registers the metrics of what is still there of published windows, by pipeline, for the pipelines whose
// windows are closed here. kept is called on every scrape, from any goroutine.
func ObserveKept(meter metric.Meter, kept func() map[string]report.Kept) error {
	m := &engineMetrics{meter: meter}
	rows := m.gauge(nameRows, "{window}", "Windows with a row in the ledger")
	results := m.gauge(nameResults, "{window}", "Windows with contents in Redis")
	backlog := m.gauge(nameBacklog, "{window}", "Windows that the sweep has still to look at in Redis")
	oldest := m.float(nameOldest, "s", "When the oldest final row in the ledger was written, in seconds since the epoch")
	floor := m.float(nameFloor, "s", "Every window that ends at or before this is final, in seconds since the epoch")
	if m.err != nil {
		return m.err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for pipeline, k := range kept() {
			of := metric.WithAttributes(attribute.String("pipeline", pipeline))
			o.ObserveInt64(rows, int64(k.Rows), of)
			o.ObserveInt64(results, int64(k.Results), of)
			o.ObserveInt64(backlog, int64(k.Backlog), of)
			if k.Oldest != 0 {
				o.ObserveFloat64(oldest, float64(k.Oldest)/1000, of)
			}
			if k.Floor != 0 {
				o.ObserveFloat64(floor, float64(k.Floor)/1000, of)
			}
		}
		return nil
	}, m.all...)
	return err
}
