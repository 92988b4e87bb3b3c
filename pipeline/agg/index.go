package agg

import "math/bits"

// Sizes of the index, in slots of 8 bytes.
const (
	firstSegment = 8
	fullSegment  = 4096 // one growth step rehashes at most this many keys
)

// index finds rows by the hash of their key. It is an extendible hash table: the hash's top bits choose a segment, which
// is a small open-addressing table. A full segment splits in two, so that growth costs microseconds at any size.
//
// A slot holds the hash's high 32 bits, the tag, and row + 1. A segment's own order comes from the tag's low bits, so a
// split needs nothing but the slots.
type index struct {
	dir   []*segment // by the top depth bits of the hash; a segment of smaller depth stands at several places
	depth uint
	used  int // keys
	bytes int // memory of segments, without dir
}

type segment struct {
	slots []uint64
	used  int
	depth uint // bits of the hash that all keys in it share
}

const segmentHeader = 40

func (s *segment) put(slot uint64) {
	mask := uint64(len(s.slots) - 1)
	i := slot >> 32 & mask
	for s.slots[i] != 0 {
		i = (i + 1) & mask
	}
	s.slots[i] = slot
	s.used++
}

func (x *index) newSegment(slots int, depth uint) *segment {
	x.bytes += slots*8 + segmentHeader
	return &segment{slots: make([]uint64, slots), depth: depth}
}

// reserve makes the segments that the given number of keys needs, in an index that has none yet: it then grows only where their hashes
// crowd.
func (x *index) reserve(keys int) {
	const most = fullSegment / 4 * 3 * 15 / 16 // of a segment, so that few of them split after all
	if len(x.dir) > 0 {
		return
	}
	x.depth = uint(bits.Len(uint(keys / most)))
	slots := firstSegment
	for slots < fullSegment && slots/4*3 <= keys>>x.depth {
		slots *= 2
	}
	x.dir = make([]*segment, 1<<x.depth)
	for i := range x.dir {
		x.dir[i] = x.newSegment(slots, x.depth)
	}
}

// insert adds a row under a hash whose key is known to be absent.
func (x *index) insert(hash uint64, row uint32) {
	if len(x.dir) == 0 {
		x.dir = []*segment{x.newSegment(firstSegment, 0)}
	}
	s := x.dir[hash>>(64-x.depth)]
	for s.used >= len(s.slots)/4*3 {
		x.grow(s, hash)
		s = x.dir[hash>>(64-x.depth)]
	}
	s.put(hash>>32<<32 | uint64(row+1))
	x.used++
}

// grow makes room in the segment that hash belongs to. Segments double up to fullSegment and split from then on, unless
// the directory is large already for the number of keys: keys that collide on purpose make a segment longer instead.
func (x *index) grow(s *segment, hash uint64) {
	if len(s.slots) < fullSegment || s.depth == x.depth && len(x.dir)*256 > x.used {
		old := s.slots
		x.bytes += len(old) * 8
		s.slots, s.used = make([]uint64, 2*len(old)), 0
		for _, slot := range old {
			if slot != 0 {
				s.put(slot)
			}
		}
		return
	}
	if s.depth == x.depth {
		dir := make([]*segment, 2*len(x.dir))
		for i, seg := range x.dir {
			dir[2*i], dir[2*i+1] = seg, seg
		}
		x.dir = dir
		x.depth++
	}
	x.split(s, hash)
}

// split replaces s by two segments that tell keys apart by one more bit.
func (x *index) split(s *segment, hash uint64) {
	halves := [2]*segment{x.newSegment(len(s.slots), s.depth+1), x.newSegment(len(s.slots), s.depth+1)}
	for _, slot := range s.slots {
		if slot != 0 {
			halves[slot>>(63-s.depth)&1].put(slot)
		}
	}
	x.bytes -= len(s.slots)*8 + segmentHeader
	span := 1 << (x.depth - s.depth) // places of s in the directory
	first := int(hash>>(64-x.depth)) / span * span
	for i := range span {
		x.dir[first+i] = halves[i*2/span]
	}
}

// reset forgets all keys and keeps the segments.
func (x *index) reset() {
	for i := 0; i < len(x.dir); {
		s := x.dir[i]
		clear(s.slots)
		s.used = 0
		i += 1 << (x.depth - s.depth)
	}
	x.used = 0
}
