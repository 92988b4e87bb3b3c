package merge_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/pipeline/agg"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/page"
	"millrace/pipeline/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// small makes many pages of few entries, and runs that overlap.
var small = fold.Limits{Page: 4 << 10, Call: 32 << 10, Deltas: 12, Merge: 1 << 20, Spread: 96 << 10, Deletes: 64}

// randomWorld is a window of several lanes, each with runs of random keys above whole ones. Some
// lanes have nothing of it.
func randomWorld(t testing.TB, rng *rand.Rand, most int) *world {
	w := newWorld(t, text(), 1+rng.IntN(4), small)
	keys := 1 + rng.IntN(most)
	for i, l := range w.lanes {
		if i > 0 && rng.IntN(5) == 0 {
			continue
		}
		for range 1 + rng.IntN(12) {
			for range 1 + rng.IntN(3) {
				n := 1 + rng.IntN(1+keys/4)
				batch := make([]string, n)
				for k := range batch {
					batch[k] = fmt.Sprintf("key-%d", rng.IntN(keys))
				}
				l.events(float64(rng.IntN(60)), batch...)
			}
			l.commit()
		}
	}
	return w
}

// merged is the whole window that begins at start.
func (w *world) merged(workers, readAhead int) []row {
	w.t.Helper()
	o := w.open(workers, readAhead)
	require.True(w.t, o.ByHash())
	var rows []row
	events, exact, err := o.MergeRows(w.t.Context(), true, collect(&rows))
	require.NoError(w.t, err)
	require.True(w.t, exact)
	require.Equal(w.t, o.Events(), events)
	return rows
}

// Any number of workers passes on the same rows in the order of their hashes, with what Window
// passes on, and reads each page once.
func TestWorkersMergeTheSameRows(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := randomWorld(t, rand.New(rand.NewPCG(seed, 1)), 6_000)
			one := w.merged(1, 1)
			require.True(t, slices.IsSortedFunc(one, func(a, b row) int {
				if a.hash != b.hash {
					return int(int64(a.hash>>1) - int64(b.hash>>1))
				}
				return strings.Compare(a.key, b.key)
			}))
			for _, workers := range []int{2, 4} {
				clear(w.reads)
				require.True(t, slices.Equal(one, w.merged(workers, 3)))
				for name, n := range w.reads {
					require.Equal(t, 1, n, name)
				}
			}
			var sum ledger.Checksum
			var alone []string
			_, _, err := w.merger(4, 3).Window(t.Context(), w.view(), ref, true, func(c ledger.Content) error {
				alone = append(alone, string(c.Key)+string(c.Values))
				sum.AddContent(c)
				return nil
			})
			require.NoError(t, err)
			require.Len(t, alone, len(one))
			var digests ledger.Checksum
			for i, r := range one {
				require.Equal(t, r.key+r.values, alone[i])
				digests.AddDigest(r.digest)
			}
			require.Equal(t, sum.String(), digests.String())
		})
	}
}

// MergeRanges passes on the rows of MergeRows that lie in the ranges, also after ChangedHashes has
// kept pages.
func TestRangesAreThoseOfTheWhole(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			w := randomWorld(t, rng, 5_000)
			whole := w.merged(1, 1)
			ends := []uint64{0, math.MaxUint64}
			for range rng.IntN(40) {
				ends = append(ends, whole[rng.IntN(len(whole))].hash, rng.Uint64())
			}
			slices.Sort(ends)
			ends = slices.Compact(ends)
			var ranges []page.HashRange
			for i := 0; i+1 < len(ends); i += 2 {
				last := ends[i]
				if rng.IntN(2) == 0 {
					last = ends[i+1]
				}
				ranges = append(ranges, page.HashRange{First: ends[i], Last: last})
			}
			var want []row
			for _, r := range whole {
				holds := func(x page.HashRange) bool { return x.First <= r.hash && r.hash <= x.Last }
				if slices.ContainsFunc(ranges, holds) {
					want = append(want, r)
				}
			}
			for _, workers := range []int{1, 3} {
				o := w.open(workers, 2)
				clear(w.reads)
				if seed%2 == 0 {
					some := func(store.LaneID) (int64, bool) { return int64(rng.IntN(1000)), true }
					_, _, err := o.ChangedHashes(t.Context(), some, 100_000)
					require.NoError(t, err)
				}
				var got []row
				require.NoError(t, o.MergeRanges(t.Context(), ranges, collect(&got)))
				require.True(t, slices.Equal(want, got))
				for name, n := range w.reads {
					require.Equal(t, 1, n, name)
				}
			}
		})
	}
}

func TestRangesMustAscend(t *testing.T) {
	w := randomWorld(t, rand.New(rand.NewPCG(1, 1)), 100)
	for _, ranges := range [][]page.HashRange{{{First: 2, Last: 1}}, {{First: 1, Last: 5}, {First: 5, Last: 9}}} {
		require.ErrorContains(t, w.open(1, 1).MergeRanges(t.Context(), ranges, nil), "ascend")
	}
	require.NoError(t, w.open(1, 1).MergeRanges(t.Context(), nil, nil))
}

// ChangedHashes has every key that was folded above the covered offset, and no page is read that
// was written below it.
func TestChangedHashes(t *testing.T) {
	w := newWorld(t, text(), 2, fold.DefaultLimits)
	for _, l := range w.lanes {
		for i := range 4000 {
			l.events(float64(i%60), fmt.Sprintf("key-%d", i))
		}
		l.commit()
	}
	offset := w.lanes[0].offset
	all := func(store.LaneID) (int64, bool) { return offset, true }
	hashes, many, err := w.open(1, 1).ChangedHashes(t.Context(), all, 100)
	require.NoError(t, err)
	require.False(t, many)
	require.Empty(t, hashes)
	require.Empty(t, w.reads)

	var want []uint64
	for i := range 30 {
		key := fmt.Sprintf("key-%d", 7*i)
		w.lanes[i%2].events(float64(i), key, key)
		w.lanes[0].events(5, "key-1")
		if i%9 == 0 {
			w.lanes[i%2].commit()
		}
		want = append(want, agg.Hash(encoded(key)))
	}
	want = append(want, agg.Hash(encoded("key-1")))
	for _, l := range w.lanes {
		l.commit()
	}
	slices.Sort(want)
	hashes, many, err = w.open(1, 4).ChangedHashes(t.Context(), all, len(want))
	require.NoError(t, err)
	require.False(t, many)
	require.Equal(t, want, hashes)

	hashes, many, err = w.open(1, 4).ChangedHashes(t.Context(), all, len(want)-1)
	require.NoError(t, err)
	require.True(t, many)
	require.Empty(t, hashes)
	first := func(id store.LaneID) (int64, bool) { return offset, id.Partition == 0 }
	_, many, err = w.open(1, 4).ChangedHashes(t.Context(), first, 100)
	require.NoError(t, err)
	require.True(t, many, "a lane that the revision does not cover")
}

func encoded(key string) []byte { return append([]byte{'s', byte(len(key))}, key...) }

// largeWorld is a window of many units.
func largeWorld(t testing.TB) *world {
	w := newWorld(t, text(), 2, small)
	for _, l := range w.lanes {
		keys := make([]string, 12_000)
		for i := range keys {
			keys[i] = fmt.Sprintf("key-%d", i)
		}
		l.events(1, keys...)
		l.events(30, keys[:4000]...)
		l.commit()
	}
	return w
}

// What emit fails with is what the merge fails with, and nothing is passed on after it.
func TestEmitFails(t *testing.T) {
	w := largeWorld(t)
	broken := errors.New("broken")
	for _, workers := range []int{1, 4} {
		n := 0
		_, _, err := w.open(workers, 4).MergeRows(t.Context(), true, func(*ledger.Rows) error {
			if n++; n == 5 {
				return broken
			}
			return nil
		})
		require.ErrorIs(t, err, broken)
		require.Equal(t, 5, n)
	}
}

func TestMergeIsCancelled(t *testing.T) {
	w := largeWorld(t)
	for _, workers := range []int{1, 4} {
		ctx, cancel := context.WithCancel(t.Context())
		o := w.open(workers, 4)
		_, _, err := o.MergeRows(ctx, true, func(*ledger.Rows) error {
			cancel()
			return nil
		})
		require.ErrorIs(t, err, context.Canceled)
	}
}

// An error of a page counts after the rows of the units before it, whatever the workers do.
func TestPageCannotBeRead(t *testing.T) {
	w := largeWorld(t)
	for _, c := range []struct {
		name    string
		err     error
		corrupt bool
	}{
		{"gone", store.ErrPageGone, false},
		{"moved", store.ErrLaneMoved, false},
		{"corrupt", store.ErrCorrupt, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.fail = func(id store.LaneID, p store.SlicePage) error {
				if id.Partition == 1 && p.First > math.MaxUint64/4*3 && p.Slice.Start > start {
					return c.err
				}
				return nil
			}
			for _, workers := range []int{1, 4} {
				_, _, err := w.open(workers, 4).MergeRows(t.Context(), true, func(*ledger.Rows) error { return nil })
				require.ErrorIs(t, err, c.err)
				var corrupt *merge.CorruptError
				require.Equal(t, c.corrupt, errors.As(err, &corrupt))
				require.Equal(t, !c.corrupt, errors.Is(err, merge.ErrMoved))
				if c.corrupt {
					require.Equal(t, int32(1), corrupt.Lane.ID.Partition)
					require.Greater(t, corrupt.Slice.Start, start, "of the page")
				}
				none := func(store.LaneID) (int64, bool) { return 0, true }
				_, _, err = w.open(workers, 4).ChangedHashes(t.Context(), none, 1<<20)
				require.ErrorIs(t, err, c.err)
			}
		})
	}
}

// A lane that commits, or changes owner, after the window was opened.
func TestLaneChangesMeanwhile(t *testing.T) {
	w := largeWorld(t)
	o := w.open(2, 4)
	w.lanes[0].events(3, "key-1")
	w.lanes[0].commit()
	events, exact, err := o.MergeRows(t.Context(), true, func(*ledger.Rows) error { return nil })
	require.NoError(t, err, "its pages are there, and are what they were")
	require.True(t, exact)
	require.Equal(t, o.Events(), events)

	o = w.open(2, 4)
	w.lanes[1].meta.Owner = "another"
	_, _, err = o.MergeRows(t.Context(), true, func(*ledger.Rows) error { return nil })
	require.ErrorIs(t, err, merge.ErrMoved)
	require.ErrorIs(t, o.MergeRanges(t.Context(), []page.HashRange{{First: 1, Last: 1}}, nil), merge.ErrMoved)
}

// A page that is not in the index is missed by the count of events.
func TestPageIsMissing(t *testing.T) {
	w := largeWorld(t)
	for _, x := range w.lanes[1].slices {
		x.Pages = x.Pages[:len(x.Pages)-1]
		break
	}
	_, _, err := w.open(4, 4).MergeRows(t.Context(), true, func(*ledger.Rows) error { return nil })
	var missing *merge.MissingError
	require.ErrorAs(t, err, &missing)
	require.Equal(t, int32(1), missing.Lane.ID.Partition)
	require.Less(t, missing.Entries, missing.Folded)
}

// Units that turn out to be too wide are split; the rows are the same.
func TestWideUnitsAreSplit(t *testing.T) {
	w := largeWorld(t)
	want := w.merged(1, 1)
	for _, workers := range []int{1, 4} {
		o := w.open(workers, 2)
		o.BoundGroups(5000)
		var got []row
		_, _, err := o.MergeRows(t.Context(), true, collect(&got))
		require.NoError(t, err)
		require.True(t, slices.Equal(want, got))
	}
}

func TestSmallWindowTakesOneCallForEachLane(t *testing.T) {
	w := newWorld(t, text(), 3, fold.DefaultLimits)
	for _, l := range w.lanes {
		for i := range 60 {
			l.events(float64(i), fmt.Sprintf("key-%d", i%20))
			if i%25 == 0 {
				l.commit()
			}
		}
		l.commit()
	}
	require.Len(t, w.merged(4, 4), 20)
	require.Equal(t, 3, w.calls)
}
