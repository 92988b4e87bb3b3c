package result_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/report"
	"millrace/pipeline/store/storetest"
)

// hourWorld has one closable window and a late event that is ready to be folded.
func hourWorld(t testing.TB) *world {
	w := newWorld(t, hourly, 2)
	for i, l := range w.lanes {
		for k := range 6 {
			l.event(fmt.Sprintf("key-%d", k), float64(10+k), int64(i*10+k))
		}
		l.event("x", 61, 1)
		l.commit()
	}
	return w
}

// TestCloserDiesAtEveryStep kills the closer before and after each of its requests to Kafka and each of its writes to
// Redis, and lets another one go on.
func TestCloserDiesAtEveryStep(t *testing.T) {
	reference := hourWorld(t)
	c := reference.closer()
	steps := 0
	count(reference, &steps)
	reference.round(c)
	reference.lanes[0].event("key-0", 20, 100)
	reference.lanes[0].commit()
	reference.round(c)
	want := reference.values()
	require.Equal(t, []string{"r1 watermark", "r2 late"}, reference.history("hourly", base))
	require.Greater(t, steps, 20)

	for at := range steps {
		for _, outcome := range []publishtest.Outcome{publishtest.FailBefore, publishtest.FailAfter} {
			t.Run(fmt.Sprintf("step %d %d", at, outcome), func(t *testing.T) {
				w := hourWorld(t)
				dieAt(w, at, outcome)
				first := w.closer()
				late := false
				for range 2 {
					if _, err := first.Round(w.ctx); err != nil {
						break
					}
					if !late {
						late = true
						w.lanes[0].event("key-0", 20, 100)
						w.lanes[0].commit()
					}
				}
				w.kafka.Plan(nil) // the first closer is never called again
				w.faults.Plan(nil)
				second := w.closer()
				w.settle(second)
				if !late {
					w.lanes[0].event("key-0", 20, 100)
					w.lanes[0].commit()
					w.settle(second)
				}
				require.Equal(t, want, w.values())
				require.Subset(t, []string{"r1 watermark", "r2 late"}, w.history("hourly", base))
				w.sound()
			})
		}
	}
}

// count counts the closer's requests: all to Kafka, and writes to Redis under a window's tag.
func count(w *world, n *int) {
	w.kafka.Plan(func(publishtest.Step) publishtest.Outcome { *n++; return publishtest.Pass })
	w.faults.Plan(func(op storetest.Op) storetest.Outcome {
		if strings.HasPrefix(op.Tag, "orders/hourly/") {
			*n++
		}
		return storetest.Pass
	})
}

// dieAt makes request number at, and all after it, fail.
func dieAt(w *world, at int, outcome publishtest.Outcome) {
	n := 0
	next := func() publishtest.Outcome {
		defer func() { n++ }()
		switch {
		case n < at:
			return publishtest.Pass
		case n == at:
			return outcome
		}
		return publishtest.FailBefore
	}
	w.kafka.Plan(func(publishtest.Step) publishtest.Outcome { return next() })
	w.faults.Plan(func(op storetest.Op) storetest.Outcome {
		if !strings.HasPrefix(op.Tag, "orders/hourly/") {
			return storetest.Pass
		}
		return storetest.Outcome(next())
	})
}

// TestOneLostAnswerIsSurvived lets the same closer go on after one lost answer.
func TestOneLostAnswerIsSurvived(t *testing.T) {
	for at := range 25 {
		for _, outcome := range []publishtest.Outcome{publishtest.FailBefore, publishtest.FailAfter} {
			t.Run(fmt.Sprintf("step %d %d", at, outcome), func(t *testing.T) {
				w := hourWorld(t)
				n := 0
				w.kafka.Plan(func(publishtest.Step) publishtest.Outcome {
					defer func() { n++ }()
					if n == at {
						return outcome
					}
					return publishtest.Pass
				})
				c := w.closer()
				for range 3 {
					_, _ = c.Round(w.ctx)
				}
				w.lanes[0].event("key-0", 20, 100)
				w.lanes[0].commit()
				for range 4 {
					_, _ = c.Round(w.ctx)
				}
				w.kafka.Plan(nil)
				require.Equal(t, []string{"r1 watermark", "r2 late"}, w.history("hourly", base))
				w.sound()
			})
		}
	}
}

func TestZombieCloserIsFenced(t *testing.T) {
	for _, step := range []string{"begin", "send", "commit"} {
		t.Run(step, func(t *testing.T) {
			w := hourWorld(t)
			zombie := w.closer()
			w.round(zombie)
			w.lanes[0].event("key-0", 20, 100)
			w.lanes[0].commit()

			// While the zombie is stopped just before the step, another closer publishes the same revision and one more.
			stopped := false
			w.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
				if stopped || s.Name != step {
					return publishtest.Pass
				}
				stopped = true
				other := w.closer()
				w.round(other)
				w.lanes[1].event("key-1", 21, 7)
				w.lanes[1].commit()
				w.round(other)
				return publishtest.Pass
			})
			r := w.round(zombie)
			require.True(t, stopped)
			require.Empty(t, r.Closed, "fenced, it took the slot over and found its work done")
			require.Empty(t, r.Failed)
			require.Equal(t, []string{"r1 watermark", "r2 late", "r3 late"}, w.history("hourly", base))
			w.settle(zombie)
			require.Equal(t, []string{"r1 watermark", "r2 late", "r3 late"}, w.history("hourly", base))
			w.sound()
		})
	}
}

func TestRetryPublishesWhatThereIsThen(t *testing.T) {
	w := hourWorld(t)
	w.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
		if s.Name == "begin" {
			return publishtest.FailBefore
		}
		return publishtest.Pass
	})
	require.Len(t, w.round(w.closer()).Failed, 1)
	w.kafka.Plan(nil)
	w.lanes[0].event("key-0", 20, 100) // newer than the attempt
	w.lanes[0].commit()

	c := w.closer()
	require.Equal(t, int64(13), w.round(c).Closed[0].Events)
	require.Empty(t, w.round(c).Closed)
	require.Equal(t, []string{"r1 watermark"}, w.history("hourly", base))
	w.sound()
}

func TestRedisLosingTheViewChangesNothing(t *testing.T) {
	w := hourWorld(t)
	c := w.closer()
	w.round(c)
	keys, err := w.redis.Keys(w.ctx, "mr:{orders/hourly/*").Result()
	require.NoError(t, err)
	require.Len(t, keys, 2)
	require.NoError(t, w.redis.Del(w.ctx, keys...).Err())

	other := w.closer()
	w.settle(other)
	require.Equal(t, []string{"r1 watermark"}, w.history("hourly", base))
	w.lanes[0].event("key-0", 20, 100)
	w.lanes[0].commit()
	w.settle(other)
	require.Equal(t, []string{"r1 watermark", "r2 late"}, w.history("hourly", base))
	w.sound()
}

// Redis loses everything while no closer runs: one that begins shows final windows again although their slots have nothing to do.
func TestFirstLookShowsWhatRedisForgot(t *testing.T) {
	w := hourWorld(t)
	c := w.closer()
	w.settle(c)
	for _, l := range w.lanes {
		l.event("x", 600, 1)
		l.commit()
	}
	w.settle(c)
	isFinal := func(row ledger.Row) bool { return row.Start == base && row.Final }
	require.True(t, slices.ContainsFunc(w.ledger(), isFinal))
	pattern := fmt.Sprintf("mr:{orders/hourly/%d}*", base)
	keys, err := w.redis.Keys(w.ctx, pattern).Result()
	require.NoError(t, err)
	require.NotEmpty(t, keys)
	require.NoError(t, w.redis.Del(w.ctx, keys...).Err())

	w.round(w.closer())
	again, err := w.redis.Keys(w.ctx, pattern).Result()
	require.NoError(t, err)
	require.NotEmpty(t, again)
}

// TestFailOverBetweenTwoReads makes Redis forget a commit while a window is being read.
func TestFailOverBetweenTwoReads(t *testing.T) {
	for at := range 12 {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			w := newWorld(t, hourly, 1)
			l := w.lanes[0]
			for k := range 6 {
				l.event(fmt.Sprintf("key-%d", k), float64(10+k), 1)
			}
			l.event("x", 61, 1)
			l.commit()
			before := len(w.faults.Log(l.id.String()))
			for k := range 6 {
				l.event(fmt.Sprintf("key-%d", k), float64(20+k), 1)
			}
			l.commit()

			n, failing := 0, false
			w.faults.Gate(func(_ ctxType, op storetest.Op) {
				if failing || op.Tag != l.id.String() {
					return
				}
				if n++; n == at+1 {
					failing = true
					require.NoError(t, w.faults.Rewind(w.ctx, l.id.String(), before))
					failing = false
				}
			})
			c := w.closer()
			w.round(c)
			w.faults.Gate(nil)
			for _, row := range w.ledger() {
				require.Contains(t, []int64{6, 12}, row.Events)
				require.Equal(t, row.Lanes[0].Folded, row.Events)
			}
			l.acquire()
			l.commit()
			w.settle(c)
			require.Equal(t, int64(12), w.ledger()[0].Events)
			w.sound()
		})
	}
}

func TestPipelineWithoutResultTopicHasALedger(t *testing.T) {
	w := newWorld(t, hourly, 1)
	w.spec.Results.Kafka = nil
	w.lanes[0].event("x", 10, 1)
	w.lanes[0].event("x", 95, 1)
	w.lanes[0].commit()
	w.settle(w.closer())
	require.Equal(t, []string{"r1 watermark final"}, w.history("hourly", base))
	require.Empty(t, w.ledger()[0].PublishedTo)
	require.Empty(t, w.results())
	w.sound()
}

func TestMarkerAtTheTailHoldsUpNobody(t *testing.T) {
	w := newWorld(t, hourly, 2)
	c := w.closer()
	a, b := w.lanes[0], w.lanes[1]
	a.event("x", 10, 1)
	b.event("x", 11, 1)
	b.event("x", 62, 1)
	w.kafka.AppendMarker(a.tp)
	a.idle()
	b.commit()
	require.Len(t, w.round(c).Closed, 1)
	receipt, err := c.Drain(w.ctx, []report.LaneEnd{a.endAt(2), b.endAt(2)})
	require.NoError(t, err)
	require.True(t, receipt.Done)
}
