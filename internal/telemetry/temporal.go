package telemetry

import (
	"time"

	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
)

// temporalBounds are the buckets of the durations that Temporal's SDK measures, in seconds. The meter's own are for milliseconds.
var temporalBounds = []float64{0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600}

// temporalView gives them to everything that the SDK measures: its names begin so.
func temporalView() sdk.View {
	return sdk.NewView(sdk.Instrument{Name: "temporal_*", Kind: sdk.InstrumentKindHistogram},
		sdk.Stream{Aggregation: sdk.AggregationExplicitBucketHistogram{Boundaries: temporalBounds}})
}

// TemporalHandler takes the metrics of Temporal's SDK.
func (r *Registry) TemporalHandler() client.MetricsHandler {
	return opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{Meter: r.Meter(), UseMonotonicCounters: true})
}

// Poll is a queue of which this process polls tasks.
type Poll struct {
	Queue string // shared, host or disk
	Type  string // workflow or activity
}

// Orchestration is what Temporal was found to know of the pipelines.
type Orchestration struct {
	Conditions map[string]map[string]int // by pipeline and kind, as the pipelines' workflows tell them
	Failed     map[string]int            // workflows, by type
}

// ObserveTemporal adds when Temporal last answered a poll, and what was found when it was last asked. Both functions are called on
// every scrape, from any goroutine.
func (r *Registry) ObserveTemporal(polls func() map[Poll]time.Time, found func() Orchestration) {
	r.sources.add(func(to *scrape) {
		for poll, at := range polls() {
			to.setTime(lastPoll, at.UnixMilli(), poll.Queue, poll.Type)
		}
		o := found()
		for pipeline, kinds := range o.Conditions {
			for kind, n := range kinds {
				to.set(pipelineConditions, float64(n), pipeline, kind)
			}
		}
		for workflow, n := range o.Failed {
			to.set(failedWorkflows, float64(n), workflow)
		}
	})
}
