package agg

import (
	"math"
	"strconv"

	"millrace/pipeline/event"
)

// number is a numeric value with all its digits: an integer within int64, or a float64 that is no such integer. Equal
// numbers are equal structs.
type number struct {
	kind numberKind
	bits uint64 // the integer, or IEEE 754 bits
}

// numberKind is also the presence byte of an extreme in an entry.
type numberKind uint8

const (
	numberNone numberKind = iota
	numberInt
	numberFloat
)

func intNumber(v int64) number { return number{numberInt, uint64(v)} }

// floatNumber takes f, which is finite; -0 becomes the integer 0.
func floatNumber(f float64) number {
	if -1<<63 <= f && f < 1<<63 {
		if i := int64(f); float64(i) == f {
			return intNumber(i)
		}
	}
	return number{numberFloat, math.Float64bits(f)}
}

func numberOf(v *event.Value) number {
	if v.Kind == event.Int && !v.Big {
		return intNumber(v.Int)
	}
	return floatNumber(v.Float)
}

// less compares by exact value; there is a number on both sides.
func (a number) less(b number) bool {
	switch {
	case a.kind == numberInt && b.kind == numberInt:
		return int64(a.bits) < int64(b.bits)
	case a.kind == numberInt:
		return intBelow(int64(a.bits), math.Float64frombits(b.bits))
	case b.kind == numberInt:
		return !intBelow(int64(b.bits), math.Float64frombits(a.bits))
	}
	return math.Float64frombits(a.bits) < math.Float64frombits(b.bits)
}

// intBelow reports whether i < f for a float that is no integer within int64, so that the two are never equal.
func intBelow(i int64, f float64) bool {
	switch {
	case f >= 1<<63:
		return true
	case f < -1<<63:
		return false
	}
	return i <= int64(math.Floor(f))
}

func (a number) appendJSON(dst []byte) []byte {
	switch a.kind {
	case numberInt:
		return strconv.AppendInt(dst, int64(a.bits), 10)
	case numberFloat:
		return appendNumber(dst, math.Float64frombits(a.bits))
	}
	return append(dst, "null"...)
}
