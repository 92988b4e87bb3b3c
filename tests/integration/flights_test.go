package integration

import (
	"fmt"
	"testing"

	"millrace/tests/rig"
)

// The real input, badly out of order, over one, four and sixteen partitions: the results do not depend on how it was
// spread.
func TestFlights(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 100_000)
	w := newWorld(t, rig.Servers{})
	w.Ready(w.Worker())
	for _, partitions := range []int32{1, 4, 16} {
		t.Run(fmt.Sprintf("partitions=%d", partitions), func(t *testing.T) {
			p := w.newPipeline(yaml, partitions)
			p.Start()
			p.Feed(lines)
			p.Drain()
			p.RequireExact()
		})
	}
}
