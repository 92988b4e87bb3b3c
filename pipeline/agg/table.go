package agg

import (
	"unsafe"

	"github.com/cespare/xxhash/v2"

	"millrace/pipeline/event"
)

// inlineKey is the longest key that is kept in its row; longer ones live in the arena.
const inlineKey = 15

// firstRows is the number of rows in a table's first chunk, a power of two.
const firstRows = 4

// Table holds the entries of one slice generation, or merges those of a window. It is not safe for concurrent use.
// Growing never moves more than a small first chunk of rows or one segment of the index, so no call stalls for long.
type Table struct {
	layout   *Layout
	len      uint32
	chunks   [][]byte // rows; all chunks but the first are full-sized
	rowBytes int      // memory of chunks
	index    index
	keys     arena
	blocks   blocks // texts of first and last, sums of many limbs
	dirty    []uint32
	epoch    uint64    // of the commit to come: rows that carry it are in dirty
	reader   reader    // of the entry being decoded
	partials []partial // its columns
}

// NewTable returns an empty table, which holds no memory to speak of.
func (l *Layout) NewTable() *Table {
	return &Table{layout: l, epoch: 1, partials: make([]partial, len(l.fields))}
}

// Reset empties the table for another use. Rows and index keep their memory, keys and texts do not.
func (t *Table) Reset() {
	t.len = 0
	t.index.reset()
	t.keys, t.blocks = arena{}, blocks{}
	t.BeginEpoch(1)
}

// Bytes is the memory in use. It changes only by Row, Add, Reserve, LoadEntry, LoadNew, LoadMissing, MergeEntry, MarkAllDirty and
// Reset.
func (t *Table) Bytes() int {
	return int(unsafe.Sizeof(*t)) + cap(t.partials)*int(unsafe.Sizeof(partial{})) +
		t.rowBytes + t.index.bytes + t.keys.bytes + t.blocks.bytes +
		cap(t.dirty)*4 + cap(t.index.dir)*8 + cap(t.blocks.spare)*4 +
		(cap(t.chunks)+cap(t.keys.chunks)+cap(t.blocks.chunks))*int(unsafe.Sizeof([]byte(nil)))
}

// Reserve makes room for the keys of the given number of rows in a table that has none yet, so that its index need not grow step by
// step. It may take as much memory at once as they need.
func (t *Table) Reserve(rows int) { t.index.reserve(rows) }

// Hash returns the hash of a key, which decides its bucket. It is part of the stored format.
func Hash(key []byte) uint64 { return xxhash.Sum64(key) }

// HashOfJSON returns the Hash of the key that was published as text: lanes have the key in another form. A text that
// event.KeyJSON has not made has a hash of its own.
func HashOfJSON(text []byte) uint64 {
	var room [64]byte
	key, err := event.AppendKeyOf(room[:0], text)
	if err != nil {
		return Hash(text)
	}
	return Hash(key)
}

// Bucket returns the bucket, in [0, buckets), of a key's hash.
func Bucket(hash uint64, buckets int) int { return int(hash % uint64(buckets)) }

// Len is the number of rows; rows are numbered from 0 in the order of insertion.
func (t *Table) Len() int { return int(t.len) }

// Row finds the key's row or inserts one without events. The key is copied. Row numbers stay valid until Reset.
func (t *Table) Row(key []byte) uint32 { return t.RowOf(Hash(key), key) }

// RowOf is Row for a key whose Hash is known.
func (t *Table) RowOf(hash uint64, key []byte) uint32 {
	if len(t.index.dir) > 0 {
		s := t.index.dir[hash>>(64-t.index.depth)]
		mask := uint64(len(s.slots) - 1)
		tag := hash >> 32
		for i := tag; ; i++ {
			slot := s.slots[i&mask]
			if slot == 0 {
				break
			}
			if slot>>32 == tag {
				row := uint32(slot) - 1
				if string(t.key(t.rec(row))) == string(key) {
					return row
				}
			}
		}
	}
	return t.insert(hash, key)
}

// insert adds a row for a key that has none.
func (t *Table) insert(hash uint64, key []byte) uint32 {
	row := t.len
	if int(row)*t.layout.stride >= t.rowBytes {
		t.growRows()
	}
	t.len++
	rec := t.rec(row)
	copy(rec, t.layout.template)
	t.setKey(rec, key)
	t.index.insert(hash, row)
	return row
}

// growRows doubles the first chunk until it is full-sized, then adds chunks.
func (t *Table) growRows() {
	full := t.layout.stride << t.layout.shift
	switch {
	case len(t.chunks) == 0:
		t.rowBytes = firstRows * t.layout.stride
		t.chunks = append(t.chunks, make([]byte, t.rowBytes))
	case t.rowBytes < full:
		t.rowBytes *= 2
		grown := make([]byte, t.rowBytes)
		copy(grown, t.chunks[0])
		t.chunks[0] = grown
	default:
		t.rowBytes += full
		t.chunks = append(t.chunks, make([]byte, full))
	}
}

// rec returns the bytes of a row. They may move when a row is inserted.
func (t *Table) rec(row uint32) []byte {
	l := t.layout
	c := t.chunks[row>>l.shift]
	offset := int(row&(1<<l.shift-1)) * l.stride
	return c[offset : offset+l.stride : offset+l.stride]
}

// setKey stores a short key as its length and bytes, a long one as 255, its length (4 bytes at 4) and its place in the
// arena (at 8).
func (t *Table) setKey(rec, key []byte) {
	if len(key) <= inlineKey {
		rec[0] = byte(len(key))
		copy(rec[1:1+inlineKey], key)
		return
	}
	ref := t.keys.alloc(len(key))
	copy(t.keys.at(ref, len(key)), key)
	rec[0] = 255
	put32(rec[4:], uint32(len(key)))
	putInt(rec[8:], int64(ref))
}

func (t *Table) key(rec []byte) []byte {
	if n := int(rec[0]); n <= inlineKey {
		return rec[1 : 1+n : 1+n]
	}
	return t.keys.at(uint64(getInt(rec[8:])), int(get32(rec[4:])))
}

// Key returns the row's key, which must not be changed. It is valid until Reset.
func (t *Table) Key(row uint32) []byte { return t.key(t.rec(row)) }

// Hash returns the hash of the row's key.
func (t *Table) Hash(row uint32) uint64 { return Hash(t.Key(row)) }

// Count is the number of events folded into the row.
func (t *Table) Count(row uint32) int64 { return getInt(t.rec(row)[offCount:]) }

// Stamp is the lane offset below which the row includes every event.
func (t *Table) Stamp(row uint32) int64 { return getInt(t.rec(row)[offStamp:]) }

// Add folds the event at the lane's offset into a row and marks the row dirty. A row whose stamp is above the offset
// includes the event already: it is left as it is, but still dirty, since every commit holds all entries touched in its
// range.
func (t *Table) Add(row uint32, ev *event.Event, offset int64) {
	rec := t.rec(row)
	t.touch(rec, row)
	if getInt(rec[offStamp:]) > offset {
		return
	}
	putInt(rec[offCount:], getInt(rec[offCount:])+1)
	t.fold(rec, ev, offset)
}

func (t *Table) touch(rec []byte, row uint32) {
	if uint64(getInt(rec[offEpoch:])) != t.epoch {
		putInt(rec[offEpoch:], int64(t.epoch))
		t.dirty = append(t.dirty, row)
	}
}

// Dirty lists the rows touched since BeginEpoch, in the order of their first touch. It is valid until the next change.
func (t *Table) Dirty() []uint32 { return t.dirty }

// MarkAllDirty makes every row dirty.
func (t *Table) MarkAllDirty() { t.markFrom(0) }

// MarkNewer makes every row dirty that was touched in an epoch above the given one.
func (t *Table) MarkNewer(epoch uint64) { t.markFrom(epoch + 1) }

// markFrom makes the rows dirty that were touched in the given epoch or later. It does not ask which rows are dirty already:
// after a lane has gone back, the table's epoch may be one that rows carry from an earlier life of that number.
func (t *Table) markFrom(epoch uint64) {
	t.dirty = t.dirty[:0]
	for row := range t.len {
		if rec := t.rec(row); uint64(getInt(rec[offEpoch:])) >= epoch {
			putInt(rec[offEpoch:], int64(t.epoch))
			t.dirty = append(t.dirty, row)
		}
	}
}

// BeginEpoch makes every row clean, whatever their number, and names the epoch in which rows are touched from now on: the
// number of the commit that will hold them. Without MarkNewer or MarkAllDirty after it, it must be above every epoch that
// a row carries.
func (t *Table) BeginEpoch(epoch uint64) {
	t.dirty = t.dirty[:0]
	t.epoch = epoch
}

// Epoch is the epoch in which a row was last touched or loaded: the number of the commit that holds it.
func (t *Table) Epoch(row uint32) uint64 { return uint64(getInt(t.rec(row)[offEpoch:])) }
