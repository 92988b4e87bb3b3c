package agg

import (
	"math"
	"strconv"

	"millrace/pipeline/event"
)

// scalar is a value of any kind, as first and last keep it.
type scalar struct {
	kind scalarKind
	bits uint64 // int, bool: the integer; float: IEEE 754 bits
	text []byte // string: UTF-8; big: decimal digits
}

type scalarKind uint8

// The kinds are part of the entry format.
const (
	scalarNone scalarKind = iota
	scalarInt
	scalarFloat
	scalarString
	scalarBool
	scalarBig
	scalarLast = scalarBig
)

func (k scalarKind) isText() bool { return k == scalarString || k == scalarBig }

// scalarOf takes a value that is not null over; the text still belongs to the event. -0 becomes 0.
func scalarOf(v *event.Value) scalar {
	switch {
	case v.Kind == event.String:
		return scalar{kind: scalarString, text: v.Str}
	case v.Kind == event.Float:
		return scalar{kind: scalarFloat, bits: math.Float64bits(v.Float + 0)}
	case v.Kind == event.Bool:
		return scalar{kind: scalarBool, bits: uint64(v.Int)}
	case v.Big:
		return scalar{kind: scalarBig, text: v.Str}
	}
	return scalar{kind: scalarInt, bits: uint64(v.Int)}
}

// append encodes the value without its kind.
func (s scalar) append(dst []byte) []byte {
	switch s.kind {
	case scalarInt, scalarBool:
		return appendInt(dst, int64(s.bits))
	case scalarFloat:
		return appendFloat64(dst, math.Float64frombits(s.bits))
	}
	return append(appendUint(dst, uint64(len(s.text))), s.text...)
}

// read is the inverse of append. The text aliases the entry.
func (s *scalar) read(r *reader) {
	switch s.kind {
	case scalarInt:
		s.bits = uint64(r.varint())
	case scalarBool:
		if s.bits = uint64(r.varint()); s.bits > 1 {
			r.fail("bool that is neither 0 nor 1")
		}
	case scalarFloat:
		f := r.float64()
		if s.bits = math.Float64bits(f); math.IsNaN(f) || math.IsInf(f, 0) {
			r.fail("number that JSON cannot hold")
		}
	default:
		s.text = r.bytes(maxText)
		if s.kind == scalarBig && !isInteger(s.text) || !event.ValidText(s.text) {
			r.fail("text that JSON cannot hold")
		}
	}
}

// isInteger reports whether text is an integer as JSON writes it: an optional sign and digits.
func isInteger(text []byte) bool {
	if len(text) > 0 && text[0] == '-' {
		text = text[1:]
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(text) > 0 && (text[0] != '0' || len(text) == 1)
}

func (s scalar) appendJSON(dst []byte) []byte {
	switch s.kind {
	case scalarInt:
		return strconv.AppendInt(dst, int64(s.bits), 10)
	case scalarBool:
		return strconv.AppendBool(dst, s.bits != 0)
	case scalarFloat:
		return appendNumber(dst, math.Float64frombits(s.bits))
	case scalarString:
		return event.AppendString(dst, s.text)
	case scalarBig:
		return append(dst, s.text...)
	}
	return append(dst, "null"...)
}
