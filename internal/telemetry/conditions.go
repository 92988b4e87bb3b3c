package telemetry

// ObserveConditions adds what keeps pipelines from their work, by pipeline and kind; docs/stuck-states.md describes the kinds.
// counts is called on every scrape, from any goroutine.
func (r *Registry) ObserveConditions(counts func() map[string]map[string]int) {
	r.sources.add(func(to *scrape) {
		for pipeline, kinds := range counts() {
			for kind, n := range kinds {
				to.set(conditions, float64(n), pipeline, kind)
			}
		}
	})
}
