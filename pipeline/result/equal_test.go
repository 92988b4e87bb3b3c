package result_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/result"
	"millrace/tests/long"
)

const overlapping = header + `
windows:
  - {name: hourly, size: 1h}
  - {name: daily, size: 24h}
  - {name: sliding, size: 1h, slide: 10m}
watermark: {out_of_orderness: 5m, idle_timeout: 5s}
`

// TestClosingAtOnceOrLateIsEqual folds the same disorderly logs with a closer that runs all the time and with one that
// comes when everything has been read; windows of three kinds share the slices.
func TestClosingAtOnceOrLateIsEqual(t *testing.T) {
	for _, lateness := range []string{"0s", "25m"} {
		for seed := range long.Seeds(1, 2) {
			t.Run(fmt.Sprintf("lateness %s seed %d", lateness, seed), func(t *testing.T) {
				run := func(every int, change ...func(*result.Config)) *world {
					w := newWorld(t, overlapping+"allowed_lateness: "+lateness, 3)
					c := w.closer(change...)
					rng := rand.New(rand.NewPCG(seed, 1))
					for i := range 150 {
						l := w.lanes[rng.IntN(3)]
						minutes := float64(i)*11 + 20 - 60*rng.ExpFloat64()
						l.event(fmt.Sprintf("key-%d", rng.IntN(7)), max(minutes, 0), rng.Int64N(100)-50)
						if rng.IntN(5) == 0 {
							l.commit()
						}
						if every > 0 && i%every == 0 {
							w.round(c)
						}
					}
					for _, l := range w.lanes {
						l.event("end", 3*24*60, 0)
						l.commit()
					}
					w.settle(c)
					w.sound()
					return w
				}
				late := run(0)
				atOnce := run(2)
				parallel := run(7, func(c *result.Config) { c.Parallel, c.ReadAhead = 4, 5 })
				want := late.values()
				require.Greater(t, len(want), 200)
				require.Equal(t, want, atOnce.values())
				require.Equal(t, want, parallel.values())
				require.Equal(t, checksums(late), checksums(atOnce))
				require.Equal(t, checksums(late), checksums(parallel))
			})
		}
	}
}

// checksums maps a final window to what its last revision holds.
func checksums(w *world) map[string]string {
	out := map[string]string{}
	for _, row := range w.ledger() {
		if row.Final {
			out[fmt.Sprint(row.Window, row.Start)] = fmt.Sprint(row.Checksum, row.Keys, row.Events)
		}
	}
	return out
}

func TestEqualInputGivesEqualBytes(t *testing.T) {
	var pages [2]string
	for i := range pages {
		w := newWorld(t, hourly, 2)
		for n := range 200 {
			w.lanes[n%2].event(fmt.Sprintf("key-%d", n%50), float64(n%60), int64(n))
		}
		for _, l := range w.lanes {
			l.event("x", 61, 0)
			l.commit()
		}
		w.round(w.closer(func(c *result.Config) { c.ReadAhead = 1 + 6*i; c.Parallel = 1 + 3*i }))
		raw, err := w.redis.HGetAll(w.ctx, "mr:{orders/hourly/"+itoa(base)+"}:v:1").Result()
		require.NoError(t, err)
		delete(raw, "attempt")
		pages[i] = fmt.Sprint(raw)
	}
	require.Equal(t, pages[0], pages[1])
}
