package chaos

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
	"millrace/tests/rig"
)

var full = Scale{Events: 50_000, Faults: 8, Away: 20 * time.Second}

func TestPlanFollowsFromSeed(t *testing.T) {
	_, lines := rig.Flights(t, 0)
	scale := full
	scale.Events = 900
	for seed := range uint64(50) {
		plan := NewPlan(seed, scale)
		require.Equal(t, plan, NewPlan(seed, scale))
		require.Equal(t, plan.input(lines), plan.input(lines))
		require.NotEqual(t, plan.Steps, NewPlan(seed+1, scale).Steps)
	}
}

// With a write-ahead log a seed has further faults, and is the same otherwise.
func TestPlanWithWAL(t *testing.T) {
	journals, damages := 0, 0
	for seed := range uint64(200) {
		without := NewPlan(seed, full)
		scale := full
		scale.WAL = true
		with := NewPlan(seed, scale)
		if with.Journal {
			journals++
		}
		if with.Uses(WALFull, WALTorn, WALFlip) {
			damages++
			require.True(t, with.Journal)
		}
		require.Equal(t, with.Journal, strings.Contains(with.YAML, "overflow: journal"))
		with.Journal, with.YAML = false, without.YAML
		with.Steps = slices.DeleteFunc(with.Steps, func(s Step) bool { return slices.Contains([]Kind{WALFull, WALTorn, WALFlip}, s.Kind) })
		require.Equal(t, without, with)
	}
	require.Greater(t, journals, 100)
	require.Greater(t, damages, 60)
}

// So it is with clocks.
func TestPlanWithClocks(t *testing.T) {
	jumps := 0
	for seed := range uint64(200) {
		without := NewPlan(seed, full)
		scale := full
		scale.Clocks = true
		with := NewPlan(seed, scale)
		if with.Uses(ClockJump) {
			jumps++
		}
		with.Steps = slices.DeleteFunc(with.Steps, func(s Step) bool { return s.Kind == ClockJump })
		require.Equal(t, without, with)
	}
	require.Greater(t, jumps, 40)
}

// So it is with losses of keys.
func TestPlanWithLosses(t *testing.T) {
	losses, epilogues := 0, 0
	for seed := range uint64(200) {
		without := NewPlan(seed, full)
		scale := full
		scale.Losses = true
		with := NewPlan(seed, scale)
		if with.Uses(RedisKeyLoss, RedisEvict) {
			losses++
			require.False(t, with.variant().idle)
		}
		if with.Epilogue != "" {
			epilogues++
			require.False(t, with.variant().idle)
		}
		require.Equal(t, with.Wide, with.Variant == "synthetic by minute")
		with.Steps, with.Epilogue = slices.DeleteFunc(with.Steps, Step.losesKeys), ""
		with.Wide, with.YAML = false, without.YAML
		require.Equal(t, without, with)
	}
	require.Greater(t, losses, 40)
	require.Greater(t, epilogues, 40)
}

// So it is with servers that refuse.
func TestPlanWithDenials(t *testing.T) {
	denials, trimmed, refused := 0, 0, 0
	for seed := range uint64(300) {
		without := NewPlan(seed, full)
		scale := full
		scale.Denied = true
		with := NewPlan(seed, scale)
		if with.Uses(RedisReadOnly, RedisOOM) {
			denials++
		}
		if with.Epilogue == LogTrimmed {
			trimmed++
			require.False(t, with.variant().idle)
		}
		if with.Refused {
			refused++
			require.True(t, without.Quiet)
			with.Quiet, with.Refused = true, false
		}
		with.Steps = slices.DeleteFunc(with.Steps, func(s Step) bool { return s.Kind == RedisReadOnly || s.Kind == RedisOOM })
		with.Epilogue = ""
		require.Equal(t, without, with)
	}
	require.Greater(t, denials, 100)
	require.Greater(t, trimmed, 50)
	require.Greater(t, refused, 15)
}

func TestPlansStayWithinBounds(t *testing.T) {
	scale := full
	scale.WAL, scale.Clocks, scale.Losses, scale.Denied = true, true, true, true
	for seed := range uint64(2000) {
		p := NewPlan(seed, scale)
		require.GreaterOrEqual(t, p.Workers, 2)
		require.LessOrEqual(t, p.Replicas, p.Workers)
		require.GreaterOrEqual(t, p.Partitions, int32(1))
		require.LessOrEqual(t, p.Partitions, int32(8))
		require.Positive(t, p.Events)
		require.LessOrEqual(t, p.Events, scale.Events)
		if p.variant().idle {
			require.False(t, p.Uses(KafkaKill), "seed %d", seed)
		}
		for _, s := range p.Steps {
			require.Less(t, s.Worker, p.Workers)
			require.LessOrEqual(t, s.For, max(scale.Away, 14*time.Second))
			if s.Kind == RedisSlow {
				require.Positive(t, s.Delay)
			}
			require.Equal(t, s.Kind == ClockJump, s.Jump != 0)
		}
	}
}

// The fixed set is worth running only if everything happens in it.
func TestFixedSetHasEverything(t *testing.T) {
	kinds, names, refused := make(map[Kind]int), make(map[string]int), 0
	for seed := range uint64(fixed) {
		scale := full
		scale.WAL, scale.Clocks, scale.Losses, scale.Denied = true, true, true, true
		p := NewPlan(seed+1, scale)
		names[p.Variant]++
		for _, s := range p.Steps {
			kinds[s.Kind]++
		}
		kinds[p.Epilogue]++
		scale.Mixed = true
		for _, s := range NewPlan(seed+1, scale).Steps {
			if s.Kind == WorkerUpgrade || s.Kind == WorkerDowngrade {
				kinds[s.Kind]++
			}
		}
		if p.Refused {
			refused++
		}
	}
	require.GreaterOrEqual(t, refused, 2)
	for _, kind := range Kinds {
		require.GreaterOrEqual(t, kinds[kind], 3, "%s", kind)
	}
	for _, v := range variants {
		require.GreaterOrEqual(t, names[v.name], 2, "%s", v.name)
	}
}

func TestVariantsAreSpecs(t *testing.T) {
	for _, v := range variants {
		s, err := spec.Parse(v.name, []byte(v.yaml))
		require.NoError(t, err)
		require.Equal(t, v.idle, s.Watermark.IdleTimeout > 0)
	}
}
