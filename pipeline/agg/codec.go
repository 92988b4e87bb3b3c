package agg

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

func appendInt(dst []byte, v int64) []byte   { return binary.AppendVarint(dst, v) }
func appendUint(dst []byte, v uint64) []byte { return binary.AppendUvarint(dst, v) }

// appendFloat64 reverses the bytes: exponent and high bits of the mantissa come first, the zeros at the end of short
// fractions are not written.
func appendFloat64(dst []byte, v float64) []byte {
	return appendUint(dst, bits.ReverseBytes64(math.Float64bits(v)))
}

// appendNulls appends how many of count events had no value, when values of them had one.
func appendNulls(dst []byte, count, values int64) []byte {
	return appendUint(dst, uint64(count-values))
}

// scales are the units in which an event time may be written, in ns.
var scales = [4]int64{1, 1e3, 1e6, 1e9}

// scaleTime returns the coarsest scale in which a time in ns is whole, and the time in it.
func scaleTime(ns int64) (scale byte, t int64) {
	for scale = 3; ns%scales[scale] != 0; scale-- {
	}
	return scale, ns / scales[scale]
}

// reader decodes an entry. After the first failure err is set and everything reads as zero. It never allocates more
// than its error. Reading moves at and leaves buf alone, because a pointer that is written costs more while the garbage
// collector works.
type reader struct {
	buf     []byte
	at      int  // of the next byte
	version byte // of the entry
	err     error
}

func (r *reader) left() int { return len(r.buf) - r.at }

func (r *reader) fail(problem string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s, %d bytes before its end", ErrEntryCorrupt, problem, r.left())
	}
	r.buf, r.at = nil, 0
}

func (r *reader) byte() byte {
	if r.at >= len(r.buf) {
		r.fail("cut short")
		return 0
	}
	r.at++
	return r.buf[r.at-1]
}

// end checks that nothing is left, and returns the first failure.
func (r *reader) end() error {
	if r.left() > 0 {
		r.fail("bytes after the last column")
	}
	return r.err
}

func (r *reader) uvarint() uint64 {
	if at := r.at; at < len(r.buf) && r.buf[at] < 0x80 { // most numbers are small
		r.at = at + 1
		return uint64(r.buf[at])
	}
	return r.longUvarint()
}

func (r *reader) longUvarint() uint64 {
	v, n := longUvarint(r.buf, r.at)
	if n <= 0 {
		r.fail("cut short or number too long")
		return 0
	}
	r.at += n
	return v
}

// longUvarint is binary.Uvarint of what follows at in buf. It takes eight bytes at once, where buf has as many, instead of
// asking after each whether the number goes on: lengths that vary cannot be predicted.
func longUvarint(buf []byte, at int) (v uint64, n int) {
	const (
		stops = 0x8080808080808080 // of these bits, the last byte of a number has none
		odd7  = 0x7f007f007f007f00
		odd14 = 0x3fff00003fff0000
		odd28 = 0x0fffffff00000000
	)
	left := len(buf) - at
	switch {
	case left >= 8:
		v = binary.LittleEndian.Uint64(buf[at:])
	case len(buf) >= 8:
		v = binary.LittleEndian.Uint64(buf[len(buf)-8:]) >> (8 * (8 - left))
	}
	stop := ^v & stops
	if n = bits.TrailingZeros64(stop)/8 + 1; n > left || stop == 0 || len(buf) < 8 {
		return binary.Uvarint(buf[at:])
	}
	v &= (stop ^ (stop - 1)) &^ stops
	v = v&odd7>>1 | v&(odd7>>8)
	v = v&odd14>>2 | v&(odd14>>16)
	return v&odd28>>4 | v&(odd28>>32), n
}

func (r *reader) varint() int64 {
	v := r.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// natural reads a number that must fit a non-negative int64.
func (r *reader) natural() int64 {
	v := r.uvarint()
	if v > math.MaxInt64 {
		r.fail("number beyond int64")
		return 0
	}
	return int64(v)
}

// values reads what appendNulls wrote: the number of values among count events.
func (r *reader) values(count int64) int64 {
	nulls := r.natural()
	if nulls > count {
		r.fail("more nulls than events")
		return 0
	}
	return count - nulls
}

func (r *reader) float64() float64 {
	return math.Float64frombits(bits.ReverseBytes64(r.uvarint()))
}

// time reads a time in the given scale and returns it in ns.
func (r *reader) time(scale byte) int64 {
	t, unit := r.varint(), scales[scale&3]
	if t > math.MaxInt64/unit || t < math.MinInt64/unit {
		r.fail("time out of range")
		return 0
	}
	return t * unit
}

// bytes reads a length and as many bytes, which alias the entry.
func (r *reader) bytes(limit int) []byte {
	n := r.uvarint()
	if n > uint64(limit) {
		r.fail("text too long")
		return nil
	}
	return r.take(n)
}

// take reads n bytes, which alias the entry.
func (r *reader) take(n uint64) []byte {
	if n > uint64(r.left()) {
		r.fail("cut short")
		return nil
	}
	to := r.at + int(n)
	b := r.buf[r.at:to:to]
	r.at = to
	return b
}
