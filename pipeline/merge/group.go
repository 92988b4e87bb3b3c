package merge

import (
	"errors"
	"fmt"

	"millrace/pipeline/agg"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
)

// groupEntries bounds the entries that the merge of one group of buckets is expected to see, and
// unitEntries those of a unit.
const (
	groupEntries = 8 << 10
	unitEntries  = 4 << 10
)

// groupBytes bounds the bytes of entries, over all parts, that are merged at a time unless they
// cannot be told apart by bucket or hash. A group that turns out to have more is merged again as
// smaller ones; nobody knows before how long the texts in the entries are.
const groupBytes = 8 << 20

// errWide is that a group has more than groupBytes.
var errWide = errors.New("group of keys is too wide")

// group is a group of keys that is being merged, part by part. It is not safe for concurrent use.
type group struct {
	opened *Opened
	exact  bool // an entry newer than its lane's meta ends the merge
	table  *agg.Table
	hashes []uint64 // of the keys, by row
	bytes  int      // of the entries

	counts  []int64 // events in the entries, by part
	counted []int64 // the same of earlier groups
	ahead   bool    // some entry was newer than its lane's meta
}

func (o *Opened) newGroup(exact bool) group {
	return group{
		opened: o, exact: exact, table: o.merger.tables.Get().(*agg.Table),
		counts: make([]int64, len(o.parts)), counted: make([]int64, len(o.parts)),
	}
}

// free gives the table back.
func (g *group) free() {
	g.reset()
	g.opened.merger.tables.Put(g.table)
}

// reset drops what was merged of the group.
func (g *group) reset() {
	g.table.Reset()
	g.hashes, g.bytes = g.hashes[:0], 0
	clear(g.counts)
}

// done counts the group, and makes room for the next one.
func (g *group) done() {
	for i, n := range g.counts {
		g.counted[i] += n
	}
	g.reset()
}

// add merges a part into the group. read passes the part's entries to its argument and says what
// the lane was then; the group fails with errWide when it has more than groupBytes and mayNarrow is
// set.
func (g *group) add(i int, mayNarrow bool,
	read func(fn func(hash uint64, key, entry []byte) error) (store.Guard, error)) error {
	p := &g.opened.parts[i]
	l := &g.opened.View.Lanes[p.lane]
	rank, highest := int32(p.lane), int64(0)
	guard, err := read(func(hash uint64, key, entry []byte) error {
		stamp, count, err := g.table.MergeHashed(hash, key, entry, rank)
		if err != nil {
			return err
		}
		if g.table.Len() > len(g.hashes) {
			g.hashes = append(g.hashes, hash)
		}
		highest = max(highest, stamp)
		g.counts[i] += count
		if g.bytes += len(key) + len(entry); g.bytes > g.opened.merger.groupBytes && mayNarrow {
			return errWide
		}
		return nil
	})
	if err == nil && !guard.Follows(l.Meta.Guard()) {
		return fmt.Errorf("lane %s: %w", l.ID, ErrMoved)
	}
	if err != nil && p.node != nil {
		return g.opened.nodeError(p.node, err)
	}
	if err != nil {
		return readError(l, p.slice, err)
	}
	if highest > l.Meta.Offset {
		g.ahead = true
		if g.exact {
			return &AheadError{Lane: l.ID, Slice: p.slice, Stamp: highest, Meta: l.Meta.Offset}
		}
	}
	return nil
}

// readError says what an error means that a slice of a lane was read with.
func readError(l *survey.Lane, slice store.SliceID, err error) error {
	switch {
	case errors.Is(err, errWide):
		return err
	case errors.Is(err, store.ErrLaneMoved), errors.Is(err, store.ErrNoMeta), errors.Is(err, store.ErrPageGone):
		return fmt.Errorf("lane %s: %w: %w", l.ID, ErrMoved, err)
	case errors.Is(err, agg.ErrEntryCorrupt), errors.Is(err, store.ErrCorrupt):
		return &CorruptError{Lane: l, Slice: slice, Err: err}
	}
	return fmt.Errorf("lane %s, slice %s: %w", l.ID, slice, err)
}
