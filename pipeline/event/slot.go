package event

import "millrace/pipeline/spec"

// demand is what the aggregates that share a slot require of its value.
type demand uint8

const (
	needNumber demand = 1 << iota
	needInt           // an integer within int64, however it is written
	needString
	needBool
)

func demandOf(a *spec.Aggregate) demand {
	switch a.Type {
	case "int":
		return needNumber | needInt
	case "float":
		return needNumber
	case "string":
		return needString
	case "bool":
		return needBool
	}
	return 0
}

// slotReader turns a token into the Value of one slot.
type slotReader struct {
	path  string
	leaf  int
	need  demand
	limit int // most bytes of a published text; 0 when the text is only looked at
}

// read fills v. The text of escaped strings is appended to buf, which is returned.
func (r *slotReader) read(v *Value, t *token, data, buf []byte) ([]byte, Reason) {
	*v = Value{}
	switch t.kind {
	case absent:
		return buf, Missing
	case null:
		return buf, ""
	case smallInt, number:
		if r.need&^(needNumber|needInt) != 0 {
			return buf, WrongType
		}
		if t.kind == smallInt {
			v.Kind, v.Int, v.Float = Int, t.num, float64(t.num)
			return buf, ""
		}
		if reason := r.number(v, data[t.start:t.end]); reason != "" {
			return buf, reason
		}
		if r.limit > 0 && len(v.Str) > r.limit {
			return buf, ValueTooLarge
		}
		return buf, ""
	case plain, escaped:
		if r.need&^needString != 0 {
			return buf, WrongType
		}
		v.Kind, v.Str = String, data[t.start:t.end]
		if t.kind == escaped {
			start := len(buf)
			buf = unescape(buf, v.Str)
			v.Str = buf[start:len(buf):len(buf)]
		}
		if r.limit > 0 && longerThan(r.limit, v.Str) {
			return buf, ValueTooLarge
		}
		return buf, ""
	case boolean:
		if r.need&^needBool != 0 {
			return buf, WrongType
		}
		v.Kind, v.Int = Bool, t.num
		return buf, ""
	}
	return buf, WrongType
}

// number reads a literal that has a point, an exponent or more than 18 digits. An integer within int64 keeps its digits
// however it is written, whoever else reads the field; every other number is the nearest float64.
func (r *slotReader) number(v *Value, literal []byte) Reason {
	d := parseDecimal(literal)
	n, reason := d.integer()
	if reason == "" {
		v.Kind, v.Int, v.Float = Int, n, float64(n)
		return ""
	}
	if r.need&needInt != 0 {
		return reason
	}
	f, ok := d.float(literal)
	if !ok {
		return NumberRange
	}
	v.Kind, v.Float = Float, f
	if isInteger(literal) {
		v.Kind, v.Big, v.Str = Int, true, literal
	}
	return ""
}
