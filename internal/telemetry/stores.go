package telemetry

import (
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
)

// ObserveWAL adds the write-ahead log of the process, of which pending commits are not in Redis. Both functions are called on every
// scrape, from any goroutine.
func (r *Registry) ObserveWAL(stats func() wal.Stats, level func() wal.Level, pending func() int64) {
	r.sources.add(func(to *scrape) {
		s := stats()
		failed := 0.0
		if s.Failed {
			failed = 1
		}
		to.set(walUsed, float64(s.Used))
		to.set(walLimit, float64(s.SoftLimit), "soft")
		to.set(walLimit, float64(s.HardLimit), "hard")
		to.set(walLevel, float64(level()))
		to.set(walFailed, failed)
		to.set(walCorrupt, float64(s.Corrupt))
		to.set(walSegments, float64(s.Segments))
		to.set(walPending, float64(pending()))
		to.set(walWritten, float64(s.Bytes))
	})
}

// RedisMemory is an estimate of what a pipeline takes in Redis, in bytes.
type RedisMemory struct {
	Entries  int64 // of the lanes that run here
	Contents int64 // of windows, meaningful where Closes is set
	Closes   bool  // its windows are closed here now
}

// ObserveRedis adds the memory of Redis: the whole, as its servers said last, with 0 for what is not known, and that of pipelines.
// Both functions are called on every scrape, from any goroutine.
func (r *Registry) ObserveRedis(server func() store.Memory, pipelines func() map[string]RedisMemory) {
	r.sources.add(func(to *scrape) {
		m := server()
		if m.Used > 0 {
			to.set(redisServer, float64(m.Used))
		}
		if m.Limit > 0 {
			to.set(redisServerLimit, float64(m.Limit))
		}
		for name, of := range pipelines() {
			to.set(redisMemory, float64(of.Entries), name, "entries")
			if of.Closes {
				to.set(redisMemory, float64(of.Contents), name, "contents")
			}
		}
	})
}
