package publish

import (
	"cmp"
	"slices"

	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
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

	certificates map[ledger.WindowID]certificate
}

// entry is the latest row of one window.
type entry struct {
	row      *ledger.Row // nil once it was forgotten
	offset   int64
	end      int64
	closedAt int64
	edition  int
	revision int
	final    bool
	archived bool // the content of this revision
}

func (e *entry) version() store.Version {
	return store.Version{Edition: e.edition, Revision: e.revision}
}

// floorID names a floor within a slot.
type floorID struct {
	family  string
	edition int
}

func newIndex() index {
	return index{
		entries: make(map[ledger.WindowID]*entry), floors: make(map[floorID]*ledger.Floor), edition: ledger.Edition,
		certificates: make(map[ledger.WindowID]certificate),
	}
}

// beginEdition ends the editions before the given one. Their rows stay until they are given up.
func (x *index) beginEdition(edition int) { x.edition = max(x.edition, edition) }

// isPast reports whether an entry belongs to an edition that has ended. What Redis has under its name is not its own.
func (x *index) isPast(e *entry) bool { return e.edition < x.edition }

// addRow takes over a row of the partition that is newer than all before.
func (x *index) addRow(row *ledger.Row, offset int64) {
	id := row.ID()
	x.forgetRow(x.entries[id])
	x.entries[id] = &entry{
		row: row, offset: offset, end: row.End, closedAt: row.ClosedAt, edition: row.Edition, revision: row.Revision,
		final: row.Final, archived: row.Archive != nil,
	}
	if row.Final {
		x.whole++
	}
	if x.whole > maxFinals {
		x.forgetOlderHalf()
	}
}

// removeRow takes over a tombstone. Certificates are given up with the row.
func (x *index) removeRow(id ledger.WindowID) {
	x.forgetRow(x.entries[id])
	delete(x.entries, id)
	delete(x.certificates, id)
}

// addCertificate takes over a certificate that is newer than all before.
func (x *index) addCertificate(c *ledger.Certificate, offset int64) {
	x.certificates[c.ID()] = certificate{offset, c.Replay, c.Revision}
}

// oldest is the lower of the offsets at which an entry's row and certificate stand.
func (x *index) oldest(id ledger.WindowID, e *entry) int64 {
	if c, ok := x.certificates[id]; ok {
		return min(e.offset, c.offset)
	}
	return e.offset
}

// setFloor takes over a floor record that is newer than all before.
func (x *index) setFloor(f *ledger.Floor) {
	x.floors[floorID{f.Window, f.Edition}] = f
	x.beginEdition(f.Ended + 1)
}

// expires reports whether what Redis has of an entry's window is to expire: it is final, and of the edition that is
// published now.
func (x *index) expires(id ledger.WindowID, e *entry) bool { return !x.isPast(e) && x.isFinal(id, e) }

// forgetFlooredRows forgets the rows that floors make superfluous.
func (x *index) forgetFlooredRows() {
	for id, e := range x.entries {
		if e.row != nil && e.final && x.isFloored(id, e) {
			x.forgetRow(e)
		}
	}
}

// isFloored reports whether an entry's window lies at or below the floor of its edition.
func (x *index) isFloored(id ledger.WindowID, e *entry) bool {
	f := x.floors[floorID{id.Window, e.edition}]
	return f != nil && e.end <= f.End
}

// floorAbove returns the floor that a window of the current edition lies at or below, nil when it lies above.
func (x *index) floorAbove(family string, end int64) *ledger.Floor {
	if f := x.floors[floorID{family, x.edition}]; f != nil && end <= f.End {
		return f
	}
	return nil
}

// isFinal reports whether an entry's window is final: by its row, or because it lies at or below the floor of its edition.
func (x *index) isFinal(id ledger.WindowID, e *entry) bool { return e.final || x.isFloored(id, e) }

// holdsFinal reports whether the final row of a window is at hand.
func (x *index) holdsFinal(id ledger.WindowID) bool {
	e := x.entries[id]
	return e != nil && !x.isPast(e) && e.final && e.row != nil
}

// forgetRow forgets the row of a final window but not where it stands. e may be nil.
func (x *index) forgetRow(e *entry) {
	if e != nil && e.final && e.row != nil {
		e.row = nil
		x.whole--
	}
}

// forgetOlderHalf forgets the rows of the older half of the final windows that are kept whole.
func (x *index) forgetOlderHalf() {
	finals := make([]*entry, 0, x.whole)
	for _, e := range x.entries {
		if e.final && e.row != nil {
			finals = append(finals, e)
		}
	}
	slices.SortFunc(finals, func(a, b *entry) int { return cmp.Or(cmp.Compare(a.end, b.end), cmp.Compare(a.offset, b.offset)) })
	for _, e := range finals[:len(finals)/2] {
		x.forgetRow(e)
	}
}

// windowsWhere lists the windows with a row that want accepts, in a fixed order, so that equal runs make equal calls.
func (x *index) windowsWhere(want func(ledger.WindowID, *entry) bool) []ledger.WindowID {
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
