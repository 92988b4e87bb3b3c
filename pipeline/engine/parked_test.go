package engine

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane"
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
		require.True(t, r.MidRun)
		require.Greater(t, r.ID, before[0].ID)
		require.False(t, r.Closed.IsZero())
		require.Equal(t, []int{2, 0, 2, 0}, []int{r.Count, r.Resumed, r.Parked, r.Gone})
		require.Equal(t, []string{"orders/orders/1", "orders/orders/2"}, []string{r.Rows[0].Lane, r.Rows[1].Lane})
		require.Equal(t, lane.IncidentGap, r.Rows[0].Incident.Kind)
		require.Equal(t, lane.ChoiceSkip, r.Rows[0].Incident.Choices[0].Name)
		require.Equal(t, int64(1), r.Rows[0].To)
		kept, ok := h.Batch(r.ID)
		require.True(t, ok)
		require.Equal(t, r, kept)
		_, _, ok = h.Later(r.ID, "orders/orders/1")
		require.False(t, ok)

		require.NoError(t, h.Decide(t.Context(), "orders/1", r.Rows[0].Incident.ID, lane.ChoiceSkip, "me"))
		pass(Collect + TemporalWait)
		require.Equal(t, map[string]int{lane.StateRunning: 2, lane.StateParked: 1}, h.states())
		_, reports = seen.seen(t, 2, 3)
		later, row, ok := h.Later(r.ID, "orders/orders/1")
		require.True(t, ok)
		require.Equal(t, reports[2].ID, later.ID)
		require.Equal(t, lane.OutcomeResumed, row.Outcome)

		h.fail(1, gap)
		pass(Collect)
		_, reports = seen.seen(t, 2, 4)
		require.Len(t, reports[3].Rows, 1, "a second incident of a lane is another batch")
		require.NotEqual(t, r.Rows[0].Incident.ID, reports[3].Rows[0].Incident.ID)
	})
}
