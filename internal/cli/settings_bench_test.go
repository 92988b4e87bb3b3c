package cli

import (
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/connect"
	"millrace/pipeline/measure"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// setting is a way to run the pipeline of the benchmark; zero values are the defaults.
type setting struct {
	gogc, procs, pool int
	limit             int64
	lane              func(*spec.Lane)
}

// benchSettings are what docs/tuning.md compares. The last ones are what tune led away from, and what it recommended there.
var benchSettings = map[string]setting{
	"default": {}, "default again": {},
	"GOGC=50": {gogc: 50}, "GOGC=200": {gogc: 200}, "GOGC=off GOMEMLIMIT=512MiB": {gogc: -1, limit: 512 << 20},
	"GOMAXPROCS=1": {procs: 1}, "pool_size=1": {pool: 1}, "pool_size=4": {pool: 4},
	"commit_interval=250ms": {lane: func(l *spec.Lane) { l.CommitInterval = spec.Duration(250 * time.Millisecond) }},
	"commit_interval=3s":    {lane: func(l *spec.Lane) { l.CommitInterval = spec.Duration(3 * time.Second) }},
	"fetch_bytes=64KiB":     {lane: func(l *spec.Lane) { l.FetchBytes = 64 << 10 }},
	"fetch_bytes=4MiB":      {lane: func(l *spec.Lane) { l.FetchBytes = 4 << 20 }},
	"fetch_batches=1":       {lane: func(l *spec.Lane) { l.FetchBatches = 1 }},
	"fetch_batches=8":       {lane: func(l *spec.Lane) { l.FetchBatches = 8 }},
	"commit_queue=2":        {lane: func(l *spec.Lane) { l.CommitQueue = 2 }},
	"chunk_fields=64":       {lane: func(l *spec.Lane) { l.ChunkFields = 64 }},
	"chunk_fields=2048":     {lane: func(l *spec.Lane) { l.ChunkFields = 2048 }},
	"poor":                  {pool: 1, lane: poorLane},
	"poor, as advised":      {pool: 12, lane: func(l *spec.Lane) { poorLane(l); advisedLane(l) }},
}

func poorLane(l *spec.Lane) {
	l.CommitInterval, l.ChunkFields, l.FetchBytes, l.FetchBatches = spec.Duration(250*time.Millisecond), 64, 64<<10, 1
}

// advisedLane is what `millrace tune` said of poorLane.
func advisedLane(l *spec.Lane) {
	l.CommitInterval, l.ChunkFields, l.FetchBytes, l.FetchBatches = spec.Duration(2*time.Second), 128, 1<<20, 2
}

// BenchmarkSettings runs the pipeline of `millrace bench` over one topic with each of the settings, all of them in every turn and in
// another order, and prints medians over the turns of what each costs beside the default of the same turn. It needs servers:
// CLI_TEST_MILLRACE_KAFKA_BROKERS and CLI_TEST_MILLRACE_REDIS_ADDRS; -benchtime 7x is seven turns, and
// CLI_TEST_SETTINGS names some of them, with semicolons between.
func BenchmarkSettings(b *testing.B) {
	kafka, redis := os.Getenv("CLI_TEST_"+connect.EnvKafkaBrokers), os.Getenv("CLI_TEST_"+connect.EnvRedisAddrs)
	if kafka == "" || redis == "" {
		b.Skip("needs CLI_TEST_" + connect.EnvKafkaBrokers + " and CLI_TEST_" + connect.EnvRedisAddrs)
	}
	srv, err := dialKafka(b.Context(), source.Config{Brokers: []string{kafka}})
	require.NoError(b, err)
	defer srv.Close()
	at := store.DefaultConfig()
	at.Addrs = []string{redis}
	require.NoError(b, srv.dialRedis(b.Context(), at))
	load := benchLoad{workload: hourly(2_000_000, 50_000, 4), measure: measure.NewProcess()}
	filled, err := newBenchRun(b.Context(), io.Discard, srv, load)
	require.NoError(b, err)
	defer filled.cleanUp()
	require.NoError(b, filled.fill(b.Context()))
	var names []string
	for _, name := range slices.Sorted(maps.Keys(benchSettings)) {
		if only := os.Getenv("CLI_TEST_SETTINGS"); only == "" || name == "default" || slices.Contains(strings.Split(only, ";"), name) {
			names = append(names, name)
		}
	}
	rates, cpus, fields := make(map[string][]float64), make(map[string][]float64), make(map[string][]float64)
	turns := 0
	for b.Loop() {
		turn := make(map[string]measured)
		rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names {
			turn[name] = runSetting(b, *srv, at, load, filled.topics[0], benchSettings[name])
		}
		base := turn["default"]
		for name, m := range turn {
			rates[name] = append(rates[name], m.Committed.EventsPerSecond/base.Committed.EventsPerSecond)
			cpus[name] = append(cpus[name], m.Committed.CPU.Engine/base.Committed.CPU.Engine)
			fields[name] = append(fields[name], m.FieldsPerEvent)
		}
		turns++
		fmt.Printf("turn %d is done\n", turns)
	}
	var out strings.Builder
	for _, name := range slices.Sorted(slices.Values(names)) {
		fmt.Fprintf(&out, "%-28s events/s %s   CPU an event %s   fields an event %.3f\n", name, spread(rates[name]), spread(cpus[name]),
			middle(fields[name]))
	}
	fmt.Printf("%d turns, beside the default of the same turn, median and range:\n%s", turns, out.String()) // a log would be cut
}

// runSetting runs the pipeline once, under a name of its own, over a topic that is filled.
func runSetting(b *testing.B, srv servers, at store.Config, load benchLoad, topic string, s setting) (m measured) {
	if s.gogc != 0 {
		defer debug.SetGCPercent(debug.SetGCPercent(s.gogc))
	}
	if s.limit != 0 {
		defer debug.SetMemoryLimit(debug.SetMemoryLimit(s.limit))
	}
	if s.procs != 0 {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(s.procs))
	}
	if s.pool != 0 {
		at.PoolSize = s.pool
	}
	srv.release = nil
	require.NoError(b, srv.dialRedis(b.Context(), at))
	defer srv.Close()
	load.topic = topic
	r, err := newBenchRun(b.Context(), io.Discard, &srv, load)
	require.NoError(b, err)
	defer r.cleanUp()
	if s.lane != nil {
		s.lane(&r.spec.Lane)
	}
	runtime.GC()
	require.NoError(b, r.pipeline(b.Context(), &m))
	return m
}

func middle(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(v))
	return sorted[len(sorted)/2]
}

func spread(v []float64) string {
	return fmt.Sprintf("%.2f (%.2f-%.2f)", middle(v), slices.Min(v), slices.Max(v))
}
