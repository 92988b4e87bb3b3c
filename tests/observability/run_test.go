package observability

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/tests/rig"
)

// traffic counts events of now in short windows, so that everything that can become of a window does within a run of seconds.
const traffic = `
name: traffic
source: {topics: [traffic], format: json}
event:
  key: [k]
  time: {field: t, unit: ms}
aggregates:
  n: {func: count}
  v: {func: sum, field: v, type: int}
windows:
  - {name: short, size: 2s}
watermark: {out_of_orderness: 500ms, idle_timeout: 5s}
allowed_lateness: 3s
results:     {kafka: {topic: traffic.results}}
late:        {kafka: {topic: traffic.late}}
dead_letter: {kafka: {topic: traffic.dead}}
lane: {commit_interval: 200ms, overflow: journal}
`

const partitions = 4

// run is one pipeline on one worker with a Redis that can be cut off, and the Prometheus that looks at them.
type run struct {
	*rig.Pipeline
	t          *testing.T
	redis      *rig.Redis
	link       *rig.Proxy // between the worker and Redis; the commands go to it directly
	worker     *rig.Process
	prometheus *prometheus
	gateway    string // of short runs
	began      time.Time
	setup

	rate atomic.Int64 // events a second that producers send
	late atomic.Int64 // milliseconds by which the next events are late
	bad  atomic.Int64 // records to come that are no JSON
}

// setup says what a run is made of.
type setup struct {
	spec  string
	every time.Duration // between two scrapes and evaluations; 0: as deployed
	args  []string      // of the worker, more
	long  bool          // there is time to wait for what is asked every half a minute
}

// newRun starts all of it, without events.
func newRun(t *testing.T, set setup) *run {
	t.Helper()
	need(t, "prometheus")
	pushgateway := startPushgateway(t)
	r := &run{t: t, setup: set, gateway: "http://" + pushgateway, redis: rig.StartRedis(t, "--maxmemory", "64mb")}
	r.link = rig.StartProxy(t, r.redis.Addr)
	r.Pipeline = rig.NewWorld(t, rig.Servers{Redis: r.redis.Addr}).Pipeline(set.spec, partitions)
	metrics := freeAddr(t)
	r.prometheus = startPrometheus(t, set.every, map[string][]string{"millrace": {metrics}, "pushgateway": {pushgateway}})
	program := r.WorkerProgram("worker-1")
	program.Args = append(program.Args, "--metrics", metrics, "--wal", t.TempDir(), "--breaker-open", "2s")
	program.Args = append(program.Args, set.args...)
	program.Env = append(program.Env, "MILLRACE_REDIS_ADDRS="+r.link.Addr, "GOMEMLIMIT=512MiB")
	r.worker = rig.Spawn(t, program)
	r.Ready(r.worker)
	r.Start()
	r.began = time.Now()
	return r
}

// produce sends events of now, as many a second as rate says, until the test ends.
func (r *run) produce() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	r.t.Cleanup(func() {
		cancel()
		<-ended
	})
	go func() {
		defer close(ended)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for n := int64(0); ; {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for range r.rate.Load() / 20 {
				n++
				at := time.Now().UnixMilli() - r.late.Load() - rand.Int64N(300)
				r.send(ctx, n, fmt.Appendf(nil, `{"k":"k%d","t":%d,"v":%d}`, rand.IntN(500), at, n%10))
			}
			for ; r.bad.Load() > 0; r.bad.Add(-1) {
				n++
				r.send(ctx, n, []byte("heartbeat"))
			}
		}
	}()
}

func (r *run) send(ctx context.Context, n int64, value []byte) {
	r.Raw.Produce(ctx, &kgo.Record{Topic: r.Topic(), Partition: int32(n % partitions), Value: value}, nil)
}

// live is the run: rates that change, events that are late and too late, records that are no events, a Redis that is cut off, and a
// replay that counts what was too late. Each part takes one unit of time, and those that wait for something as long as that takes.
func (r *run) live(unit time.Duration) {
	r.t.Helper()
	r.produce()
	r.rate.Store(200)
	r.pass(3 * unit)
	r.rate.Store(1000)
	r.pass(3 * unit)
	r.rate.Store(300)
	r.late.Store(2_500)
	r.pass(unit / 2)
	r.late.Store(7_000)
	r.pass(unit / 2)
	r.late.Store(0)
	r.bad.Store(80)
	r.pass(unit)

	r.link.Point("")
	r.sees(`millrace_dependency_breaker{state="open"} == 1`)
	r.bad.Store(40)
	r.pass(unit)
	r.link.Point(r.redis.Addr)
	r.sees(`millrace_dependency_level == 0 and on () max_over_time(millrace_dependency_level[1h]) > 0`)
	r.feed()
	r.replay()
	r.rate.Store(150)
	r.pass(unit)
	r.sees(fmt.Sprintf("min(timestamp(up)) > %.3f", float64(time.Now().UnixMilli())/1000)) // everything was scraped since
}

// pass lets time pass in which the run goes on.
func (r *run) pass(d time.Duration) {
	over := time.NewTimer(d)
	defer over.Stop()
	<-over.C
}

// sees waits until Prometheus has a sample that a query wants.
func (r *run) sees(query string) {
	r.t.Helper()
	rig.Eventually(r.t, "Prometheus sees "+query, rig.Patience, func() bool {
		now := time.Now()
		return len(r.prometheus.ask(query, now, now, time.Second)) > 0
	})
}

// replay counts the windows of the run again that are final, with everything that was too late, and publishes what differs.
func (r *run) replay() {
	r.t.Helper()
	from, to := r.final()
	at := func(ms int64) string { return time.UnixMilli(ms).UTC().Format(time.RFC3339) }
	r.Must("replay", r.Spec.Name, "--from", at(from), "--to", at(to), "--lateness", "none", "--id", "late",
		"--pushgateway", r.gateway)
	var found struct {
		State   string
		Summary struct{ Checksum string }
	}
	require.NoError(r.t, json.Unmarshal([]byte(r.Must("replay", "show", r.Spec.Name, "late", "--json").Out), &found))
	require.NotEmpty(r.t, found.Summary.Checksum, "events that were too late make a difference")
	if r.long {
		r.sees(`millrace_pipeline_conditions{kind="replay-asks"} > 0`)
	}
	r.Must("replay", "approve", r.Spec.Name, "late", found.Summary.Checksum)
	if r.long {
		r.sees(`millrace_pipeline_conditions{kind="replay-asks"} == 0`)
	}
}

// feed is a short run beside the worker.
func (r *run) feed() {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), "events.jsonl")
	line := fmt.Sprintf(`{"k":"fed","t":%d,"v":1}`, time.Now().UnixMilli())
	require.NoError(r.t, os.WriteFile(file, []byte(strings.Repeat(line+"\n", 100)), 0o644))
	r.Must("feed", file, "--topic", r.Topic(), "--pushgateway", r.gateway)
	r.sees(`millrace_run_outcome{command="feed",outcome="ok"} == 1`)
}

// final is the range of the windows that are final, in ms; it waits for those into which the events fell that were too late.
func (r *run) final() (from, to int64) {
	r.t.Helper()
	until := time.Now().Add(-4 * time.Second).UnixMilli()
	rig.Eventually(r.t, "windows are final", rig.Patience, func() bool {
		from, to = math.MaxInt64, 0
		for _, row := range r.Ledger() {
			if row.Final {
				from, to = min(from, row.Start), max(to, row.End)
			}
		}
		return to >= until
	})
	return from, to
}
