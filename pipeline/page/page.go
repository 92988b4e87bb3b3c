package page

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"millrace/pipeline/agg"
)

// Format is the version of a page's value, and of a lane's state that is kept in pages.
const Format = 2

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Bytes of the two fixed numbers of the header.
const (
	countSize = 4
	sumSize   = 4
)

// Writer appends one page to a buffer. Begin, Add each entry, End. The zero value is ready; a
// Writer may be used again.
type Writer struct {
	start int // of the page in the buffer
	fixed int // where the number of entries stands
	count uint32
	body  int // where the entries begin
}

// Begin appends the head of a page that holds every event below offset.
func (w *Writer) Begin(dst []byte, stateID string, offset int64) []byte {
	w.start, w.count = len(dst), 0
	dst = append(dst, Format)
	dst = append(binary.AppendUvarint(dst, uint64(len(stateID))), stateID...)
	dst = binary.AppendUvarint(dst, uint64(offset))
	w.fixed = len(dst)
	dst = append(dst, make([]byte, countSize+sumSize)...)
	w.body = len(dst)
	return dst
}

// entryLengthSize is how many bytes are kept for the length of an entry before its length is known.
const entryLengthSize = 2

// Add appends an entry, which encode appends to the buffer that it is given. Entries come in
// ascending order of hash and key.
func (w *Writer) Add(dst, key []byte, encode func(dst []byte) []byte) []byte {
	dst = append(binary.AppendUvarint(dst, uint64(len(key))), key...)
	at := len(dst)
	dst = append(dst, make([]byte, entryLengthSize)...)
	dst = encode(dst)
	n := uint64(len(dst) - at - entryLengthSize)
	w.count++
	if n < 1<<14 { // a length of two bytes, also where one would do
		dst[at], dst[at+1] = byte(n)|0x80, byte(n>>7)
		return dst
	}
	var length [binary.MaxVarintLen64]byte
	size := binary.PutUvarint(length[:], n)
	dst = append(dst, length[:size-entryLengthSize]...)
	copy(dst[at+size:], dst[at+entryLengthSize:])
	copy(dst[at:], length[:size])
	return dst
}

// Size is how many bytes the page in dst has so far.
func (w *Writer) Size(dst []byte) int { return len(dst) - w.start }

// End completes the page, which is dst from Begin's length on.
func (w *Writer) End(dst []byte) {
	binary.LittleEndian.PutUint32(dst[w.fixed:], w.count)
	sum := crc32.Checksum(dst[w.start:w.fixed+countSize], castagnoli)
	sum = crc32.Update(sum, castagnoli, dst[w.body:])
	binary.LittleEndian.PutUint32(dst[w.fixed+countSize:], sum)
}

// Page is a page that was read and checked. It keeps its value and does not change it.
type Page struct {
	Name   Name
	value  []byte
	ends   []uint32 // where entry i ends in value; it begins where the one before ends
	hashes []uint64 // of the keys
	first  uint32   // where entry 0 begins
}

// Len is the number of entries.
func (p *Page) Len() int { return len(p.hashes) }

// Bytes is the memory that the page takes.
func (p *Page) Bytes() int { return cap(p.value) + 4*cap(p.ends) + 8*cap(p.hashes) }

// Hash is the hash of the i-th key.
func (p *Page) Hash(i int) uint64 { return p.hashes[i] }

// Entry returns the i-th key and entry, which alias the page and must not be changed.
func (p *Page) Entry(i int) (key, entry []byte) {
	from := p.first
	if i > 0 {
		from = p.ends[i-1]
	}
	b := p.value[from:p.ends[i]]
	n, w := length(b)
	key, b = b[w:w+int(n)], b[w+int(n):]
	_, w = length(b)
	return key, b[w:]
}

// length reads a length and says how many bytes it takes, as binary.Uvarint does. Nearly all take one or two.
func length(b []byte) (n uint64, w int) {
	switch {
	case len(b) > 0 && b[0] < 0x80:
		return uint64(b[0]), 1
	case len(b) > 1 && b[1] < 0x80:
		return uint64(b[0]&0x7f) | uint64(b[1])<<7, 2
	}
	return binary.Uvarint(b)
}

// Parse checks the value that stands under name and belongs to a state with that id. It keeps
// value. Errors wrap ErrNewer or ErrCorrupt.
func Parse(name Name, stateID string, value []byte) (*Page, error) {
	if len(value) != name.Bytes {
		return nil, fmt.Errorf("%w: page %s has %d bytes", ErrCorrupt, name, len(value))
	}
	if len(value) > 0 && value[0] > Format {
		return nil, fmt.Errorf("%w: page %s has format %d, this release reads up to %d", ErrNewer, name, value[0], Format)
	}
	r := reader{b: value, at: 1}
	id := r.bytes()
	offset := r.uvarint()
	fixed := r.at
	if r.bad || fixed+countSize+sumSize > len(value) || value[0] != Format {
		return nil, fmt.Errorf("%w: page %s has no head", ErrCorrupt, name)
	}
	count := binary.LittleEndian.Uint32(value[fixed:])
	body := fixed + countSize + sumSize
	sum := crc32.Checksum(value[:fixed+countSize], castagnoli)
	sum = crc32.Update(sum, castagnoli, value[body:])
	switch {
	case sum != binary.LittleEndian.Uint32(value[fixed+countSize:]):
		return nil, fmt.Errorf("%w: page %s does not match its checksum", ErrCorrupt, name)
	case string(id) != stateID:
		return nil, fmt.Errorf("%w: page %s is of the state %q, not %s", ErrCorrupt, name, id, stateID)
	case offset != uint64(name.Offset):
		return nil, fmt.Errorf("%w: page %s is of offset %d", ErrCorrupt, name, offset)
	}
	p := &Page{Name: name, value: value, first: uint32(body)}
	r.at = body
	if err := p.index(&r, count); err != nil {
		return nil, err
	}
	return p, nil
}

// leastEntry is the fewest bytes that an entry takes: two lengths.
const leastEntry = 2

// index finds the entries and checks their order.
func (p *Page) index(r *reader, count uint32) error {
	if int64(count) > int64(len(r.b)-r.at)/leastEntry {
		return fmt.Errorf("%w: page %s cannot hold %d entries", ErrCorrupt, p.Name, count)
	}
	p.ends, p.hashes = make([]uint32, count), make([]uint64, count)
	var last []byte
	for i := range p.hashes {
		key := r.bytes()
		r.bytes()
		hash := agg.Hash(key)
		p.ends[i], p.hashes[i] = uint32(r.at), hash
		if i > 0 && (hash < p.hashes[i-1] || hash == p.hashes[i-1] && string(key) <= string(last)) {
			return fmt.Errorf("%w: entry %d of page %s is out of order", ErrCorrupt, i, p.Name)
		}
		last = key
	}
	switch {
	case r.bad || r.at != len(r.b):
		return fmt.Errorf("%w: the entries of page %s do not fill it", ErrCorrupt, p.Name)
	case count == 0 || p.hashes[0] != p.Name.First || p.hashes[count-1] != p.Name.Last:
		return fmt.Errorf("%w: the entries of page %s have other hashes than its name", ErrCorrupt, p.Name)
	}
	return nil
}

// reader takes a value apart. After the first failure bad is set, and everything reads as empty.
type reader struct {
	b   []byte
	at  int
	bad bool
}

func (r *reader) uvarint() uint64 {
	v, n := length(r.b[min(r.at, len(r.b)):])
	if n <= 0 {
		r.bad = true
		return 0
	}
	r.at += n
	return v
}

// bytes reads a length and as many bytes.
func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.b)-min(r.at, len(r.b))) {
		r.bad = true
		return nil
	}
	b := r.b[r.at : r.at+int(n)]
	r.at += int(n)
	return b
}
