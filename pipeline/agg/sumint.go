package agg

import "strconv"

func newSum(typ string) column {
	if typ == "int" {
		return sumInt{}
	}
	return sumFloat{}
}

// sumInt is an exact sum of integers, 128 bits wide (16 bytes: low, high). A sum beyond int64 is published as null.
type sumInt struct{}

func (sumInt) op() opcode  { return opSumInt }
func (sumInt) size() int   { return 16 }
func (sumInt) init([]byte) {}

func getInt128(st []byte) int128 { return int128{lo: uint64(getInt(st)), hi: getInt(st[8:])} }

func putInt128(st []byte, v int128) {
	putInt(st, int64(v.lo))
	putInt(st[8:], v.hi)
}

// addInt adds v to the 128-bit sum at st.
func addInt(st []byte, v int64) {
	st = st[:16]
	putInt128(st, getInt128(st).add(int128{lo: uint64(v), hi: v >> 63}))
}

func (sumInt) encode(_ *Table, dst, st []byte, _ int64) []byte {
	return appendInt128(dst, getInt128(st))
}

func (sumInt) decode(r *reader, count int64, p *partial) { p.sum = r.sum(count) }

func (sumInt) load(_ *Table, r *reader, st []byte, count int64) { putInt128(st, r.sum(count)) }

// sum reads a sum of count integers.
func (r *reader) sum(count int64) int128 {
	v := r.int128()
	if !v.within(count) {
		r.fail("sum larger than its count allows")
	}
	return v
}

func (sumInt) merge(_ *Table, st []byte, p *partial, _ int32) {
	putInt128(st, getInt128(st).add(p.sum))
}

func (c sumInt) value(_ *Table, dst, st []byte, _ int64) []byte {
	if v, ok := getInt128(st).int64(); ok {
		return strconv.AppendInt(dst, v, 10)
	}
	return append(dst, "null"...)
}

func (sumInt) overflow(_ *Table, st []byte) bool {
	_, ok := getInt128(st).int64()
	return !ok
}
