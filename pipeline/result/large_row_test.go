package result_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/result"
	"millrace/pipeline/source"
)

// A row that its topic does not take is an incident of its window: it is named, the others go on, a drain says so, and the
// window is published once somebody has raised the limit. Kafka itself is well: its breaker hears nothing.
func TestRowLargerThanItsTopic(t *testing.T) {
	w := newWorld(t, hourly, 1)
	k, cluster, _ := withKafka(t, w, 1)
	require.NoError(t, cluster.SetTopic(w.ctx, "orders.windows", source.SettingMaxMessageBytes, "2000"))
	long := strings.Repeat("k", 1000)
	l := w.lanes[0]
	l.event(long, 10, 1)
	l.event("x", 11, 1)
	l.event("x", 61, 1)
	l.event("x", 121, 1)
	l.commit()
	c := w.closer(func(c *result.Config) { c.Kafka = k })
	r := w.round(c)
	require.Len(t, r.Closed, 1, "the other window is published")
	require.Len(t, r.Incidents, 1)
	trouble := r.Incidents[0]
	require.True(t, trouble.Incident)
	require.False(t, trouble.Kafka)
	require.Contains(t, trouble.Problem, "; revision 1 of window hourly/")
	require.Contains(t, trouble.Problem, `(the record's key is {"k":"kkkkk`)
	require.Contains(t, trouble.Problem, " bytes, topic orders.windows takes 1488: raise its limit with kafka-configs.sh")
	require.True(t, strings.HasPrefix(trouble.Problem, "incident row-too-large: a record has "), trouble.Problem)
	require.Less(t, len(trouble.Problem), 500, "the key is shortened")

	receipt, err := c.Drain(w.ctx, nil)
	require.NoError(t, err)
	require.False(t, receipt.Done)
	require.Len(t, receipt.Failed, 1)
	require.True(t, receipt.Failed[0].Incident)

	require.NoError(t, cluster.SetTopic(w.ctx, "orders.windows", source.SettingMaxMessageBytes, "9000"))
	for range 4 { // failing windows are tried again at growing intervals
		if r = w.round(c); len(r.Closed) > 0 {
			break
		}
	}
	require.Len(t, r.Closed, 1)
	require.Len(t, results(t, w, k), 2, "the keys")
	require.Contains(t, results(t, w, k), `{"k":"`+long+`"}`)
}

// Rows that fit one by one go out whatever they add up to.
func TestRowsThatFillManyBatches(t *testing.T) {
	w := newWorld(t, hourly, 1)
	k, cluster, _ := withKafka(t, w, 1)
	require.NoError(t, cluster.SetTopic(w.ctx, "orders.windows", source.SettingMaxMessageBytes, "4000"))
	l := w.lanes[0]
	const keys = 200
	for i := range keys {
		l.event(strings.Repeat("k", 800+i), 10, 1)
	}
	l.event("x", 61, 1)
	l.commit()
	c := w.closer(func(c *result.Config) { c.Kafka = k })
	r := w.round(c)
	require.Empty(t, r.Failed)
	require.Len(t, r.Closed, 1)
	require.Equal(t, keys, len(results(t, w, k)))
}
