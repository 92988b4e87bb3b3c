package agg

import (
	"encoding/binary"
	"math"
	"math/bits"

	"millrace/pipeline/event"
)

// An exact sum is a fixed-point number in two's complement that no addition ever rounds. Its state is 24 bytes:
//
//	0  base: the exponent of the lowest bit (2 bytes); exponents count from 2^-1074, the smallest float64, so none is
//	   negative
//	2  limbs: how many words of 64 bits there are (1 byte); 0 before the first value other than zero
//	3  1 when an entry of format 1 said that its sum had left float64's range (1 byte)
//	4  unused
//	8  two limbs, low first, or with more limbs their place in the arena
//
// Two limbs hold values whose bits lie within 126 places of each other and of the sum's own bits, which is all that
// ordinary data needs. When a value does not fit, the limbs move to the base where both fit, and to the arena, with more
// limbs, only when there is none. The sum always stays two bits below what its limbs can hold, so that the addition of a
// value which is as far below cannot overflow.
const (
	sumSize    = 24
	sumLimbs   = 2
	sumRange   = 3
	sumWords   = 8
	fewLimbs   = 2
	mostLimbs  = 36 // float64 spans 2098 bits, and 2^63 values add 63
	spareBits  = 2
	unitOfOne  = 1074 // exponent of the integer 1
	exactFloat = 1 << 53
)

// addNumber adds a numeric value of an event: integers within int64 with all their digits.
func (t *Table) addNumber(st []byte, v *event.Value) {
	if v.Kind == event.Int && uint64(v.Int+exactFloat) > 2*exactFloat {
		sign := uint64(v.Int) >> 63
		t.addScaled(st, (uint64(v.Int)^-sign)+sign, unitOfOne, sign)
		return
	}
	t.addFloat(st, v.Float)
}

// addFloat adds x, which is finite.
func (t *Table) addFloat(st []byte, x float64) {
	b := math.Float64bits(x)
	m, e := b&(1<<52-1), b>>52&0x7ff
	if e > 0 {
		m |= 1 << 52
		e--
	}
	t.addScaled(st, m, int(e), b>>63)
}

// addScaled adds m * 2^e, negated when sign is 1.
func (t *Table) addScaled(st []byte, m uint64, e int, sign uint64) {
	st = st[:sumSize]
	head := binary.LittleEndian.Uint32(st)
	shift := uint(e) - uint(head&0xffff)
	if head>>16&0xff != fewLimbs || shift > 126-64 {
		t.addWide(st, m, e, sign)
		return
	}
	lo, hi := m<<(shift&63), m>>1>>(63-shift&63)
	lo, carry := bits.Add64(uint64(getInt(st[8:])), lo^-sign, sign) // ^v + 1 is -v
	hi, _ = bits.Add64(uint64(getInt(st[16:])), hi^-sign, carry)
	putInt(st[8:], int64(lo))
	putInt(st[16:], int64(hi))
	if isTight(hi) {
		t.widen(st, e, e)
	}
}

// isTight reports whether a sum with this highest limb has come within spareBits of what its limbs can hold.
func isTight(highest uint64) bool { return int64(highest+1<<62) < 0 }

// addWide is addScaled for every sum and every value.
func (t *Table) addWide(st []byte, m uint64, e int, sign uint64) {
	if m == 0 {
		return
	}
	t.reserve(st, e, e+bits.Len64(m))
	limbs := t.limbsOf(st)
	if addLimbs(limbs, uint(e-sumBase(st)), m, sign); isTight(uint64(getInt(limbs[len(limbs)-8:]))) {
		t.widen(st, e, e)
	}
}

// reserve makes sure that a value with bits from exponent low up to, but without, high can be added to the sum at st.
func (t *Table) reserve(st []byte, low, high int) {
	if base := sumBase(st); low < base || high-base > 64*int(st[sumLimbs])-spareBits {
		t.widen(st, low, high)
	}
}

func sumBase(st []byte) int { return int(binary.LittleEndian.Uint16(st)) }

// limbsOf returns the bytes of the limbs of the sum at st, where they are.
func (t *Table) limbsOf(st []byte) []byte {
	n := int(st[sumLimbs])
	if n <= fewLimbs {
		return st[sumWords : sumWords+8*n]
	}
	return t.blocks.at(uint64(getInt(st[sumWords:])), 8*n)
}

// addLimbs adds m << shift, negated when sign is 1, to limbs that are wide enough.
func addLimbs(limbs []byte, shift uint, m uint64, sign uint64) {
	lo, hi, carry := m<<(shift&63), m>>1>>(63-shift&63), sign
	for limbs = limbs[8*(shift>>6):]; len(limbs) > 0; limbs = limbs[8:] {
		var sum uint64
		sum, carry = bits.Add64(uint64(getInt(limbs)), lo^-sign, carry)
		putInt(limbs, int64(sum))
		if lo, hi = hi, 0; lo == 0 && carry == sign {
			return // a zero that is negated, and the carry, change nothing
		}
	}
}

// widen gives the sum at st limbs that also hold the bits from exponent low up to, but without, high.
func (t *Table) widen(st []byte, low, high int) {
	var x magnitude
	if x.load(t.limbsOf(st), sumBase(st)); x.n > 0 {
		low, high = min(low, x.low()), max(high, x.high())
	}
	var n, base int
	if room := 64*fewLimbs - spareBits - (high - low); room >= 0 {
		n, base = fewLimbs, max(low-room/2, 0)
	} else {
		base = low &^ 63
		n = (high - base + spareBits + 32 + 63) / 64 // 32 bits for sums to grow
	}
	t.storeSum(st, &x, base, n)
}

// storeSum writes x in place of the sum at st.
func (t *Table) storeSum(st []byte, x *magnitude, base, n int) {
	ref, was := uint64(getInt(st[sumWords:])), heldLimbs(st)
	if n > fewLimbs {
		ref = t.blocks.resize(ref, was, 8*n)
		putInt(st[sumWords:], int64(ref))
	} else if was > 0 {
		t.blocks.release(ref, was)
	}
	binary.LittleEndian.PutUint16(st, uint16(base))
	st[sumLimbs] = byte(n)
	x.store(t.limbsOf(st), base)
}

// heldLimbs is the bytes of the limbs at st when they live in the arena, else 0.
func heldLimbs(st []byte) int {
	if n := int(st[sumLimbs]); n > fewLimbs {
		return 8 * n
	}
	return 0
}

// releaseSum gives the limbs of the sum at st back to the arena.
func (t *Table) releaseSum(st []byte) {
	if was := heldLimbs(st); was > 0 {
		t.blocks.release(uint64(getInt(st[sumWords:])), was)
	}
}
