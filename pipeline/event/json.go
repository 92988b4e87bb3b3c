package event

import (
	"math"
	"strconv"
)

// AppendFloat appends f as JSON: the shortest text that reads back as f, with an exponent only for very large and very
// small numbers, exactly as encoding/json writes it. A number JSON cannot express becomes null, and -0 becomes 0.
func AppendFloat(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
		if n := len(dst); dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' { // e-09 is written e-9
			dst = append(dst[:n-2], dst[n-1])
		}
		return dst
	}
	return strconv.AppendFloat(dst, f+0, 'f', -1, 64) // -0 + 0 is 0
}

// AppendString appends text as a JSON string. Bytes that JSON need not escape stay as they are; a surrogate without its
// other half is written as the escape that it came from.
func AppendString(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i, c := range text {
		if c >= 0x20 && c != '"' && c != '\\' && c != 0xED {
			continue
		}
		if c == 0xED {
			if r, lone := surrogateAt(text[i:]); lone {
				dst = append(append(dst, text[start:i]...), '\\', 'u', 'd', hex[r>>8&15], hex[r>>4&15], hex[r&15])
				start = i + surrogateBytes
			}
			continue
		}
		dst = append(dst, text[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(dst, text[start:]...), '"')
}

// longerThan reports whether AppendString would append more than limit bytes.
func longerThan(limit int, text []byte) bool {
	const most = 6 // \u0000
	limit -= 2 + len(text)
	if limit < 0 {
		return true
	}
	if len(text) <= limit/(most-1) {
		return false
	}
	for i, c := range text {
		switch {
		case c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t':
			limit--
		case c < 0x20:
			limit -= most - 1
		case c == 0xED: // a surrogate's three bytes become six
			if _, lone := surrogateAt(text[i:]); lone {
				limit -= most - surrogateBytes
			}
		}
	}
	return limit < 0
}
