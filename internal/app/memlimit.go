package app

import (
	"context"
	"log/slog"
	"math"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"millrace/internal/machine"
	"millrace/internal/tune"
)

// limitEvery is how often the limit follows the hot paths that run here.
const limitEvery = 5 * time.Second

// memoryLimit sets the limit of Go's memory, so that the collector works harder before the kernel ends the process. Whoever sets
// GOMEMLIMIT decides instead.
type memoryLimit struct {
	log    *slog.Logger
	states func() int64 // lane.memory_limit of the hot paths that run here, together
	merged func() int64 // what merged slices may take, 0 while no window was merged that they are kept for
	set    func(int64) int64
	fixed  bool  // by GOMEMLIMIT
	group  int64 // what the control group allows, 0 without a limit
	now    atomic.Pointer[memoryLimited]
	warned bool
}

// memoryLimited is the limit in force; Bytes is math.MaxInt64 without one.
type memoryLimited struct {
	Bytes int64
	Why   string
}

func newMemoryLimit(states, merged func() int64, log *slog.Logger) *memoryLimit {
	m := &memoryLimit{log: log, states: states, merged: merged, set: debug.SetMemoryLimit, group: machine.Look("/").MemoryLimit}
	_, m.fixed = os.LookupEnv("GOMEMLIMIT")
	m.follow()
	return m
}

// run follows the hot paths until ctx ends.
func (m *memoryLimit) run(ctx context.Context) {
	tick := time.NewTicker(limitEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			m.follow()
		case <-ctx.Done():
			return
		}
	}
}

func (m *memoryLimit) follow() {
	next := memoryLimited{Bytes: m.set(-1), Why: "GOMEMLIMIT"}
	states, merged := m.states(), m.merged()
	if !m.fixed {
		next.Bytes, next.Why = tune.MemoryLimit(m.group, states, merged)
	}
	if over := states+merged > next.Bytes; over != m.warned {
		if m.warned = over; over {
			m.log.Warn("lanes and merged slices may hold more than Go's memory limit: lower lane.memory_limit or worker.merge_cache, "+
				"or give the worker more memory", "lane_memory_limit", states, "merge_cache", merged, "limit", next.Bytes, "because", next.Why)
		}
	}
	if last := m.now.Load(); last != nil && *last == next {
		return
	}
	if !m.fixed {
		m.set(next.Bytes)
	}
	m.now.Store(&next)
	if next.Bytes != math.MaxInt64 {
		m.log.Info("Go's memory limit", "bytes", next.Bytes, "because", next.Why)
	}
}

// limited is the limit in force, 0 without one, and why.
func (m *memoryLimit) limited() (int64, string) {
	now := m.now.Load()
	if now.Bytes == math.MaxInt64 {
		return 0, now.Why
	}
	return now.Bytes, now.Why
}
