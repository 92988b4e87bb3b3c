package app

import (
	"maps"
	"slices"
	"time"

	"millrace/internal/telemetry"
)

// noteUpToDate notes that a round has left nothing of a pipeline due.
func (c *closers) noteUpToDate(pipeline string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.upToDate[pipeline] = time.Now()
}

// closing says by pipeline how far closing is, of the closer that has looked last, for those that are closed here.
func (c *closers) closing() map[string]telemetry.Closing {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, latest := make(map[string]telemetry.Closing), make(map[string]time.Time)
	for _, made := range c.made {
		name := made.spec.Name
		if !made.inUse(time.Now()) {
			continue
		}
		made.mu.Lock()
		if made.looked.After(latest[name]) {
			latest[name] = made.looked
			all[name] = telemetry.Closing{UpToDate: c.upToDate[name], Watermark: made.last.Waiting.Watermark, Open: made.open}
		}
		made.mu.Unlock()
	}
	return all
}

// pipelines lists the pipelines that are closed here, in order.
func (c *closers) pipelines() []string { return slices.Sorted(maps.Keys(c.closing())) }
