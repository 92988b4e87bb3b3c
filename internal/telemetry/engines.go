package telemetry

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/store"
)

// ObserveEngines registers the metrics of all hot paths that statuses returns. statuses is called on every scrape, from
// any goroutine.
func ObserveEngines(meter metric.Meter, statuses func() []engine.Status) error {
	m := &engineMetrics{meter: meter}
	records := m.counter(nameRecords, "{record}", "Records read, by what became of them")
	offset := m.gauge(nameOffset, "{offset}", "Next offset that is not yet durable")
	refused := m.counter(nameRefused, "{record}", "Records refused since the lane was acquired, by reason; millrace status NAME LANE shows the last of each")
	lag := m.gauge(nameLag, "{record}", "Records in the log that are not yet durable in the state")
	watermark := m.float(nameWatermark, "s", "Watermark in seconds since the epoch")
	entries := m.gauge(nameEntries, "{entry}", "Entries held in memory")
	slices := m.gauge(nameSlices, "{slice}", "Slice generations held in memory")
	bytes := m.gauge(nameBytes, "By", "Memory held by the lane")
	commits := m.counter(nameCommits, "{commit}", "Commits acknowledged since the lane was acquired")
	written := m.counter(nameWritten, "{entry}", "Entries written to Redis since the lane was acquired")
	commit := m.float(nameCommit, "s", "Duration of the last commit")
	gap := m.float(nameGap, "s", "Longest time between two acknowledged commits")
	reseeds := m.counter(nameReseeds, "{reseed}", "Times Redis was found to have forgotten acknowledged writes")
	unsent := m.counter(nameUnsent, "{record}", "Records of a corrupt journal that were lost, with the late and dead-letter records in them")
	state := m.gauge(nameState, "1", "1 for the state the lane is in")
	memory := m.gauge(nameMemory, "By", "Memory held by all lanes of the replica")
	limit := m.gauge(nameLimit, "By", "Memory limit of the replica")
	if m.err != nil {
		return m.err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, e := range statuses() {
			replica := metric.WithAttributes(attribute.String("pipeline", e.Pipeline), attribute.Int("replica", e.Replica))
			o.ObserveInt64(memory, e.MemoryUsed, replica)
			o.ObserveInt64(limit, e.MemoryLimit, replica)
			for i := range e.Lanes {
				l := &e.Lanes[i]
				at := metric.WithAttributes(laneOf(e.Pipeline, l)...)
				for outcome, n := range outcomes(l.Counters) {
					o.ObserveInt64(records, n, metric.WithAttributes(append(laneOf(e.Pipeline, l), attribute.String("outcome", outcome))...))
				}
				for _, r := range l.Refused {
					o.ObserveInt64(refused, r.Count, metric.WithAttributes(append(laneOf(e.Pipeline, l), attribute.String("reason", r.Reason))...))
				}
				o.ObserveInt64(state, 1, metric.WithAttributes(append(laneOf(e.Pipeline, l), attribute.String("state", l.State))...))
				o.ObserveInt64(offset, l.Committed, at)
				o.ObserveInt64(lag, l.Lag(), at)
				if l.Watermark != nil {
					o.ObserveFloat64(watermark, float64(*l.Watermark)/1000, at)
				}
				o.ObserveInt64(entries, int64(l.Entries), at)
				o.ObserveInt64(slices, int64(l.Slices), at)
				o.ObserveInt64(bytes, l.Bytes, at)
				o.ObserveInt64(commits, l.Commits, at)
				o.ObserveInt64(written, l.Written, at)
				o.ObserveFloat64(commit, l.CommitMs/1000, at)
				o.ObserveFloat64(gap, l.GapMs/1000, at)
				o.ObserveInt64(reseeds, int64(l.Reseeds), at)
				o.ObserveInt64(unsent, l.Unsent, at)
			}
		}
		return nil
	}, m.all...)
	return err
}

func laneOf(pipeline string, l *lane.Status) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("pipeline", pipeline), attribute.String("topic", l.Topic), attribute.Int("partition", int(l.Partition)),
	}
}

func outcomes(c store.Counters) map[string]int64 {
	return map[string]int64{
		"invalid": c.Invalid, "ahead": c.Ahead, "past": c.Past, "jumped": c.Jumped, "filtered": c.Filtered, "duplicate": c.Duplicate, "late": c.Late, "folded": c.Folded,
	}
}

// engineMetrics collects instruments and the first error.
type engineMetrics struct {
	meter metric.Meter
	all   []metric.Observable
	err   error
}

func (m *engineMetrics) keep(o metric.Observable, err error) {
	if err != nil && m.err == nil {
		m.err = fmt.Errorf("register metrics: %w", err)
	}
	m.all = append(m.all, o)
}

func (m *engineMetrics) counter(name, unit, text string) metric.Int64ObservableCounter {
	c, err := m.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
	m.keep(c, err)
	return c
}

func (m *engineMetrics) gauge(name, unit, text string) metric.Int64ObservableGauge {
	g, err := m.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
	m.keep(g, err)
	return g
}

func (m *engineMetrics) float(name, unit, text string) metric.Float64ObservableGauge {
	g, err := m.meter.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
	m.keep(g, err)
	return g
}
