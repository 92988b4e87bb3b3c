package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/source"
)

// A worker is killed and Redis loses everything: nobody has the state in memory. The next owner of every lane parks, the
// operator lets the lanes be rebuilt, and the results are exact.
func TestStateLostIsRebuilt(t *testing.T) {
	t.Parallel()
	yaml, lines := flights(t, 20_000)
	rdb := startRedis(t)
	w := newWorld(t, servers{redis: rdb.addr})
	p := w.newPipeline(yaml, 4)
	worker := w.worker()
	w.ready(worker)
	p.start()
	feed := p.trickle(lines, len(lines)/15)
	p.reach(int64(len(lines)) / 3)
	eventually(t, "the group's offsets follow", patience, func() bool {
		for n := range p.parts {
			tp := source.TopicPartition{Topic: p.topic(), Partition: n}
			at, err := w.cluster.Committed(context.Background(), engine.Group(p.spec.Name), tp)
			if err != nil || at[tp].Offset <= 0 {
				return false
			}
		}
		return true
	})
	worker.kill()
	require.NoError(t, rdb.client().FlushAll(context.Background()).Err())

	h := p.hotPath()
	eventually(t, "all lanes are parked", patience, func() bool { return h.count(lane.StateParked) == int(p.parts) })
	for _, l := range h.engine.Status().Lanes {
		require.Equal(t, lane.IncidentStateLost, l.Incident.Kind)
		require.Equal(t, lane.ChoiceRebuild, l.Incident.Choices[0].Name)
		require.True(t, l.Incident.Choices[0].Exact)
		name := fmt.Sprintf("%s/%d", l.Topic, l.Partition)
		require.NoError(t, h.engine.Decide(context.Background(), name, l.Incident.ID, lane.ChoiceRebuild, "test"))
	}
	eventually(t, "all lanes go on", patience, func() bool { return h.count(lane.StateRunning) == int(p.parts) })
	stop, closing := make(chan struct{}), make(chan error, 1)
	go func() { closing <- h.closeWhile(stop) }()
	feed.finish()
	close(stop)
	require.NoError(t, <-closing)
	h.finish()
	p.requireResults()
	h.verify()
}

// count is the number of lanes in a state.
func (h *hotPath) count(state string) int {
	n := 0
	for _, l := range h.engine.Status().Lanes {
		if l.State == state {
			n++
		}
	}
	return n
}
