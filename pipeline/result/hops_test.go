package result_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/merge"
	"millrace/pipeline/page"
	"millrace/pipeline/result"
	"millrace/pipeline/store"
)

const hopping = header + `
windows: [{name: hop, size: 1h, slide: 5m}]
watermark: {out_of_orderness: 0s, idle_timeout: 5s}
allowed_lateness: 20m
`

// countedState counts the pages that are read of lanes.
type countedState struct {
	*store.Store
	pages atomic.Int64
}

func (s *countedState) ReadPages(ctx context.Context, id store.LaneID, stateID string, pages []store.SlicePage,
	fn func(i int, p *page.Page) error) (store.Guard, error) {
	s.pages.Add(int64(len(pages)))
	return s.Store.ReadPages(ctx, id, stateID, pages, fn)
}

// hops closes windows of an hour every five minutes. With troubled, events come late too, and lanes change hands and are written
// anew. It returns what was published and the pages that were read.
func hops(t *testing.T, seed uint64, troubled bool, cache *merge.Cache) (values map[string]string, checksums []string, pages int64) {
	w := newWorld(t, hopping, 2)
	rng := rand.New(rand.NewPCG(seed, 3))
	state := &countedState{Store: w.store}
	c := w.closer(func(cfg *result.Config) { cfg.State, cfg.Cache = state, cache })
	for now := range 150 {
		for _, l := range w.lanes {
			for range 1 + rng.IntN(3) {
				at := float64(now)
				if troubled && rng.IntN(12) == 0 {
					at -= rng.Float64() * 30
				}
				l.event(fmt.Sprintf("key-%d", rng.IntN(8)), at, rng.Int64N(100))
			}
			l.commit()
			switch n := rng.IntN(90); {
			case !troubled:
			case n == 0:
				l.acquire()
			case n == 1:
				l.reseed()
			}
		}
		if now%5 == 1 {
			require.Empty(t, w.round(c).Failed)
		}
	}
	w.settle(c)
	w.sound()
	for _, row := range w.ledger() {
		checksums = append(checksums, fmt.Sprintf("%d %d %v %s", row.Start, row.Revision, row.Final, row.Checksum))
	}
	return w.values(), checksums, state.pages.Load()
}

// A closer with a cache publishes what one without publishes, revision by revision.
func TestHoppingWindowsAreClosedByWayOfTheCache(t *testing.T) {
	for seed, limit := range []int64{1 << 30, 16 << 10} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			values, checksums, _ := hops(t, uint64(seed), true, nil)
			require.NotEmpty(t, values)
			cache := merge.NewCache(limit)
			got, sums, _ := hops(t, uint64(seed), true, cache)
			require.Equal(t, values, got)
			require.Equal(t, checksums, sums)
			require.NotZero(t, cache.Stats().Hits)
			require.LessOrEqual(t, cache.Stats().Bytes, limit)
		})
	}
}

// Of windows that share twelve slices a closer with a cache reads a fraction of the pages.
func TestSlicesOfHoppingWindowsAreReadOnce(t *testing.T) {
	values, checksums, pages := hops(t, 1, false, nil)
	got, sums, read := hops(t, 1, false, merge.NewCache(1<<30))
	require.Equal(t, values, got)
	require.Equal(t, checksums, sums)
	t.Logf("%d of %d pages read", read, pages)
	require.Less(t, read, pages/6)
}
