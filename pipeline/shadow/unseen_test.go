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
)

// TestAReplayFindsStatesThatNoValueShows: an event below the maximum changes no value, and counts in what is merged into coarser
// windows. A correction publishes the state of its key, too: without it the states would not hold the events that its row names.
func TestAReplayFindsStatesThatNoValueShows(t *testing.T) {
	for name, late := range map[string]int64{"beside a value": 20, "alone": 1} {
		t.Run(name, func(t *testing.T) {
			text := summing("v", hourly) + "rollups: [{name: daily, from: hourly, calendar: day}]\n"
			from, to := strings.Index(text, "aggregates:"), strings.Index(text, "results: {kafka")
			text = text[:from] + "aggregates: {top: {func: max, field: v}}\n" + text[to:]
			w := newWorld(t, 1, text, 1)
			w.kafka.AddTopic(ledger.StatesTopic("orders"), 3)
			l := w.lanes[0]
			w.clock = base + 30*minute
			for n := range 12 {
				l.event(fmt.Sprint("k", n), base+5*minute, 9, 9)
			}
			w.clock = base + 20*hour
			l.event("k0", w.clock, 1, 1)
			w.settle()
			l.event("k1", base+6*minute, late, late)
			l.event("k2", base+6*minute, 1, 1)
			w.settle()
			require.Len(t, w.late, 2)

			w.begin(w.ask(plan.None, text))
			res, err := shadow.Run(w.ctx, w.runConfig())
			require.NoError(t, err)
			require.Equal(t, 1, res.Differ)
			require.Equal(t, []string{"published r2"}, w.carryOut("r1", res.Checksum))
			id := ledger.WindowID{Window: "hourly", Start: base}
			row := w.latest(id)
			require.EqualValues(t, 14, row.Events)
			require.Empty(t, w.verify().Problems)

			renderer, err := agg.NewRenderer(w.spec)
			require.NoError(t, err)
			contents := w.contents()
			contents.Render = renderer.Render
			states, err := contents.ReadStates(w.ctx, row)
			require.NoError(t, err)
			layout, err := agg.NewLayout(w.spec)
			require.NoError(t, err)
			table, events := layout.NewTable(), int64(0)
			for i := range states {
				require.NoError(t, table.MergeEntry(states[i].Key, states[i].State, 0))
				events += table.Count(uint32(i))
			}
			require.Equal(t, row.Events, events)
			require.Equal(t, []string{"done r2"}, w.carryOut("r1", res.Checksum))
		})
	}
}
