package event

import (
	"math"
	"math/bits"
	"strconv"
	"unsafe"
)

// decimal is a number literal taken apart: (-1)^negative * (mantissa + something between 0 and 1, if inexact) *
// 10^exponent. An exact mantissa has no trailing zeros, an inexact one has 19 digits.
type decimal struct {
	negative bool
	inexact  bool // the literal has more digits than a mantissa holds
	mantissa uint64
	exponent int
}

const (
	maxMantissaDigits = 19
	maxExponent       = 1 << 30 // written exponents are cut off here, far beyond every type
)

var powers = [...]uint64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19,
}

var floatPowers = [...]float64{
	1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// parseDecimal takes apart a literal that the scanner has accepted.
func parseDecimal(literal []byte) decimal {
	var d decimal
	i := 0
	if literal[0] == '-' {
		d.negative = true
		i = 1
	}
	digits, zeros, point := 0, 0, false // zeros: trailing ones seen since the last other digit
	for ; i < len(literal); i++ {
		c := literal[i]
		if c == '.' {
			point = true
			continue
		}
		if c -= '0'; c > 9 {
			break
		}
		if point {
			d.exponent--
		}
		switch {
		case c == 0:
			if digits > 0 {
				zeros++
			}
		case digits+zeros >= maxMantissaDigits:
			fill := maxMantissaDigits - digits
			d.mantissa *= powers[fill]
			digits += fill
			zeros += 1 - fill
			d.inexact = true
		default:
			d.mantissa = d.mantissa*powers[zeros]*10 + uint64(c)
			digits += zeros + 1
			zeros = 0
		}
	}
	if d.mantissa == 0 {
		return decimal{negative: d.negative}
	}
	d.exponent += zeros
	if i < len(literal) {
		d.exponent += parseExponent(literal[i+1:])
	}
	return d
}

func parseExponent(text []byte) int {
	negative := text[0] == '-'
	if negative || text[0] == '+' {
		text = text[1:]
	}
	e := 0
	for _, c := range text {
		if e = e*10 + int(c-'0'); e > maxExponent {
			e = maxExponent
		}
	}
	if negative {
		return -e
	}
	return e
}

// integer returns the value as an int64. The reason is WrongType when it is not an integer and NumberRange when it is one
// beyond int64.
func (d decimal) integer() (int64, Reason) {
	switch {
	case d.mantissa == 0:
		return 0, ""
	case d.exponent < 0 || d.inexact && d.exponent == 0:
		return 0, WrongType
	}
	high, low := uint64(1), uint64(0)
	if !d.inexact && d.exponent < len(powers) {
		high, low = bits.Mul64(d.mantissa, powers[d.exponent])
	}
	switch {
	case high != 0 || low > 1<<63 || low == 1<<63 && !d.negative:
		return 0, NumberRange
	case d.negative:
		return -int64(low), ""
	}
	return int64(low), ""
}

// floor returns the largest integer that is not above value * 10^shift, and false when that is beyond int64.
func (d decimal) floor(shift int) (int64, bool) {
	d.exponent += shift
	if d.exponent >= 0 && !d.inexact {
		n, reason := d.integer()
		return n, reason == ""
	}
	if d.exponent > 0 {
		return 0, false // 20 digits and more before the point
	}
	quotient, rest := uint64(0), d.mantissa
	if -d.exponent < len(powers) {
		quotient, rest = d.mantissa/powers[-d.exponent], d.mantissa%powers[-d.exponent]
	}
	if d.negative && (rest != 0 || d.inexact) {
		quotient++
	}
	switch {
	case quotient > math.MaxInt64:
		return 0, false
	case d.negative:
		return -int64(quotient), true
	}
	return int64(quotient), true
}

// parseFloat returns the float64 nearest to a literal that the scanner has accepted, and false when it is beyond float64.
func parseFloat(literal []byte) (float64, bool) { return parseDecimal(literal).float(literal) }

// float is parseFloat for a literal that is taken apart already.
func (d decimal) float(literal []byte) (float64, bool) {
	// A mantissa and a power of ten that are both exact as float64 give a correctly rounded result in one operation.
	if !d.inexact && d.mantissa <= 1<<53 && d.exponent > -len(floatPowers) && d.exponent < len(floatPowers) {
		f := float64(d.mantissa)
		if d.exponent < 0 {
			f /= floatPowers[-d.exponent]
		} else {
			f *= floatPowers[d.exponent]
		}
		if d.negative {
			f = -f
		}
		return f, true
	}
	// The string is a view of the record's bytes; ParseFloat keeps it only inside an error, which is dropped here.
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(literal), len(literal)), 64)
	return f, err == nil
}
