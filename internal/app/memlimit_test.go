package app

import (
	"bytes"
	"log/slog"
	"math"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMemoryLimitFollowsTheHotPaths(t *testing.T) {
	const mib = 1 << 20
	tests := []struct {
		name   string
		fixed  bool
		group  int64
		states []int64 // one look after the other
		merged int64
		want   []int64
		why    string
		warns  bool
	}{
		{"nothing to go by", false, 0, []int64{0}, 0, []int64{math.MaxInt64}, "nothing limits it", false},
		{"specs come and go", false, 0, []int64{0, 512 * mib, 1024 * mib, 0}, 0, []int64{math.MaxInt64, 1280 * mib, 2304 * mib, math.MaxInt64},
			"nothing limits it", false},
		{"container", false, 1000 * mib, []int64{0, 512 * mib}, 0, []int64{900 * mib, 900 * mib}, "90 % of the 1000MiB", false},
		{"the specs need less", false, 8000 * mib, []int64{512 * mib}, 0, []int64{1280 * mib}, "2 x 512MiB of lane.memory_limit + 256MiB", false},
		{"the container is too small", false, 400 * mib, []int64{512 * mib}, 0, []int64{360 * mib}, "90 %", true},
		{"windows overlap", false, 0, []int64{0, 512 * mib}, 2048 * mib, []int64{math.MaxInt64, 3328 * mib},
			"2 x 512MiB of lane.memory_limit + 2GiB of worker.merge_cache + 256MiB", false},
		{"the container is too small for merged slices", false, 1000 * mib, []int64{512 * mib}, 512 * mib, []int64{900 * mib}, "90 %", true},
		{"GOMEMLIMIT", true, 400 * mib, []int64{0, 100 * mib}, 0, []int64{777, 777}, "GOMEMLIMIT", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			current, states := int64(math.MaxInt64), int64(0)
			if tt.fixed {
				current = 777
			}
			var log bytes.Buffer
			m := &memoryLimit{log: slog.New(slog.NewTextHandler(&log, nil)), fixed: tt.fixed, group: tt.group,
				states: func() int64 { return states }, merged: func() int64 { return tt.merged },
				set: func(n int64) int64 {
					if n >= 0 {
						require.False(t, tt.fixed, "whoever set GOMEMLIMIT decides")
						current = n
					}
					return current
				}}
			for i := range tt.states {
				states = tt.states[i]
				m.follow()
				m.follow()
				require.Equal(t, tt.want[i], current)
			}
			_, why := m.limited()
			require.Contains(t, why, tt.why)
			require.Equal(t, tt.warns, bytes.Contains(log.Bytes(), []byte("level=WARN")))
		})
	}
}
