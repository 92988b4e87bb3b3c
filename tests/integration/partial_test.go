package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/pipeline/verify"
	"millrace/tests/rig"
)

// unlink deletes the first key under a lane's tag that begins with name, as an eviction does, and
// reports whether there was one.
func (p *pipeline) unlink(rdb *rig.Redis, partition int32, name string) bool {
	p.T.Helper()
	ctx := context.Background()
	client := rdb.Client()
	prefix := "mr:{" + p.Lane(partition).String() + "}:" + name
	keys, err := client.Keys(ctx, "mr:{"+p.Lane(partition).String()+"}:*").Result()
	require.NoError(p.T, err)
	for _, key := range keys {
		if strings.HasPrefix(key, prefix) {
			require.NoError(p.T, client.Unlink(ctx, key).Err())
			return true
		}
	}
	return false
}

// Keys of running lanes are deleted while windows close: the lanes write them again, and the results are exact.
func TestKeysGoneUnderRunningLanes(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 20_000)
	rdb := rig.StartRedis(t)
	w := newWorld(t, rig.Servers{Redis: rdb.Addr})
	p := w.newPipeline(yaml, 4)
	h := p.hotPath()
	feed := p.Trickle(lines, len(lines)/8)
	stop, closing := make(chan struct{}), make(chan error, 1)
	go func() { closing <- h.closeWhile(stop) }()
	total := int64(len(lines))
	for n := int64(1); n <= 4; n++ {
		p.Reach(n * total / 5)
		require.True(t, p.unlink(rdb, 0, "slices"))
		require.True(t, p.unlink(rdb, 1, "folds"))
		require.True(t, p.unlink(rdb, 2, "p:"))
		require.True(t, p.unlink(rdb, 3, "p:"))
		require.True(t, p.unlink(rdb, 3, "meta"))
	}
	feed.Finish()
	close(stop)
	require.NoError(t, <-closing)
	h.finish()
	p.RequireResults()
	// Entries of windows that are published already are read by nobody but verify, and by whoever restores the lane.
	v, err := verify.Run(context.Background(), verify.Config{Spec: h.Spec, State: h.Store, Kafka: h.Cluster, Input: true})
	require.NoError(t, err)
	for _, problem := range v.Problems {
		require.Equal(t, verify.ProblemEntries, problem.Kind, "%+v", problem)
	}
}

// The same while nobody runs the lanes: every one of them parks, and comes back by a rebuild.
func TestKeysGoneOfStoppedLanes(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 20_000)
	rdb := rig.StartRedis(t)
	w := newWorld(t, rig.Servers{Redis: rdb.Addr})
	p := w.newPipeline(yaml, 4)
	first := p.hotPath()
	half := len(lines) / 2
	p.Feed(lines[:half])
	p.Reach(int64(half))
	require.NoError(t, first.engine.Stop(context.Background()))
	require.True(t, p.unlink(rdb, 0, "slices"))
	require.True(t, p.unlink(rdb, 1, "folds"))
	require.True(t, p.unlink(rdb, 2, "p:"))
	require.True(t, p.unlink(rdb, 3, "meta"))

	h := p.hotPath()
	rig.Eventually(t, "all lanes are parked", patience, func() bool { return h.count(lane.StateParked) == int(p.Parts) })
	for _, l := range h.engine.Status().Lanes {
		require.Equal(t, report.IncidentStateLost, l.Incident.Kind)
		require.Equal(t, report.ChoiceRebuild, l.Incident.Choices[0].Name)
		require.True(t, l.Incident.Choices[0].Exact)
		name := fmt.Sprintf("%s/%d", l.Topic, l.Partition)
		require.NoError(t, h.engine.Decide(context.Background(), name, l.Incident.ID, report.ChoiceRebuild, "test"))
	}
	p.Feed(lines[half:])
	h.finish()
	p.RequireResults()
	h.verify()
}
