package result_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/result"
	"millrace/pipeline/rollup"
	"millrace/pipeline/source"
	"millrace/pipeline/verify"
)

func TestRollupsOverARealClient(t *testing.T) {
	w := newRolling(t, "UTC", 1)
	k, cluster, _ := withKafka(t, w.world, 1)
	_, err := cluster.EnsureTopic(w.ctx, source.TopicSpec{Name: ledger.StatesTopic("orders"), Partitions: 3})
	require.NoError(t, err)
	smallDay(w)
	c := w.newCloser(func(c *result.Config) {
		c.Kafka = k
		c.Jobs = map[string]result.JobKind{result.JobRollup: result.Rollups{Late: rollup.LateTopic(cluster, "orders.late")}}
	})
	w.closeAll(c)
	require.NotEmpty(t, w.late)
	side, err := k.Open(w.ctx, 99)
	require.NoError(t, err)
	defer side.Close()
	require.NoError(t, side.Begin())
	for range 2 { // a commit that is repeated sends its late records again
		for _, headers := range w.late {
			require.NoError(t, publish.Send(w.ctx, side, []publish.Record{{Topic: "orders.late", Key: []byte("k"), Value: []byte("v"), Headers: headers}}))
		}
	}
	require.NoError(t, side.Commit())

	done, _ := w.rollUp(c)
	require.Equal(t, "hours 4+0=0?1!0-0 days 2+0=0?0!0-0 months 1+0=0?0!0-0", families(done))
	rows, err := ledger.Latest(w.ctx, k, "orders")
	require.NoError(t, err)
	states, err := cluster.Topic(w.ctx, ledger.StatesTopic("orders"))
	require.NoError(t, err)
	for _, row := range rows {
		if row.Window == "months" {
			require.Empty(t, row.States, "nothing is made from months")
			require.Equal(t, int64(1), row.ChildLate)
			require.Equal(t, int64(12), row.Events)
			continue
		}
		require.NotEmpty(t, row.States, row.ID().String())
		require.Equal(t, states.ID, row.States[0].TopicID)
	}
	v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.store, Kafka: k, Now: atBase})
	require.NoError(t, err)
	require.Empty(t, v.Problems)
}
