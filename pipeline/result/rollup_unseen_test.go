package result_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestEventsThatNoValueShowsAreRolledUp: an event below the maximum changes no value, and is counted in what is merged into
// coarser windows, whether it comes late or a replay counts it.
func TestEventsThatNoValueShowsAreRolledUp(t *testing.T) {
	for _, lost := range []bool{false, true} {
		text := minutesIn("UTC")
		from, to := strings.Index(text, "aggregates:"), strings.Index(text, "results: {kafka")
		text = text[:from] + "aggregates: {top: {func: max, field: v}}\n" + text[to:]
		inner := newWorld(t, text, 1)
		w := &rolling{inner, text, inner.newClock()}
		c := w.newCloser()
		loseViews := func() {
			for _, key := range w.server.Keys() {
				if lost && strings.Contains(key, ":v:") {
					w.server.Del(key)
				}
			}
		}
		minuteAt := aDay + 5*minute
		w.event(0, "a", minuteAt, 9)
		w.event(0, "a", aDay+8*minute, 9)
		w.lanes[0].commit()
		w.round(c)
		require.Equal(t, []string{"r1 watermark"}, w.history("minutely", minuteAt))
		loseViews()
		w.event(0, "a", minuteAt+1000, 1)
		end := w.pass(aDay + 25*hour)
		w.event(0, "a", minuteAt+2000, 2) // for the replay
		w.closeAll(c)
		row := w.rowOf("minutely", minuteAt)
		require.Equal(t, []any{2, int64(2), "states"}, []any{row.Revision, row.Events, row.Mends})
		require.Equal(t, lost, row.Links[len(row.Links)-1].Whole)
		w.rollUp(c)
		require.EqualValues(t, 3, w.rowOf("days", aDay).Events)
		w.requireOracle(end)

		loseViews()
		w.correctWithLate(minuteAt)
		next := w.newCloser()
		_, booked := w.rollUp(next)
		w.round(next) // shows what the replay has not
		require.Equal(t, []string{
			"hours/2023-09-12T00:00:00Z published r2", "days/2023-09-12T00:00:00Z published r2", "months/2023-09-01T00:00:00Z unchanged r1",
		}, booked)
		require.EqualValues(t, 4, w.rowOf("days", aDay).Events)
		states, err := w.contents().ReadStates(w.ctx, w.rowOf("days", aDay))
		require.NoError(t, err)
		require.Len(t, states, 1)
		w.requireOracleOf(w.withLate(), end)
	}
}
