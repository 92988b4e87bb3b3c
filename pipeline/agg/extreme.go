package agg

import (
	"math"
	"strconv"
)

func newMin(typ string) column { return newExtreme(typ, false) }
func newMax(typ string) column { return newExtreme(typ, true) }

func newExtreme(typ string, greatest bool) column {
	if typ == "int" {
		return extremeInt{greatest: greatest}
	}
	return extremeFloat{greatest: greatest}
}

// extremeInt is the least or greatest integer (16 bytes: value, 1 when there is one).
type extremeInt struct{ greatest bool }

func (c extremeInt) op() opcode {
	if c.greatest {
		return opMaxInt
	}
	return opMinInt
}

func (extremeInt) size() int                    { return 16 }
func (extremeInt) init([]byte)                  {}
func (extremeInt) overflow(*Table, []byte) bool { return false }

func minInt(st []byte, v int64) {
	if st = st[:16]; v < getInt(st) || getInt(st[8:]) == 0 {
		putInt(st, v)
		putInt(st[8:], 1)
	}
}

func maxInt(st []byte, v int64) {
	if st = st[:16]; v > getInt(st) || getInt(st[8:]) == 0 {
		putInt(st, v)
		putInt(st[8:], 1)
	}
}

func (extremeInt) encode(_ *Table, dst, st []byte, _ int64) []byte {
	if getInt(st[8:]) == 0 {
		return append(dst, 0)
	}
	return appendInt(append(dst, 1), getInt(st))
}

func (extremeInt) decode(r *reader, _ int64, p *partial) {
	switch p.n = int64(r.byte()); p.n {
	case 0:
	case 1:
		p.whole = r.varint()
	default:
		r.fail("presence byte that is neither 0 nor 1")
	}
}

func (extremeInt) load(_ *Table, r *reader, st []byte, _ int64) {
	switch has := r.byte(); has {
	case 0:
	case 1:
		putInt(st, r.varint())
		putInt(st[8:], 1)
	default:
		r.fail("presence byte that is neither 0 nor 1")
	}
}

func (c extremeInt) merge(_ *Table, st []byte, p *partial, _ int32) {
	switch {
	case p.n == 0:
	case c.greatest:
		maxInt(st, p.whole)
	default:
		minInt(st, p.whole)
	}
}

func (extremeInt) value(_ *Table, dst, st []byte, _ int64) []byte {
	if getInt(st[8:]) == 0 {
		return append(dst, "null"...)
	}
	return strconv.AppendInt(dst, getInt(st), 10)
}

// extremeFloat is the least or greatest number, with all its digits (16 bytes: its bits and its kind).
type extremeFloat struct{ greatest bool }

func (c extremeFloat) op() opcode {
	if c.greatest {
		return opMaxFloat
	}
	return opMinFloat
}

func (extremeFloat) size() int                    { return 16 }
func (extremeFloat) init([]byte)                  {}
func (extremeFloat) overflow(*Table, []byte) bool { return false }

func getNumber(st []byte) number {
	return number{kind: numberKind(getInt(st[8:])), bits: uint64(getInt(st))}
}

func putNumber(st []byte, v number) {
	putInt(st, int64(v.bits))
	putInt(st[8:], int64(v.kind))
}

func minNumber(st []byte, v number) {
	if held := getNumber(st); held.kind == numberNone || v.less(held) {
		putNumber(st, v)
	}
}

func maxNumber(st []byte, v number) {
	if held := getNumber(st); held.kind == numberNone || held.less(v) {
		putNumber(st, v)
	}
}

func (extremeFloat) encode(_ *Table, dst, st []byte, _ int64) []byte {
	v := getNumber(st)
	switch dst = append(dst, byte(v.kind)); v.kind {
	case numberInt:
		return appendInt(dst, int64(v.bits))
	case numberFloat:
		return appendFloat64(dst, math.Float64frombits(v.bits))
	}
	return dst
}

func (extremeFloat) decode(r *reader, _ int64, p *partial) { p.number = r.number() }

func (extremeFloat) load(_ *Table, r *reader, st []byte, _ int64) { putNumber(st, r.number()) }

// number reads an extreme, whose kind is numberNone when there is no value.
func (r *reader) number() (v number) {
	kind := numberFloat // format 1 has floats only
	if r.version > 1 {
		kind = numberKind(r.byte())
	}
	switch kind {
	case numberNone:
	case numberInt:
		v = intNumber(r.varint())
	case numberFloat:
		f := r.float64()
		switch {
		case math.IsInf(f, 0) || f != f && r.version > 1:
			r.fail("extreme that is not a number")
		case f == f: // format 1 wrote NaN for no value
			v = floatNumber(f)
		}
	default:
		r.fail("unknown kind of number")
	}
	return v
}

func (c extremeFloat) merge(_ *Table, st []byte, p *partial, _ int32) {
	switch {
	case p.number.kind == numberNone:
	case c.greatest:
		maxNumber(st, p.number)
	default:
		minNumber(st, p.number)
	}
}

func (extremeFloat) value(_ *Table, dst, st []byte, _ int64) []byte {
	return getNumber(st).appendJSON(dst)
}
