package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/internal/dev"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/tests/rig"
)

// run is one seed under way. Everything happens in the test's goroutine.
type run struct {
	t     *testing.T
	plan  *Plan
	scale Scale
	out   *Outcome
	dir   string // of the workers' directories
	logs  string // kept when the seed fails
	began time.Time
	story *os.File

	world    *rig.World
	pipeline *rig.Pipeline
	redis    *rig.Redis
	probe    *redis.Client
	broker   broker
	temporal *dev.Temporal // nil when the seed leaves it alone
	config   dev.TemporalConfig
	workers  []*worker
	feed     *rig.Trickle
	held     []rig.Addressed // what is fed once all lanes are in pages

	active  []*fault
	started bool
	watch   watch
	loss    *loss
	asked   time.Time // when the recoveries were last looked through for incidents
	decided map[incidentOf]int
	former  *former
	skipped map[int32]int64 // records given up, by partition
}

// fault is a step that has begun and is not healed.
type fault struct {
	Step
	due time.Time
	end func() bool // tries to heal; false: not yet
}

// limit bounds one seed.
const limit = 6 * time.Minute

// begin starts everything a plan needs.
func begin(t *testing.T, plan *Plan, scale Scale, logs string, out *Outcome) *run {
	t.Helper()
	r := &run{t: t, plan: plan, scale: scale, out: out, dir: t.TempDir(), logs: logs, began: time.Now(),
		decided: make(map[incidentOf]int), skipped: make(map[int32]int64)}
	var err error
	require.NoError(t, os.RemoveAll(logs))
	require.NoError(t, os.MkdirAll(logs, 0o755))
	r.story, err = os.Create(filepath.Join(logs, "story.log"))
	require.NoError(t, err)
	t.Cleanup(func() { r.story.Close() })
	r.say("%s", plan)

	own := rig.Servers{}
	if plan.Wide {
		own.BatchBytes = 2 * widest
	}
	if plan.Uses(KafkaKill) {
		r.broker = ownBroker(t)
		own.Kafka = r.broker.address()
	}
	r.redis = rig.StartRedis(t, "--appendfsync", plan.Fsync, "--logfile", filepath.Join(logs, "redis.log"))
	r.probe = r.redis.Client()
	own.Redis = r.redis.Addr
	if plan.Uses(TemporalKill, TemporalAway) {
		r.config = dev.TemporalConfig{DataDir: t.TempDir()}
		r.startTemporal()
		_, port, _ := strings.Cut(r.temporal.Addr(), ":")
		_, err := fmt.Sscan(port, &r.config.Port)
		require.NoError(t, err)
		own.Temporal = r.temporal.Addr()
	}
	r.world = rig.NewWorld(t, own)
	r.pipeline = r.world.Pipeline(plan.YAML, plan.Partitions, func(s *spec.Spec) { s.Replicas = plan.Replicas })
	for n := range plan.Workers {
		w := &worker{run: r, n: n, name: fmt.Sprintf("worker-%d", n+1), older: plan.Mixed, link: rig.StartProxy(t, r.redis.Addr)}
		if plan.Journal {
			r.giveWAL(w)
		}
		if plan.Uses(ClockJump) {
			w.clock = rig.NewClock(t, filepath.Join(r.dir, w.name+".clock"))
		}
		r.workers = append(r.workers, w)
		w.start()
	}
	for _, w := range r.workers {
		r.world.Ready(w.process)
		v, ok := w.look()
		require.True(t, ok, "%s has no metrics", w.name)
		w.base = v.goroutines
	}
	if !plan.Mixed {
		r.pipeline.Start()
		return r
	}
	a := rig.RunProgram(t, r.world.Env(), filepath.Join(*flagOlder, "millrace"), "start", r.pipeline.File)
	require.Zero(t, a.Code, "%s%s", a.Out, a.Err)
	return r
}

func (r *run) startTemporal() {
	var err error
	r.temporal, err = dev.StartTemporal(context.Background(), r.config)
	require.NoError(r.t, err)
	server := r.temporal
	r.t.Cleanup(func() { server.Close() })
}

// say writes to the seed's story.
func (r *run) say(format string, args ...any) {
	fmt.Fprintf(r.story, "%7.2f  %s\n", time.Since(r.began).Seconds(), fmt.Sprintf(format, args...))
}

// play feeds the input and applies the faults one after the other, each when it is legal.
func (r *run) play(records []record) {
	r.t.Helper()
	addressed := make([]rig.Addressed, len(records))
	for i, rec := range records {
		addressed[i] = rig.Addressed{Partition: rec.partition, Value: rec.value}
	}
	if r.plan.Mixed {
		before := len(addressed) * fedBefore / 100
		addressed, r.held = addressed[:before], addressed[before:]
	}
	r.feed = r.pipeline.TrickleTo(addressed, int(float64(len(addressed))/r.plan.Feed.Seconds()))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	free := time.Now() // since when the next step might have begun
	steps := r.plan.Steps
	why := ""
	for ; len(steps) > 0; <-tick.C {
		require.Less(r.t, time.Since(r.began), limit, "the seed's time is over")
		r.tend(false)
		require.NoError(r.t, r.feed.Failed(), "the feed")
		if time.Since(free) < steps[0].After {
			continue
		}
		if now := r.situation(steps[0]).mayBegin(steps[0]); now != "" {
			if now != why {
				r.say("%s waits for %s", steps[0], now)
			}
			why = now
			require.Less(r.t, time.Since(free), steps[0].After+2*rig.Patience, "%s waits for %s", steps[0], why)
			continue
		}
		if steps[0].InPages {
			r.feedHeld()
		}
		r.inject(steps[0])
		steps, free, why = steps[1:], time.Now(), ""
	}
	r.until("the last faults are over", func() bool { return len(r.active) == 0 && r.restored() })
}

// tend heals what is due, or everything, and keeps the workers running.
func (r *run) tend(all bool) {
	for _, f := range slices.Clone(r.active) {
		if !all && time.Now().Before(f.due) {
			continue
		}
		if f.end() {
			r.active = slices.DeleteFunc(r.active, func(g *fault) bool { return f == g })
			r.say("  end of %s", f.Step)
			continue
		}
		require.Less(r.t, time.Since(f.due), rig.Patience, "%s cannot be healed", f.Step)
	}
	for _, w := range r.workers {
		w.tend()
	}
	r.decideLost()
}

// until waits for a condition and keeps everything going meanwhile.
func (r *run) until(what string, cond func() bool) {
	r.t.Helper()
	rig.Eventually(r.t, what, 2*rig.Patience, func() bool {
		r.tend(false)
		return cond()
	})
}

// situation is what the rules look at before a step.
func (r *run) situation(next Step) *situation {
	s := &situation{workers: len(r.workers)}
	for _, f := range r.active {
		s.active = append(s.active, f.Step)
	}
	if !r.started {
		r.started = r.committedOnce() && r.filed()
	}
	s.started = r.started
	s.inPages = next.InPages && r.inPages()
	s.restoring = !r.restored()
	s.kept = s.started && next.loses() && r.kept()
	return s
}

// inPages reports whether every lane keeps its state in pages.
func (r *run) inPages() bool {
	for n := range r.plan.Partitions {
		if m, found := r.pipeline.Meta(n); !found || m.Format != store.PageFormat || m.Done == store.NoCommit {
			return false
		}
	}
	return true
}

// feedHeld feeds what was held back until all lanes are in pages.
func (r *run) feedHeld() {
	r.t.Helper()
	builds := make(map[string]int)
	for _, row := range r.pipeline.Ledger() {
		builds[row.Build]++
	}
	r.say("all lanes are in pages, the feed goes on: %t; windows published by build: %v", r.feed.Going(), builds)
	r.feed.Finish()
	r.feed = r.pipeline.TrickleTo(r.held, int(float64(len(r.held))/heldFeed.Seconds()))
}

func (r *run) committedOnce() bool {
	for n := range r.plan.Partitions {
		if m, found := r.pipeline.Meta(n); !found || m.Offset <= 0 {
			return false
		}
	}
	return true
}

// filed tells whether Redis has given everything it has acknowledged so far to its file.
func (r *run) filed() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	info, err := r.probe.InfoMap(ctx, "persistence").Result()
	return err == nil && info["Persistence"]["aof_buffer_length"] == "0"
}

// loss is what Redis has forgotten and not yet got again.
type loss struct {
	owners  []store.Token
	offsets []int64
}

// lose notes what there is before Redis forgets.
func (r *run) lose() {
	r.loss = &loss{}
	for n := range r.plan.Partitions {
		m, found := r.pipeline.Meta(n)
		require.True(r.t, found)
		r.loss.owners, r.loss.offsets = append(r.loss.owners, m.Owner), append(r.loss.offsets, m.Offset)
	}
}

// restored tells whether nothing is lost, or everything is there again.
func (r *run) restored() bool {
	if r.loss == nil {
		return true
	}
	for n := range r.plan.Partitions {
		m, found := r.pipeline.Meta(n)
		if !found || m.Owner == "" || m.Owner == r.loss.owners[n] || m.Offset < r.loss.offsets[n] {
			return false
		}
	}
	if !r.filed() {
		return false
	}
	r.loss = nil
	r.say("  every lane has written its state again")
	return true
}
