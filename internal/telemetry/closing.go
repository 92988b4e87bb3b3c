package telemetry

import (
	"time"

	"millrace/pipeline/merge"
)

// Closing is how far the closing of a pipeline's windows is.
type Closing struct {
	UpToDate  time.Time // when nothing was due that was not published
	Watermark int64     // of the pipeline, ms; 0 while there is none
	Open      int       // windows of which lanes hold events
}

// ObserveClosing adds how far the closing is of the pipelines whose windows are closed here. closing is called on every scrape, from
// any goroutine.
func (r *Registry) ObserveClosing(closing func() map[string]Closing) {
	r.sources.add(func(to *scrape) {
		for pipeline, c := range closing() {
			to.set(closingDelay, max(0, to.now.Sub(c.UpToDate).Seconds()), pipeline)
			to.set(closingOpen, float64(c.Open), pipeline)
			if c.Watermark != 0 {
				to.setTime(closingWatermark, c.Watermark, pipeline)
			}
		}
	})
}

// ObserveMergeCache adds what is kept of merged slices. stats is called on every scrape, from any goroutine.
func (r *Registry) ObserveMergeCache(stats func() merge.CacheStats) {
	r.sources.add(func(to *scrape) {
		s := stats()
		to.set(mergeCache, float64(s.Bytes))
		to.set(mergeCacheLimit, float64(s.Limit))
		to.set(mergedSlices, float64(s.Hits), "cache")
		to.set(mergedSlices, float64(s.Misses), "lanes")
	})
}
