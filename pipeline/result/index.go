package result

import (
	"cmp"
	"slices"

	"millrace/pipeline/ledger"
)

// maxFinals is how many rows of final windows a slot keeps whole. Of the others it remembers where they stand.
const maxFinals = 4096

// index is what a slot remembers of its partition of the ledger topic: where the latest row of every window stands that
// still has one, and the floors. Rows of open windows are kept whole.
type index struct {
	entries map[ledger.WindowID]*entry
	whole   int // entries of final windows that are kept whole
	floors  map[floorID]*ledger.Floor
	edition int // of what is published next; rows and floors of earlier ones bind nobody
}

// entry is the latest row of one window.
type entry struct {
	row      *ledger.Row // nil once it was let go
	offset   int64
	end      int64
	closedAt int64
	edition  int
	revision int
	final    bool
}

// floorID names a floor within a slot.
type floorID struct {
	family  string
	edition int
}

func newIndex() index {
	return index{
		entries: make(map[ledger.WindowID]*entry), floors: make(map[floorID]*ledger.Floor), edition: ledger.Edition,
	}
}

// begin ends the editions before the given one. Their rows stay until they are given up.
func (x *index) begin(edition int) { x.edition = max(x.edition, edition) }

// past reports whether an entry belongs to an edition that has ended. What Redis has under its name is not its own.
func (x *index) past(e *entry) bool { return e.edition < x.edition }

// put takes over a row of the partition that is newer than all before.
func (x *index) put(row *ledger.Row, offset int64) {
	id := row.ID()
	x.letGo(x.entries[id])
	x.entries[id] = &entry{
		row: row, offset: offset, end: row.End, closedAt: row.ClosedAt, edition: row.Edition, revision: row.Revision,
		final: row.Final,
	}
	if row.Final {
		x.whole++
	}
	if x.whole > maxFinals {
		x.letGoHalf()
	}
}

// remove takes over a tombstone.
func (x *index) remove(id ledger.WindowID) {
	x.letGo(x.entries[id])
	delete(x.entries, id)
}

// putFloor takes over a floor record that is newer than all before.
func (x *index) putFloor(f *ledger.Floor) {
	x.floors[floorID{f.Window, f.Edition}] = f
	x.begin(f.Ended + 1)
}

// expires reports whether what Redis has of an entry's window is to expire: it is final, and of the edition that is
// published now.
func (x *index) expires(id ledger.WindowID, e *entry) bool { return !x.past(e) && x.done(id, e) }

// letGoFloored forgets the rows that floors make superfluous.
func (x *index) letGoFloored() {
	for id, e := range x.entries {
		if e.row != nil && e.final && x.floored(id, e) {
			x.letGo(e)
		}
	}
}

// floored reports whether an entry's window lies at or below the floor of its edition.
func (x *index) floored(id ledger.WindowID, e *entry) bool {
	f := x.floors[floorID{id.Window, e.edition}]
	return f != nil && e.end <= f.End
}

// floor returns the floor that a window of the current edition lies at or below, nil when it lies above.
func (x *index) floor(family string, end int64) *ledger.Floor {
	if f := x.floors[floorID{family, x.edition}]; f != nil && end <= f.End {
		return f
	}
	return nil
}

// done reports whether an entry's window is final: by its row, or because it lies at or below the floor of its edition.
func (x *index) done(id ledger.WindowID, e *entry) bool { return e.final || x.floored(id, e) }

// holdsFinal reports whether the final row of a window is at hand.
func (x *index) holdsFinal(id ledger.WindowID) bool {
	e := x.entries[id]
	return e != nil && !x.past(e) && e.final && e.row != nil
}

// letGo forgets the row of a final window but not where it stands. e may be nil.
func (x *index) letGo(e *entry) {
	if e != nil && e.final && e.row != nil {
		e.row = nil
		x.whole--
	}
}

// letGoHalf forgets the rows of the older half of the final windows that are kept whole.
func (x *index) letGoHalf() {
	finals := make([]*entry, 0, x.whole)
	for _, e := range x.entries {
		if e.final && e.row != nil {
			finals = append(finals, e)
		}
	}
	slices.SortFunc(finals, func(a, b *entry) int { return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.offset, b.offset)) })
	for _, e := range finals[:len(finals)/2] {
		x.letGo(e)
	}
}

// ids lists the windows with a row that want accepts, in a fixed order, so that equal runs make equal calls.
func (x *index) ids(want func(ledger.WindowID, *entry) bool) []ledger.WindowID {
	var ids []ledger.WindowID
	for id, e := range x.entries {
		if want(id, e) {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareWindows)
	return ids
}

func compareWindows(a, b ledger.WindowID) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Window, b.Window))
}
