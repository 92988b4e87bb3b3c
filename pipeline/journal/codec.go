package journal

import (
	"encoding/binary"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// version is the first byte of a record that older releases do not read. A newer one is ErrVersion; older ones are read.
const version = 4

// unpaged is the version of calls without pages, which releases that know no pages read as well.
const unpaged = 3

// unjumped is the last version whose metas say nothing of records too far in the past, of jumps, and of where the lane began.
const unjumped = 2

// unbalanced is the last version whose calls do not say how many slices there are, and whose metas have no balance.
const unbalanced = 1

// Flags, the second byte.
const (
	flagMeta = 1 << iota // the last call of its commit
	flagSide             // the first, with side records
	flagAll  = flagMeta | flagSide
)

// appendCall encodes one call. What only counts stands in front: see readHead.
func appendCall(dst []byte, stateID string, c *store.Call, side []source.SideRecord) []byte {
	flags := byte(0)
	if c.Meta != nil {
		flags |= flagMeta
	}
	if len(side) > 0 {
		flags |= flagSide
	}
	paged := c.Format == store.PageFormat
	written := byte(unpaged)
	if paged {
		written = version
	}
	dst = append(dst, written, flags)
	dst = binary.AppendUvarint(dst, uint64(countEntries(c)))
	dst = appendText(dst, stateID)
	dst = appendCursor(dst, c.Prev)
	dst = appendCursor(dst, c.Next)
	dst = binary.AppendVarint(dst, int64(c.Buckets))
	dst = binary.AppendUvarint(dst, uint64(c.Registered))
	dst = binary.AppendUvarint(dst, uint64(len(c.Writes)))
	for i := range c.Writes {
		w := &c.Writes[i]
		dst = appendSlice(dst, w.Slice)
		dst = binary.AppendVarint(dst, int64(w.Bucket))
		dst = binary.AppendUvarint(dst, uint64(len(w.Fields)))
		for _, f := range w.Fields {
			dst = appendText(dst, f)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Drop)))
	for _, d := range c.Drop {
		dst = appendSlice(dst, d.SliceID)
		dst = binary.AppendVarint(dst, d.Deadline)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Purge)))
	for _, p := range c.Purge {
		dst = appendSlice(dst, p)
	}
	if paged {
		dst = appendPages(dst, c)
	}
	if c.Meta != nil {
		dst = appendMeta(dst, c.Meta)
		if paged {
			dst = appendForms(dst, c.Meta.Slices)
		}
	}
	if len(side) > 0 {
		dst = appendSide(dst, side)
	}
	return dst
}

func appendPages(dst []byte, c *store.Call) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(c.Delete)))
	for i := range c.Delete {
		d := &c.Delete[i]
		dst = appendSlice(dst, d.Slice)
		dst = binary.AppendUvarint(dst, uint64(d.Hash))
		dst = binary.AppendUvarint(dst, uint64(len(d.Names)))
		for _, name := range d.Names {
			dst = appendText(dst, name)
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Unfield)))
	for _, slice := range c.Unfield {
		dst = appendSlice(dst, slice)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Pages)))
	for i := range c.Pages {
		p := &c.Pages[i]
		dst = appendSlice(dst, p.Slice)
		dst = binary.AppendUvarint(dst, uint64(p.Hash))
		dst = binary.AppendUvarint(dst, uint64(p.Entries))
		dst = appendText(dst, p.Name)
		dst = appendText(dst, p.Value)
	}
	return dst
}

func appendForms(dst []byte, stats []store.SliceStat) []byte {
	for i := range stats {
		dst = binary.AppendUvarint(dst, uint64(stats[i].Form()))
	}
	return dst
}

func countEntries(c *store.Call) int {
	n := 0
	for i := range c.Writes {
		n += len(c.Writes[i].Fields) / 2
	}
	for i := range c.Pages {
		n += c.Pages[i].Entries
	}
	return n
}

func appendMeta(dst []byte, m *store.MetaUpdate) []byte {
	for _, n := range metaNumbers(m) {
		dst = binary.AppendVarint(dst, *n)
	}
	for _, n := range counters(&m.Counters) {
		dst = binary.AppendVarint(dst, *n)
	}
	dst = appendText(dst, m.TopicID)
	dst = appendText(dst, m.Hint)
	dst = binary.AppendUvarint(dst, uint64(len(m.Seals)))
	for _, s := range m.Seals {
		dst = binary.AppendVarint(binary.AppendVarint(dst, s.Offset), s.Before)
	}
	dst = binary.AppendUvarint(dst, uint64(len(m.Slices)))
	for i := range m.Slices {
		st := &m.Slices[i]
		dst = appendSlice(dst, st.SliceID)
		dst = binary.AppendVarint(dst, st.FirstOffset)
		dst = binary.AppendVarint(dst, st.LastOffset)
		dst = binary.AppendVarint(dst, st.Folded)
		dst = appendBasis(dst, &st.Basis)
	}
	return appendJumps(appendBalance(dst, m), m)
}

func appendJumps(dst []byte, m *store.MetaUpdate) []byte {
	for _, n := range addedCounters(&m.Counters) {
		dst = binary.AppendVarint(dst, *n)
	}
	dst = binary.AppendVarint(dst, m.Jumps)
	dst = binary.AppendVarint(dst, m.Begun)
	dst = binary.AppendUvarint(dst, uint64(len(m.Accepted)))
	for _, offset := range m.Accepted {
		dst = binary.AppendVarint(dst, offset)
	}
	return dst
}

// Bits of the byte in front of a balance.
const (
	balanceKnown = 1 << iota
	balanceWhole // the slices are all there are
)

func appendBalance(dst []byte, m *store.MetaUpdate) []byte {
	bits := byte(0)
	if m.Balance.Known {
		bits |= balanceKnown
	}
	if m.Whole {
		bits |= balanceWhole
	}
	return binary.AppendVarint(append(dst, bits), m.Balance.Dropped)
}

// The byte in front of a basis.
const (
	noBasis   = iota
	fullBasis // with the counters that there were in version 1
	longBasis // with all
)

func appendBasis(dst []byte, b *store.Basis) []byte {
	if !b.Known {
		return append(dst, noBasis)
	}
	dst = append(dst, longBasis)
	dst = binary.AppendVarint(dst, b.Watermark)
	dst = binary.AppendVarint(dst, b.Sealed)
	for _, n := range counters(&b.Counters) {
		dst = binary.AppendVarint(dst, *n)
	}
	for _, n := range addedCounters(&b.Counters) {
		dst = binary.AppendVarint(dst, *n)
	}
	return dst
}

// addedCounters are those that versions before 3 did not have.
func addedCounters(c *store.Counters) [2]*int64 { return [...]*int64{&c.Past, &c.Jumped} }

// counters lists the others in the order of the record.
func counters(c *store.Counters) [8]*int64 {
	return [...]*int64{&c.Read, &c.Invalid, &c.Ahead, &c.Filtered, &c.Duplicate, &c.Late, &c.Folded, &c.Skipped}
}

// metaNumbers lists the numbers of a meta in the order of the record.
func metaNumbers(m *store.MetaUpdate) [10]*int64 {
	return [...]*int64{
		&m.Offset, &m.Watermark, &m.MaxTime, &m.Sealed, &m.IdleEnd, &m.CtlGen, &m.SpecGen, &m.UpdatedAt, &m.Decided, &m.Era,
	}
}

func appendSide(dst []byte, side []source.SideRecord) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(side)))
	for i := range side {
		r := &side[i]
		dst = appendText(dst, r.Topic)
		dst = appendBytes(dst, r.Key)
		dst = appendBytes(dst, r.Value)
		dst = binary.AppendUvarint(dst, uint64(len(r.Headers)))
		for _, h := range r.Headers {
			dst = appendText(dst, h.Key)
			dst = appendBytes(dst, h.Value)
		}
	}
	return dst
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// appendBytes keeps nil what is nil: its length is written plus one.
func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendUvarint(dst, 0)
	}
	return append(binary.AppendUvarint(dst, uint64(len(b))+1), b...)
}

func appendCursor(dst []byte, c store.Cursor) []byte {
	return binary.AppendVarint(binary.AppendVarint(dst, c.Seq), c.Chunk)
}

func appendSlice(dst []byte, s store.SliceID) []byte {
	dst = binary.AppendVarint(dst, s.Width)
	dst = binary.AppendVarint(dst, s.Start)
	return binary.AppendVarint(dst, int64(s.Gen))
}
