package app

import (
	"context"
	"sync/atomic"
	"time"

	"millrace/internal/telemetry"
	"millrace/pipeline/store"
)

const (
	// memoryEvery is how often the servers of Redis are asked for their memory.
	memoryEvery = 15 * time.Second
	// entryOverhead is what Redis adds to a key and its entry in a hash, in bytes: a node of the table, its place in it, and two
	// headers and the rounding of strings. With Redis 7.0 it was 63 to 87 bytes in hashes of 5,000 entries. Hashes of a few hundred
	// short entries take 8 to 23, so for these the estimate is too high.
	entryOverhead = 72
)

// redisMemory asks the servers of Redis for their memory, for the metrics.
type redisMemory struct {
	store *store.Store
	last  atomic.Pointer[store.Memory]
}

// run asks until ctx ends. A server that does not answer has no memory that is known.
func (r *redisMemory) run(ctx context.Context) {
	tick := time.NewTicker(memoryEvery)
	defer tick.Stop()
	for {
		limited, cancel := context.WithTimeout(ctx, askLimit)
		m, err := r.store.ServerMemory(limited)
		cancel()
		if err != nil {
			m = store.Memory{}
		}
		r.last.Store(&m)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// server is what the servers said last.
func (r *redisMemory) server() store.Memory {
	if m := r.last.Load(); m != nil {
		return *m
	}
	return store.Memory{}
}

// pipelineMemory estimates what the pipelines of this process take in Redis: as many entries as their lanes hold, and as many
// contents as their closers keep, each as large as those that were written here are on average.
func (p *process) pipelineMemory() map[string]telemetry.RedisMemory {
	all := make(map[string]telemetry.RedisMemory)
	for _, s := range p.engines.statuses() {
		of := all[s.Pipeline]
		for i := range s.Lanes {
			l := &s.Lanes[i]
			inFields := l.Entries
			if l.Pages != nil {
				of.Entries += l.Pages.Bytes + int64(l.Pages.Pages)*entryOverhead
				inFields = l.Pages.InFields
			}
			if l.EntryBytes > 0 {
				of.Entries += int64(float64(inFields) * (l.EntryBytes + entryOverhead))
			}
		}
		all[s.Pipeline] = of
	}
	for name, kept := range p.closers.kept() {
		of := all[name]
		of.Closes = true
		if published := p.measure.Pipeline(name).Revisions(); published.Count() > 0 {
			of.Contents = int64(kept.Results) * published.Bytes / published.Count()
		}
		all[name] = of
	}
	return all
}
