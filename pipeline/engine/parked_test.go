package engine

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
)

// Lanes that park while they run are told at once, those that do so together as one, and nothing is announced whose steps
// somebody would have to run.
func TestLanesThatParkWhileTheyRunMakeABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen hooks
		h := newHall(t, seen.into)
		defer h.close()
		h.claim(partitions(0, 3)...)
		pass(Collect + TemporalWait)
		_, before := seen.seen(t, 1, 1)
		gap := &source.OutOfRangeError{Offset: 10, Ends: source.Ends{Start: 40, HighWatermark: 100}}
		h.fail(1, gap)
		pass(Collect / 2)
		h.fail(2, gap)
		pass(Collect / 2)
		require.Equal(t, map[string]int{lane.StateRunning: 1, lane.StateParked: 2}, h.states())
		_, reports := seen.seen(t, 1, 2)
		r := reports[1]
		require.True(t, r.Batch.MidRun)
		require.Greater(t, r.Batch.Batch, before[0].Batch.Batch)
		require.False(t, r.Ended.IsZero())
		require.Equal(t, []int{2, 0, 2, 0}, came(&r))
		require.Equal(t, "parked while running: gap of 2", r.Batch.Reason)
		require.Equal(t, []report.LaneRef{{Topic: "orders", Partition: 1}, {Topic: "orders", Partition: 2}}, r.Batch.Lanes)
		require.Empty(t, r.Steps)
		require.Equal(t, report.IncidentGap, r.Lanes[0].Incident.Kind)
		require.Equal(t, report.ChoiceSkip, r.Lanes[0].Incident.Choices[0].Name)
		require.Equal(t, int64(1), r.Lanes[0].ToEpoch)
		kept, ok := h.Batch(r.Batch.Batch)
		require.True(t, ok)
		require.Equal(t, r, kept)
		_, _, ok = h.Later(r.Batch.Batch, report.LaneRef{Topic: "orders", Partition: 1})
		require.False(t, ok)

		require.NoError(t, h.Decide(t.Context(), "orders/1", r.Lanes[0].Incident.ID, report.ChoiceSkip, "me"))
		pass(Collect + TemporalWait)
		require.Equal(t, map[string]int{lane.StateRunning: 2, lane.StateParked: 1}, h.states())
		_, reports = seen.seen(t, 2, 3)
		later, row, ok := h.Later(r.Batch.Batch, report.LaneRef{Topic: "orders", Partition: 1})
		require.True(t, ok)
		require.Equal(t, reports[2].Batch.Batch, later)
		require.Equal(t, report.LaneRunning, row.State)

		h.fail(1, gap)
		pass(Collect)
		_, reports = seen.seen(t, 2, 4)
		require.Len(t, reports[3].Lanes, 1, "a second incident of a lane is another batch")
		require.NotEqual(t, r.Lanes[0].Incident.ID, reports[3].Lanes[0].Incident.ID)
	})
}
