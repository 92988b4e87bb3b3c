package telemetry

import (
	"maps"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"

	"millrace/internal/contract"
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
	return boundedQueues{opentelemetry.NewMetricsHandler(opentelemetry.MetricsHandlerOptions{
		Meter: r.Meter(), UseMonotonicCounters: true, OnError: otel.Handle, // it would panic without one
	})}
}

// boundedQueues calls the queues of a single process or disk by what they are: each has a name of its own, and there is another one
// with every start.
type boundedQueues struct{ client.MetricsHandler }

// tagQueue is the tag that the SDK gives the name of a task queue.
const tagQueue = "task_queue"

// WithTags implements client.MetricsHandler.
func (h boundedQueues) WithTags(tags map[string]string) client.MetricsHandler {
	if kind := QueueKind(tags[tagQueue]); kind != QueueShared {
		tags = maps.Clone(tags)
		tags[tagQueue] = kind
	}
	return boundedQueues{h.MetricsHandler.WithTags(tags)}
}

// Kinds of task queues.
const (
	QueueShared = "shared"
	QueueHost   = "host" // of one process
	QueueDisk   = "disk" // of one WAL directory
)

// QueueKind is the kind of a task queue with this name.
func QueueKind(name string) string {
	switch {
	case strings.HasPrefix(name, contract.HostQueue("")):
		return QueueHost
	case strings.HasPrefix(name, contract.DiskQueue("")):
		return QueueDisk
	}
	return QueueShared
}

// Poll is a queue of which this process polls tasks.
type Poll struct {
	Queue string // its kind
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
