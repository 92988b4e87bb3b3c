package agg

import (
	"encoding/binary"

	"millrace/pipeline/event"
)

// column is one aggregate's state in a row. Columns have no state of their own; st is the row from the column's offset
// on. Folding an event is not among the methods but one switch over op codes (Table.fold), which is faster than a call
// per column.
type column interface {
	op() opcode
	size() int      // bytes of state, a multiple of 8
	init(st []byte) // writes the state of no values

	// encode appends the column's part of an entry; count is the row's.
	encode(t *Table, dst, st []byte, count int64) []byte
	// decode is its inverse. It checks everything, so that merge cannot fail.
	decode(r *reader, count int64, p *partial)
	// load does what decode does and then merge, on the state of no values; that is of no use after a failure.
	load(t *Table, r *reader, st []byte, count int64)
	// merge adds a partial of the lane with the given rank.
	merge(t *Table, st []byte, p *partial, lane int32)

	// value appends the published JSON value; null when overflow.
	value(t *Table, dst, st []byte, count int64) []byte
	overflow(t *Table, st []byte) bool
}

// folder is a column with the opcode opCall, which folds a value by a call of its own. An opcode with a case in
// Table.fold costs less, and is for columns that many pipelines have for every event.
type folder interface {
	column
	// fold adds a value that is not null, of the event with that time in ns at that offset of the lane.
	fold(t *Table, st []byte, v *event.Value, time, offset int64)
}

// owner is a column that may own a block of the arena.
type owner interface {
	column
	release(t *Table, st []byte) // gives the block at st back
}

// partial is a decoded column. Which fields count depends on the column.
type partial struct {
	n        int64  // values, not counting null
	sum      int128 // int sums
	whole    int64  // int extremes
	number   number // float extremes
	digits   []byte // float sums: the magnitude, low byte first, as part of the entry
	exponent int    // of its lowest bit
	sign     uint64 // 1 when it is negative
	beyond   bool   // the sum is beyond float64, and nothing else is known of it
	float    float64
	comp     float64 // float sums of format 1: running sum and compensation
	time     int64   // first and last: event time in ns
	offset   int64   // first and last
	scalar   scalar
}

// op folds one field of an event into one column.
type op struct {
	code   opcode
	slot   uint32 // index in Event.Values
	offset uint32 // of the column's state in the row
	folder folder // of opCall
}

type opcode uint8

const (
	opNone opcode = iota // folds nothing: the row's count is enough
	opCall               // the column is a folder
	opSumInt
	opSumFloat
	opAvgInt
	opAvgFloat
	opMinInt
	opMinFloat
	opMaxInt
	opMaxFloat
)

// fold adds one event to every column of a row. A null has no value and is passed over.
func (t *Table) fold(row []byte, ev *event.Event, offset int64) {
	for i := range t.layout.ops {
		o := &t.layout.ops[i]
		v := &ev.Values[o.slot]
		if v.Kind == event.Null {
			continue
		}
		st := row[o.offset:]
		switch o.code {
		case opSumInt:
			addInt(st, v.Int)
		case opSumFloat:
			t.addNumber(st, v)
		case opAvgInt:
			addInt(st, v.Int)
			putInt(st[avgIntCount:], getInt(st[avgIntCount:])+1)
		case opAvgFloat:
			t.addNumber(st, v)
			putInt(st[avgFloatCount:], getInt(st[avgFloatCount:])+1)
		case opMinInt:
			minInt(st, v.Int)
		case opMinFloat:
			minNumber(st, numberOf(v))
		case opMaxInt:
			maxInt(st, v.Int)
		case opMaxFloat:
			maxNumber(st, numberOf(v))
		case opCall:
			o.folder.fold(t, st, v, ev.Time, offset)
		}
	}
}

func getInt(st []byte) int64    { return int64(binary.LittleEndian.Uint64(st)) }
func putInt(st []byte, v int64) { binary.LittleEndian.PutUint64(st, uint64(v)) }
func get32(st []byte) uint32    { return binary.LittleEndian.Uint32(st) }
func put32(st []byte, v uint32) { binary.LittleEndian.PutUint32(st, v) }
