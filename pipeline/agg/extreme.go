package agg

import (
	"math"
	"strconv"
)

// extremeInt is the least or greatest integer (16 bytes: value, 1 when there is one).
type extremeInt struct{ greatest bool }

func (c extremeInt) op() opcode {
	if c.greatest {
		return opMaxInt
	}
	return opMinInt
}

func (extremeInt) size() int            { return 16 }
func (extremeInt) init([]byte)          {}
func (extremeInt) overflow([]byte) bool { return false }

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

// extremeFloat is the least or greatest float (8 bytes; NaN when there is none).
type extremeFloat struct{ greatest bool }

func (c extremeFloat) op() opcode {
	if c.greatest {
		return opMaxFloat
	}
	return opMinFloat
}

func (extremeFloat) size() int            { return 8 }
func (extremeFloat) init(st []byte)       { putFloat(st, math.NaN()) }
func (extremeFloat) overflow([]byte) bool { return false }

// minFloat and maxFloat compare so that NaN loses. Adding 0 turns -0 into 0: the two are equal, and which of them came
// first must not show.
func minFloat(st []byte, v float64) {
	if !(v >= getFloat(st)) {
		putFloat(st, v+0)
	}
}

func maxFloat(st []byte, v float64) {
	if !(v <= getFloat(st)) {
		putFloat(st, v+0)
	}
}

func (extremeFloat) encode(_ *Table, dst, st []byte, _ int64) []byte {
	return appendFloat64(dst, getFloat(st))
}

func (extremeFloat) decode(r *reader, _ int64, p *partial) {
	if p.float = r.float64(); math.IsInf(p.float, 0) {
		r.fail("infinite number")
	}
}

func (c extremeFloat) merge(_ *Table, st []byte, p *partial, _ int32) {
	switch {
	case p.float != p.float:
	case c.greatest:
		maxFloat(st, p.float)
	default:
		minFloat(st, p.float)
	}
}

func (extremeFloat) value(_ *Table, dst, st []byte, _ int64) []byte {
	if v := getFloat(st); v == v {
		return appendNumber(dst, v)
	}
	return append(dst, "null"...)
}
