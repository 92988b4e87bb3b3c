package result_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

// The topic was made again with one partition instead of two. The lane that held the first window open is not listed any
// more, and its event would be missing: nothing is published before somebody has decided about the lane that is left.
func TestATopicMadeAgainHoldsItsWindows(t *testing.T) {
	w := newWorld(t, hourly, 2)
	w.kafka.SetTopicID("orders", topicID)
	c := w.closer()
	a, b := w.lanes[0], w.lanes[1]
	a.event("x", 10, 1)
	a.event("x", 70, 1)
	a.commit()
	b.event("x", 30, 1)
	b.commit()
	require.Empty(t, w.round(c).Closed)

	w.kafka.MakeTopicAgain("orders", "another", 1)
	r := w.round(c)
	require.Empty(t, r.Closed)
	require.Zero(t, r.Waiting.Watermark)
	require.Equal(t, "orders/0", r.Waiting.Lane)
	require.Contains(t, r.Waiting.For, "its topic was deleted and made again")

	receipt, err := c.Drain(w.ctx, []report.LaneEnd{a.endAt(2)})
	require.NoError(t, err)
	require.False(t, receipt.Done, "offset 2 is one of the old log")
	require.Len(t, receipt.Missing, 1)
	require.Equal(t, "its topic was deleted and made again", receipt.Missing[0].Reason)
	receipt, err = c.Flush(w.ctx)
	require.NoError(t, err)
	require.False(t, receipt.Done)
	require.Len(t, receipt.Missing, 1)
	require.Empty(t, w.ledger())
}
