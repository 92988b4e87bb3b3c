package result_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
)

// What an attempt was about to publish before the spec named another result topic is not published to the old one.
func TestContentGoesToTheTopicOfNow(t *testing.T) {
	w := newWorld(t, hourly, 1)
	w.kafka.AddTopic("orders.other", 3)
	w.kafka.SetTopicID("orders.other", "made-second")
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.commit()
	w.kafka.Plan(func(s publishtest.Step) publishtest.Outcome { // the old topic takes nothing
		if s.Name == "send" {
			return publishtest.FailBefore
		}
		return publishtest.Pass
	})
	r := w.round(w.closer())
	require.Len(t, r.Failed, 1)
	w.kafka.Plan(nil)

	other, err := spec.Parse("test.yaml", []byte(strings.Replace(hourly, "topic: orders.windows", "topic: orders.other", 1)))
	require.NoError(t, err)
	require.Equal(t, w.spec.StateID(), other.StateID(), "a change that keeps the state")
	next := w.closer(func(c *result.Config) { c.Spec = other })
	for range 5 {
		w.round(next)
	}
	rows := w.ledger()
	require.Len(t, rows, 1)
	t.Logf("published to %s, links %s", rows[0].PublishedTo, mustJSON(t, rows[0].Links))
	require.Equal(t, "orders.other", rows[0].PublishedTo)
}

// What an attempt that failed has written to Redis does not stay there, also when its window goes away, with a lane that
// an operator lets begin anew.
func TestAttemptAtAWindowThatIsGone(t *testing.T) {
	w := newWorld(t, hourly, 1)
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.commit()
	w.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
		if s.Name == "send" {
			return publishtest.FailBefore
		}
		return publishtest.Pass
	})
	require.Len(t, w.round(w.closer()).Failed, 1)
	w.kafka.Plan(nil)
	// The operator decides that the lane begins anew behind these events.
	keys := w.redis.Keys(w.ctx, "mr:{orders/orders/0}*").Val()
	require.NoError(t, w.redis.Del(w.ctx, keys...).Err())
	l.log = nil
	l.acquire()
	c := w.closer()
	l.event("x", 2000, 1)
	l.event("x", 3000, 1)
	l.commit()
	for range 5 {
		w.round(c)
	}
	require.Empty(t, w.kept()[0])
}

// What an attempt merged before an operator's decision gave the lane another past is not published after it: its events are
// gone, and others took their place.
func TestAttemptUnderAnotherPast(t *testing.T) {
	w := newWorld(t, hourly, 1)
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("y", 20, 1)
	l.event("x", 95, 1)
	l.commit()
	w.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
		if s.Name == "send" {
			return publishtest.FailBefore
		}
		return publishtest.Pass
	})
	require.NotEmpty(t, w.round(w.closer()).Failed)
	w.kafka.Plan(nil)

	// Offsets 1 and 2 are gone, others take their place.
	r := l.state.Replay()
	require.Equal(t, int64(0), r.From)
	_, err := lane.Rebuild(w.ctx, w.store, l.program, l.id, l.token, r, source.Ends{End: 1, HighWatermark: 1}, 1234)
	require.NoError(t, err)
	l.state, _, err = lane.Restore(w.ctx, w.store, l.program, l.id, l.token)
	require.NoError(t, err)
	l.log = l.log[:1]
	for i, m := range []float64{15, 16, 17, 95} {
		l.log = append(l.log, source.Record{Offset: int64(1 + i), Timestamp: base, Value: []byte(`{"k":"z","t":` + itoa(at(m)) + `,"v":7}`)})
	}
	l.catchUp()
	l.commit()
	t.Logf("the lane: %+v", l.state.Offset())
	c := w.closer()
	for range 5 {
		rep := w.round(c)
		for _, x := range append(append(rep.Incidents, rep.Failed...), rep.Pending...) {
			t.Log("trouble:", x.Problem)
		}
	}
	t.Log(w.history("hourly", base), w.values())
	rows := w.ledger()
	require.NotEmpty(t, rows)
	require.Equal(t, int64(4), rows[0].Events, "x and three z")
}
