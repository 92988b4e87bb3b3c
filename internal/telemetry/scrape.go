package telemetry

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"millrace/pipeline/measure"
)

// scopeName is the instrumentation scope of everything in definitions.
const scopeName = "millrace"

// source adds what one part of the process says of itself to a scrape. It is called on every scrape, from any goroutine.
type source func(*scrape)

// sources is the sdk's Producer of everything in definitions: it asks the parts of the process when somebody collects, so
// whatever is exported is read from their own counters at that moment.
type sources struct {
	began time.Time // of the process: counters rise from then on

	mu  sync.Mutex
	all []source
}

var _ sdk.Producer = (*sources)(nil)

func (s *sources) add(from source) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, from)
}

// Produce implements sdk.Producer.
func (s *sources) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	s.mu.Lock()
	all := s.all
	s.mu.Unlock()
	to := &scrape{began: s.began, now: time.Now(), metrics: make(map[*Definition]*metricdata.Metrics)}
	for _, from := range all {
		from(to)
	}
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: scopeName}, Metrics: to.sorted()}}, nil
}

// scrape collects the values of one collection. One goroutine uses it.
type scrape struct {
	began, now time.Time
	metrics    map[*Definition]*metricdata.Metrics
}

// set adds the value of a counter or a gauge, with one value for each label of the definition, in their order.
func (s *scrape) set(d *Definition, value float64, labels ...string) {
	attributes, ok := attributesOf(d, labels)
	if !ok {
		return
	}
	point := metricdata.DataPoint[float64]{Attributes: attributes, Time: s.now, Value: value}
	m := s.metricOf(d)
	switch data := m.Data.(type) {
	case metricdata.Sum[float64]:
		point.StartTime = s.began
		data.DataPoints = append(data.DataPoints, point)
		m.Data = data
	case metricdata.Gauge[float64]:
		data.DataPoints = append(data.DataPoints, point)
		m.Data = data
	}
}

// setTime adds a gauge that is a time, given in milliseconds since the epoch.
func (s *scrape) setTime(d *Definition, ms int64, labels ...string) {
	s.set(d, float64(ms)/1000, labels...)
}

// histogram adds what a histogram has counted.
func (s *scrape) histogram(d *Definition, c measure.Counts, labels ...string) {
	attributes, ok := attributesOf(d, labels)
	if !ok || c.Buckets == nil {
		return
	}
	point := metricdata.HistogramDataPoint[float64]{
		Attributes: attributes, StartTime: s.began, Time: s.now, Count: c.Count, Sum: c.Sum, Bounds: c.Bounds, BucketCounts: c.Buckets,
	}
	for _, e := range c.Exemplars {
		point.Exemplars = append(point.Exemplars, metricdata.Exemplar[float64]{
			Time: e.At, Value: e.Value, TraceID: e.TraceID[:], SpanID: e.SpanID[:],
		})
	}
	m := s.metricOf(d)
	if data, ok := m.Data.(metricdata.Histogram[float64]); ok {
		data.DataPoints = append(data.DataPoints, point)
		m.Data = data
	}
}

// metricOf returns where the values of a metric go.
func (s *scrape) metricOf(d *Definition) *metricdata.Metrics {
	m := s.metrics[d]
	if m == nil {
		m = &metricdata.Metrics{Name: d.Name, Description: d.Help, Unit: d.Unit}
		switch d.Kind {
		case Counter:
			m.Data = metricdata.Sum[float64]{Temporality: metricdata.CumulativeTemporality, IsMonotonic: true}
		case Gauge:
			m.Data = metricdata.Gauge[float64]{}
		case Histogram:
			m.Data = metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality}
		}
		s.metrics[d] = m
	}
	return m
}

// sorted returns what was collected in the order of definitions.
func (s *scrape) sorted() []metricdata.Metrics {
	out := make([]metricdata.Metrics, 0, len(s.metrics))
	for _, group := range definitions {
		for _, d := range group.all {
			if m := s.metrics[d]; m != nil {
				out = append(out, *m)
			}
		}
	}
	return out
}

// attributesOf pairs the labels of a definition with their values. A wrong number of them is a bug that a test finds; in
// production the value is left out and the rest is served.
func attributesOf(d *Definition, values []string) (attribute.Set, bool) {
	if len(values) != len(d.Labels) {
		otel.Handle(fmt.Errorf("metric %s: %d label values, want %d", d.Name, len(values), len(d.Labels)))
		return attribute.Set{}, false
	}
	pairs := make([]attribute.KeyValue, len(values))
	for i, v := range values {
		pairs[i] = attribute.String(d.Labels[i], v)
	}
	return attribute.NewSet(pairs...), true
}
