package integration

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
	"millrace/tests/rig"
)

// Two workers run two replicas. Three times in the middle of the feed the one that holds the first replica is killed and
// started again; once Redis is killed too, and comes back with its data.
func TestWorkerAndRedisKilled(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 60_000)
	rdb := rig.StartRedis(t)
	w := newWorld(t, rig.Servers{Redis: rdb.Addr})
	p := w.newPipeline(yaml, 4, func(s *spec.Spec) { s.Replicas = 2 })
	workers := map[string]*rig.Process{}
	more := func() {
		one := w.Worker()
		workers[one.Name] = one
		w.Ready(one)
	}
	more()
	more()
	p.Start()
	total := int64(len(lines))
	feed := p.Trickle(lines, len(lines)/60)
	p.Reach(total / 20)
	for kill := 1; kill <= 3; kill++ {
		var victim *rig.Process
		rig.Eventually(t, "somebody holds the first replica", patience, func() bool {
			victim = workers[p.Holder(0)]
			return victim != nil
		})
		require.True(t, feed.Going(), "the feed is over before kill %d", kill)
		victim.Kill()
		delete(workers, victim.Name)
		if kill == 2 {
			rdb.Kill()
			rdb.Start()
		}
		more()
		p.Reach(p.Committed() + total/100)
	}
	feed.Finish()
	p.Drain()
	p.RequireExact()
}

// The owner of the lanes freezes until another worker has them, that one too, and then both go on: they must find out
// that they are nobody any more before they change anything.
func TestZombies(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 40_000)
	w := newWorld(t, rig.Servers{})
	p := w.newPipeline(yaml, 4)
	workers := map[string]*rig.Process{}
	for range 3 {
		one := w.Worker()
		workers[one.Name] = one
		w.Ready(one)
	}
	p.Start()
	total := int64(len(lines))
	feed := p.Trickle(lines, len(lines)/60)
	var zombies []*rig.Process
	for round := range int64(2) {
		p.Reach(total * (round + 1) / 20)
		name := p.Holder(0)
		require.Contains(t, workers, name)
		zombie := workers[name]
		zombies = append(zombies, zombie)
		before := p.Owners()
		zombie.Signal(syscall.SIGSTOP)
		rig.Eventually(t, "all lanes have another owner", patience, func() bool {
			for n, owner := range p.Owners() {
				if owner == before[n] || owner == "" {
					return false
				}
			}
			return p.Holder(0) != name && p.Holder(0) != ""
		})
		p.Reach(p.Committed() + total/100)
	}
	require.True(t, feed.Going(), "the feed is over before the zombies go on")
	owners, holder := p.Owners(), p.Holder(0)
	for _, z := range zombies {
		require.NotEqual(t, holder, z.Name)
		z.Signal(syscall.SIGCONT)
	}
	for _, z := range zombies {
		rig.Eventually(t, z.Name+" gives its hot path up", patience, func() bool { return z.SaidOf("hot path ended") > 0 })
	}
	p.Commits(3)
	require.Equal(t, owners, p.Owners(), "a zombie took a lane back")
	require.Equal(t, holder, p.Holder(0))
	feed.Finish()
	p.Drain()
	p.RequireExact()
}

// Redis loses everything, once in the middle of the feed and once when all lanes have been silent for a while.
func TestRedisForgetsEverything(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 30_000)
	rdb := rig.StartRedis(t)
	w := newWorld(t, rig.Servers{Redis: rdb.Addr})
	p := w.newPipeline(yaml, 4)
	worker := w.Worker()
	w.Ready(worker)
	p.Start()
	total := int64(len(lines))
	feed := p.Trickle(lines, len(lines)/15)
	for round := int64(1); round <= 2; round++ {
		p.Reach(total * round / 4)
		require.True(t, feed.Going())
		p.forget(rdb, worker)
	}
	feed.Finish()
	p.Reach(total)
	p.Commits(2)
	p.forget(rdb, worker)
	p.Drain()
	p.RequireExact()
}

// forget empties Redis and waits until all lanes have noticed and written their state again.
func (p *pipeline) forget(rdb *rig.Redis, worker *rig.Process) {
	p.T.Helper()
	before, committed := p.Owners(), p.Committed()
	require.NoError(p.T, rdb.Client().FlushAll(context.Background()).Err())
	rig.Eventually(p.T, "all lanes have written their state again", patience, func() bool {
		for n, owner := range p.Owners() {
			if owner == "" || owner == before[n] {
				return false
			}
		}
		return p.Committed() >= committed
	})
	for n := range p.Parts {
		lane := fmt.Sprintf("lane=%s ", p.Lane(n))
		require.Positive(p.T, worker.SaidOf(lane, "forgot acknowledged writes"), "%s", lane)
	}
}

// Redis fails over to a replica that had not received the last commits.
func TestRedisFailsOverToAStaleReplica(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 30_000)
	primary := rig.StartRedis(t)
	link := rig.StartProxy(t, primary.Addr) // of the replica to the primary
	front := rig.StartProxy(t, primary.Addr)
	replica := rig.StartRedis(t)
	w := newWorld(t, rig.Servers{Redis: front.Addr})
	ctx := context.Background()
	host, port := split(link.Addr)
	require.NoError(t, replica.Client().ReplicaOf(ctx, host, port).Err())

	p := w.newPipeline(yaml, 4)
	worker := w.Worker()
	w.Ready(worker)
	p.Start()
	total := int64(len(lines))
	feed := p.Trickle(lines, len(lines)/20)
	p.Reach(total / 4)
	rig.Eventually(t, "the replica follows", patience, func() bool {
		info, err := replica.Client().InfoMap(ctx, "replication").Result()
		return err == nil && info["Replication"]["master_link_status"] == "up"
	})
	link.Point("")
	p.Commits(5)
	require.True(t, feed.Going())
	before := p.Owners()
	primary.Kill()
	require.NoError(t, replica.Client().ReplicaOf(ctx, "NO", "ONE").Err())
	front.Point(replica.Addr)
	rig.Eventually(t, "all lanes have noticed and written their state again", patience, func() bool {
		for n, owner := range p.Owners() {
			if owner == "" || owner == before[n] {
				return false
			}
		}
		return true
	})
	require.True(t, feed.Going())
	feed.Finish()
	p.Drain()
	p.RequireExact()
}
