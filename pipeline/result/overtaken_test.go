package result_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

// failCommit makes the next commit of a transaction fail before the broker sees it.
func (w *world) failCommit() {
	w.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
		if s.Name != "commit" {
			return publishtest.Pass
		}
		w.kafka.Plan(nil)
		return publishtest.FailBefore
	})
}

// A drain that follows an attempt that failed publishes what it finds, under the number of that attempt.
func TestDrainGoesOnBehindAnAttemptThatFailed(t *testing.T) {
	w := newWorld(t, hourly, 1)
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.commit()
	w.failCommit()
	receipt, err := w.closer().Flush(w.ctx)
	require.NoError(t, err)
	require.False(t, receipt.Done)
	l.event("x", 11, 2)
	l.commit()
	receipt, err = w.closer().Drain(w.ctx, []report.LaneEnd{l.endAt(2)})
	require.NoError(t, err)
	require.True(t, receipt.Done)
	require.Equal(t, []string{"r1 drain"}, w.history("hourly", base))
	require.Equal(t, int64(2), receipt.Revisions[0].Events)
	w.sound()
}

// A closer that was overtaken by another one, which made a window final and lets the lanes drop it, reports no incident.
func TestOvertakenCloserReportsNoIncident(t *testing.T) {
	w := newWorld(t, hourly, 1)
	l := w.lanes[0]
	first, second := w.closer(), w.closer()
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.commit()
	require.Len(t, w.round(first).Closed, 1)
	l.event("x", 200, 1)
	l.commit()
	w.round(second)
	require.NotEqual(t, int64(store.NoTime), l.ctl().DropBefore)
	told := w.round(first)
	require.Empty(t, told.Incidents)
	w.sound()
}

// Lanes are not allowed to drop while one of them has lost its state, whatever a closer remembers.
func TestNoDropWhileALaneLacksItsState(t *testing.T) {
	w := newWorld(t, hourly, 2)
	a, b := w.lanes[0], w.lanes[1]
	c := w.closer()
	for _, l := range w.lanes {
		l.event("x", 10, 1)
		l.event("x", 200, 1)
		l.commit()
	}
	before := len(w.faults.Log(b.id.String()))
	told := w.round(c)
	require.NotEmpty(t, told.Closed)
	require.LessOrEqual(t, before, len(w.faults.Log(b.id.String())))
	final := a.ctl().DropBefore
	require.Equal(t, base+90*minute, final)
	require.NoError(t, w.faults.Rewind(w.ctx, b.id.String(), 0))
	require.NoError(t, w.faults.Rewind(w.ctx, a.id.String(), len(w.faults.Log(a.id.String()))-1))
	require.Equal(t, int64(store.NoTime), a.ctl().DropBefore)
	a.event("x", 400, 1)
	a.commit()
	w.round(c)
	require.Equal(t, final, a.ctl().DropBefore, "the floors still know it, and nothing beyond is final")
	require.Equal(t, final, b.ctl().DropBefore)
}
