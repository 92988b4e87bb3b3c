package view

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"

	"millrace/pipeline/ledger"
)

// ErrCorrupt means that a page or a directory cannot be read.
var ErrCorrupt = errors.New("corrupt content of a window in Redis")

// Format of a directory: this byte, flags (1 by hash), the number of pages, and of each page the revision it was written
// with, the numbers of its events and rows, and the 16 bytes that the rows add up to. A page without rows is the number 0
// alone. Numbers are unsigned varints.
const (
	directoryFormat = 1
	directoryByHash = 1
)

// Directory lists the pages of a content.
type Directory struct {
	// ByHash says that page i has the keys of the i-th of len(Pages) equal ranges of the hash, a power of two. Pages come in
	// the order of the content otherwise.
	ByHash bool
	Pages  []Head
}

// Head is what a page adds to the content.
type Head struct {
	Revision int   // that wrote it; 0 for a page without rows, which does not stand anywhere
	Events   int64 // in its rows, when the revision was compared or written; 0 in a content that is not by hash
	Sum      ledger.Checksum
}

// maxBits bounds the number of pages by hash to a million.
const maxBits = 20

// ByHash returns a directory of 1<<bits empty pages by hash.
func ByHash(bits int) *Directory {
	return &Directory{ByHash: true, Pages: make([]Head, 1<<min(bits, maxBits))}
}

// Clone returns a copy.
func (d *Directory) Clone() *Directory {
	return &Directory{ByHash: d.ByHash, Pages: slices.Clone(d.Pages)}
}

// shift is how far a hash is shifted to give the number of its page.
func (d *Directory) shift() int { return 64 - bits.TrailingZeros(uint(len(d.Pages))) }

// PageOf is the number of the page that a key's hash belongs to, in a directory by hash.
func (d *Directory) PageOf(hash uint64) int { return int(hash >> d.shift()) }

// Range is the first and the last hash of page i, in a directory by hash.
func (d *Directory) Range(i int) (first, last uint64) {
	return uint64(i) << d.shift(), uint64(i+1)<<d.shift() - 1 // the last page's end wraps round
}

// Field is where page i stands in Redis.
func (d *Directory) Field(i int) string {
	return strconv.Itoa(i) + ":" + strconv.Itoa(d.Pages[i].Revision)
}

// Total is what the pages add up to.
func (d *Directory) Total() (sum ledger.Checksum) {
	for i := range d.Pages {
		sum.AddChecksum(d.Pages[i].Sum)
	}
	return sum
}

// Events is how many events the pages hold.
func (d *Directory) Events() (n int64) {
	for i := range d.Pages {
		n += d.Pages[i].Events
	}
	return n
}

// Append appends the stored form.
func (d *Directory) Append(dst []byte) []byte {
	flags := byte(0)
	if d.ByHash {
		flags |= directoryByHash
	}
	dst = binary.AppendUvarint(append(dst, directoryFormat, flags), uint64(len(d.Pages)))
	for i := range d.Pages {
		head := &d.Pages[i]
		if dst = binary.AppendUvarint(dst, uint64(head.Revision)); head.Revision == 0 {
			continue
		}
		sum := head.Sum.Sum()
		dst = binary.AppendUvarint(dst, uint64(head.Events))
		dst = append(binary.AppendUvarint(dst, uint64(head.Sum.Rows())), sum[:]...)
	}
	return dst
}

// ParseDirectory reads what Append wrote. Errors wrap ErrCorrupt.
func ParseDirectory(b []byte) (*Directory, error) {
	if len(b) < 2 || b[0] != directoryFormat || b[1]&^directoryByHash != 0 {
		return nil, fmt.Errorf("%w: directory of an unknown format", ErrCorrupt)
	}
	d := &Directory{ByHash: b[1] == directoryByHash}
	b = b[2:]
	ok := true
	number := func() uint64 {
		n, w := binary.Uvarint(b)
		if ok = ok && w > 0; !ok {
			return 0
		}
		b = b[w:]
		return n
	}
	pages := number()
	if !ok || pages > uint64(len(b)) || d.ByHash && bits.OnesCount64(pages) != 1 {
		return nil, fmt.Errorf("%w: directory of %d pages in %d bytes", ErrCorrupt, pages, len(b))
	}
	d.Pages = make([]Head, pages)
	for i := range d.Pages {
		head := &d.Pages[i]
		if head.Revision = int(number()); head.Revision == 0 {
			continue
		}
		head.Events = int64(number())
		rows := number()
		if !ok || len(b) < len(ledger.Digest{}) {
			return nil, fmt.Errorf("%w: page %d of the directory", ErrCorrupt, i)
		}
		head.Sum = ledger.NewChecksum(int64(rows), ledger.Digest(b[:len(ledger.Digest{})]))
		b = b[len(ledger.Digest{}):]
	}
	if !ok || len(b) > 0 {
		return nil, fmt.Errorf("%w: the directory does not end where it should", ErrCorrupt)
	}
	return d, nil
}
