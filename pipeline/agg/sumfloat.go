package agg

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
)

// sumFloat is an exact sum of numbers (24 bytes). It is rounded once, when it is published, so neither the order of the
// values nor how they are spread over lanes can show.
type sumFloat struct{}

func (sumFloat) op() opcode  { return opSumFloat }
func (sumFloat) size() int   { return sumSize }
func (sumFloat) init([]byte) {}

// outOfRange is the tag, and the mark in the state, of a sum that format 1 had given up as beyond float64. What it was
// is not known any more.
const outOfRange = 1

func (sumFloat) encode(t *Table, dst, st []byte, _ int64) []byte {
	if st[sumRange] == outOfRange {
		return appendUint(dst, outOfRange)
	}
	var x magnitude
	x.load(t.limbsOf(st), sumBase(st))
	return x.append(dst)
}

func (sumFloat) decode(r *reader, count int64, p *partial) {
	p.float, p.comp, p.digits = 0, 0, nil
	if r.version == 1 {
		p.decodeCompensated(r)
		return
	}
	tag := r.uvarint()
	p.beyond, p.sign = tag == outOfRange, tag&1
	if tag <= outOfRange {
		return
	}
	exponent := r.varint()
	p.digits = r.take(tag >> 1)
	if r.err != nil {
		return
	}
	last := p.digits[len(p.digits)-1]
	p.exponent = int(exponent) + unitOfOne
	switch {
	case last == 0 || p.digits[0]&1 == 0:
		r.fail("sum with zeros at its ends")
	case exponent < -unitOfOne || exponent > 64*mostLimbs ||
		p.exponent+8*(len(p.digits)-1)+bits.Len8(last) > 2098+bits.Len64(uint64(count)):
		r.fail("sum larger than its count allows")
	}
}

func (c sumFloat) load(t *Table, r *reader, st []byte, count int64) {
	var p partial
	if c.decode(r, count, &p); r.err == nil {
		c.merge(t, st, &p, 0)
	}
}

// decodeCompensated reads the sum of format 1: the running sum and what rounding had taken from it.
func (p *partial) decodeCompensated(r *reader) {
	p.float, p.comp = r.float64(), r.float64()
	if p.float != p.float || math.IsInf(p.float, -1) || math.IsNaN(p.comp) || math.IsInf(p.comp, 0) {
		r.fail("sum that is not a number")
	}
	if p.beyond = p.float > math.MaxFloat64; p.beyond {
		p.float, p.comp = 0, 0
	}
}

func (sumFloat) merge(t *Table, st []byte, p *partial, _ int32) {
	if p.beyond {
		st[sumRange] = outOfRange
	}
	t.addFloat(st, p.float)
	t.addFloat(st, p.comp)
	digits := p.digits
	p.digits = nil
	if len(digits) > 8 {
		t.reserve(st, p.exponent, p.exponent+8*len(digits))
	}
	for e := p.exponent; len(digits) > 0; e += 64 {
		var word [8]byte
		digits = digits[copy(word[:], digits):]
		t.addScaled(st, binary.LittleEndian.Uint64(word[:]), e, p.sign)
	}
}

func (sumFloat) release(t *Table, st []byte) { t.releaseSum(st) }

// value appends an integer within int64 with all its digits, every other sum as the nearest float64.
func (sumFloat) value(t *Table, dst, st []byte, _ int64) []byte {
	if st[sumRange] == outOfRange {
		return append(dst, "null"...)
	}
	var x magnitude
	x.load(t.limbsOf(st), sumBase(st))
	if v, ok := x.whole(); ok {
		return strconv.AppendInt(dst, v, 10)
	}
	return appendNumber(dst, x.float64(false))
}

func (sumFloat) overflow(t *Table, st []byte) bool {
	var x magnitude
	x.load(t.limbsOf(st), sumBase(st))
	return st[sumRange] == outOfRange || math.IsInf(x.float64(false), 0)
}
