package result_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/result"
	"millrace/pipeline/verify"
)

// A closer that was open when its pipeline was removed is fenced, and the next edition begins at revision 1.
func TestEndIncarnation(t *testing.T) {
	w := newWorld(t, hourly, 1)
	k, cluster, _ := withKafka(t, w, 1)
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.commit()
	use := func(c *result.Config) { c.Kafka = k }
	old := w.closer(use)
	require.Len(t, w.round(old).Closed, 1)
	latest := func() []ledger.Row {
		t.Helper()
		rows, err := ledger.Latest(w.ctx, cluster, "orders")
		require.NoError(t, err)
		return rows
	}
	require.Len(t, latest(), 1)
	require.Equal(t, 1, latest()[0].Edition)

	given := int64(0)
	require.NoError(t, publish.EndIncarnation(w.ctx, k, "orders", false, func(n int64) { given = n }))
	require.Zero(t, given)
	require.Len(t, latest(), 1, "without rows it only fences")
	require.NoError(t, publish.EndIncarnation(w.ctx, k, "orders", true, func(n int64) { given = n }))
	require.EqualValues(t, 1+ledger.DefaultSlots, given, "a row, and the end of the edition in every slot")
	require.Empty(t, latest())
	given = 0
	require.NoError(t, publish.EndIncarnation(w.ctx, k, "orders", true, func(n int64) { given = n }))
	require.Zero(t, given, "repeating it changes nothing")
	ended := 0
	require.NoError(t, ledger.Read(w.ctx, cluster, "orders", func(rec ledger.Record) error {
		if rec.Ended != nil {
			ended++
			require.Equal(t, 1, rec.Ended.Edition)
		}
		return nil
	}))
	require.Equal(t, ledger.DefaultSlots, ended)

	views := func() { // as a removal does, besides
		for _, key := range w.redis.Keys(w.ctx, "mr:{orders/hourly/*").Val() {
			w.redis.Del(w.ctx, key)
		}
	}
	views()
	v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.store, Kafka: cluster, Now: atBase})
	require.NoError(t, err)
	for _, p := range v.Problems {
		require.NotEqual(t, verify.ProblemResults, p.Kind, "rows of an edition that ended stay without a ledger row: %s", p.Detail)
	}
	l.event("x", 12, 5)
	l.commit()
	next := w.closer(use)
	require.Len(t, w.round(next).Closed, 1)
	require.Len(t, latest(), 1)
	require.Equal(t, 2, latest()[0].Edition)
	require.Equal(t, 1, latest()[0].Revision)
	require.EqualValues(t, 2, latest()[0].Events)

	require.NoError(t, publish.EndIncarnation(w.ctx, k, "orders", true, func(int64) {}))
	views()
	l.event("x", 13, 5)
	l.commit()
	require.Len(t, w.round(w.closer(use)).Closed, 1)
	require.Equal(t, 3, latest()[0].Edition, "numbers only grow")
	rows, err := ledger.Results(w.ctx, cluster, "orders.windows", "orders")
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.Equal(t, 3, rows[0].Edition, "rows of editions that ended are passed over")
}

// A closer that thaws takes its slot over again: it finds the end of its edition, and nothing of what it knew binds it.
func TestAFencedCloserForgetsTheEditionThatEnded(t *testing.T) {
	w := newWorld(t, hourly, 1)
	k, cluster, _ := withKafka(t, w, 1)
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.commit()
	c := w.closer(func(c *result.Config) { c.Kafka = k })
	require.Len(t, w.round(c).Closed, 1)
	require.NoError(t, publish.EndIncarnation(w.ctx, k, "orders", true, func(int64) {}))
	for _, key := range w.redis.Keys(w.ctx, "mr:{orders/hourly/*").Val() {
		w.redis.Del(w.ctx, key)
	}
	l.event("x", 12, 5)
	l.commit()
	w.round(c)
	rows, err := ledger.Latest(w.ctx, cluster, "orders")
	require.NoError(t, err)
	if len(rows) == 0 { // the first try met the fence
		w.round(c)
		rows, err = ledger.Latest(w.ctx, cluster, "orders")
		require.NoError(t, err)
	}
	require.Len(t, rows, 1)
	require.Equal(t, 1, rows[0].Revision)
	require.Equal(t, 2, rows[0].Edition)
}
