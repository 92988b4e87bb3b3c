package shadow_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
)

// newTopWorld is a pipeline of maxima with a roll-up. Twelve keys have an event each in the first hour, which is final.
func newTopWorld(t *testing.T) *world {
	t.Helper()
	text := summing("v", hourly) + "rollups: [{name: daily, from: hourly, calendar: day}]\n"
	from, to := strings.Index(text, "aggregates:"), strings.Index(text, "results: {kafka")
	text = text[:from] + "aggregates: {top: {func: max, field: v}}\n" + text[to:]
	w := newWorld(t, 1, text, 1)
	w.kafka.AddTopic(ledger.StatesTopic("orders"), 3)
	w.clock = base + 30*minute
	for n := range 12 {
		w.lanes[0].event(fmt.Sprint("k", n), base+5*minute, 9, 9)
	}
	w.clock = base + 20*hour
	w.lanes[0].event("k0", w.clock, 1, 1)
	w.settle()
	return w
}

// statesOf are the states of a row's content.
func (w *world) statesOf(row *ledger.Row) []ledger.Content {
	w.t.Helper()
	renderer, err := agg.NewRenderer(w.spec)
	require.NoError(w.t, err)
	contents := w.contents()
	contents.Render = renderer.Render
	states, err := contents.ReadStates(w.ctx, row)
	require.NoError(w.t, err)
	return states
}

// eventsOf is how many events the states of a row's content hold.
func (w *world) eventsOf(row *ledger.Row) (events int64) {
	w.t.Helper()
	for _, c := range w.statesOf(row) {
		_, _, n, err := agg.EntryHeader(c.State)
		require.NoError(w.t, err)
		events += n
	}
	return events
}

// TestApprovalPublishesStatesThatCountWrong: releases before left states without an event that no value shows, and no roll-up can
// be made from them. A recount says so, and its approval publishes them again.
func TestApprovalPublishesStatesThatCountWrong(t *testing.T) {
	w := newTopWorld(t)
	id := ledger.WindowID{Window: "hourly", Start: base}
	row := w.latest(id)
	require.EqualValues(t, 12, w.eventsOf(row))
	link := ledger.Link{Revision: row.Revision, TopicID: row.States[0].TopicID, Whole: true}
	layout, err := agg.NewLayout(w.spec)
	require.NoError(t, err)
	table := layout.NewTable()
	for i, c := range w.statesOf(row) {
		for range 1 + i/11 { // the last one counts twice, with the same maximum
			require.NoError(t, table.MergeEntry(c.Key, c.State, 0))
		}
		c.State = table.AppendMerged(nil, uint32(i))
		value := ledger.NewResultPrefix("orders", row.Window, row.Start, row.End, row.Edition).AppendState(nil, row.Revision, c)
		tp := source.TopicPartition{Topic: ledger.StatesTopic("orders"), Partition: 2}
		link.Extend(tp.Partition, w.kafka.Append(tp, source.Record{Key: c.Key, Value: value}))
	}
	w.forgeRow(row, "states", link)
	require.EqualValues(t, 13, w.eventsOf(w.latest(id)))

	res := w.recount("r1")
	require.Equal(t, 1, res.Differ)
	require.Equal(t, []string{"published r2"}, w.carryOut("r1", res.Checksum))
	mended := w.latest(id)
	require.Equal(t, []any{"states", row.Checksum}, []any{mended.Mends, mended.Checksum})
	require.EqualValues(t, 12, w.eventsOf(mended))
	require.Zero(t, w.recount("r2").Differ)
}

// TestAReplayFindsStatesThatNoValueShows: an event below the maximum changes no value, and counts in what is merged into coarser
// windows. A correction publishes the state of its key, too: without it the states would not hold the events that its row names.
func TestAReplayFindsStatesThatNoValueShows(t *testing.T) {
	for name, late := range map[string]int64{"beside a value": 20, "alone": 1} {
		t.Run(name, func(t *testing.T) {
			w := newTopWorld(t)
			l := w.lanes[0]
			l.event("k1", base+6*minute, late, late)
			l.event("k2", base+6*minute, 1, 1)
			w.settle()
			require.Len(t, w.late, 2)

			w.begin(w.ask(plan.None, w.text))
			res, err := shadow.Run(w.ctx, w.runConfig())
			require.NoError(t, err)
			require.Equal(t, 1, res.Differ)
			require.Equal(t, []string{"published r2"}, w.carryOut("r1", res.Checksum))
			id := ledger.WindowID{Window: "hourly", Start: base}
			row := w.latest(id)
			require.EqualValues(t, 14, row.Events)
			require.Empty(t, w.verify().Problems)

			require.Equal(t, row.Events, w.eventsOf(row))
			require.Equal(t, []string{"done r2"}, w.carryOut("r1", res.Checksum))
		})
	}
}
