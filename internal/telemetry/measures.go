package telemetry

import (
	"millrace/pipeline/measure"
)

// ObserveMeasures adds what the process measures of its pipelines and of its calls.
func (r *Registry) ObserveMeasures(process *measure.Process) {
	r.sources.add(func(to *scrape) {
		for name, p := range process.Pipelines() {
			to.histogram(eventReadable, p.Readable.Counts(), name)
			to.histogram(windowEndPublished, p.WindowEnd.Counts(), name)
			to.histogram(watermarkPublished, p.Watermark.Counts(), name)
			to.histogram(commitDuration, p.Commit.Counts(), name)
			to.histogram(closeDuration, p.Close.Counts(), name)
			to.histogram(replayDuration, p.Replay.Counts(), name)
			for step, h := range p.Steps() {
				to.histogram(recoveryStep, h.Counts(), name, step)
			}
			published := p.Revisions()
			to.set(windowsClosed, float64(published.Closed), name)
			to.set(windowsFinal, float64(published.Final), name)
			to.set(publishedRows, float64(published.Rows), name)
			for reason, n := range published.ByReason {
				to.set(revisions, float64(n), name, reason)
			}
		}
		for call, h := range process.Calls.All() {
			to.histogram(callDuration, h.Counts(), call.Server, call.Operation, string(call.Outcome))
		}
	})
}
