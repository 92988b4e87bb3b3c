package app

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/source"
	"millrace/pipeline/verify"
)

// One record from 2099, stamped with its own time, moves the watermark: what comes after it is late. A new incarnation from behind
// it counts everything again, exactly.
func TestTheWayBackAfterARecordFromTheFuture(t *testing.T) {
	w := newBeginning(t)
	w.produce(0, sentEvent{at: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), v: 1})
	w.produce(0, hours(1, 0, 1, 2, 3, 4)...)
	w.produce(1, hours(10, 0, 1, 2, 3, 5)...)
	require.NoError(t, w.start(nil))
	w.readAll()
	require.EqualValues(t, 5, w.meta(0).Counters.Late, "all that comes after it in its lane is late")
	require.Zero(t, w.meta(0).Counters.Ahead, "max_future does not help: the record itself is from 2099")
	sums, final := w.published()
	require.NotEqual(t, w.oracle(1, 0), sums)
	require.GreaterOrEqual(t, final, 4, "windows are final without the events of the first lane")
	w.stop()

	from := map[source.TopicPartition]int64{{Topic: "orders"}: 1, {Topic: "orders", Partition: 1}: 0}
	survey, err := verify.FindOvertaken(w.ctx, w.cluster, w.spec, from, 1000)
	require.NoError(t, err)
	require.EqualValues(t, 10, survey.Records)
	require.GreaterOrEqual(t, len(survey.Windows), 4)
	for h, x := range survey.Windows[:4] {
		require.Equal(t, firstDay+int64(h)*hourMS, x.Start)
		require.EqualValues(t, 1, x.Missing, "%+v", x)
		require.EqualValues(t, 1, x.Events)
	}
	survey, err = verify.FindOvertaken(w.ctx, w.cluster, w.spec, from, 3)
	require.NoError(t, err)
	require.True(t, survey.Cut)

	require.NoError(t, w.start(&contract.Begin{ID: "reset", From: offsets(1, 0), Discard: true}))
	w.readAll()
	require.Zero(t, w.meta(0).Counters.Late)
	sums, _ = w.published()
	survey, err = verify.FindOvertaken(w.ctx, w.cluster, w.spec, from, 1000)
	require.NoError(t, err)
	require.Empty(t, survey.Windows)
	require.Equal(t, w.oracle(1, 0), sums, "events of windows that were falsely final count again")
}

// An event that is refused because it is too far in the past is none that a final window lacks.
func TestWhatIsTooFarInThePastIsNotMissing(t *testing.T) {
	w := newBeginning(t)
	w.spec = w.parse(strings.Replace(beginSpec, "max_future: 1h", "max_future: 1h\n  max_past: 2h", 1))
	w.produce(0, hours(1, 0, 1, 2, 3, 4)...)
	w.produce(0, sentEvent{at: firstDay, v: 1, stamp: firstDay + 4*hourMS})
	w.produce(1, hours(10, 0, 1, 2, 3, 5)...)
	require.NoError(t, w.start(nil))
	w.readAll()
	require.EqualValues(t, 1, w.meta(0).Counters.Past)
	_, final := w.published()
	require.Positive(t, final)
	from := map[source.TopicPartition]int64{{Topic: "orders"}: 0, {Topic: "orders", Partition: 1}: 0}
	survey, err := verify.FindOvertaken(w.ctx, w.cluster, w.spec, from, 1000)
	require.NoError(t, err)
	require.EqualValues(t, 11, survey.Records)
	require.Empty(t, survey.Windows)
}

// The way back can also begin before the record from 2099, with a spec that bounds what one event may move: it is refused then,
// and nothing else is lost.
func TestTheWayBackWithABoundOfTheWatermarksJumps(t *testing.T) {
	bounded := strings.Replace(beginSpec, "max_future: 1h", "max_future: 1h\n  max_jump: 6h", 1)
	for _, from := range []string{contract.FromEarliest, "orders/0=0,orders/1=0"} {
		t.Run(from, func(t *testing.T) {
			w := newBeginning(t)
			w.produce(0, hours(1, 0)...)
			w.produce(0, sentEvent{at: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), v: 1})
			w.produce(0, hours(1, 1, 2, 3, 4)...)
			w.produce(1, hours(10, 0, 1, 2, 3, 5)...)
			require.NoError(t, w.start(nil))
			w.readAll()
			require.EqualValues(t, 4, w.meta(0).Counters.Late, "all that comes after it in its lane is late")
			sums, _ := w.published()
			want := w.oracle(0, 0)
			delete(want, (w.sent[0][1].at-firstDay)/hourMS)
			require.NotEqual(t, want, sums)
			w.stop()

			w.spec = w.parse(bounded)
			require.ErrorIs(t, w.start(nil), activities.ErrPermanent, "it is another spec: what is there was decided without a bound")
			begin, err := contract.ParseFrom(from)
			require.NoError(t, err)
			require.NoError(t, w.start(&contract.Begin{ID: "reset", From: *begin, Discard: true}))
			w.readAll()
			counted := w.meta(0).Counters
			require.Zero(t, counted.Late)
			require.EqualValues(t, 1, counted.Jumped)
			require.EqualValues(t, 5, counted.Folded)
			sums, _ = w.published()
			require.Equal(t, want, sums, "all but the record from 2099")
		})
	}
}
