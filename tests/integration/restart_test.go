package integration

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
	"millrace/pipeline/spec"
	"millrace/tests/rig"
)

// journalled takes Redis away until every lane's commits go into the journal of the worker, and so many records with them.
func (p *pipeline) journalled(worker *journalWorker, front *rig.Proxy, records float64) {
	p.T.Helper()
	front.Point("")
	before := worker.read(p.T)
	p.entered(worker.Name, report.LevelJournal)
	rig.Eventually(p.T, "intake goes on without Redis", patience, func() bool { return worker.read(p.T) > before+records })
}

// A worker is killed while commits are in its journal, and started again on the same disk: what it had journalled is drained
// into Redis, not read again.
func TestCrashWithJournal(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 40_000)
	rdb := rig.StartRedis(t)
	front := rig.StartProxy(t, rdb.Addr)
	w := newWorld(t, rig.Servers{Redis: front.Addr})
	p := w.newPipeline(yaml, 4, overflow)
	dir := t.TempDir()
	worker := w.journalWorker(dir)
	w.Ready(worker.Process)
	p.Start()
	total := int64(len(lines))
	feed := p.Trickle(lines, len(lines)/60)
	p.Reach(total / 20)
	owners := p.Owners()
	p.journalled(worker, front, 3_000)
	require.True(t, feed.Going())
	worker.Kill()
	front.Point(rdb.Addr)
	before := p.Committed()
	require.Equal(t, owners, p.Owners())

	again := w.journalWorker(dir)
	w.Ready(again.Process)
	p.Reach(before + 1)
	feed.Finish()
	p.Reach(total)
	settled := p.replay()
	drained := settled.Totals.Drained.Commits
	superseded := settled.Totals.Superseded.Commits + settled.Totals.Kept.Commits
	rig.Eventually(t, "the recoveries are over", patience, func() bool {
		for _, r := range p.recoveries() {
			if r.Open {
				return false
			}
		}
		return true
	})
	chains := 0
	for id, r := range p.recovered() {
		for _, l := range r.Lanes {
			if l.Journal == nil || l.Journal.Outcome == report.ChainNone {
				continue
			}
			t.Logf("%s: %s %+v", id, laneName(l.Topic, l.Partition), l.Journal)
			chains++
			drained += l.Journal.Commits
			if l.Journal.Superseded != nil {
				superseded += l.Journal.Superseded.Commits
			}
		}
	}
	t.Logf("%d commits drained, %d superseded, of %d chains by acquisitions", drained, superseded, chains)
	require.Positive(t, drained, "nothing that was journalled was applied")
	p.Drain()
	p.RequireExact()
}

// A worker is killed while commits are in its journal, and another one that has not that disk takes the lanes over: it reads
// again, and what was journalled is never applied, also when its disk comes back.
func TestJournalIsSuperseded(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 40_000)
	rdb := rig.StartRedis(t)
	front := rig.StartProxy(t, rdb.Addr)
	w := newWorld(t, rig.Servers{Redis: front.Addr})
	p := w.newPipeline(yaml, 4, overflow)
	dir := t.TempDir()
	worker := w.journalWorker(dir)
	w.Ready(worker.Process)
	p.Start()
	total := int64(len(lines))
	feed := p.Trickle(lines, len(lines)/60)
	p.Reach(total / 20)
	owners := p.Owners()
	p.journalled(worker, front, 3_000)
	require.True(t, feed.Going())
	disk := worker.disk(p)
	worker.Kill()
	front.Point(rdb.Addr)

	other := w.observedWorker("worker-other", "--wal", t.TempDir(), "--breaker-open", "2s")
	w.Ready(other.Process)
	rig.Eventually(t, "all lanes have another owner", patience, func() bool {
		for n, owner := range p.Owners() {
			if owner == owners[n] || owner == "" {
				return false
			}
		}
		return true
	})
	p.Commits(1)
	back := w.journalWorker(dir)
	w.Ready(back.Process)
	settled := p.replay("--disk", disk)
	t.Logf("%+v", settled.Totals)
	feed.Finish()
	p.Reach(total)
	require.Zero(t, settled.Totals.Drained.Commits, "what was read again was applied once more")
	superseded := settled.Totals.Superseded.Commits + settled.Totals.Kept.Commits
	tidied := back.SaidOf("journalled commits are superseded")
	require.Positive(t, superseded+int64(tidied))
	require.Equal(t, other.Name, p.Holder(0))
	p.Drain()
	p.RequireExact()
}

// Two workers are restarted one after the other under load. A lane whose replica stays where it is keeps its owner, and hardly
// notices.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 60_000)
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(yaml, 8, func(s *spec.Spec) { s.Replicas = 2 })
	workers := map[string]*journalWorker{}
	more := func() *journalWorker {
		one := w.observedWorker(fmt.Sprintf("worker-%d", len(workers)+1))
		workers[one.Name] = one
		w.Ready(one.Process)
		return one
	}
	first, second := more(), more()
	p.Start()
	total := int64(len(lines))
	feed := p.Trickle(lines, len(lines)/90)
	rig.Eventually(t, "both workers have a replica", patience, func() bool {
		a, b := p.Holder(0), p.Holder(1)
		return a != "" && b != "" && a != b
	})
	rig.Eventually(t, "both workers have lanes", patience, func() bool {
		return len(p.lanesOf(first)) > 0 && len(p.lanesOf(second)) > 0 && len(p.lanesOf(first))+len(p.lanesOf(second)) == int(p.Parts)
	})
	p.Commits(1)

	retained := 0
	for _, leaving := range []*journalWorker{first, second} {
		staying := map[int32]*journalWorker{}
		for _, one := range workers {
			if one == leaving || one.Ended() {
				continue
			}
			for n := range p.lanesOf(one) {
				staying[n] = one
			}
		}
		require.True(t, feed.Going(), "the feed is over before the restart")
		owners := p.Owners()
		require.Zero(t, leaving.Stop())
		rig.Eventually(t, "both replicas are placed elsewhere", patience, func() bool {
			a, b := p.Holder(0), p.Holder(1)
			return a != "" && b != "" && a != leaving.Name && b != leaving.Name
		})
		more()
		p.Commits(1)
		longest := 0.0
		for n, one := range staying {
			require.Equal(t, owners[n], p.Owners()[n], "partition %d has changed its owner", n)
			longest = max(longest, p.lanesOf(one)[n])
		}
		retained += len(staying)
		t.Logf("%s restarted: %d lanes of %d stayed with their replica, their longest time between two commits was %.3f s",
			leaving.Name, len(staying), p.Parts, longest)
	}
	require.Positive(t, retained)
	feed.Finish()
	p.Reach(total)
	p.Drain()
	p.RequireExact()
}

// lanesOf are the partitions a worker has, with the longest time between two commits of each in seconds.
func (p *pipeline) lanesOf(worker *journalWorker) map[int32]float64 {
	p.T.Helper()
	lanes := make(map[int32]float64)
	for labels, gap := range worker.samples(p.T, "millrace_lane_commit_gap_seconds") {
		for n := range p.Parts {
			if containsLabel(labels, "pipeline", p.Spec.Name) && containsLabel(labels, "partition", fmt.Sprint(n)) {
				lanes[n] = gap
			}
		}
	}
	return lanes
}

func containsLabel(labels, name, value string) bool {
	return strings.Contains(labels, fmt.Sprintf("%s=%q", name, value))
}
