package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/tests/rig"
)

// Kafka goes away: the closer's breaker opens, so that nothing tries to publish, and a workflow tells of it. When Kafka is back
// windows are closed again by themselves.
func TestResultsWaitForKafka(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 8_000)
	lines = lines[:8_000]
	kafka := rig.OwnBroker(t)
	w := newWorld(t, rig.Servers{Kafka: kafka.Addr})
	p := w.newPipeline(yaml, 4)
	worker := w.Worker()
	w.Ready(worker)
	p.Start()
	p.Feed(lines[:4_000])
	p.Reach(4_000)
	kafka.Stop()
	rig.Eventually(t, "the breaker of the result producer opens", patience, func() bool {
		return worker.SaidOf("degradation level", "dependency=results", "to=paused") > 0
	})
	kafka.Restart(t)
	rig.Eventually(t, "it closes", patience, func() bool {
		return worker.SaidOf("degradation level", "dependency=results", "to=normal") > 0
	})
	p.Feed(lines[4_000:])
	p.Reach(p.Total())
	var story contract.DegradeStatus
	rig.Eventually(t, "the workflow has told it", patience, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		answer, err := p.Client.QueryWorkflow(ctx, contract.DegradeID(p.Spec.Name, worker.Name, report.DependencyResults), "", contract.QueryStatus)
		if err != nil {
			return false
		}
		story = contract.DegradeStatus{}
		require.NoError(t, answer.Get(&story))
		last := len(story.Timeline) - 1
		return last > 0 && story.Timeline[last].To == report.LevelNormal
	})
	p.tell(story.Timeline)
	require.Equal(t, report.LevelPaused, story.Timeline[0].To)
	p.Drain()
	p.RequireExact()
}
