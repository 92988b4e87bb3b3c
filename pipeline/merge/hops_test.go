package merge_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/merge"
	"millrace/pipeline/page"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

const ample = 1 << 30 // bytes: room for everything

// hopping is a spec whose windows are of an hour every so often, and of as many other families as
// are given.
func hopping(slide string, others ...string) string {
	windows := "  - {name: hour, size: 1h, slide: " + slide + "}\n" + strings.Join(others, "")
	return strings.NewReplacer(
		"  - {name: minute, size: 1m}\n  - {name: five, size: 5m}\n", windows,
		"where: \"v != 13\"\n", "", "max_future: 1h", "max_future: 2d", "allowed_lateness: 20s", "allowed_lateness: 15m",
		"aggregates:\n", `aggregates:
  first: {func: first, field: v, type: int}
  text:  {func: last, field: k}
  total: {func: sum, field: d}
  mean:  {func: avg, field: d}
  low:   {func: min, field: d}
  high:  {func: max, field: v, type: int}
`).Replace(foldtest.Spec)
}

// cached is a merger with a cache.
func (w *world) cached(cache *merge.Cache, workers, readAhead int) *merge.Merger {
	w.t.Helper()
	m, err := merge.New(merge.Config{
		Spec: w.spec, Plan: w.plan, Reader: w, Parallel: 2, ReadAhead: readAhead, Workers: workers, Cache: cache,
	})
	require.NoError(w.t, err)
	return m
}

// rowsOf is what a merger says of a window as the lanes are.
func (w *world) rowsOf(ctx context.Context, m *merge.Merger, ref window.Ref) (rows []row, events int64, err error) {
	o, err := m.Open(ctx, w.view(), ref)
	if err != nil {
		return nil, 0, err
	}
	events, _, err = o.MergeRows(ctx, true, collect(&rows))
	return rows, events, err
}

// at is the window of the first family that begins minutes after start.
func at(minutes int) window.Ref { return window.Ref{Start: start + int64(minutes)*minute} }

// requireSame merges a window with and without the cache.
func (w *world) requireSame(plain, cached *merge.Merger, ref window.Ref) {
	w.t.Helper()
	want, all, err := w.rowsOf(w.t.Context(), plain, ref)
	require.NoError(w.t, err)
	got, events, err := w.rowsOf(w.t.Context(), cached, ref)
	require.NoError(w.t, err)
	require.Equal(w.t, all, events)
	require.True(w.t, slices.Equal(want, got), "window %+v", ref)
}

// eventsAt folds an event of each key at a minute after start; many are of the same millisecond, and
// values have decimals.
func (l *lane) eventsAt(rng *rand.Rand, minutes int, keys ...string) {
	for _, key := range keys {
		ms := start + int64(minutes)*minute + rng.Int64N(4)*10_000
		l.state.Fold(foldtest.Batch(foldtest.Record(l.offset, fmt.Sprintf(`{"k":%q,"t":%d,"v":%d,"d":%d.%d}`,
			key, ms, rng.IntN(100), rng.IntN(1000), rng.IntN(100)))))
		l.offset++
	}
}

// Whatever happens to the lanes, windows merged by way of the cache are those of the lanes, in any
// order, for families of different overlap, also when there is hardly any room.
func TestWindowsByCacheAreThoseOfTheLanes(t *testing.T) {
	for seed, c := range []struct {
		name  string
		limit int64
	}{{"ample", ample}, {"some", 400 << 10}, {"little", 60 << 10}, {"none", 0}} {
		t.Run(c.name, func(t *testing.T) {
			late := false // some event was late for some of its windows
			rng := rand.New(rand.NewPCG(uint64(seed), 11))
			w := newWorld(t, hopping("5m", "  - {name: half, size: 30m, slide: 1m}\n  - {name: whole, size: 20m}\n"), 1+rng.IntN(3), small)
			cache := merge.NewCache(c.limit)
			plain, cached := w.merger(1, 1), w.cached(cache, 1+rng.IntN(3), 1+rng.IntN(3))
			for clock := 0; clock < 60; clock++ {
				for i, l := range w.lanes {
					for range rng.IntN(3) {
						behind := 0
						if rng.IntN(5) == 0 {
							behind = rng.IntN(40)
						}
						keys := make([]string, rng.IntN(60))
						for k := range keys {
							keys[k] = fmt.Sprintf("key-%d", rng.IntN(80))
						}
						l.eventsAt(rng, clock-behind, keys...)
						l.commit()
					}
					if rng.IntN(60) == 0 {
						l.meta.Owner = store.Token(fmt.Sprintf("%d:%d", clock, i))
					}
				}
				ends := []int{clock}
				if rng.IntN(4) == 0 {
					ends = append(ends, clock-rng.IntN(40))
				}
				for _, end := range ends {
					w.requireSame(plain, cached, window.Ref{Window: 1, Start: at(end - 30).Start})
					if clock%5 == 0 || rng.IntN(5) == 0 {
						w.requireSame(plain, cached, at(end/5*5-60))
						w.requireSame(plain, cached, window.Ref{Window: 2, Start: at(end/20*20 - 20).Start})
					}
				}
				require.LessOrEqual(t, cache.Stats().Bytes, c.limit)
			}
			for _, l := range w.lanes {
				for id := range l.slices {
					late = late || id.Gen > 0
				}
			}
			hits := cache.Stats().Hits
			cache.Clear()
			require.Zero(t, cache.Stats().Bytes, "nothing is in use")
			require.True(t, late)
			require.Equal(t, c.limit > 0, hits > 0)
		})
	}
}

// minutes makes a world of slices of a minute with a few keys each, in every lane.
func minutes(t testing.TB, lanes, slices int) *world {
	w := newWorld(t, hopping("1m"), lanes, small)
	rng := rand.New(rand.NewPCG(1, 1))
	for _, l := range w.lanes {
		for m := range slices {
			l.eventsAt(rng, m, "a", "b", "c", fmt.Sprintf("key-%d", m%7))
			l.commit()
		}
	}
	return w
}

// Windows of sixty slices that follow each other read each page a few times at first, and once as
// soon as they follow windows that were merged slice by slice.
func TestSlicesAreNotReadAgain(t *testing.T) {
	w := minutes(t, 3, 200)
	plain, cached := w.merger(2, 2), w.cached(merge.NewCache(ample), 2, 2)
	for k := range 60 {
		_, _, err := w.rowsOf(t.Context(), cached, at(k))
		require.NoError(t, err)
	}
	most, reads := 0, 0
	for _, n := range w.reads {
		most, reads = max(most, n), reads+n
	}
	require.LessOrEqual(t, most, 6)
	require.LessOrEqual(t, reads, 3*len(w.reads))
	for k := 60; k < 140; k++ {
		clear(w.reads)
		_, _, err := w.rowsOf(t.Context(), cached, at(k))
		require.NoError(t, err)
		if k < 64 {
			continue
		}
		fresh := store.SliceID{Width: minute, Start: at(k + 59).Start}
		require.NotEmpty(t, w.reads)
		for name, n := range w.reads {
			require.Contains(t, name, " "+fresh.String()+" ")
			require.Equal(t, 1, n)
		}
	}
	w.requireSame(plain, cached, at(139))
}

// Only windows that overlap much are kept in part.
func TestWindowsThatOverlapLittleAreNotKept(t *testing.T) {
	for _, slide := range []string{"1h", "30m", "15m", "10m"} {
		w := newWorld(t, hopping(slide), 1, small)
		w.lanes[0].eventsAt(rand.New(rand.NewPCG(1, 1)), 1, "a", "b")
		w.lanes[0].commit()
		cache := merge.NewCache(ample)
		w.requireSame(w.merger(1, 1), w.cached(cache, 1, 1), at(0))
		require.Zero(t, cache.Stats().Bytes)
		require.Zero(t, cache.Stats().Misses)
	}
}

// A window that is larger than the cache is merged as without one.
func TestWindowsLargerThanTheCacheAreNotKept(t *testing.T) {
	w := minutes(t, 2, 60)
	o, err := w.merger(1, 1).Open(t.Context(), w.view(), at(0))
	require.NoError(t, err)
	cache := merge.NewCache(o.Bytes() - 1)
	w.requireSame(w.merger(1, 1), w.cached(cache, 1, 1), at(0))
	require.Equal(t, merge.CacheStats{Limit: o.Bytes() - 1}, cache.Stats())
}

// A lane that another worker owns now is read again, one that folded into a slice in that slice.
func TestOnlyWhatChangedIsReadAgain(t *testing.T) {
	w := minutes(t, 2, 60)
	cached := w.cached(merge.NewCache(ample), 1, 2)
	merged := func() map[string]int {
		clear(w.reads)
		w.requireSame(w.merger(1, 1), cached, at(0))
		for name := range w.reads {
			if w.reads[name]--; w.reads[name] == 0 { // those of the other merger
				delete(w.reads, name)
			}
		}
		return w.reads
	}
	require.NotEmpty(t, merged())
	require.Empty(t, merged())
	w.lanes[1].eventsAt(rand.New(rand.NewPCG(1, 1)), 59, "a")
	w.lanes[1].commit()
	changed := merged()
	require.NotEmpty(t, changed)
	for name := range changed {
		require.Regexp(t, fmt.Sprintf(":(%d|%d|%d|%d):", at(56).Start, at(57).Start, at(58).Start, at(59).Start), name)
	}
	require.Empty(t, merged())
	w.lanes[0].meta.Owner = "2:another"
	require.NotEmpty(t, merged())
	require.Empty(t, merged())
	w.lanes[0].meta.Era = 7
	require.NotEmpty(t, merged())
}

// What is wrong with a lane is said of the lane, and is not kept.
func TestLanesAreBlamedThroughTheCache(t *testing.T) {
	w := minutes(t, 2, 60)
	cache := merge.NewCache(ample)
	cached := w.cached(cache, 2, 2)
	for _, c := range []struct {
		err     error
		corrupt bool
	}{{store.ErrPageGone, false}, {store.ErrLaneMoved, false}, {store.ErrCorrupt, true}} {
		w.fail = func(id store.LaneID, p store.SlicePage) error {
			if id.Partition == 1 && p.Slice.Start == at(40).Start {
				return c.err
			}
			return nil
		}
		_, _, err := w.rowsOf(t.Context(), cached, at(0))
		require.ErrorIs(t, err, c.err)
		var corrupt *merge.CorruptError
		require.Equal(t, c.corrupt, errors.As(err, &corrupt))
		require.Equal(t, !c.corrupt, errors.Is(err, merge.ErrMoved))
		if c.corrupt {
			require.Equal(t, int32(1), corrupt.Lane.ID.Partition)
			require.Equal(t, at(40).Start, corrupt.Slice.Start)
		}
	}
	w.fail = nil
	w.requireSame(w.merger(1, 1), cached, at(0))

	for id, x := range w.lanes[1].slices {
		if id.Start == at(7).Start {
			x.Pages = x.Pages[:len(x.Pages)-1]
		}
	}
	_, _, err := w.rowsOf(t.Context(), cached, at(0))
	var missing *merge.MissingError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, int32(1), missing.Lane.ID.Partition)
	require.Equal(t, at(7).Start, missing.Slice.Start)
	cache.Clear()
	require.Zero(t, cache.Stats().Bytes, "nothing is in use")
}

// A node that is not what was merged is not believed: the next look reads the lanes.
func TestNodesAreNotTrustedOverTheLanes(t *testing.T) {
	for name, spoil := range map[string]func(events *int64, pages []*page.Page){
		"count": func(events *int64, _ []*page.Page) { *events++ },
		"entry": func(_ *int64, pages []*page.Page) {
			_, entry := pages[0].Entry(0)
			entry[0] = 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := minutes(t, 2, 60)
			cache := merge.NewCache(ample)
			cached := w.cached(cache, 1, 1)
			w.requireSame(w.merger(1, 1), cached, at(0))
			spoiled := cache.Spoil(spoil)
			for range spoiled {
				_, _, err := w.rowsOf(t.Context(), cached, at(0))
				require.ErrorIs(t, err, merge.ErrMoved)
				require.ErrorContains(t, err, "merged slices in memory")
			}
			w.requireSame(w.merger(1, 1), cached, at(0))
		})
	}
}

// Windows that are merged at the same time share what they merge.
func TestWindowsInParallel(t *testing.T) {
	w := minutes(t, 2, 120)
	plain := w.merger(1, 1)
	want := make([][]row, 60)
	for k := range want {
		var err error
		want[k], _, err = w.rowsOf(t.Context(), plain, at(k))
		require.NoError(t, err)
	}
	for _, limit := range []int64{ample, 60 << 10} {
		cache := merge.NewCache(limit)
		cached := w.cached(cache, 2, 2)
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				for k := i; k < len(want); k += 4 {
					got, _, err := w.rowsOf(t.Context(), cached, at(k))
					if err != nil || !slices.Equal(want[k], got) {
						t.Errorf("window %d: %v", k, err)
					}
				}
			})
		}
		all.Wait()
		require.LessOrEqual(t, cache.Stats().Bytes, limit)
	}
}

// Whoever waits for slices that somebody else merges can give up, and merges them when the other
// one fails.
func TestMergingOfANodeIsWaitedFor(t *testing.T) {
	w := minutes(t, 1, 60)
	want, _, err := w.rowsOf(t.Context(), w.merger(1, 1), at(0))
	require.NoError(t, err)
	synctest.Test(t, func(t *testing.T) {
		reading := make(chan struct{})
		var once sync.Once
		w.fail = func(store.LaneID, store.SlicePage) (err error) {
			once.Do(func() {
				<-reading
				err = store.ErrPageGone
			})
			return err
		}
		cached := w.cached(merge.NewCache(ample), 1, 1)
		outcomes := make([]error, 3)
		var rows []row
		var all sync.WaitGroup
		all.Go(func() { _, _, outcomes[0] = w.rowsOf(t.Context(), cached, at(0)) })
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		all.Go(func() { _, _, outcomes[1] = w.rowsOf(ctx, cached, at(0)) })
		all.Go(func() { rows, _, outcomes[2] = w.rowsOf(t.Context(), cached, at(0)) })
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.ErrorIs(t, outcomes[1], context.Canceled)
		close(reading)
		all.Wait()
		require.ErrorIs(t, outcomes[0], store.ErrPageGone)
		require.NoError(t, outcomes[2])
		require.True(t, slices.Equal(want, rows))
	})
}

// A merge that panics leaves nobody waiting for what it was merging, and nothing in use.
func TestPanicsLeaveNoNodeBehind(t *testing.T) {
	w := minutes(t, 1, 90)
	cache := merge.NewCache(ample)
	cached := w.cached(cache, 1, 1)
	w.requireSame(w.merger(1, 1), cached, at(0))
	w.fail = func(_ store.LaneID, p store.SlicePage) error {
		if p.Slice.Start == at(80).Start {
			panic("what a page says is beyond this release")
		}
		return nil
	}
	require.Panics(t, func() { _, _, _ = w.rowsOf(t.Context(), cached, at(30)) })
	w.fail = nil
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	want, _, err := w.rowsOf(ctx, w.merger(1, 1), at(30))
	require.NoError(t, err)
	got, _, err := w.rowsOf(ctx, cached, at(30))
	require.NoError(t, err)
	require.True(t, slices.Equal(want, got))
	cache.Clear()
	require.Zero(t, cache.Stats().Bytes, "nothing is in use")
}

// Differences of a window are found and merged from the lanes.
func TestDifferencesPassTheCacheBy(t *testing.T) {
	w := minutes(t, 2, 60)
	cached := w.cached(merge.NewCache(ample), 1, 1)
	w.requireSame(w.merger(1, 1), cached, at(0))
	covered := map[store.LaneID]int64{w.lanes[0].id: w.lanes[0].offset, w.lanes[1].id: w.lanes[1].offset}
	w.lanes[1].eventsAt(rand.New(rand.NewPCG(1, 1)), 59, "b", "new")
	w.lanes[1].commit()
	o, err := cached.Open(t.Context(), w.view(), at(0))
	require.NoError(t, err)
	hashes, all, err := o.ChangedHashes(t.Context(), func(id store.LaneID) (int64, bool) { return covered[id], true }, 100)
	require.NoError(t, err)
	require.False(t, all)
	var ranges []page.HashRange
	for _, h := range hashes {
		ranges = append(ranges, page.HashRange{First: h, Last: h})
	}
	var got, want []row
	require.NoError(t, o.MergeRanges(t.Context(), ranges, collect(&got)))
	whole, _, err := w.rowsOf(t.Context(), w.merger(1, 1), at(0))
	require.NoError(t, err)
	for _, r := range whole {
		if slices.Contains(hashes, r.hash) {
			want = append(want, r)
		}
	}
	require.NotEmpty(t, want)
	require.Equal(t, want, got)
	w.requireSame(w.merger(1, 1), cached, at(0))
}
