package telemetry

import "millrace/internal/build"

// ObserveBuild adds which build of Millrace the process is.
func (r *Registry) ObserveBuild() {
	r.sources.add(func(to *scrape) { to.set(buildInfo, 1, build.Version(), build.Go()) })
}

// ObserveReady adds whether the process takes tasks. why, nil when it does, is called on every scrape, from any goroutine.
func (r *Registry) ObserveReady(why func() error) {
	r.sources.add(func(to *scrape) {
		value := 1.0
		if why() != nil {
			value = 0
		}
		to.set(ready, value)
	})
}

// ObserveMemoryLimit adds the limit of Go's memory. limit, which returns 0 without one, is called on every scrape, from any goroutine.
func (r *Registry) ObserveMemoryLimit(limit func() (bytes int64, why string)) {
	r.sources.add(func(to *scrape) {
		if n, _ := limit(); n > 0 {
			to.set(memoryLimit, float64(n))
		}
	})
}
