package event

import (
	"slices"
	"strconv"
)

// A number has one canonical text, however it is written: 10, 10.0 and 1e1 are 10, and no two numbers share one. It is
// JSON, and for every number that a producer is likely to write it is what encoding/json would write.
const (
	// maxIntegerDigits is up to how many digits an integer is written without an exponent: as many as float64 reaches.
	maxIntegerDigits = 309

	// maxWrittenExponent is what the exponent of a canonical text stays below; a number beyond it, or closer to 0, has
	// none.
	maxWrittenExponent = 1_000_000_000_000_000_000
)

// appendCanonical appends the canonical text of a number literal that the scanner has accepted, and reports whether that
// text is an integer in digits. The work is bounded by the length of the literal and maxIntegerDigits, whatever the
// exponent. ok is false when there is none.
func appendCanonical(dst, literal []byte) (text []byte, integer, ok bool) {
	negative := literal[0] == '-'
	if negative {
		literal = literal[1:]
	}
	end := mantissaEnd(literal)
	mantissa, at := trimZeros(literal[:end])
	if len(mantissa) == 0 {
		return append(dst, '0'), true, true
	}
	if end < len(literal) {
		exponent, ok := signedExponent(literal[end+1:])
		if !ok {
			return dst, false, false
		}
		at += exponent
	}
	if written := at - 1; written >= maxWrittenExponent || written <= -maxWrittenExponent {
		return dst, false, false
	}
	if negative {
		dst = append(dst, '-')
	}
	start := len(dst)
	dst = appendDigits(dst, mantissa)
	digits := int64(len(dst) - start)
	const leastWithoutExponent = -5 // 0.000001, as in encoding/json
	switch {
	case at >= digits && at <= maxIntegerDigits:
		for ; digits < at; digits++ {
			dst = append(dst, '0')
		}
		return dst, true, true
	case at > 0 && at < digits:
		return slices.Insert(dst, start+int(at), '.'), false, true
	case at <= 0 && at >= leastWithoutExponent:
		const zeros = "0.00000"
		return slices.Insert(dst, start, []byte(zeros[:len("0.")-int(at)])...), false, true
	}
	if digits > 1 {
		dst = slices.Insert(dst, start+1, '.')
	}
	dst = append(dst, 'e')
	if at > 0 {
		dst = append(dst, '+')
	}
	return strconv.AppendInt(dst, at-1, 10), false, true
}

// mantissaEnd returns where the exponent of a literal begins, or its length.
func mantissaEnd(literal []byte) int {
	for i, c := range literal {
		if c|0x20 == 'e' {
			return i
		}
	}
	return len(literal)
}

// trimZeros cuts zeros before the first and behind the last other digit. The number is 0.mantissa * 10^at. The mantissa
// may still hold the point, between digits; it is empty when the number is 0.
func trimZeros(text []byte) (mantissa []byte, at int64) {
	point := len(text)
	for i, c := range text {
		if c == '.' {
			point = i
			break
		}
	}
	first, last := 0, len(text)
	for first < last && (text[first] == '0' || text[first] == '.') {
		first++
	}
	for first < last && (text[last-1] == '0' || text[last-1] == '.') {
		last--
	}
	at = int64(point - first)
	if first > point {
		at++ // the point itself is no digit
	}
	return text[first:last], at
}

// signedExponent reads an exponent of any length. ok is false when it is far beyond what a literal's digits could mend;
// the reading stops there, before the next digit could wrap it.
func signedExponent(text []byte) (exponent int64, ok bool) {
	negative := text[0] == '-'
	if negative || text[0] == '+' {
		text = text[1:]
	}
	for _, c := range text {
		if exponent > maxWrittenExponent/5 {
			return 0, false
		}
		exponent = exponent*10 + int64(c-'0')
	}
	if negative {
		exponent = -exponent
	}
	return exponent, true
}

// appendDigits appends a mantissa without its point.
func appendDigits(dst, mantissa []byte) []byte {
	for i, c := range mantissa {
		if c == '.' {
			return append(append(dst, mantissa[:i]...), mantissa[i+1:]...)
		}
	}
	return append(dst, mantissa...)
}
