package result_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

func TestFlushPublishesWhatIsCommitted(t *testing.T) {
	w := newWorld(t, hourly, 2)
	c := w.closer()
	w.lanes[0].event("x", 10, 1)
	w.lanes[0].event("x", 70, 1)
	w.lanes[0].commit()
	w.lanes[0].event("x", 71, 1) // not committed
	receipt, err := c.Flush(w.ctx)
	require.NoError(t, err)
	require.True(t, receipt.Done)
	require.Equal(t, 2, receipt.Windows)
	require.Len(t, receipt.Revisions, 2)
	require.Equal(t, int64(2), receipt.Covered[0].Offset)
	require.Equal(t, int64(-1), receipt.Covered[1].Offset)
	require.Equal(t, []string{"r1 flush"}, w.history("hourly", base))

	receipt, err = c.Flush(w.ctx)
	require.NoError(t, err)
	require.Equal(t, 2, receipt.Unchanged)
	require.Empty(t, receipt.Revisions)

	// The watermark closes it later: nothing changed, so nothing is published until it is final.
	for _, l := range w.lanes {
		l.event("x", 72, 1)
		l.commit()
	}
	w.round(c)
	require.Equal(t, []string{"r1 flush"}, w.history("hourly", base))
	w.lanes[1].event("y", 12, 1)
	w.lanes[1].event("y", 95, 1)
	w.lanes[0].event("y", 95, 1)
	w.lanes[0].commit()
	w.lanes[1].commit()
	w.settle(c)
	require.Equal(t, []string{"r1 flush", "r2 watermark final"}, w.history("hourly", base))
	w.sound()
}

func TestDrainNamesTheLaneThatIsNotThere(t *testing.T) {
	w := newWorld(t, hourly, 3)
	c := w.closer()
	w.lanes[0].event("x", 10, 1)
	w.lanes[1].event("x", 70, 1)
	w.lanes[0].commit()
	ends := []report.LaneEnd{w.lanes[0].endAt(1), w.lanes[1].endAt(1), w.lanes[2].endAt(0)}
	receipt, err := c.Drain(w.ctx, ends)
	require.NoError(t, err)
	require.False(t, receipt.Done)
	require.Equal(t, []report.LaneMissing{{
		Topic: "orders", Partition: 1, Offset: -1, Want: 1, Reason: "it has committed nothing yet",
	}}, receipt.Missing)
	require.Empty(t, w.ledger())

	w.lanes[1].commit()
	receipt, err = c.Drain(w.ctx, ends)
	require.NoError(t, err)
	require.True(t, receipt.Done)
	require.Len(t, receipt.Revisions, 2)
	require.Equal(t, []string{"r1 drain"}, w.history("hourly", base))
	require.Equal(t, []string{"r1 drain"}, w.history("hourly", at(60)))
	require.Equal(t, int64(-1<<63), w.lanes[0].ctl().SealBefore, "a drain seals nothing")

	receipt, err = c.Drain(w.ctx, ends)
	require.NoError(t, err)
	require.True(t, receipt.Done)
	require.Equal(t, 2, receipt.Unchanged)
	w.sound()
}

// Entries in fields are read as they are, also in the middle of a commit.
func TestDrainIsExact(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer()
	l := w.lanes[0]
	l.fields = true
	l.event("x", 10, 1)
	l.commit()
	l.event("x", 11, 1)
	l.event("y", 11, 1)
	finish := l.begin()
	receipt, err := c.Drain(w.ctx, []report.LaneEnd{l.endAt(1)})
	require.NoError(t, err)
	require.False(t, receipt.Done)
	require.Contains(t, receipt.Failed[0].Problem, "in the middle of a commit")
	finish()
	receipt, err = c.Drain(w.ctx, []report.LaneEnd{l.endAt(1)})
	require.NoError(t, err)
	require.True(t, receipt.Done)
	require.Equal(t, int64(3), receipt.Revisions[0].Events)
	w.sound()
}

func TestFlushOfABusyLaneIsNotExactAtFirst(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer()
	l := w.lanes[0]
	l.fields = true
	l.event("x", 10, 1)
	l.commit()
	l.event("x", 11, 1)
	l.event("y", 11, 1)
	finish := l.begin()
	receipt, err := c.Flush(w.ctx)
	require.NoError(t, err)
	require.True(t, receipt.Done)
	require.Equal(t, []string{"r1 flush inexact"}, w.history("hourly", base))
	finish()
	_, err = c.Flush(w.ctx)
	require.NoError(t, err)
	require.Equal(t, []string{"r1 flush inexact", "r2 flush"}, w.history("hourly", base))
	w.sound()
}
