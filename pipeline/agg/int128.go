package agg

import (
	"math/big"
	"math/bits"
)

// int128 is a 128-bit two's complement integer. A sum of n int64 values fits for every int64 n.
type int128 struct {
	hi int64
	lo uint64
}

func (a int128) add(b int128) int128 {
	lo, carry := bits.Add64(a.lo, b.lo, 0)
	return int128{hi: a.hi + b.hi + int64(carry), lo: lo}
}

// int64 returns the value when it fits.
func (a int128) int64() (int64, bool) {
	return int64(a.lo), a.hi == int64(a.lo)>>63
}

// abs returns the magnitude as high and low word.
func (a int128) abs() (hi, lo uint64) {
	if a.hi >= 0 {
		return uint64(a.hi), a.lo
	}
	lo, borrow := bits.Sub64(0, a.lo, 0)
	hi, _ = bits.Sub64(0, uint64(a.hi), borrow)
	return hi, lo
}

// within reports whether a can be the sum of n int64 values.
func (a int128) within(n int64) bool {
	hi, lo := a.abs()
	limitHi, limitLo := uint64(n)>>1, uint64(n)<<63
	return hi < limitHi || hi == limitHi && lo <= limitLo
}

// div returns the float64 nearest to a/n, ties to even; n must be positive.
func (a int128) div(n int64) float64 {
	const exact = 1 << 53
	if v, ok := a.int64(); ok && -exact <= v && v <= exact && n <= exact {
		return float64(v) / float64(n)
	}
	f, _ := new(big.Rat).SetFrac(a.big(), big.NewInt(n)).Float64()
	return f
}

func (a int128) big() *big.Int {
	b := new(big.Int).Lsh(big.NewInt(a.hi), 64)
	return b.Add(b, new(big.Int).SetUint64(a.lo))
}

// appendInt128 appends a as a zigzag varint: small magnitudes are short, the longest takes 19 bytes.
func appendInt128(dst []byte, a int128) []byte {
	sign := uint64(a.hi >> 63)
	hi, lo := (uint64(a.hi)<<1|a.lo>>63)^sign, a.lo<<1^sign
	for hi != 0 || lo >= 0x80 {
		dst = append(dst, byte(lo)|0x80)
		hi, lo = hi>>7, lo>>7|hi<<57
	}
	return append(dst, byte(lo))
}

// int128 reads what appendInt128 wrote.
func (r *reader) int128() int128 {
	var hi, lo uint64
	for shift := uint(0); ; shift += 7 {
		b := r.byte()
		if shift == 126 && b > 3 {
			r.fail("integer longer than 128 bits")
		}
		if r.err != nil {
			return int128{}
		}
		low := uint64(b & 0x7f)
		switch {
		case shift < 64:
			lo |= low << shift
			hi |= low >> (64 - shift)
		default:
			hi |= low << (shift - 64)
		}
		if b < 0x80 {
			sign := -(lo & 1)
			return int128{hi: int64(hi>>1 ^ sign), lo: (lo>>1 | hi<<63) ^ sign}
		}
	}
}
