package telemetry

import (
	"github.com/prometheus/otlptranslator"
)

// Kind is how a metric's values are to be read.
type Kind string

// Kinds.
const (
	Counter   Kind = "counter"   // only rises, and begins at 0 with the process or, where the help says so, with something else
	Gauge     Kind = "gauge"     // the value of now
	Histogram Kind = "histogram" // how often values fell into each of its buckets
)

// Units as UCUM writes them. Nothing that is counted has one: the exporter would call a gauge of unit 1 a ratio.
const (
	noUnit  = ""
	seconds = "s"
	bytes   = "By"
)

// Definition is a metric: what is registered, exported and documented of it follows from here.
type Definition struct {
	Name   string // in OpenTelemetry's form, as OTLP carries it
	Kind   Kind
	Unit   string   // UCUM, in base units
	Labels []string // each is one of labelBounds
	Help   string   // one sentence for an operator, without a full stop
}

// translation is how names become Prometheus's: underscores, then the unit, then _total for a counter.
var translation = otlptranslator.UnderscoreEscapingWithSuffixes

// PrometheusName is the metric's name on /metrics. A histogram's series have _bucket, _sum or _count behind it.
func (d *Definition) PrometheusName() (string, error) {
	kind := otlptranslator.MetricType(otlptranslator.MetricTypeGauge)
	switch d.Kind {
	case Counter:
		kind = otlptranslator.MetricTypeMonotonicCounter
	case Histogram:
		kind = otlptranslator.MetricTypeHistogram
	}
	namer := otlptranslator.NewMetricNamer("", translation)
	return namer.Build(otlptranslator.Metric{Name: d.Name, Unit: d.Unit, Type: kind})
}

// allDefinitions returns every metric, in the order of docs/metrics.md.
func allDefinitions() (all []*Definition) {
	for _, group := range definitions {
		all = append(all, group.all...)
	}
	return all
}
