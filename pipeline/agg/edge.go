package agg

import (
	"cmp"

	"millrace/pipeline/event"
)

// edge is the first or last value by event time, ties by lane rank, then offset. Its state is 32 bytes:
//
//	0  event time in ns
//	8  offset
//	16 lane rank, 4 bytes; 0 in a lane's own table
//	20 kind of the value (bits 0-2) and length of its text in bytes (bits 3-31)
//	24 the value: int, float bits, a text of at most 8 bytes, or a longer text's place in the arena
type edge struct{ last bool }

const (
	edgeLane  = 16
	edgeKind  = 20
	edgeValue = 24
	maxText   = 1<<29 - 1
)

func newFirst(string) column { return edge{} }
func newLast(string) column  { return edge{last: true} }

func (edge) op() opcode                   { return opCall }
func (edge) size() int                    { return 32 }
func (edge) init([]byte)                  {}
func (edge) overflow(*Table, []byte) bool { return false }

func (c edge) fold(t *Table, st []byte, v *event.Value, at int64, offset int64) {
	c.offer(t, st, at, 0, offset, scalarOf(v))
}

// offer takes a value over when its place in the order is before, for last after, that of the one held at st; no value
// has the last place to be first and the first to be last.
func (c edge) offer(t *Table, st []byte, time int64, lane int32, offset int64, s scalar) {
	if get32(st[edgeKind:]) != 0 {
		if order := compareEdge(time, lane, offset, st); order == 0 || order > 0 != c.last {
			return
		}
	}
	t.setEdge(st, time, lane, offset, s)
}

func compareEdge(time int64, lane int32, offset int64, st []byte) int {
	if held := getInt(st); time != held {
		return cmp.Compare(time, held)
	}
	if held := int32(get32(st[edgeLane:])); lane != held {
		return cmp.Compare(lane, held)
	}
	return cmp.Compare(offset, getInt(st[8:]))
}

// setEdge replaces the value at st. A text longer than 8 bytes goes to the arena, into the same block when it fits.
func (t *Table) setEdge(st []byte, time int64, lane int32, offset int64, s scalar) {
	st = st[:32]
	putInt(st, time)
	putInt(st[8:], offset)
	put32(st[edgeLane:], uint32(lane))
	was := heldBlock(st)
	put32(st[edgeKind:], uint32(s.kind)|uint32(len(s.text))<<3)
	switch {
	case len(s.text) > 8:
		ref := t.blocks.resize(uint64(getInt(st[edgeValue:])), was, len(s.text))
		copy(t.blocks.at(ref, len(s.text)), s.text)
		putInt(st[edgeValue:], int64(ref))
		return
	case was > 0:
		t.blocks.release(uint64(getInt(st[edgeValue:])), was)
	}
	putInt(st[edgeValue:], int64(s.bits))
	if s.kind.isText() {
		clear(st[edgeValue:])
		copy(st[edgeValue:], s.text)
	}
}

// heldBlock is the length of the text at st when it lives in the arena, else 0.
func heldBlock(st []byte) int {
	if n := int(get32(st[edgeKind:]) >> 3); n > 8 {
		return n
	}
	return 0
}

// held returns the value at st; its text is valid until the table changes.
func (t *Table) held(st []byte) scalar {
	kl := get32(st[edgeKind:])
	s := scalar{kind: scalarKind(kl & 7)}
	n := int(kl >> 3)
	switch {
	case !s.kind.isText():
		s.bits = uint64(getInt(st[edgeValue:]))
	case n <= 8:
		s.text = st[edgeValue : edgeValue+n]
	default:
		s.text = t.blocks.at(uint64(getInt(st[edgeValue:])), n)
	}
	return s
}

func (edge) encode(t *Table, dst, st []byte, _ int64) []byte {
	s := t.held(st)
	if s.kind == scalarNone {
		return append(dst, 0)
	}
	scale, time := scaleTime(getInt(st))
	dst = append(dst, byte(s.kind)|scale<<3)
	dst = appendInt(dst, time)
	dst = appendUint(dst, uint64(getInt(st[8:])))
	return s.append(dst)
}

func (edge) decode(r *reader, _ int64, p *partial) { p.time, p.offset, p.scalar = r.edge() }

func (edge) load(t *Table, r *reader, st []byte, _ int64) {
	if time, offset, s := r.edge(); s.kind != scalarNone && r.err == nil {
		t.setEdge(st, time, 0, offset, s)
	}
}

// edge reads a first or last value, of kind scalarNone when there is none.
func (r *reader) edge() (time, offset int64, s scalar) {
	tag := r.byte()
	s.kind = scalarKind(tag & 7)
	if tag>>5 != 0 || s.kind > scalarLast || s.kind == scalarNone && tag != 0 {
		r.fail("unknown kind of value")
	}
	if r.err != nil || tag == 0 {
		return 0, 0, s
	}
	time = r.time(tag >> 3)
	offset = r.natural()
	s.read(r)
	return time, offset, s
}

func (c edge) merge(t *Table, st []byte, p *partial, lane int32) {
	s := p.scalar
	p.scalar.text = nil
	if s.kind == scalarNone {
		return
	}
	c.offer(t, st, p.time, lane, p.offset, s)
}

// release gives the block of the value back to the arena.
func (edge) release(t *Table, st []byte) {
	if n := heldBlock(st); n > 0 {
		t.blocks.release(uint64(getInt(st[edgeValue:])), n)
	}
}

func (edge) value(t *Table, dst, st []byte, _ int64) []byte { return t.held(st).appendJSON(dst) }
