package integration

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/tests/rig"
)

// A worker is killed and Redis loses everything: nobody has the state in memory. The next owner of every lane parks, the
// operator lets the lanes be rebuilt, and the results are exact.
func TestStateLostIsRebuilt(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 20_000)
	rdb := rig.StartRedis(t)
	w := newWorld(t, rig.Servers{Redis: rdb.Addr})
	p := w.newPipeline(yaml, 4)
	worker := w.Worker()
	w.Ready(worker)
	p.Start()
	feed := p.Trickle(lines, len(lines)/15)
	p.Reach(int64(len(lines)) / 3)
	p.hintsFollow()
	worker.Kill()
	require.NoError(t, rdb.Client().FlushAll(context.Background()).Err())

	h := p.hotPath()
	rig.Eventually(t, "all lanes are parked", patience, func() bool { return h.count(lane.StateParked) == int(p.Parts) })
	for _, l := range h.engine.Status().Lanes {
		require.Equal(t, report.IncidentStateLost, l.Incident.Kind)
		require.Equal(t, report.ChoiceRebuild, l.Incident.Choices[0].Name)
		require.True(t, l.Incident.Choices[0].Exact)
		name := fmt.Sprintf("%s/%d", l.Topic, l.Partition)
		require.NoError(t, h.engine.Decide(context.Background(), name, l.Incident.ID, report.ChoiceRebuild, "test"))
	}
	rig.Eventually(t, "all lanes go on", patience, func() bool { return h.count(lane.StateRunning) == int(p.Parts) })
	stop, closing := make(chan struct{}), make(chan error, 1)
	go func() { closing <- h.closeWhile(stop) }()
	feed.Finish()
	close(stop)
	require.NoError(t, <-closing)
	h.finish()
	p.RequireResults()
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
