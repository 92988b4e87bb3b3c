package cli

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

func TestStatusSaysWhyLanesAreNotInPages(t *testing.T) {
	const old = "worker w7 reads state format 1, and pages are format 2"
	var v statusView
	v.Pipeline = "orders"
	v.Lanes = []laneLine{
		{Topic: "orders", Partition: 0, StateFormat: 2, Pages: &report.LanePages{Pages: 3, Bytes: 2 << 20, Runs: 5, Dirtied: 100, Written: 180}},
		{Topic: "orders", Partition: 1, StateFormat: 2, Pages: &report.LanePages{Pages: 1, Bytes: 1 << 20, Runs: 9, InFields: 12}},
		{Topic: "orders", Partition: 2, StateFormat: 1, KeepsFields: old},
		{Topic: "orders", Partition: 3, StateFormat: 1, KeepsFields: old},
		{Topic: "orders", Partition: 4, StateFormat: 1}, // no heartbeat names it
		{Topic: "orders", Partition: 5}, // nobody has taken it yet
	}
	var out strings.Builder
	require.NoError(t, drawStatus(&out, v))
	require.Contains(t, out.String(), "  state of 2 lanes in pages: 4 pages, 3MiB, at most 9 runs above a slice's last whole one, "+
		"1.80 entries written for each that changed, 12 entries of slices that are in fields still\n"+
		"  state of 3 lanes in fields\n    2 lanes: "+old+"\n")

	for name, want := range map[string]string{
		"orders/0": "state format      2 (pages)\n", "orders/2": "state format      1 (fields): " + old + "\n",
		"orders/4": "state format      1 (fields)\n", "orders/5": "state format      -\n",
	} {
		out.Reset()
		require.NoError(t, showLane(&shell{out: &out}, v, name))
		require.Contains(t, out.String(), want)
		require.Equal(t, name == "orders/0", strings.Contains(out.String(), "state pages: 3 pages, 2MiB"), name)
	}
}
