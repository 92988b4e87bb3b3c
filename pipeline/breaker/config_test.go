package breaker

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDefaultsAreValid(t *testing.T) {
	cfg := Config{Dependency: "redis", Prober: new(Prober)}
	require.NoError(t, cfg.Validate())
	cfg.Thresholds.PingEvery = 100 * time.Millisecond
	require.NoError(t, cfg.Validate(), "the timeout's default fits")
}

func TestValidateNamesEveryOption(t *testing.T) {
	_, err := New(Config{Replica: -1, Thresholds: Thresholds{
		AssignmentTime: -time.Second, PingTimeout: 2 * time.Second, Pings: 101, PingFailing: 1.1, ThroughputDrop: math.NaN(),
		ErrorStep: time.Minute, ErrorMin: -1, FloorRate: 0.5, OpenFor: -1, Probes: -5,
	}})
	for _, want := range []string{
		`Dependency is ""; want a name`, "Replica is -1", "Prober is nil", "AssignmentTime is -1s; want a positive duration",
		"PingTimeout is 2s; want at most PingEvery (1s)", "Pings is 101; want 1 to 100", "PingFailing is 1.1; want a share",
		"ThroughputDrop is NaN", "ErrorStep is 1m0s; want at most ErrorWindow (10s)", "ErrorMin is -1", "FloorRate is 0.5",
		"OpenFor is -1ns", "Probes is -5",
	} {
		require.ErrorContains(t, err, want)
	}
}
