package survey

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// planOf is the plan of a spec with one family of windows, written as in its file.
func planOf(t testing.TB, family string) *window.Plan {
	t.Helper()
	s, err := spec.Parse("test.yaml", []byte(`
name: orders
source: {topics: [orders], format: json}
event:
  key: [k]
  time: {field: t, unit: ms}
windows: [`+family+`]
watermark: {out_of_orderness: 0s, idle_timeout: 5s}
aggregates: {n: {func: count}}
results: {kafka: {topic: orders.windows}}
late: {kafka: {topic: orders.late}}
`))
	require.NoError(t, err)
	plan, err := window.NewPlan(s)
	require.NoError(t, err)
	return plan
}

// A lane's share of a window is the same whether the lane has more slices than the window merges, or
// fewer.
func TestShareOfAWindow(t *testing.T) {
	const minute = 60_000
	plan := planOf(t, "{name: hop, size: 1h, slide: 5m}")
	ranges := plan.SlicesOf(window.Ref{Start: 0})
	merged := 0
	for _, r := range ranges {
		merged += r.MaxGen + 1
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 8, merged - 1, merged, 2 * merged} {
		l := Lane{Slices: make(map[SliceKey]store.SliceStat)}
		var wantFirst, wantLast, wantFolded int64 = -1, -1, 0
		for i := 0; len(l.Slices) < n; i++ {
			k := SliceKey{Start: (rng.Int64N(48) - 24) * 5 * minute, Gen: rng.IntN(13)}
			if _, known := l.Slices[k]; known {
				continue
			}
			s := store.SliceStat{FirstOffset: int64(i), LastOffset: int64(i) + rng.Int64N(1000), Folded: 1 + rng.Int64N(9)}
			l.Slices[k] = s
			if k.Start < 0 || k.Start >= 60*minute || k.Gen > 11-int(k.Start/(5*minute)) {
				continue
			}
			if wantFirst < 0 {
				wantFirst = s.FirstOffset
			}
			wantLast, wantFolded = max(wantLast, s.LastOffset), wantFolded+s.Folded
		}
		first, last, folded := l.Share(ranges)
		require.Equal(t, wantFolded, folded)
		require.Equal(t, wantLast, last)
		if wantFirst < 0 {
			require.Nil(t, first)
			continue
		}
		require.Equal(t, wantFirst, first.FirstOffset)
	}
}

// BenchmarkShare is of a lane with the slices of a day, each with two generations.
func BenchmarkShare(b *testing.B) {
	for _, family := range []string{"{name: hop, size: 24h, slide: 5m}", "{name: day, size: 24h}", "{name: short, size: 5m}"} {
		b.Run(family, func(b *testing.B) {
			plan := planOf(b, family)
			l := Lane{Slices: make(map[SliceKey]store.SliceStat)}
			for start := int64(0); start < 24*60*60_000; start += plan.Width {
				for gen := range 2 {
					l.Slices[SliceKey{start, gen}] = store.SliceStat{FirstOffset: start, LastOffset: start + 9, Folded: 10}
				}
			}
			ranges := plan.SlicesOf(window.Ref{Start: 0})
			for b.Loop() {
				if _, _, folded := l.Share(ranges); folded == 0 {
					b.Fatal("no share")
				}
			}
		})
	}
}
