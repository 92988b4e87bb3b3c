package result_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
)

// TestWindowsThatWereGoneBeforeThereWasAnArchive: what had expired when the pipeline began to archive is booked once, and the rows
// say so; the windows after it are archived.
func TestWindowsThatWereGoneBeforeThereWasAnArchive(t *testing.T) {
	w := newWorld(t, keepsMinutes, 1)
	clk := w.newClock()
	c := w.closer(clk.use)
	w.finals(c, 1)
	clk.pass(12 * time.Minute)
	w.round(c)
	w.server.FastForward(12 * time.Minute)
	w.kafka.MakeTopicAgain("orders.windows", "made-again", 3)

	w.archiveTo()
	archiving := w.closer(clk.use, archives)
	require.Equal(t, []string{"0 unchanged r1"}, w.archiveDue(archiving, clk))
	require.Empty(t, w.archiveDue(archiving, clk), "once")
	require.Empty(t, w.archiveDue(w.closer(clk.use, archives), clk), "for other closers, too")
	rows, err := ledger.Latest(w.ctx, w.kafka, "orders")
	require.NoError(t, err)
	require.Contains(t, rows[0].Archive.Gone, "Redis does not have it any more")
	require.Zero(t, w.unarchived(clk))
}
