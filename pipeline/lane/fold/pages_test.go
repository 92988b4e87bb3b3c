package fold

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/page"
	"millrace/pipeline/store"
)

// paged is a state that commits in pages.
type paged struct {
	*State
	t       *testing.T
	control Control
	commit  Commit
}

func newPaged(t *testing.T, l Limits) *paged {
	p := mustProgram(t)
	p.Limit(l)
	return &paged{
		State: NewState(p, testLane, "id", 0, store.Cursor{}), t: t,
		control: Control{SealBefore: none, DropBefore: none, IdleAt: -1, Pages: true},
	}
}

// fold folds an event of each key into one slice.
func (p *paged) fold(keys ...string) {
	for _, key := range keys {
		p.Fold(foldtest.Batch(foldtest.EventAt(p.offset, key, foldtest.Early, 1)))
	}
}

// snapshot makes a commit and returns the pages and the deletions of its calls.
func (p *paged) snapshot() (pages []store.PageWrite, deleted []string) {
	p.Snapshot(&p.commit, p.control)
	for _, call := range p.commit.Calls {
		require.Equal(p.t, store.PageFormat, call.Format)
		n := 0
		for _, d := range call.Delete {
			deleted = append(deleted, d.Names...)
			n += len(d.Names)
		}
		require.LessOrEqual(p.t, n, p.program.limits.Deletes)
		pages = append(pages, call.Pages...)
	}
	return pages, deleted
}

func keysOf(n int) (keys []string) {
	for i := range n {
		keys = append(keys, fmt.Sprintf("key-%d", i))
	}
	return keys
}

func names(pages []store.PageWrite) (names []string) {
	for _, p := range pages {
		names = append(names, p.Name)
	}
	return names
}

func entriesIn(pages []store.PageWrite) (n int) {
	for _, p := range pages {
		n += p.Entries
	}
	return n
}

// A commit writes what changed, until a run of everything is due. What that replaces is deleted
// when it may be, and no earlier.
func TestRunsAreMergedAndReplaced(t *testing.T) {
	p := newPaged(t, DefaultLimits)
	p.fold(keysOf(100)...)
	first, _ := p.snapshot()
	require.Equal(t, 100, entriesIn(first))
	var replaced []string
	replaced = append(replaced, names(first)...)
	for i := 0; ; i++ {
		p.fold(keysOf(10)...)
		pages, deleted := p.snapshot()
		require.Empty(t, deleted)
		if entriesIn(pages) == 100 {
			require.Greater(t, i, 3, "runs of a tenth make a merge due when they are half of what lies below")
			require.LessOrEqual(t, i, 6)
			break
		}
		require.Equal(t, 10, entriesIn(pages))
		replaced = append(replaced, names(pages)...)
	}
	merge := p.Cursor().Seq
	p.control.DeleteUpTo = merge - 1
	_, deleted := p.snapshot()
	require.Empty(t, deleted)
	p.control.DeleteUpTo = merge
	_, deleted = p.snapshot()
	require.ElementsMatch(t, replaced, deleted)
	_, deleted = p.snapshot()
	require.Empty(t, deleted, "once")
	require.Equal(t, Paging{Pages: 1, Bytes: int64(p.slices[p.lastKey].base), Dirtied: p.dirtied, Written: p.written}, p.Paging())
}

// Many small runs make a merge due as well; while commits wait in the journal it waits twice as
// long.
func TestTooManyRunsAreMerged(t *testing.T) {
	for _, journalling := range []bool{false, true} {
		l := DefaultLimits
		l.Deltas = 8
		p := newPaged(t, l)
		p.fold(keysOf(1000)...)
		p.snapshot()
		p.control.OnlyDeltas = journalling
		runs := 0
		for {
			p.fold("key-1")
			pages, _ := p.snapshot()
			if entriesIn(pages) > 1 {
				break
			}
			runs++
		}
		require.Equal(t, map[bool]int{false: 8, true: 16}[journalling], runs)
	}
}

// Pages are cut by their size. Those of a large run keep to a sixteenth of the hashes, and go to
// the hash of it when the slice is spread.
func TestPagesOfALargeRun(t *testing.T) {
	l := DefaultLimits
	l.Page, l.Call, l.Spread = 1000, 3000, 20_000
	p := newPaged(t, l)
	p.fold(keysOf(2000)...)
	pages, _ := p.snapshot()
	require.Equal(t, 2000, entriesIn(pages))
	require.Greater(t, len(p.commit.Calls), 10)
	last := page.Name{}
	for _, w := range pages {
		name, err := page.ParseName(w.Name)
		require.NoError(t, err)
		require.Less(t, name.Bytes, 1200)
		require.Equal(t, name.First>>60, name.Last>>60)
		require.Equal(t, store.PageHash(1+name.First>>60), w.Hash)
		require.Greater(t, name.First, last.Last, "pages of a run follow each other")
		got, err := page.Parse(name, p.program.StateID, []byte(w.Value))
		require.NoError(t, err)
		require.Equal(t, w.Entries, got.Len())
		last = name
	}
	for _, call := range p.commit.Calls {
		size := 0
		for _, w := range call.Pages {
			size += len(w.Value)
		}
		require.True(t, size <= l.Call || len(call.Pages) == 1)
	}
	p.fold("key-1")
	pages, _ = p.snapshot()
	require.Len(t, pages, 1, "a small run is one page")
}

// Fields go when a whole run has replaced them, like pages.
func TestFieldsGoWhenReplaced(t *testing.T) {
	p := newPaged(t, DefaultLimits)
	p.control.Pages = false
	p.fold(keysOf(100)...)
	p.Snapshot(&p.commit, p.control)
	require.NotEmpty(t, p.commit.Calls[0].Writes)
	require.False(t, p.InPages())
	p.control.Pages = true
	p.fold("key-1")
	pages, _ := p.snapshot()
	require.True(t, p.InPages())
	require.Equal(t, 1, entriesIn(pages), "above the fields")
	require.Equal(t, 100, p.Paging().Beneath)
	p.fold(keysOf(60)...)
	pages, _ = p.snapshot()
	require.Equal(t, 100, entriesIn(pages))
	require.Zero(t, p.Paging().Beneath)
	p.control.DeleteUpTo = p.Cursor().Seq
	p.fold("key-1")
	p.snapshot()
	require.Len(t, p.commit.Calls[0].Unfield, 1)
	p.snapshot()
	require.Empty(t, p.commit.Calls[0].Unfield, "once")
}
