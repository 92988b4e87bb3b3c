package chaos

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// With two releases a seed has the same faults, and between them the fleet is upgraded: at least one
// worker is of the older release until the last has been replaced, lanes may go back to the older
// release before that, and faults follow when all lanes are in pages.
func TestPlanWithTwoReleases(t *testing.T) {
	back := 0
	for seed := range uint64(500) {
		scale := full
		scale.WAL, scale.Losses, scale.Denied = true, true, true
		without := NewPlan(seed, scale)
		scale.Mixed = true
		with := NewPlan(seed, scale)
		require.Equal(t, with, NewPlan(seed, scale))
		newer := make(map[int]bool)
		var faults []Step
		waits := 0
		for _, s := range with.Steps {
			switch s.Kind {
			case WorkerUpgrade, WorkerDowngrade:
				require.Less(t, len(newer), with.Workers, "seed %d goes back when all workers are new", seed)
				require.Equal(t, s.Kind == WorkerDowngrade, newer[s.Worker], "seed %d", seed)
				if s.Kind == WorkerUpgrade {
					newer[s.Worker] = true
				} else {
					delete(newer, s.Worker)
					back++
				}
				continue
			}
			if s.InPages {
				require.Len(t, newer, with.Workers, "seed %d waits for pages", seed)
				waits++
				s.InPages = false
			}
			faults = append(faults, s)
		}
		require.Equal(t, 1, waits, "seed %d", seed)
		require.Equal(t, without.Steps, faults)
		with.Steps, with.Mixed, with.Feed = without.Steps, false, without.Feed
		require.Equal(t, without, with)
	}
	require.Greater(t, back, 300)
}
