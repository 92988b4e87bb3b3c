package merge_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/merge"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// hoursFrom are windows of an hour, of which each overlaps the next two, and of which the last hold
// nothing.
func hoursFrom(first int64, n int) (refs []window.Ref) {
	for i := range n {
		refs = append(refs, window.Ref{Start: first + int64(i)*20*minute})
	}
	return refs
}

// Windows that are opened together hold what they hold when each is opened alone. As far as they
// may be kept, all of their pages are read with one call for each lane, and each as often as there
// are windows that need it.
func TestWindowsOpenedTogether(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := randomWorld(t, rand.New(rand.NewPCG(seed, 7)), 2_000)
			m := w.merger(2, 3)
			refs := hoursFrom(start-40*minute, 6)
			var want [][]row
			var size int64
			for _, ref := range refs {
				o, err := m.Open(t.Context(), w.view(), ref)
				require.NoError(t, err)
				size += o.Bytes()
				rows, _, err := w.rowsOf(t.Context(), m, ref)
				require.NoError(t, err)
				want = append(want, rows)
			}
			for _, keep := range []int64{0, size / 2, size} {
				w.calls = 0
				all, err := m.OpenTogether(t.Context(), w.view(), refs, keep)
				require.NoError(t, err)
				for i, o := range all {
					var rows []row
					events, exact, err := o.MergeRows(t.Context(), true, collect(&rows))
					require.NoError(t, err)
					require.True(t, exact)
					require.Equal(t, o.Events(), events)
					require.Equal(t, want[i], rows)
				}
				if keep == size {
					require.LessOrEqual(t, w.calls, len(w.lanes))
				}
			}
		})
	}
}

// Each window has the lanes as of the index where they keep a share of it, and as of the view elsewhere.
func TestWindowsOpenedTogetherKeepTheirOwnLanes(t *testing.T) {
	w := newWorld(t, text(), 2, small)
	w.lanes[0].events(-30, "a")
	w.lanes[1].events(30, "a")
	for _, l := range w.lanes {
		l.commit()
	}
	v := w.view()
	w.lanes[0].events(-29, "b")
	w.lanes[1].events(31, "b")
	for _, l := range w.lanes {
		l.commit()
	}
	refs := []window.Ref{{Start: start - 40*minute}, {Start: start}}
	all, err := w.merger(1, 1).OpenTogether(t.Context(), v, refs, 1<<20)
	require.NoError(t, err)
	require.EqualValues(t, 2, all[0].View.Lanes[0].Meta.Offset, "it was indexed after the commit")
	require.EqualValues(t, 1, all[0].View.Lanes[1].Meta.Offset, "the window has nothing of it")
	require.EqualValues(t, 1, all[1].View.Lanes[0].Meta.Offset, "under the view it had nothing of the window")
	require.EqualValues(t, 2, all[1].View.Lanes[1].Meta.Offset)
	require.EqualValues(t, 2, all[0].Events())
	require.EqualValues(t, 2, all[1].Events())
	require.Len(t, all[0].View.Lanes[0].Slices, 1)
}

// What has happened to a lane since the view, or to a page, fails the windows together.
func TestWindowsCannotBeOpenedTogether(t *testing.T) {
	refs := hoursFrom(start-40*minute, 3)
	open := func(w *world) error {
		_, err := w.merger(2, 2).OpenTogether(t.Context(), w.view(), refs, 1<<20)
		return err
	}
	filled := func() *world {
		w := newWorld(t, text(), 2, fold.DefaultLimits)
		for _, l := range w.lanes {
			l.events(5, "a", "b")
			l.commit()
		}
		return w
	}
	w := filled()
	v := w.view()
	w.lanes[1].meta.Owner = "another"
	_, err := w.merger(2, 2).OpenTogether(t.Context(), v, refs, 0)
	require.ErrorIs(t, err, merge.ErrMoved)

	w = filled()
	w.fail = func(store.LaneID, store.SlicePage) error { return store.ErrPageGone }
	require.ErrorIs(t, open(w), merge.ErrMoved)

	w.fail = func(store.LaneID, store.SlicePage) error { return store.ErrCorrupt }
	var corrupt *merge.CorruptError
	require.ErrorAs(t, open(w), &corrupt)

	w.fail = nil
	all, err := w.merger(2, 2).OpenTogether(t.Context(), w.view(), refs, 1<<20)
	require.NoError(t, err)
	w.lanes[0].meta.Owner = "another"
	_, _, err = all[2].MergeRows(t.Context(), true, collect(new([]row)))
	require.ErrorIs(t, err, merge.ErrMoved, "pages that are in memory are proved like others")
}
