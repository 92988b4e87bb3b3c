package agg

import "math"

// sumFloat is a sum of floats with Neumaier's compensation (16 bytes: running sum, compensation). The compensation
// collects what rounding took from the running sum; their total is rounded once, when it is published. Merging adds the
// other's running sum as if it were one more value, so its rounding is collected too, then the two compensations.
//
// A sum that leaves float64's range is +Inf from then on, whatever follows, and published as null.
type sumFloat struct{}

func (sumFloat) op() opcode  { return opSumFloat }
func (sumFloat) size() int   { return 16 }
func (sumFloat) init([]byte) {}

// addFloat adds x to the compensated sum at st.
func addFloat(st []byte, x float64) {
	st = st[:16]
	sum, comp := getFloat(st), getFloat(st[8:])
	sum, comp = neumaier(sum, comp, x)
	putFloat(st, sum)
	putFloat(st[8:], comp)
}

func neumaier(sum, comp, x float64) (float64, float64) {
	t := sum + x
	if math.Abs(t) > math.MaxFloat64 || t != t {
		return math.Inf(1), 0
	}
	if math.Abs(sum) >= math.Abs(x) {
		comp += (sum - t) + x
	} else {
		comp += (x - t) + sum
	}
	return t, comp
}

func (sumFloat) encode(_ *Table, dst, st []byte, _ int64) []byte {
	return appendFloat64(appendFloat64(dst, getFloat(st)), getFloat(st[8:]))
}

func (sumFloat) decode(r *reader, _ int64, p *partial) {
	p.float, p.comp = r.float64(), r.float64()
	if p.float != p.float || math.IsInf(p.float, -1) || math.IsNaN(p.comp) || math.IsInf(p.comp, 0) {
		r.fail("sum that is not a number")
	}
}

func (sumFloat) merge(_ *Table, st []byte, p *partial, _ int32) {
	sum, comp := neumaier(getFloat(st), getFloat(st[8:]), p.float)
	if sum <= math.MaxFloat64 {
		comp += p.comp
	}
	putFloat(st, sum)
	putFloat(st[8:], comp)
}

// total rounds the compensated sum; it is infinite when the sum overflowed.
func total(st []byte) float64 { return getFloat(st) + getFloat(st[8:]) }

func (sumFloat) value(_ *Table, dst, st []byte, _ int64) []byte { return appendNumber(dst, total(st)) }

func (sumFloat) overflow(st []byte) bool { return math.IsInf(total(st), 0) }
