package agg

import (
	"math"
	"strconv"
)

// AppendValues appends the published values of a row as a JSON object, in the order of the spec: integers exactly,
// floats in the shortest form that reads back the same, null for what has no value or overflowed (see Overflow).
func (t *Table) AppendValues(dst []byte, row uint32) []byte {
	rec := t.rec(row)
	count := getInt(rec[offCount:])
	for i := range t.layout.fields {
		f := &t.layout.fields[i]
		dst = f.column.value(t, append(dst, f.prefix...), rec[f.offset:], count)
	}
	if len(t.layout.fields) == 0 {
		dst = append(dst, '{')
	}
	return append(dst, '}')
}

// Overflow reports whether a value of the row is published as null because it is out of range: an integer sum beyond
// int64, or a float sum beyond float64.
func (t *Table) Overflow(row uint32) bool {
	rec := t.rec(row)
	for i := range t.layout.fields {
		f := &t.layout.fields[i]
		if f.column.overflow(t, rec[f.offset:]) {
			return true
		}
	}
	return false
}

// appendNumber appends f as encoding/json writes it; what is no JSON number becomes null and -0 becomes 0.
func appendNumber(dst []byte, f float64) []byte {
	abs := math.Abs(f)
	if !(abs <= math.MaxFloat64) {
		return append(dst, "null"...)
	}
	if abs == 0 || 1e-6 <= abs && abs < 1e21 {
		return strconv.AppendFloat(dst, f+0, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	if n := len(dst); dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' { // e-09 is written e-9
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}
