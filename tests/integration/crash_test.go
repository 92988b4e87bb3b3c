package integration

import (
	"context"
	"fmt"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
)

// Two workers run two replicas. Three times in the middle of the feed the one that holds the first replica is killed and
// started again; once Redis is killed too, and comes back with its data.
func TestWorkerAndRedisKilled(t *testing.T) {
	t.Parallel()
	yaml, lines := flights(t, 60_000)
	rdb := startRedis(t)
	w := newWorld(t, servers{redis: rdb.addr})
	p := w.newPipeline(yaml, 4, func(s *spec.Spec) { s.Replicas = 2 })
	workers := map[string]*process{}
	more := func() {
		one := w.worker()
		workers[one.name] = one
		w.ready(one)
	}
	more()
	more()
	p.start()
	total := int64(len(lines))
	feed := p.trickle(lines, len(lines)/60)
	p.reach(total / 20)
	for kill := 1; kill <= 3; kill++ {
		var victim *process
		eventually(t, "somebody holds the first replica", patience, func() bool {
			victim = workers[p.holder(0)]
			return victim != nil
		})
		require.True(t, feed.going(), "the feed is over before kill %d", kill)
		victim.kill()
		delete(workers, victim.name)
		if kill == 2 {
			rdb.kill()
			rdb.start()
		}
		more()
		p.reach(p.committed() + total/100)
	}
	feed.finish()
	p.drain()
	p.requireExact()
}

// The owner of the lanes freezes until another worker has them, that one too, and then both go on: they must find out
// that they are nobody any more before they change anything.
func TestZombies(t *testing.T) {
	t.Parallel()
	yaml, lines := flights(t, 40_000)
	w := newWorld(t, servers{})
	p := w.newPipeline(yaml, 4)
	workers := map[string]*process{}
	for range 3 {
		one := w.worker()
		workers[one.name] = one
		w.ready(one)
	}
	p.start()
	total := int64(len(lines))
	feed := p.trickle(lines, len(lines)/60)
	var zombies []*process
	for round := range int64(2) {
		p.reach(total * (round + 1) / 20)
		name := p.holder(0)
		require.Contains(t, workers, name)
		zombie := workers[name]
		zombies = append(zombies, zombie)
		before := p.owners()
		zombie.signal(syscall.SIGSTOP)
		eventually(t, "all lanes have another owner", patience, func() bool {
			for n, owner := range p.owners() {
				if owner == before[n] || owner == "" {
					return false
				}
			}
			return p.holder(0) != name && p.holder(0) != ""
		})
		p.reach(p.committed() + total/100)
	}
	require.True(t, feed.going(), "the feed is over before the zombies go on")
	owners, holder := p.owners(), p.holder(0)
	for _, z := range zombies {
		require.NotEqual(t, holder, z.name)
		z.signal(syscall.SIGCONT)
	}
	for _, z := range zombies {
		eventually(t, z.name+" gives its hot path up", patience, func() bool { return z.saidOf("hot path ended") > 0 })
	}
	p.commits(3)
	require.Equal(t, owners, p.owners(), "a zombie took a lane back")
	require.Equal(t, holder, p.holder(0))
	feed.finish()
	p.drain()
	p.requireExact()
}

// Redis loses everything, once in the middle of the feed and once when all lanes have been silent for a while.
func TestRedisForgetsEverything(t *testing.T) {
	t.Parallel()
	yaml, lines := flights(t, 30_000)
	rdb := startRedis(t)
	w := newWorld(t, servers{redis: rdb.addr})
	p := w.newPipeline(yaml, 4)
	worker := w.worker()
	w.ready(worker)
	p.start()
	total := int64(len(lines))
	feed := p.trickle(lines, len(lines)/15)
	for round := int64(1); round <= 2; round++ {
		p.reach(total * round / 4)
		require.True(t, feed.going())
		p.forget(rdb, worker)
	}
	feed.finish()
	p.reach(total)
	p.commits(2)
	p.forget(rdb, worker)
	p.drain()
	p.requireExact()
}

// forget empties Redis and waits until all lanes have noticed and written their state again.
func (p *pipeline) forget(rdb *redisServer, worker *process) {
	p.t.Helper()
	before, committed := p.owners(), p.committed()
	require.NoError(p.t, rdb.client().FlushAll(context.Background()).Err())
	eventually(p.t, "all lanes have written their state again", patience, func() bool {
		for n, owner := range p.owners() {
			if owner == "" || owner == before[n] {
				return false
			}
		}
		return p.committed() >= committed
	})
	for n := range p.parts {
		lane := fmt.Sprintf("lane=%s ", p.lane(n))
		require.Positive(p.t, worker.saidOf(lane, "forgot acknowledged writes"), "%s", lane)
	}
}

// Redis fails over to a replica that had not received the last commits.
func TestRedisFailsOverToAStaleReplica(t *testing.T) {
	t.Parallel()
	yaml, lines := flights(t, 30_000)
	primary := startRedis(t)
	link := startProxy(t, primary.addr) // of the replica to the primary
	front := startProxy(t, primary.addr)
	replica := startRedis(t)
	w := newWorld(t, servers{redis: front.addr})
	ctx := context.Background()
	host, port := split(link.addr)
	require.NoError(t, replica.client().ReplicaOf(ctx, host, port).Err())

	p := w.newPipeline(yaml, 4)
	worker := w.worker()
	w.ready(worker)
	p.start()
	total := int64(len(lines))
	feed := p.trickle(lines, len(lines)/20)
	p.reach(total / 4)
	eventually(t, "the replica follows", patience, func() bool {
		info, err := replica.client().InfoMap(ctx, "replication").Result()
		return err == nil && info["Replication"]["master_link_status"] == "up"
	})
	link.point("")
	p.commits(5)
	require.True(t, feed.going())
	before := p.owners()
	primary.kill()
	require.NoError(t, replica.client().ReplicaOf(ctx, "NO", "ONE").Err())
	front.point(replica.addr)
	eventually(t, "all lanes have noticed and written their state again", patience, func() bool {
		for n, owner := range p.owners() {
			if owner == "" || owner == before[n] {
				return false
			}
		}
		return true
	})
	require.True(t, feed.going())
	feed.finish()
	p.drain()
	p.requireExact()
}
