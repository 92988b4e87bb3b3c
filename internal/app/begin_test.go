package app

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/lane"
	"millrace/pipeline/ledger"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
	"millrace/pipeline/verify"
)

func TestBeginWhereToldAndCountFromThere(t *testing.T) {
	for _, c := range []struct {
		from        string
		first, rest int // where the lanes begin
	}{
		{"earliest", 0, 0},
		{"latest", 4, 3},
		{"orders/0=1,orders/1=2", 1, 2},
		{time.UnixMilli(firstDay + 2*hourMS).UTC().Format(time.RFC3339), 2, 2},
		{"2090-01-01T00:00:00Z", 4, 3},
	} {
		t.Run(c.from, func(t *testing.T) {
			w := newBeginning(t)
			w.produce(0, hours(1, 0, 1, 2, 3)...)
			w.produce(1, hours(10, 0, 1, 2)...)
			from, err := contract.ParseFrom(c.from)
			require.NoError(t, err)
			require.NoError(t, w.start(&contract.Begin{ID: "a", From: *from}))
			w.produce(0, hours(100, 4)...)
			w.produce(1, hours(100, 4)...)
			w.readAll()
			sums, _ := w.published()
			require.Equal(t, w.oracle(c.first, c.rest), sums)
			require.EqualValues(t, c.first, w.meta(0).Begun)
			require.EqualValues(t, 5-c.first, w.meta(0).Counters.Read)
		})
	}
}

func TestStartRefusesBeforeAnythingHappens(t *testing.T) {
	w := newBeginning(t)
	w.produce(0, hours(1, 0, 1, 2)...)
	w.produce(1, hours(10, 0, 1)...)
	require.NoError(t, w.start(nil))
	w.readAll()
	w.stop()
	before := w.redis.Dump()

	own := w.spec
	w.spec = w.parse(strings.Replace(beginSpec, "func: sum", "func: max", 1))
	err := w.servers.CheckStore(w.ctx, w.spec, nil)
	require.ErrorIs(t, err, activities.ErrPermanent)
	require.ErrorContains(t, err, "2 of 2 lanes of pipeline orders hold the state of another spec")
	require.ErrorContains(t, err, "start it under another name, or give up what is there: `millrace start FILE --discard-state --from")
	w.spec = own
	latest := contract.From{Place: contract.FromLatest}
	err = w.servers.CheckStore(w.ctx, w.spec, &contract.Begin{ID: "b", From: latest})
	require.ErrorContains(t, err,
		"2 of 2 lanes of pipeline orders have a state and go on where they stopped, so they cannot begin from latest")
	require.NoError(t, w.servers.CheckStore(w.ctx, w.spec, &contract.Begin{ID: "b", From: latest, Discard: true}))

	for _, wrong := range []struct {
		from contract.From
		says string
	}{
		{offsets(0, 3), "from is offset 3 for orders/1, whose log holds offsets 0 to 2"},
		{contract.From{Offsets: []contract.LaneStart{{Topic: "orders"}}}, "from names no offset for orders/1; name every partition"},
		{contract.From{Offsets: []contract.LaneStart{{Topic: "order"}}}, "from names order/0, which the pipeline does not read"},
	} {
		_, err = w.servers.LocateBegin(w.ctx, w.spec, contract.Begin{ID: "b", From: wrong.from, Discard: true})
		require.ErrorIs(t, err, activities.ErrPermanent)
		require.ErrorContains(t, err, wrong.says)
	}
	require.Equal(t, before, w.redis.Dump())

	// What one lane has cannot be read: it is that lane which asks, and the others go on.
	for _, field := range [][]string{{"format", "9"}, {"format", "1", "offset", "many"}} {
		const meta = "mr:{orders/orders/1}:meta"
		offset := w.redis.HGet(meta, "offset")
		w.redis.HSet(meta, field...)
		require.NoError(t, w.servers.CheckStore(w.ctx, w.spec, nil), field)
		err = w.servers.CheckStore(w.ctx, w.spec, &contract.Begin{ID: "b", From: latest})
		require.ErrorContains(t, err, "2 of 2 lanes of pipeline orders have a state", field)
		states, err := lanes{w.store, w.cluster}.States(w.ctx, w.spec)
		require.NoError(t, err, field)
		require.True(t, states[1].Found, field)
		require.Equal(t, w.redis.HGet(meta, "owner"), states[1].Owner, field)
		require.Zero(t, states[1].Generation, field)
		w.redis.HSet(meta, "format", "1", "offset", offset)
	}

	// The state is lost: the lanes would ask, and a place to begin is no answer to that.
	w.redis.FlushAll()
	require.NoError(t, w.servers.CheckStore(w.ctx, w.spec, nil), "the lanes ask")
	err = w.servers.CheckStore(w.ctx, w.spec, &contract.Begin{ID: "b", From: latest})
	require.ErrorContains(t, err, "the state was lost. Start it without a place to begin and decide what the lanes then ask, or")
}

func TestDiscardWithAnotherSpecBeginsAnEdition(t *testing.T) {
	w := newBeginning(t)
	w.produce(0, hours(1, 0, 1, 2, 3)...)
	w.produce(1, hours(10, 0, 1, 2, 3)...)
	require.NoError(t, w.start(nil))
	w.readAll()
	sums, _ := w.published()
	require.Equal(t, w.oracle(0, 0), sums)
	w.stop()

	w.spec = w.parse(strings.Replace(beginSpec, "sum:  {func: sum, field: v, type: int}", "sum:  {func: max, field: v, type: int}", 1))
	begin := &contract.Begin{ID: "b", From: offsets(2, 3), Discard: true}
	require.NoError(t, w.start(begin))
	w.readAll()
	sums, _ = w.published()
	require.Equal(t, map[int64]int64{2: 1, 3: 10}, sums, "the greatest value of each hour, from the offsets on")
	w.stop()

	// Every row of the first edition still stands in the topic.
	editions := make(map[int]int)
	require.NoError(t, ledger.ReadResults(w.ctx, w.cluster, "orders.windows", "orders", func(r ledger.ResultRow) error {
		editions[max(r.Edition, ledger.Edition)]++
		return nil
	}))
	require.Equal(t, map[int]int{1: 4, 2: 2}, editions)

	// The same start again, as after a reset of its workflow, changes nothing.
	begun, err := w.servers.LocateBegin(w.ctx, w.spec, *begin)
	require.NoError(t, err)
	require.True(t, begun.Already)
	require.NoError(t, w.start(nil), "and it goes on where it stopped")
	w.produce(0, hours(7, 3)...)
	w.readAll()
	require.EqualValues(t, 3, w.meta(0).Counters.Read)
}

// A start that is cut off between its steps leaves no lane that begins elsewhere: it asks, and comes back to where it was to begin.
func TestABeginThatIsCutOff(t *testing.T) {
	w := newBeginning(t)
	w.produce(0, hours(1, 0, 1, 2, 3)...)
	w.produce(1, hours(10, 0, 1, 2, 3)...)
	begin := &contract.Begin{ID: "a", From: offsets(2, 3)}
	_, err := w.servers.EnsureTopics(w.ctx, w.spec)
	require.NoError(t, err)
	begun, err := w.servers.LocateBegin(w.ctx, w.spec, *begin)
	require.NoError(t, err)
	w.redis.SetError("the worker dies")
	require.Error(t, w.beginLanes(begin, begun), "the group has its offsets, the lanes have no state")
	w.redis.SetError("")

	require.NoError(t, w.start(nil), "somebody starts it without a place")
	var incident *report.Incident
	require.Eventually(t, func() bool {
		parked := 0
		for _, l := range w.engine.Status().Lanes {
			if l.State == lane.StateParked {
				parked, incident = parked+1, l.Incident
			}
		}
		return parked == 2
	}, 30*time.Second, 20*time.Millisecond)
	require.Equal(t, report.IncidentStateLost, incident.Kind)
	for _, l := range w.engine.Status().Lanes {
		require.Equal(t, report.ChoiceRebuild, l.Incident.Choices[0].Name)
		require.True(t, l.Incident.Choices[0].Exact)
		name := store.LaneID{Pipeline: "orders", Topic: l.Topic, Partition: l.Partition}.String()
		require.NoError(t, w.engine.Decide(w.ctx, name, l.Incident.ID, report.ChoiceRebuild, "test"))
	}
	w.readAll()
	sums, _ := w.published()
	require.Equal(t, w.oracle(2, 3), sums)
	require.Equal(t, []int64{2, 3}, []int64{w.meta(0).Begun, w.meta(1).Begun})
	v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.store, Kafka: w.cluster, Input: true})
	require.NoError(t, err)
	for _, p := range v.Problems {
		require.NotEqual(t, verify.ProblemInput, p.Kind, p.Detail)
	}
	require.EqualValues(t, 2, v.Lanes[0].Records)
}
