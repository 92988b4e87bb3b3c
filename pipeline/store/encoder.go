package store

import (
	"sync"
)

// encoder turns calls into the arguments of applyScript without an allocation per field: go-redis writes *string and
// *int64 as they are, so fields are passed as pointers into the caller's memory and numbers into the encoder's own.
// Arguments handed out earlier stay valid when a slice below grows, because they keep pointing into its old array.
type encoder struct {
	id         LaneID
	owner      string
	meta       string
	slices     string
	folds      string
	prefix     string
	pages      string // what keys of pages begin with
	args       []any
	strs       []string
	ints       []int64
	bytes      int // field bytes encoded since reset
	sliceNames map[SliceID]string
}

var encoders = sync.Pool{New: func() any { return &encoder{sliceNames: make(map[SliceID]string)} }}

func newEncoder(id LaneID, stateID string, owner Token) *encoder {
	e := encoders.Get().(*encoder)
	e.id, e.owner = id, string(owner)
	e.meta, e.slices, e.folds = id.metaKey(), id.slicesKey(), id.foldsKey()
	e.prefix, e.pages = id.entryPrefix(stateID), id.pagePrefix(stateID)
	return e
}

// release returns the encoder to the pool. It drops every reference into the caller's memory.
func (e *encoder) release() {
	e.reset()
	clear(e.sliceNames)
	encoders.Put(e)
}

// reset starts a new pipeline. The commands of the one before must have been answered.
func (e *encoder) reset() {
	clear(e.args)
	clear(e.strs)
	e.args, e.strs, e.ints, e.bytes = e.args[:0], e.strs[:0], e.ints[:0], 0
}

func (e *encoder) str(s string) {
	e.strs = append(e.strs, s)
	e.args = append(e.args, &e.strs[len(e.strs)-1])
}

func (e *encoder) int(n int64) {
	e.ints = append(e.ints, n)
	e.args = append(e.args, &e.ints[len(e.ints)-1])
}

func (e *encoder) slice(id SliceID) string {
	name, ok := e.sliceNames[id]
	if !ok {
		name = id.String()
		e.sliceNames[id] = name
	}
	return name
}

// call appends the command for c and returns its arguments, which live until reset.
func (e *encoder) call(c *Call, withSource bool) []any {
	if c.Format == PageFormat {
		return e.pagesCall(c, withSource)
	}
	start := len(e.args)
	if withSource {
		e.args = append(e.args, "eval", applySource)
	} else {
		e.args = append(e.args, "evalsha", applyScript.Hash())
	}
	e.keys(c)
	e.str(e.owner)
	e.str(c.Prev.String())
	e.str(c.Next.String())
	e.int(int64(len(c.Drop) + len(c.Purge)))
	e.int(int64(c.Buckets))
	e.int(int64(countWrites(c.Writes)))
	kind, folds := metaKind(c.Meta)
	e.int(folds)
	e.int(int64(c.Registered))
	e.int(kind)
	e.drops(c)
	e.writes(c.Writes)
	if c.Meta != nil {
		e.metaUpdate(c.Meta)
	}
	return e.args[start:len(e.args):len(e.args)]
}

// metaKind says what stands at the end of a call, and how many values of folds before it.
func metaKind(m *MetaUpdate) (kind, folds int64) {
	switch {
	case m == nil:
		return metaNone, 0
	case !m.Balance.Known:
		kind = metaUnbalanced
	case m.Whole:
		kind = metaWhole
	default:
		kind = metaBalanced
	}
	return kind, int64(2 * len(m.Slices))
}

func (e *encoder) drops(c *Call) {
	for _, drop := range c.Drop {
		e.str(e.slice(drop.SliceID))
		e.int(drop.Deadline)
	}
	for _, slice := range c.Purge {
		e.str(e.slice(slice))
		e.str("")
	}
}

// keys appends the number of keys and the keys. The first is a plain string: go-redis routes by it.
func (e *encoder) keys(c *Call) {
	e.int(int64(3 + (len(c.Drop)+len(c.Purge))*c.Buckets + countWrites(c.Writes)))
	e.args = append(e.args, e.meta)
	e.str(e.slices)
	e.str(e.folds)
	for _, drop := range c.Drop {
		e.buckets(drop.SliceID, c.Buckets)
	}
	for _, slice := range c.Purge {
		e.buckets(slice, c.Buckets)
	}
	for i := range c.Writes {
		if w := &c.Writes[i]; len(w.Fields) > 0 {
			e.str(entryKey(e.prefix, w.Slice, w.Bucket))
		}
	}
}

func (e *encoder) buckets(slice SliceID, n int) {
	for bucket := range n {
		e.str(entryKey(e.prefix, slice, bucket))
	}
}

func (e *encoder) writes(writes []Write) {
	var last SliceID
	named := false
	for i := range writes {
		w := &writes[i]
		if len(w.Fields) == 0 {
			continue
		}
		if named && w.Slice == last {
			e.str("")
		} else {
			e.str(e.slice(w.Slice))
			last, named = w.Slice, true
		}
		e.int(w.Slice.End())
		e.int(int64(len(w.Fields)))
		for f := range w.Fields {
			e.args = append(e.args, &w.Fields[f])
			e.bytes += len(w.Fields[f])
		}
	}
}

func (e *encoder) metaUpdate(m *MetaUpdate) {
	for _, stat := range m.Slices {
		e.str(e.slice(stat.SliceID))
		e.str(stat.encode())
	}
	for _, f := range metaFields(m) {
		e.str(f.name)
		e.int(f.value)
	}
	for _, f := range metaTexts(m) {
		e.str(f.name)
		e.str(f.value)
	}
	if m.Begun != 0 || m.Whole {
		e.str("begun")
		e.int(m.Begun)
	}
	if m.Balance.Known {
		e.str("dropped")
		e.int(m.Balance.Dropped)
	}
}

// countWrites counts the writes that have fields; the others are not sent.
func countWrites(writes []Write) int {
	n := 0
	for i := range writes {
		if len(writes[i].Fields) > 0 {
			n++
		}
	}
	return n
}
