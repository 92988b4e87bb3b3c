package page

import (
	"bytes"
	"math"
	"sort"
)

// Entry is an entry as Merge passes it on. Key and Entry alias their page and must not be changed.
type Entry struct {
	Hash  uint64 // of the key
	Key   []byte
	Entry []byte
	Seq   int64 // number of the commit that wrote it
}

// HashRange is a range of hashes of keys, both ends included.
type HashRange struct{ First, Last uint64 }

// Merge passes the content of pages to fn, as far as the hashes of the keys lie between first and
// last, both included: of each key the entry in the page of the highest place, in ascending order
// of hash and key. The pages are of one slice generation, in any order; those of one place have no
// key in common. An error of fn ends the merge and is returned as it is.
func Merge(pages []*Page, first, last uint64, fn func(e *Entry) error) error {
	return MergeIn(pages, []HashRange{{first, last}}, fn)
}

// MergeIn is Merge for several ranges, which ascend and do not overlap.
func MergeIn(pages []*Page, ranges []HashRange, fn func(e *Entry) error) error {
	h := make(cursors, 0, len(pages))
	for _, p := range pages {
		c := cursor{page: p}
		if c.seek(0, ranges) {
			h = append(h, c)
		}
	}
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
	var e Entry
	for len(h) > 0 {
		c := &h[0]
		e = Entry{Hash: c.hash, Key: c.key, Entry: c.entry, Seq: c.page.Name.Seq}
		if err := fn(&e); err != nil {
			return err
		}
		h = h.advance(ranges)
		for len(h) > 0 && h[0].hash == e.Hash && bytes.Equal(h[0].key, e.Key) {
			h = h.advance(ranges) // an older page
		}
	}
	return nil
}

// MergeOver passes the whole content of a slice generation to fn: what its pages hold, as Merge says,
// and then what beneath passes on of keys that no page has. A nil beneath passes nothing on.
func MergeOver(pages []*Page, beneath func(fn func(key, entry []byte) error) error, fn func(key, entry []byte) error) error {
	newer := make(map[string]struct{})
	err := Merge(pages, 0, math.MaxUint64, func(e *Entry) error {
		if beneath != nil {
			newer[string(e.Key)] = struct{}{}
		}
		return fn(e.Key, e.Entry)
	})
	if err != nil || beneath == nil {
		return err
	}
	return beneath(func(key, entry []byte) error {
		if _, ok := newer[string(key)]; ok {
			return nil
		}
		return fn(key, entry)
	})
}

// cursor is a page with the entry that comes next.
type cursor struct {
	page       *Page
	at         int
	in         int // the range that the entry lies in
	hash       uint64
	key, entry []byte
}

// seek moves the cursor to the first entry from the given one on whose hash lies in one of the
// ranges, and reports whether there is one.
func (c *cursor) seek(at int, ranges []HashRange) bool {
	hashes := c.page.hashes
	for at < len(hashes) {
		hash := hashes[at]
		for c.in < len(ranges) && ranges[c.in].Last < hash {
			c.in++
		}
		if c.in == len(ranges) {
			return false
		}
		first := ranges[c.in].First
		if first <= hash {
			c.at, c.hash = at, hash
			c.key, c.entry = c.page.Entry(at)
			return true
		}
		at += sort.Search(len(hashes)-at, func(i int) bool { return hashes[at+i] >= first })
	}
	return false
}

// before reports whether c comes before o: a lower hash, a lower key, or the newer one of two pages
// with the same key.
func (c *cursor) before(o *cursor) bool {
	if c.hash != o.hash {
		return c.hash < o.hash
	}
	if order := bytes.Compare(c.key, o.key); order != 0 {
		return order < 0
	}
	return o.page.Name.Less(c.page.Name.Place)
}

// cursors is a heap: the first comes next.
type cursors []cursor

// advance moves the first cursor on, and drops it behind its last entry in the ranges.
func (h cursors) advance(ranges []HashRange) cursors {
	c := &h[0]
	if !c.seek(c.at+1, ranges) {
		h[0] = h[len(h)-1]
		h = h[:len(h)-1]
	}
	if len(h) > 1 {
		h.down(0)
	}
	return h
}

func (h cursors) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h); child++ {
			if h[child].before(&h[least]) {
				least = child
			}
		}
		if least == i {
			return
		}
		h[i], h[least] = h[least], h[i]
		i = least
	}
}
