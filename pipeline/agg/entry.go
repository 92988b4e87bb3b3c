package agg

import (
	"errors"
	"fmt"
	"math"
)

// entryVersion is the format that AppendEntry writes.
const entryVersion = 2

// ErrEntryVersion reports an entry written by a newer release: it may be sound, this release cannot tell.
var ErrEntryVersion = errors.New("entry has a newer format version")

// ErrEntryCorrupt reports bytes that are no entry of the layout.
var ErrEntryCorrupt = errors.New("entry is corrupt")

// EntryHeader reads what every entry begins with, whatever its layout. Errors wrap ErrEntryVersion or ErrEntryCorrupt.
func EntryHeader(entry []byte) (version byte, stamp, count int64, err error) {
	r := reader{buf: entry}
	version, stamp, count = r.header()
	return version, stamp, count, r.err
}

func (r *reader) header() (version byte, stamp, count int64) {
	version = r.byte()
	r.version = version
	if r.err == nil && version > entryVersion {
		r.err = fmt.Errorf("%w: %d, this release knows up to %d; upgrade it", ErrEntryVersion, version, entryVersion)
		r.buf, r.at = nil, 0
		return version, 0, 0
	}
	if version == 0 {
		r.fail("format version 0")
	}
	return version, r.natural(), r.natural()
}

// AppendEntry appends the row's entry to dst. Its stamp is snapshotOffset, the lane's next offset to read, or the row's
// own stamp when that is higher; the row's stamp becomes the same.
func (t *Table) AppendEntry(dst []byte, row uint32, snapshotOffset int64) []byte {
	rec := t.rec(row)
	stamp := max(getInt(rec[offStamp:]), snapshotOffset)
	putInt(rec[offStamp:], stamp)
	return t.encodeRow(dst, rec, stamp)
}

// AppendMerged appends the entry of a row that lanes were merged into. Its stamp is 0: offsets of different lanes say nothing
// together. The order of lanes, by which events of one time are told apart, is lost, so such an entry is to be merged only
// with those of other times.
func (t *Table) AppendMerged(dst []byte, row uint32) []byte { return t.AppendUnstamped(dst, row) }

// AppendUnstamped appends the row's entry with the stamp 0: what holds it, such as a state page, says of which offset it is.
func (t *Table) AppendUnstamped(dst []byte, row uint32) []byte {
	return t.encodeRow(dst, t.rec(row), 0)
}

func (t *Table) encodeRow(dst, rec []byte, stamp int64) []byte {
	count := getInt(rec[offCount:])
	dst = append(dst, entryVersion)
	dst = appendUint(dst, uint64(stamp))
	dst = appendUint(dst, uint64(count))
	for i := range t.layout.fields {
		f := &t.layout.fields[i]
		dst = f.column.encode(t, dst, rec[f.offset:], count)
	}
	return dst
}

// LoadEntry restores the key's row from an entry of its own lane, in place of what the row held; the row is not dirty.
// Errors wrap ErrEntryVersion or ErrEntryCorrupt and leave the table as it was.
func (t *Table) LoadEntry(key, entry []byte) error {
	stamp, count, err := t.decode(entry)
	if err != nil {
		return err
	}
	rec := t.rec(t.Row(key))
	for _, o := range t.layout.owners {
		o.release(t, rec[o.offset:])
	}
	copy(rec[headerSize:], t.layout.template[headerSize:])
	putInt(rec[offStamp:], stamp)
	putInt(rec[offCount:], count)
	t.merge(rec, 0)
	return nil
}

// LoadMissing restores the row of a key, whose Hash is given, from an entry that the commit with the number epoch has written; a
// row that is there stays as it is. So entries of pages are loaded newest page first. Errors wrap ErrEntryVersion or
// ErrEntryCorrupt, and leave the table of no use.
func (t *Table) LoadMissing(hash uint64, key, entry []byte, epoch uint64) error {
	before := t.len
	if row := t.RowOf(hash, key); t.len > before {
		return t.loadNew(row, entry, epoch)
	}
	return nil
}

// LoadNew is LoadMissing for a key that certainly has no row: the table does not look for one.
func (t *Table) LoadNew(hash uint64, key, entry []byte, epoch uint64) error {
	return t.loadNew(t.insert(hash, key), entry, epoch)
}

// loadNew restores a row without events.
func (t *Table) loadNew(row uint32, entry []byte, epoch uint64) error {
	r := &t.reader
	*r = reader{buf: entry}
	_, stamp, count := r.header()
	rec := t.rec(row)
	putInt(rec[offEpoch:], int64(epoch))
	putInt(rec[offStamp:], stamp)
	putInt(rec[offCount:], count)
	for i := range t.layout.fields {
		f := &t.layout.fields[i]
		f.column.load(t, r, rec[f.offset:], count)
	}
	return r.end()
}

// MergeEntry adds a partial of the lane with the given rank (topics, then partitions ascending) to the key's row. The
// same partials merged in the same order give the same bytes. The row's stamp is the highest one merged and means
// nothing across lanes. Errors wrap ErrEntryVersion or ErrEntryCorrupt and leave the table as it was.
func (t *Table) MergeEntry(key, entry []byte, lane int32) error {
	_, _, err := t.MergeHashed(Hash(key), key, entry, lane)
	return err
}

// MergeHashed is MergeEntry for a key whose Hash is known. It returns the stamp and the number of events of the entry.
func (t *Table) MergeHashed(hash uint64, key, entry []byte, lane int32) (stamp, count int64, err error) {
	stamp, count, err = t.decode(entry)
	if err != nil {
		return 0, 0, err
	}
	rec := t.rec(t.RowOf(hash, key))
	held := getInt(rec[offCount:])
	if held > math.MaxInt64-count {
		return 0, 0, fmt.Errorf("%w: counts add up beyond int64", ErrEntryCorrupt)
	}
	putInt(rec[offStamp:], max(getInt(rec[offStamp:]), stamp))
	putInt(rec[offCount:], held+count)
	t.merge(rec, lane)
	return stamp, count, nil
}

// CheckEntry reads an entry as LoadEntry does, and leaves the table as it is. It returns the number of events of the entry.
func (t *Table) CheckEntry(entry []byte) (count int64, err error) {
	_, count, err = t.decode(entry)
	return count, err
}

// decode checks a whole entry and leaves its columns in t.partials.
func (t *Table) decode(entry []byte) (stamp, count int64, err error) {
	r := &t.reader
	*r = reader{buf: entry}
	_, stamp, count = r.header()
	for i := range t.layout.fields {
		t.layout.fields[i].column.decode(r, count, &t.partials[i])
	}
	return stamp, count, r.end()
}

func (t *Table) merge(rec []byte, lane int32) {
	for i := range t.layout.fields {
		f := &t.layout.fields[i]
		f.column.merge(t, rec[f.offset:], &t.partials[i], lane)
	}
}
