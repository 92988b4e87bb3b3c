package merge_test

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/window"
)

// BenchmarkWindow merges, renders and sums up a window of 200,000 keys in each of 4 lanes: whole
// runs with a tenth of the keys in runs above them. The pages are read from memory.
func BenchmarkWindow(b *testing.B) {
	w := newWorld(b, text(), 4, fold.DefaultLimits)
	const keys = 200_000
	for _, l := range w.lanes {
		batch := make([]string, keys)
		for i := range batch {
			batch[i] = fmt.Sprintf("user-%010d", i)
		}
		l.events(1, batch...)
		l.commit()
		for k := range 10 {
			l.events(2, batch[k*keys/100:(k+1)*keys/100]...)
			l.commit()
		}
	}
	m := w.merger(0, 8)
	o, err := m.Open(b.Context(), w.view(), ref)
	require.NoError(b, err)
	b.SetBytes(o.Bytes())
	b.ReportAllocs()
	for b.Loop() {
		o, err := m.Open(b.Context(), w.view(), ref)
		require.NoError(b, err)
		var sum ledger.Checksum
		_, _, err = o.MergeRows(b.Context(), true, func(r *ledger.Rows) error {
			for i := range r.Digests {
				sum.AddDigest(r.Digests[i])
			}
			return nil
		})
		require.NoError(b, err)
		require.EqualValues(b, keys, sum.Rows())
	}
}

// BenchmarkHops merges windows of some minutes every minute, one after the other, from the lanes alone
// and by way of a cache: of 20,000 keys that have events in every minute, each in one of 4 lanes or
// in all of them.
func BenchmarkHops(b *testing.B) {
	for _, spread := range []bool{false, true} {
		benchmarkHops(b, spread)
	}
}

func benchmarkHops(b *testing.B, spread bool) {
	const keys, windows = 20_000, 16
	overlaps := []int{60, 12, 8}
	var others []string
	for _, n := range overlaps[1:] {
		others = append(others, fmt.Sprintf("  - {name: m%d, size: %dm, slide: 1m}\n", n, n))
	}
	w := newWorld(b, hopping("1m", others...), 4, fold.DefaultLimits)
	rng := rand.New(rand.NewPCG(1, 1))
	for i, l := range w.lanes {
		var mine []string
		for k := range keys {
			if spread || k%len(w.lanes) == i {
				mine = append(mine, fmt.Sprintf("user-%010d", k))
			}
		}
		for m := range overlaps[0] + windows {
			l.eventsAt(rng, m, mine...)
			l.commit()
		}
		l.state, l.program = nil, nil
	}
	v := w.view()
	run := func(b *testing.B, m *merge.Merger, ref window.Ref) {
		o, err := m.Open(b.Context(), v, ref)
		require.NoError(b, err)
		_, _, err = o.MergeRows(b.Context(), true, func(*ledger.Rows) error { return nil })
		require.NoError(b, err)
	}
	for family, overlap := range overlaps {
		for _, from := range []string{"lanes", "cache"} {
			b.Run(fmt.Sprintf("spread=%v/overlap=%d/%s", spread, overlap, from), func(b *testing.B) {
				b.ReportAllocs()
				k, m := windows, w.merger(1, 1)
				var spent time.Duration
				for b.Loop() {
					if k++; k > windows {
						b.StopTimer()
						if k = 1; from == "cache" {
							m = w.cached(merge.NewCache(ample), 1, 1)
							for before := -overlap; before <= 0; before++ {
								run(b, m, window.Ref{Window: family, Start: at(before).Start})
							}
						}
						b.StartTimer()
					}
					before := processorTime(b)
					run(b, m, window.Ref{Window: family, Start: at(k).Start})
					spent += processorTime(b) - before
				}
				b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}

// processorTime is what the process has used of its processors.
func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
