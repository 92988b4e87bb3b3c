package telemetry

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A counter of the SDK is a counter for Prometheus, whose rate is asked for.
func TestTemporalCountersAreCounters(t *testing.T) {
	r := newRegistry(t)
	r.TemporalHandler().Counter("temporal_request").Inc(3)
	families, err := r.registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "temporal_request_total" {
			require.InDelta(t, 3, f.GetMetric()[0].GetCounter().GetValue(), 0)
			return
		}
	}
	require.Fail(t, "there is no temporal_request_total")
}
