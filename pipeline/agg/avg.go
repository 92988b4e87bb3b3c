package agg

func newAvg(typ string) column {
	if typ == "int" {
		return avgInt{}
	}
	return avgFloat{}
}

// avgInt is the mean of integers: their exact sum, and how many there were (24 bytes). The quotient is rounded once, to
// the nearest float64.
type avgInt struct{ sumInt }

const avgIntCount = 16

func (avgInt) op() opcode { return opAvgInt }
func (avgInt) size() int  { return avgIntCount + 8 }

func (c avgInt) encode(t *Table, dst, st []byte, count int64) []byte {
	return c.sumInt.encode(t, appendNulls(dst, count, getInt(st[avgIntCount:])), st, count)
}

func (c avgInt) decode(r *reader, count int64, p *partial) {
	p.n = r.values(count)
	c.sumInt.decode(r, p.n, p)
}

func (c avgInt) load(t *Table, r *reader, st []byte, count int64) {
	n := r.values(count)
	c.sumInt.load(t, r, st, n)
	putInt(st[avgIntCount:], n)
}

func (c avgInt) merge(t *Table, st []byte, p *partial, lane int32) {
	c.sumInt.merge(t, st, p, lane)
	putInt(st[avgIntCount:], getInt(st[avgIntCount:])+p.n)
}

func (avgInt) value(_ *Table, dst, st []byte, _ int64) []byte {
	n := getInt(st[avgIntCount:])
	if n == 0 {
		return append(dst, "null"...)
	}
	return appendNumber(dst, getInt128(st).div(n))
}

func (avgInt) overflow(*Table, []byte) bool { return false }

// avgFloat is the mean of numbers: their exact sum, and how many there were (32 bytes). The quotient is rounded once, to
// the nearest float64, also where the sum is beyond float64 and the mean is not.
type avgFloat struct{ sumFloat }

const avgFloatCount = sumSize

func (avgFloat) op() opcode { return opAvgFloat }
func (avgFloat) size() int  { return avgFloatCount + 8 }

func (c avgFloat) encode(t *Table, dst, st []byte, count int64) []byte {
	return c.sumFloat.encode(t, appendNulls(dst, count, getInt(st[avgFloatCount:])), st, count)
}

func (c avgFloat) decode(r *reader, count int64, p *partial) {
	p.n = r.values(count)
	c.sumFloat.decode(r, p.n, p)
}

func (c avgFloat) load(t *Table, r *reader, st []byte, count int64) {
	n := r.values(count)
	c.sumFloat.load(t, r, st, n)
	putInt(st[avgFloatCount:], n)
}

func (c avgFloat) merge(t *Table, st []byte, p *partial, lane int32) {
	c.sumFloat.merge(t, st, p, lane)
	putInt(st[avgFloatCount:], getInt(st[avgFloatCount:])+p.n)
}

func (c avgFloat) value(t *Table, dst, st []byte, _ int64) []byte {
	n := getInt(st[avgFloatCount:])
	if n == 0 || c.overflow(t, st) {
		return append(dst, "null"...)
	}
	var x magnitude
	x.load(t.limbsOf(st), sumBase(st))
	inexact := x.divide(n)
	return appendNumber(dst, x.float64(inexact))
}

func (avgFloat) overflow(_ *Table, st []byte) bool { return st[sumRange] == outOfRange }
