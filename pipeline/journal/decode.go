package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unsafe"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// head is what can be known of a record without reading its entries.
type head struct {
	version byte
	flags   byte
	entries uint64
	stateID string // aliases the record
	prev    store.Cursor
	next    store.Cursor
}

// batch holds decoded calls in memory that is used again. Everything in it aliases the batch and is valid until reset.
type batch struct {
	arena  []byte
	calls  []store.Call
	writes []store.Write
	fields []string
	recs   []record
	from   int // calls before this one are settled
	bytes  int // of records decoded
}

// record is what a batch knows of a call besides the call.
type record struct {
	index uint64
	pos   int64
	side  []source.SideRecord // not sent yet
	tally Tally
}

func (b *batch) reset() {
	clear(b.calls)
	clear(b.writes)
	clear(b.fields)
	clear(b.recs)
	*b = batch{arena: b.arena[:0], calls: b.calls[:0], writes: b.writes[:0], fields: b.fields[:0], recs: b.recs[:0]}
}

// rest is how many calls are not settled.
func (b *batch) rest() int { return len(b.calls) - b.from }

// readHead reads the front of a record and returns the scanner behind it.
func readHead(data []byte) (head, scan, error) {
	var h head
	if len(data) < 2 {
		return h, scan{}, fmt.Errorf("%w: %d bytes", ErrUnreadable, len(data))
	}
	if data[0] > version {
		return h, scan{}, fmt.Errorf("%w: format %d found, this version reads up to %d; open it with a newer version", ErrVersion, data[0], version)
	}
	if data[0] < unbalanced || data[1]&^flagAll != 0 {
		return h, scan{}, fmt.Errorf("%w: format %d, flags %x", ErrUnreadable, data[0], data[1])
	}
	s := scan{b: data[2:]}
	h.version, h.flags = data[0], data[1]
	h.entries = s.uvarint()
	h.stateID = s.text()
	h.prev = s.cursor()
	h.next = s.cursor()
	return h, s, s.err()
}

// add copies a record's data, decodes it and appends its call. Side records get memory of their own: whoever sends them may
// need it after the batch was given up.
func (b *batch) add(data []byte) (*store.Call, []source.SideRecord, error) {
	b.bytes += len(data)
	if len(data) > 1 && data[1]&flagSide != 0 {
		data = bytes.Clone(data)
	} else {
		at := len(b.arena)
		b.arena = append(b.arena, data...)
		data = b.arena[at:]
	}
	h, s, err := readHead(data)
	if err != nil {
		return nil, nil, err
	}
	c := store.Call{Prev: h.prev, Next: h.next, Buckets: int(s.varint())}
	if h.version > unbalanced {
		c.Registered = int(s.uvarint())
	}
	from := len(b.writes)
	for n := s.count(); n > 0 && !s.bad; n-- {
		w := store.Write{Slice: s.slice(), Bucket: int(s.varint())}
		first := len(b.fields)
		for n := s.count(); n > 0 && !s.bad; n-- {
			b.fields = append(b.fields, s.text())
		}
		if to := len(b.fields); to > first {
			w.Fields = b.fields[first:to:to]
		}
		b.writes = append(b.writes, w)
	}
	if to := len(b.writes); to > from {
		c.Writes = b.writes[from:to:to]
	}
	for n := s.count(); n > 0 && !s.bad; n-- {
		c.Drop = append(c.Drop, store.SliceDrop{SliceID: s.slice(), Deadline: s.varint()})
	}
	for n := s.count(); n > 0 && !s.bad; n-- {
		c.Purge = append(c.Purge, s.slice())
	}
	if h.version > unpaged {
		c.Format = store.PageFormat
		s.pages(&c)
	}
	if h.flags&flagMeta != 0 {
		c.Meta = s.meta()
		if h.version > unbalanced {
			s.balance(c.Meta)
		}
		if h.version > unjumped {
			s.jumps(c.Meta)
		}
		if h.version > unpaged {
			s.forms(c.Meta.Slices)
		}
	}
	var side []source.SideRecord
	if h.flags&flagSide != 0 {
		side = s.side()
	}
	if s.bad || len(s.b) > 0 || uint64(countEntries(&c)) != h.entries {
		return nil, nil, fmt.Errorf("%w: call %s", ErrUnreadable, h.next)
	}
	b.calls = append(b.calls, c)
	return &b.calls[len(b.calls)-1], side, nil
}

// scan reads values off the front of b. After the first that is not there it returns zeros only.
type scan struct {
	b   []byte
	bad bool
}

func (s *scan) err() error {
	if s.bad {
		return ErrUnreadable
	}
	return nil
}

func (s *scan) fail() {
	s.b, s.bad = nil, true
}

func (s *scan) uvarint() uint64 {
	v, n := binary.Uvarint(s.b)
	if n <= 0 {
		s.fail()
		return 0
	}
	s.b = s.b[n:]
	return v
}

func (s *scan) varint() int64 {
	v, n := binary.Varint(s.b)
	if n <= 0 {
		s.fail()
		return 0
	}
	s.b = s.b[n:]
	return v
}

// count reads how many things follow; each takes a byte at least.
func (s *scan) count() int {
	n := s.uvarint()
	if n > uint64(len(s.b)) {
		s.fail()
		return 0
	}
	return int(n)
}

func (s *scan) take(n uint64) []byte {
	if n > uint64(len(s.b)) {
		s.fail()
		return nil
	}
	b := s.b[:n:n]
	s.b = s.b[n:]
	return b
}

func (s *scan) text() string {
	b := s.take(s.uvarint())
	return unsafe.String(unsafe.SliceData(b), len(b))
}

func (s *scan) bytes() []byte {
	n := s.uvarint()
	if n == 0 {
		return nil
	}
	return s.take(n - 1)
}

func (s *scan) cursor() store.Cursor { return store.Cursor{Seq: s.varint(), Chunk: s.varint()} }

func (s *scan) slice() store.SliceID {
	return store.SliceID{Width: s.varint(), Start: s.varint(), Gen: int(s.varint())}
}

func (s *scan) meta() *store.MetaUpdate {
	m := &store.MetaUpdate{}
	for _, n := range metaNumbers(m) {
		*n = s.varint()
	}
	for _, n := range counters(&m.Counters) {
		*n = s.varint()
	}
	m.TopicID = s.text()
	m.Hint = s.text()
	for n := s.count(); n > 0 && !s.bad; n-- {
		m.Seals = append(m.Seals, store.Seal{Offset: s.varint(), Before: s.varint()})
	}
	for n := s.count(); n > 0 && !s.bad; n-- {
		m.Slices = append(m.Slices, store.SliceStat{
			SliceID: s.slice(), FirstOffset: s.varint(), LastOffset: s.varint(), Folded: s.varint(), Basis: s.basis(),
		})
	}
	return m
}

func (s *scan) pages(c *store.Call) {
	for n := s.count(); n > 0 && !s.bad; n-- {
		d := store.PageDelete{Slice: s.slice(), Hash: s.pageHash()}
		for n := s.count(); n > 0 && !s.bad; n-- {
			d.Names = append(d.Names, s.text())
		}
		c.Delete = append(c.Delete, d)
	}
	for n := s.count(); n > 0 && !s.bad; n-- {
		c.Unfield = append(c.Unfield, s.slice())
	}
	for n := s.count(); n > 0 && !s.bad; n-- {
		p := store.PageWrite{Slice: s.slice(), Hash: s.pageHash(), Entries: int(s.uvarint()), Name: s.text(), Value: s.text()}
		if p.Entries < 0 || p.Entries > len(p.Value) {
			s.fail()
		}
		c.Pages = append(c.Pages, p)
	}
}

func (s *scan) pageHash() store.PageHash {
	h := s.uvarint()
	if h > store.SpreadHashes {
		s.fail()
	}
	return store.PageHash(h)
}

func (s *scan) forms(stats []store.SliceStat) {
	for i := range stats {
		if !stats[i].SetForm(int64(s.uvarint())) {
			s.fail()
			return
		}
	}
}

func (s *scan) balance(m *store.MetaUpdate) {
	bits := s.uvarint()
	if bits > balanceKnown|balanceWhole {
		s.fail()
		return
	}
	m.Whole = bits&balanceWhole != 0
	m.Balance = store.Balance{Known: bits&balanceKnown != 0, Dropped: s.varint()}
}

func (s *scan) jumps(m *store.MetaUpdate) {
	for _, n := range addedCounters(&m.Counters) {
		*n = s.varint()
	}
	m.Jumps, m.Begun = s.varint(), s.varint()
	for n := s.count(); n > 0 && !s.bad; n-- {
		m.Accepted = append(m.Accepted, s.varint())
	}
}

func (s *scan) basis() store.Basis {
	kind := s.uvarint()
	if kind > longBasis {
		s.fail()
	}
	if kind == noBasis || s.bad {
		return store.Basis{}
	}
	b := store.Basis{Known: true, Watermark: s.varint(), Sealed: s.varint()}
	for _, n := range counters(&b.Counters) {
		*n = s.varint()
	}
	if kind == longBasis {
		for _, n := range addedCounters(&b.Counters) {
			*n = s.varint()
		}
	}
	return b
}

func (s *scan) side() []source.SideRecord {
	var side []source.SideRecord
	for n := s.count(); n > 0 && !s.bad; n-- {
		r := source.SideRecord{Topic: s.text(), Key: s.bytes(), Value: s.bytes()}
		for n := s.count(); n > 0 && !s.bad; n-- {
			r.Headers = append(r.Headers, source.Header{Key: s.text(), Value: s.bytes()})
		}
		side = append(side, r)
	}
	return side
}
