package agg

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// magnitude is an exact sum outside its row, as sign and absolute value: what is rounded, divided, written and moved. The
// highest limb is not zero; zero has no limbs.
type magnitude struct {
	negative bool
	base     int // exponent of the lowest bit, as in an exact sum; negative in a quotient
	n        int
	limbs    [mostLimbs + 2]uint64
}

// load reads limbs in two's complement.
func (x *magnitude) load(limbs []byte, base int) {
	x.base, x.n = base, len(limbs)/8
	x.negative = x.n > 0 && limbs[len(limbs)-1] >= 0x80
	sign := uint64(0)
	if x.negative {
		sign = 1
	}
	carry := sign
	for i := range x.n {
		x.limbs[i], carry = bits.Add64(uint64(getInt(limbs[8*i:]))^-sign, 0, carry)
	}
	x.trim()
}

func (x *magnitude) trim() {
	for x.n > 0 && x.limbs[x.n-1] == 0 {
		x.n--
	}
}

// store is the inverse of load, to a base that is not above low.
func (x *magnitude) store(limbs []byte, base int) {
	sign := uint64(0)
	if x.negative {
		sign = 1
	}
	carry := sign
	for i := range len(limbs) / 8 {
		var limb uint64
		limb, carry = bits.Add64(x.from(base+64*i)^-sign, 0, carry)
		putInt(limbs[8*i:], int64(limb))
	}
}

// low is the exponent of the lowest bit that is set. x is not zero.
func (x *magnitude) low() int {
	i := 0
	for x.limbs[i] == 0 {
		i++
	}
	return x.base + 64*i + bits.TrailingZeros64(x.limbs[i])
}

// high is the exponent of the highest bit that is set, plus 1. x is not zero.
func (x *magnitude) high() int { return x.base + 64*(x.n-1) + bits.Len64(x.limbs[x.n-1]) }

// from returns the 64 bits from an exponent on upwards.
func (x *magnitude) from(exponent int) uint64 {
	at := exponent - x.base
	i, shift := at>>6, uint(at&63)
	return x.limb(i)>>shift | x.limb(i+1)<<1<<(63-shift)
}

func (x *magnitude) limb(i int) uint64 {
	if i < 0 || i >= x.n {
		return 0
	}
	return x.limbs[i]
}

// whole returns the value when it is an integer within int64.
func (x *magnitude) whole() (int64, bool) {
	if x.n == 0 {
		return 0, true
	}
	if x.low() < unitOfOne || x.high() > unitOfOne+64 {
		return 0, false
	}
	v := x.from(unitOfOne)
	if x.negative {
		return -int64(v), v <= 1<<63
	}
	return int64(v), v < 1<<63
}

// divide replaces x by x/n, cut off 128 bits below the lowest bit of x, and reports whether anything was cut off.
func (x *magnitude) divide(n int64) (inexact bool) {
	if x.n == 0 {
		return false
	}
	copy(x.limbs[2:], x.limbs[:x.n])
	x.limbs[0], x.limbs[1] = 0, 0
	x.base, x.n = x.base-128, x.n+2
	rest := uint64(0)
	for i := x.n - 1; i >= 0; i-- {
		x.limbs[i], rest = bits.Div64(rest, x.limbs[i], uint64(n))
	}
	x.trim()
	return rest != 0
}

// float64 returns the nearest float64, ties to even, infinite when x is beyond float64's range. inexact says that a
// little, less than the lowest bit, was cut off.
func (x *magnitude) float64(inexact bool) float64 {
	if x.n == 0 {
		return 0
	}
	unit := max(x.high()-53, 0) // exponent of the result's last bit
	m := x.from(unit)
	if half := x.from(unit-1)&1 == 1; half && (m&1 == 1 || inexact || x.low() < unit-1) {
		m++
	}
	f := math.Ldexp(float64(m), unit-unitOfOne)
	if x.negative {
		return -f
	}
	return f
}

// append encodes x in the only way it can be encoded: an odd number of as few bytes as there can be, and an exponent.
func (x *magnitude) append(dst []byte) []byte {
	if x.n == 0 {
		return appendUint(dst, 0)
	}
	low, high := x.low(), x.high()
	n := (high - low + 7) / 8
	tag := uint64(n) << 1
	if x.negative {
		tag |= 1
	}
	dst = appendInt(appendUint(dst, tag), int64(low-unitOfOne))
	end := len(dst) + n
	for at := low; at < high; at += 64 {
		dst = binary.LittleEndian.AppendUint64(dst, x.from(at))
	}
	return dst[:end]
}
