package telemetry

import (
	"strconv"

	"millrace/pipeline/breaker"
	"millrace/pipeline/report"
)

// ObserveBreakers adds all degradation machines that statuses returns. statuses is called on every scrape, from any goroutine.
func (r *Registry) ObserveBreakers(statuses func() []breaker.Status) {
	r.sources.add(func(to *scrape) {
		for _, s := range statuses() {
			of := []string{s.Pipeline, strconv.Itoa(s.Replica), s.Dependency}
			to.set(dependencyLevel, float64(s.Level.Rank()), of...)
			to.set(dependencyBreaker, 1, with(of, s.Breaker)...)
			if s.Override != report.OverrideNone {
				to.set(dependencyOverride, 1, with(of, string(s.Override))...)
			}
			for _, l := range report.Levels() {
				to.set(dependencyChanges, float64(s.Entered[l]), with(of, string(l))...)
			}
			to.set(dependencyTries, float64(s.Totals.Succeeded), with(of, "succeeded")...)
			to.set(dependencyTries, float64(s.Totals.Failed), with(of, "failed")...)
			to.set(dependencyTries, float64(s.Totals.Cancelled), with(of, "cancelled")...)
		}
	})
}
