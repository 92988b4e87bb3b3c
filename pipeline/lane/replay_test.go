package lane

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
	"millrace/pipeline/source"
)

// Entries written by an older version say nothing of what came before their slice.
func TestStateOfAnOlderVersionIsNotRebuiltAsExact(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(24, 24)), 200))
	st, redis := testStore(t)
	b := start(t, log, st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 200 })
	require.NoError(t, b.stop(t))
	folds := "mr:{orders/orders/0}:folds"
	keys, err := redis.HKeys(folds)
	require.NoError(t, err)
	for _, k := range keys {
		redis.HSet(folds, k, strings.Join(strings.Split(redis.HGet(folds, k), ",")[:3], ","))
	}
	for _, field := range []string{"skipped", "decided", "era", "seals"} {
		redis.HDel("mr:{orders/orders/0}:meta", field)
	}
	b.requireExact(t, b.state)
	log.ends.HighWatermark = 190
	b = startLost(t, log, st, redis)
	c := b.Status().Incident.Choices[0]
	require.Equal(t, report.ChoiceRebuild, c.Name)
	require.False(t, c.Exact)
	require.NoError(t, b.stop(t))

	redis.FlushAll()
	log.hint = source.Committed{Offset: 190, Metadata: "v1 replay_from=10 watermark=5"}
	b = startLost(t, log, st, redis)
	c = b.Status().Incident.Choices[0]
	require.Equal(t, report.ChoiceRestart, c.Name)
	require.Equal(t, int64(report.UnknownCost), c.Lost)
	require.NoError(t, b.Decide(b.Status().Incident.ID, report.ChoiceRestart, ""))
	b.wait(t, "reads everything", func(s Status) bool { return s.State == StateRunning && s.Committed == 200 })
}
