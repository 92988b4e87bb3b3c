package tune

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/machine"
)

// measured is a Redis that takes 400k fields/s from 4 lanes on, and a broker that is a millisecond away.
func measured() *Measured {
	m := &Measured{EventTime: 300 * time.Nanosecond, Processes: 4, Machine: machine.Machine{Processors: 4, Memory: 8 << 30}}
	m.Redis.Chunks = []Chunk{{128, 150e3, 800 * time.Microsecond}, {512, 300e3, 1700 * time.Microsecond}, {1024, 310e3, 3300 * time.Microsecond},
		{4096, 400e3, 10 * time.Millisecond}}
	m.Redis.Loads = []Load{{1, 200, time.Millisecond, 200e3}, {4, 800, 5 * time.Millisecond, 400e3}, {16, 810, 20 * time.Millisecond, 405e3}}
	m.Kafka.RoundTrip, m.Kafka.Bytes = time.Millisecond, 100
	m.Kafka.Fetches = []Fetch{{256 << 10, 1e6}, {1 << 20, 2e6}, {4 << 20, 2.05e6}}
	return m
}

func now() Now {
	return Now{Lanes: 8, PoolSize: 32, ChunkFields: 512, FetchBytes: 1 << 20, FetchBatches: 2, CommitQueue: 1, CommitInterval: time.Second,
		MemoryLimit: 512 << 20, Keys: 10_000, GOGC: "100", GoLimit: "none"}
}

func advice(t *testing.T, m *Measured, n Now, option string) Advice {
	t.Helper()
	for _, a := range Advise(m, n) {
		if a.Option == option {
			require.NotEmpty(t, a.Why)
			require.NotEmpty(t, a.Where)
			return a
		}
	}
	t.Fatalf("no advice about %s", option)
	return Advice{}
}

func TestAdvice(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Measured, *Now)
		option string
		want   string
		why    string
	}{
		// (8 lanes x (20 chunks + 1)) / 1s = 168 calls/s x 5ms = 0.84 busy, x 2 + 8 = 10, more is idle.
		{"pool", nil, "redis.pool_size", "32", "168 calls/s x 5ms = 0.8 connections busy; x 2 for bursts + 4 closer + 4 other, and at most a " +
			"connection for each of 8 lanes; 10 are needed, more only idle"},
		{"pool too small", func(_ *Measured, n *Now) { n.PoolSize = 4 }, "redis.pool_size", "10", "168 calls/s"},
		{"pool of a busy Redis far away", func(m *Measured, n *Now) { n.Lanes, m.Redis.Loads[1].Service = 256, 50*time.Millisecond },
			"redis.pool_size", "88", "800 calls/s x 50ms = 40.0 connections busy"},
		{"pool far too large", func(_ *Measured, n *Now) { n.PoolSize = 1000 }, "redis.pool_size", "10", "calls/s"},
		{"chunk", nil, "lane.chunk_fields", "512", "300k fields/s, 1.7ms a call"},
		{"chunk too small", func(_ *Measured, n *Now) { n.ChunkFields = 128 }, "lane.chunk_fields", "512", "300k"},
		{"chunk that holds Redis up", func(_ *Measured, n *Now) { n.ChunkFields = 4096 }, "lane.chunk_fields", "512", "at most 5ms"},
		{"interval", nil, "lane.commit_interval", "1s", "8 lanes x 10000 keys = 80k fields a commit / 400k fields/s = 200ms of writing"},
		{"interval of many keys", func(_ *Measured, n *Now) { n.Keys = 200_000 }, "lane.commit_interval", "8s", "= 4s of writing, at most 50 %"},
		{"fetch", nil, "lane.fetch_bytes", "1048576", "2M records/s"},
		{"fetch too small", func(_ *Measured, n *Now) { n.FetchBytes = 256 << 10 }, "lane.fetch_bytes", "1048576", "2M records/s"},
		{"batches", nil, "lane.fetch_batches", "2", "folding its 10.5k records 3.15ms"},
		{"batches of a broker far away", func(m *Measured, _ *Now) { m.Kafka.RoundTrip = 20 * time.Millisecond }, "lane.fetch_batches", "8", "+ 1"},
		{"memory by specs", nil, "GOMEMLIMIT", "1.25GiB", "2 x 512MiB of lane.memory_limit + 256MiB"},
		{"memory by the container", func(m *Measured, _ *Now) { m.Machine.MemoryLimit = 1 << 30 }, "GOMEMLIMIT", "921.6MiB", "90 % of the 1GiB"},
		{"GOGC", nil, "GOGC", "100", "1.25GiB of limit / 640MiB live"},
		{"GOGC with little room", func(m *Measured, _ *Now) { m.Machine.MemoryLimit = 800 << 20 }, "GOGC", "50", "= 12 % of growth"},
		{"GOGC without a limit", func(_ *Measured, n *Now) { n.MemoryLimit = 0 }, "GOGC", "100", "nothing limits"},
		{"processors", nil, "GOMAXPROCS", "4", "no quota"},
		{"quota", func(m *Measured, _ *Now) { m.Machine.Quota = 2.5 }, "GOMAXPROCS", "3", "quota is 2.5 of 4"},
		{"no node", nil, "NUMA", "not bound", "names no node"},
		{"one node", func(m *Measured, _ *Now) { m.Machine.Nodes = []machine.Node{{Number: 0, CPUs: "0-3"}} }, "NUMA", "not bound", "one node"},
		{"two nodes", func(m *Measured, _ *Now) {
			m.Machine.Nodes = []machine.Node{{Number: 0, CPUs: "0-1"}, {Number: 1, CPUs: "2-3"}}
		}, "NUMA",
			"numactl --cpunodebind=0 --membind=0 bin/worker; numactl --cpunodebind=1 --membind=1 bin/worker", "2 nodes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m, n := measured(), now()
			if tt.change != nil {
				tt.change(m, &n)
			}
			a := advice(t, m, n, tt.option)
			require.Equal(t, tt.want, a.Recommended)
			require.Contains(t, a.Why, tt.why)
			require.Equal(t, a.Now != a.Recommended, a.Changes())
		})
	}
}

func TestMemoryLimit(t *testing.T) {
	limit, why := MemoryLimit(0, 0, 1<<30)
	require.Equal(t, int64(math.MaxInt64), limit)
	require.Equal(t, "nothing limits it", why)
	limit, why = MemoryLimit(0, 512<<20, 2<<30)
	require.Equal(t, int64(3328<<20), limit, "what the cache may hold is not taken from the lanes")
	require.Equal(t, "2 x 512MiB of lane.memory_limit + 2GiB of worker.merge_cache + 256MiB", why)
	require.Equal(t, "1.5KiB", Bytes(1536))
	require.Equal(t, "12B", Bytes(12))
}
