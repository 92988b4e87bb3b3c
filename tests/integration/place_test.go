package integration

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
	"millrace/tests/rig"
)

// A worker that is killed is replaced as soon as the others miss its signs of life in Redis, long before Temporal misses its
// heartbeats. The times are printed; docs/workflows.md has some.
func TestKilledWorkerIsReplacedAtOnce(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 60_000)
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(yaml, 4, func(s *spec.Spec) { s.Replicas = 2 })
	workers := map[string]*rig.Process{}
	more := func() {
		one := w.Worker()
		workers[one.Name] = one
		w.Ready(one)
	}
	more()
	more()
	more()
	p.Start()
	feed := p.Trickle(lines, len(lines)/90)
	p.Reach(1000)
	for kill := 1; kill <= 5; kill++ {
		var victim *rig.Process
		rig.Eventually(t, "both replicas are placed", patience, func() bool {
			victim = workers[p.Holder(0)]
			return victim != nil && p.Holder(1) != ""
		})
		p.Commits(3)
		require.True(t, feed.Going(), "the feed is over before kill %d", kill)
		before := p.Owners()
		victim.Kill()
		began := time.Now()
		delete(workers, victim.Name)
		taken := time.Duration(0)
		rig.Eventually(t, "the lanes of the killed worker have another owner and commit", patience, func() bool {
			changed := 0
			for n := range p.Parts {
				m, found := p.Meta(n)
				if found && m.Owner != before[n] {
					changed++
					if m.UpdatedAt < began.UnixMilli() {
						return false
					}
				}
			}
			taken = time.Since(began)
			return changed >= 2
		})
		t.Logf("kill %d: the lanes ran elsewhere after %s", kill, taken.Round(10*time.Millisecond))
		require.Less(t, taken, contract.BeatTimeout, "missed heartbeats would have done as well")
		more()
	}
	feed.Finish()
	p.Drain()
	p.RequireExact()
}

// Three replicas run on the only worker; two more workers join, and each gets one. Then nothing moves any more.
func TestReplicasSpreadWhenWorkersJoin(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 60_000)
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(yaml, 6, func(s *spec.Spec) { s.Replicas = 3 })
	first := w.Worker()
	w.Ready(first)
	p.Start()
	feed := p.Trickle(lines, len(lines)/120)
	p.Reach(1000)
	holders := func() []string {
		all := []string{p.Holder(0), p.Holder(1), p.Holder(2)}
		slices.Sort(all)
		return all
	}
	rig.Eventually(t, "all run on the only worker", patience, func() bool { return holders()[0] == first.Name })
	p.Commits(3)

	gaps := watchGaps(p)
	second, third := w.Worker(), w.Worker()
	w.Ready(second, third)
	began := time.Now()
	rig.Eventually(t, "every worker has one", patience, func() bool {
		return slices.Equal(holders(), []string{first.Name, second.Name, third.Name})
	})
	took := time.Since(began)
	p.Commits(3)
	moves := 0
	for n := range 3 {
		moves += p.Replica(n).Moves
	}
	require.Equal(t, 2, moves, "each of them moved once")
	gap := gaps()
	t.Logf("spread after %s, the longest a lane went without a commit was %s", took.Round(100*time.Millisecond), gap)
	require.Less(t, took, time.Minute)

	quiet := time.NewTimer(2*contract.SpreadAfter + 5*time.Second)
	defer quiet.Stop()
	<-quiet.C
	require.Equal(t, []string{first.Name, second.Name, third.Name}, holders(), "nothing moves back")
	moves = 0
	for n := range 3 {
		moves += p.Replica(n).Moves
	}
	require.Equal(t, 2, moves)
	feed.Finish()
	p.Drain()
	p.RequireExact()
}

// watchGaps looks at the lanes until it is called, and returns the longest time between two commits of one.
func watchGaps(p *pipeline) (end func() time.Duration) {
	stop, longest := make(chan struct{}), make(chan time.Duration)
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		last := make(map[int32]int64)
		most := int64(0)
		for {
			select {
			case <-stop:
				longest <- time.Duration(most) * time.Millisecond
				return
			case <-tick.C:
			}
			for n := range p.Parts {
				m, found := p.Meta(n)
				if !found {
					continue
				}
				if before, ok := last[n]; ok && m.UpdatedAt != before {
					most = max(most, m.UpdatedAt-before)
				}
				last[n] = m.UpdatedAt
			}
		}
	}()
	return func() time.Duration {
		close(stop)
		return <-longest
	}
}

// Of three workers one can run the pipeline. It is found at once, and with it gone the replica says why nobody else will do.
func TestMixedFleet(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 10_000)
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(yaml, 4, func(s *spec.Spec) { s.Replicas, s.Lane.Overflow = 1, spec.OverflowJournal })
	var plain []*rig.Process
	for range 2 {
		plain = append(plain, w.Worker())
	}
	able := w.WorkerProgram("able")
	able.Args = append(able.Args, "--wal", t.TempDir())
	one := rig.Spawn(t, able)
	w.Ready(append(plain, one)...)
	began := time.Now()
	p.Start()
	rig.Eventually(t, "it runs on the only worker that can", patience, func() bool { return p.Holder(0) == "able" })
	t.Logf("placed %s after the start", time.Since(began).Round(10*time.Millisecond))
	require.Less(t, time.Since(began), 30*time.Second)
	p.Feed(lines)
	p.Reach(int64(len(lines)) / 2)

	one.Kill()
	rig.Eventually(t, "the replica says that no worker can run it", patience, func() bool {
		s := p.Replica(0)
		for _, worker := range plain {
			if s.State != contract.ChildSeeking || !containsAll(s.Note, "no worker can run it", worker.Name+": lane.overflow is journal") {
				return false
			}
		}
		return true
	})
	rig.Eventually(t, "the pipeline knows", patience, func() bool {
		return slices.ContainsFunc(p.Status().Children, func(c contract.ChildState) bool {
			return c.State == contract.ChildSeeking && containsAll(c.Note, "no worker can run it")
		})
	})
	able.Name = "able-again"
	able.Args[1] = able.Name
	again := rig.Spawn(t, able)
	w.Ready(again)
	began = time.Now()
	rig.Eventually(t, "it runs on the worker that came", patience, func() bool { return p.Holder(0) == able.Name })
	t.Logf("placed %s after a worker that can had come", time.Since(began).Round(10*time.Millisecond))
	p.Drain()
	p.RequireExact()
}

func containsAll(text string, parts ...string) bool {
	return !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(text, part) })
}

// Before maintenance: everything is told to keep off Redis while all is well, a hot path that is placed later keeps off it too, and
// so do those of a Redis that is really away; auto ends it.
func TestOpenBeforeMaintenance(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 20_000)
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(yaml, 4, func(s *spec.Spec) { s.Replicas, s.Lane.Overflow = 1, spec.OverflowJournal })
	var workers []*rig.Process
	for _, name := range []string{"a", "b"} {
		program := w.WorkerProgram(name)
		program.Args = append(program.Args, "--wal", t.TempDir())
		workers = append(workers, rig.Spawn(t, program))
	}
	w.Ready(workers...)
	p.Start()
	rig.Eventually(t, "it is placed", patience, func() bool { return p.Holder(0) != "" })
	feed := p.Trickle(lines, len(lines)/60)
	p.Reach(int64(len(lines)) / 20)

	r := p.Update("degrade", "open", p.Spec.Name, "--reason", "maintenance of Redis")
	require.True(t, r.Applied, "%+v", r)
	require.NotEmpty(t, r.Levels)
	require.Equal(t, report.OverrideOpen, r.Levels[0].Override)
	require.Equal(t, report.LevelJournal, r.Levels[0].Level)
	require.Contains(t, p.CLI("status", p.Spec.Name).Out, "maintenance of Redis")
	first, other := workers[0], workers[1]
	if p.Holder(0) == other.Name {
		first, other = other, first
	}
	first.Kill()
	rig.Eventually(t, "the hot path that was placed later keeps off Redis, too", patience, func() bool {
		return p.Holder(0) == other.Name && other.SaidOf("degradation level", "to=journal", "maintenance of Redis") > 0
	})
	before := p.Committed()
	quiet := time.NewTimer(3 * time.Second)
	defer quiet.Stop()
	<-quiet.C
	require.True(t, feed.Going())
	require.Equal(t, before, p.Committed(), "nothing is committed to Redis")

	r = p.Update("degrade", "auto", p.Spec.Name)
	require.True(t, r.Applied)
	require.NotEmpty(t, r.Levels)
	for _, l := range r.Levels {
		require.Empty(t, l.Override)
	}
	feed.Finish()
	p.Reach(int64(len(lines)))
	p.Drain()
	p.RequireExact()
}
