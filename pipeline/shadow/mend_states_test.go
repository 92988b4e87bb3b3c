package shadow_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
)

// TestApprovalPublishesLostStates: a roll-up needs the states of windows that nobody can read any more. A recount says so, and its
// approval publishes them again; a recount after that finds everything equal.
func TestApprovalPublishesLostStates(t *testing.T) {
	w := newWorld(t, 1, summing("v", hourly)+"rollups: [{name: daily, from: hourly, calendar: day}]\n", 2)
	w.kafka.AddTopic(ledger.StatesTopic("orders"), 3)
	w.live(300)
	require.Zero(t, w.recount("r1").Differ)

	w.kafka.MakeTopicAgain(ledger.StatesTopic("orders"), "made-again", 3)
	rows, err := ledger.Latest(w.ctx, w.kafka, "orders")
	require.NoError(t, err)
	require.NoError(t, w.redis.Del(w.ctx, w.page(&rows[1])).Err()) // the view of the others has their states
	res := w.recount("r2")
	require.Equal(t, 1, res.Differ)
	require.Len(t, w.carryOut("r2", res.Checksum), 1)
	require.Zero(t, w.recount("r3").Differ)
	latest := w.latest(rows[1].ID())
	require.Equal(t, "states", latest.Mends)
	require.Equal(t, rows[1].Checksum, latest.Checksum)
	require.NotEmpty(t, latest.States)
}
