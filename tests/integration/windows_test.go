package integration

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/tests/rig"
)

// Hours, days and sliding hours over one stream. When windows are closed, at once or only after everything has been
// read, changes nothing: what is late follows from the lanes alone.
func TestWindows(t *testing.T) {
	t.Parallel()
	const windows = `
name: windows
source: {topics: [windows], format: json}
event:
  key: [origin]
  time: {field: scheduled, unit: s}
aggregates:
  flights:   {func: count}
  delay_sum: {func: sum, field: delay, type: int}
  delay_max: {func: max, field: delay}
  first_to:  {func: first, field: destination}
  last_to:   {func: last, field: destination}
windows:
  - {name: daily, size: 24h}
  - {name: hourly, size: 1h}
  - {name: sliding, size: 1h, slide: 10m}
watermark: {out_of_orderness: 45m, idle_timeout: 0s}
allowed_lateness: %s
results:     {kafka: {topic: windows.results}}
late:        {kafka: {topic: windows.late}}
dead_letter: {kafka: {topic: windows.dead}}
lane: {commit_interval: 200ms}
`
	_, lines := rig.Flights(t, 4_000)
	lines = lines[:min(len(lines), 20_000)]
	for _, lateness := range []string{"0s", "2h"} {
		for _, atOnce := range []bool{true, false} {
			t.Run(fmt.Sprintf("lateness=%s/at_once=%t", lateness, atOnce), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, rig.Servers{})
				p := w.newPipeline(fmt.Sprintf(windows, lateness), 4)
				h := p.hotPath()
				feed := p.Trickle(lines, len(lines)/4)
				if atOnce {
					require.NoError(t, h.closeWhile(feed.Done))
				}
				feed.Finish()
				h.finish()
				p.RequireResults()
				h.verify()
			})
		}
	}
}
