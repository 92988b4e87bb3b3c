package agg

// avgInt is the mean of integers: their exact sum, and how many there were (24 bytes). The quotient is rounded once, to
// the nearest float64.
type avgInt struct{ sumInt }

func (avgInt) op() opcode { return opAvgInt }
func (avgInt) size() int  { return 24 }

func (c avgInt) encode(t *Table, dst, st []byte, count int64) []byte {
	return c.sumInt.encode(t, appendNulls(dst, st, count), st, count)
}

func (c avgInt) decode(r *reader, count int64, p *partial) {
	p.n = r.values(count)
	c.sumInt.decode(r, p.n, p)
}

func (c avgInt) merge(t *Table, st []byte, p *partial, lane int32) {
	c.sumInt.merge(t, st, p, lane)
	putInt(st[16:], getInt(st[16:])+p.n)
}

func (avgInt) value(_ *Table, dst, st []byte, _ int64) []byte {
	n := getInt(st[16:])
	if n == 0 {
		return append(dst, "null"...)
	}
	return appendNumber(dst, getInt128(st).div(n))
}

func (avgInt) overflow([]byte) bool { return false }

// avgFloat is the mean of floats: their compensated sum, and how many there were (24 bytes).
type avgFloat struct{ sumFloat }

func (avgFloat) op() opcode { return opAvgFloat }
func (avgFloat) size() int  { return 24 }

func (c avgFloat) encode(t *Table, dst, st []byte, count int64) []byte {
	return c.sumFloat.encode(t, appendNulls(dst, st, count), st, count)
}

func (c avgFloat) decode(r *reader, count int64, p *partial) {
	p.n = r.values(count)
	c.sumFloat.decode(r, p.n, p)
}

func (c avgFloat) merge(t *Table, st []byte, p *partial, lane int32) {
	c.sumFloat.merge(t, st, p, lane)
	putInt(st[16:], getInt(st[16:])+p.n)
}

func (avgFloat) value(_ *Table, dst, st []byte, _ int64) []byte {
	n := getInt(st[16:])
	if n == 0 {
		return append(dst, "null"...)
	}
	return appendNumber(dst, total(st)/float64(n))
}
