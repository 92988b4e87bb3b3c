package secure

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/tests/rig"
)

// slots is how many slots a Redis Cluster has.
const slots = 16384

// member is a node of a Cluster.
type member struct {
	*node
	id  string
	bus int // port on which the nodes talk to each other
}

// cluster is a Redis Cluster of three primaries, which come first, with a replica each.
type cluster struct {
	t       *testing.T
	members []*member
}

func startCluster(t *testing.T, login redis.Options, l lock, lines ...string) *cluster {
	t.Helper()
	ctx := context.Background()
	c := &cluster{t: t}
	for i := range 6 {
		m := &member{bus: rig.FreePort(t)}
		own := append([]string{"cluster-enabled yes", "cluster-node-timeout 2000", fmt.Sprintf("cluster-port %d", m.bus)}, lines...)
		m.node = startNode(t, fmt.Sprintf("node-%d", i), login, l, own...)
		var err error
		m.id, err = m.rdb.Do(ctx, "CLUSTER", "MYID").Text()
		require.NoError(t, err)
		c.members = append(c.members, m)
		if i > 0 {
			first := c.members[0]
			host, port := first.hostPort()
			require.NoError(t, m.rdb.Do(ctx, "CLUSTER", "MEET", host, port, first.bus).Err())
		}
	}
	for i, m := range c.members[:3] {
		require.NoError(t, m.rdb.ClusterAddSlotsRange(ctx, i*slots/3, (i+1)*slots/3-1).Err())
	}
	for i, m := range c.members[3:] {
		rig.Eventually(t, "a node knows its primary", rig.Patience, func() bool {
			return m.rdb.ClusterReplicate(ctx, c.members[i].id).Err() == nil
		})
	}
	rig.Eventually(t, "the Cluster serves all slots, and every replica follows", rig.Patience, func() bool {
		for i, m := range c.members {
			info, err := m.rdb.ClusterInfo(ctx).Result()
			if err != nil || !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:6") ||
				!strings.Contains(info, "cluster_size:3") || i >= 3 && m.info("replication", "master_link_status") != "up" {
				return false
			}
		}
		return true
	})
	return c
}

// addrs are the addresses of the nodes that began as primaries.
func (c *cluster) addrs() string {
	var all []string
	for _, m := range c.members[:3] {
		all = append(all, m.addr)
	}
	return strings.Join(all, ",")
}

// primaries are the members that serve slots now.
func (c *cluster) primaries() (now []*member) {
	for _, m := range c.members {
		if !m.Ended() && m.info("replication", "role") == "master" {
			now = append(now, m)
		}
	}
	return now
}

// servedBy is the primary that has the slot.
func (c *cluster) servedBy(slot int64) *member {
	c.t.Helper()
	shards, err := c.primaries()[0].rdb.ClusterShards(context.Background()).Result()
	require.NoError(c.t, err)
	for _, shard := range shards {
		if !slices.ContainsFunc(shard.Slots, func(r redis.SlotRange) bool { return r.Start <= slot && slot <= r.End }) {
			continue
		}
		at := slices.IndexFunc(c.members, func(m *member) bool {
			return slices.ContainsFunc(shard.Nodes, func(n redis.Node) bool { return n.ID == m.id && n.Role == "master" })
		})
		require.GreaterOrEqual(c.t, at, 0, "the slot's primary is none of ours")
		return c.members[at]
	}
	require.FailNow(c.t, "nobody serves the slot")
	return nil
}

// move moves a slot to another primary key by key, as a reshard does, and calls halfway when a half of the keys has moved.
func (c *cluster) move(slot int64, from, to *member, halfway func()) (moved int) {
	c.t.Helper()
	ctx := context.Background()
	must := func(m *member, args ...any) {
		c.t.Helper()
		require.NoError(c.t, m.rdb.Do(ctx, append([]any{"CLUSTER", "SETSLOT", slot}, args...)...).Err())
	}
	must(to, "IMPORTING", from.id)
	must(from, "MIGRATING", to.id)
	half, err := from.rdb.ClusterCountKeysInSlot(ctx, int(slot)).Result()
	require.NoError(c.t, err)
	half /= 2
	require.Positive(c.t, half, "the slot holds too little to be moved in two halves")
	host, port := to.hostPort()
	for {
		keys, err := from.rdb.ClusterGetKeysInSlot(ctx, int(slot), 1).Result()
		require.NoError(c.t, err)
		if len(keys) == 0 {
			break
		}
		require.NoError(c.t, from.rdb.Migrate(ctx, host, port, keys[0], 0, 5*time.Second).Err())
		if moved++; moved == int(half) {
			halfway()
		}
	}
	for _, m := range append([]*member{to, from}, c.primaries()...) {
		must(m, "NODE", to.id)
	}
	return moved
}

// A slot that holds a lane's state moves to another primary while the lane commits, and the worker is killed and another one restores
// from the half that has moved and the half that has not. Then the primary that has the slot is killed. Nothing may be counted twice, or not at all.
func TestClusterMovesASlotAndLosesAPrimary(t *testing.T) {
	needServers(t)
	t.Parallel()
	yaml, lines := rig.Flights(t, 40_000)
	lines = lines[:40_000]
	c := startCluster(t, redis.Options{}, lock{})
	w := rig.NewWorld(t, rig.Servers{Redis: c.addrs()})
	p := w.Pipeline(yaml, 6)
	worker := w.Worker()
	w.Ready(worker)
	p.Start()
	total := int64(len(lines))
	feed := p.Trickle(lines, len(lines)/30)
	p.Reach(total / 10)

	ctx := context.Background()
	slot, err := c.members[0].rdb.ClusterKeySlot(ctx, "mr:{"+p.Lane(0).String()+"}:meta").Result()
	require.NoError(t, err)
	from := c.servedBy(slot)
	to := c.members[(slices.Index(c.members, from)+1)%3]
	moved := c.move(slot, from, to, func() {
		p.Reach(p.Committed() + total/20) // other lanes go on, and this one has tried
		worker.Kill()
		worker = w.Worker()
		w.Ready(worker)
		rig.Eventually(t, "the new worker holds the replica", rig.Patience, func() bool { return p.Holder(0) == worker.Name })
		p.Reach(p.Committed() + total/20)
	})
	require.Same(t, to, c.servedBy(slot))
	t.Logf("moved slot %d with %d keys of lane %s", slot, moved, p.Lane(0))
	before, _ := p.Meta(0)
	rig.Eventually(t, "the lane whose slot has moved commits", rig.Patience, func() bool {
		m, found := p.Meta(0)
		return found && m.Offset > before.Offset
	})

	require.True(t, feed.Going(), "the feed is over before the primary is killed")
	heir := c.members[slices.Index(c.members, to)+3]
	to.cutReplicas()
	p.Commits(3)
	to.Kill()
	rig.Eventually(t, "the replica has taken over", rig.Patience, func() bool { return heir.info("replication", "role") == "master" })
	promoted := time.Now()
	rig.Eventually(t, "all lanes are served", 20*time.Second, func() bool { return p.Committed() >= 0 })
	p.Reach(p.Committed() + total/100)
	t.Logf("lanes commit %.1f s after the replica has taken over", time.Since(promoted).Seconds())
	feed.Finish()
	p.Drain()
	p.RequireExact()
	lost := worker.SaidOf("forgot acknowledged writes")
	require.Positive(t, lost, "the replica had everything, so that nothing was tried")
	t.Logf("exact; %d lanes were written again, as Redis had forgotten writes that it had acknowledged", lost)
}
