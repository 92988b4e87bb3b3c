package telemetry

import (
	"millrace/pipeline/report"
	"millrace/pipeline/stage"
)

// ObserveKept adds what is still there of published windows, by pipeline, for the pipelines whose windows are closed here.
// kept is called on every scrape, from any goroutine.
func (r *Registry) ObserveKept(kept func() map[string]report.Kept) {
	r.sources.add(func(to *scrape) {
		for pipeline, k := range kept() {
			to.set(keptRows, float64(k.Rows), pipeline)
			to.set(keptResults, float64(k.Results), pipeline)
			to.set(keptBacklog, float64(k.Backlog), pipeline)
			if k.Oldest != 0 {
				to.setTime(keptOldest, k.Oldest, pipeline)
			}
			if k.Floor != 0 {
				to.setTime(keptFloor, k.Floor, pipeline)
			}
		}
	})
}

// ObserveClosingTimes adds where the time of closers goes, by pipeline. times is called on every scrape, from any goroutine.
func (r *Registry) ObserveClosingTimes(times func() map[string]stage.Spent) {
	r.sources.add(func(to *scrape) {
		for pipeline, spent := range times() {
			for name, s := range spent.Seconds() {
				to.set(closingStage, s, pipeline, name)
			}
		}
	})
}
