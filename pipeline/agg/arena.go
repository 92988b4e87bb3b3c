package agg

import "math/bits"

// Sizes of arena chunks. The first is small because most tables are; texts above the largest block get a chunk of their
// own.
const (
	firstChunk   = 512
	fullChunk    = 64 << 10
	largestBlock = fullChunk / 4
)

// arena keeps byte blocks in chunks that never move. A reference is a chunk's index (high 32 bits) and an offset in it.
type arena struct {
	chunks [][]byte
	tail   int // chunk that small blocks are cut from
	size   int // its bytes; 0 before there is one
	used   int // bytes of it that are taken
	bytes  int // memory of all chunks
}

// alloc takes n bytes that are not cleared.
func (a *arena) alloc(n int) uint64 {
	if n > largestBlock {
		return uint64(a.grow(n)) << 32
	}
	if a.used+n > a.size {
		a.size = max(n, firstChunk, min(2*a.size, fullChunk))
		a.tail, a.used = a.grow(a.size), 0
	}
	ref := uint64(a.tail)<<32 | uint64(a.used)
	a.used += n
	return ref
}

func (a *arena) grow(n int) int {
	a.chunks = append(a.chunks, make([]byte, n))
	a.bytes += n
	return len(a.chunks) - 1
}

func (a *arena) at(ref uint64, n int) []byte {
	offset := int(uint32(ref))
	return a.chunks[ref>>32][offset : offset+n : offset+n]
}

// blocks is an arena whose blocks can be given back. Blocks come in size classes, four to each doubling; a block that
// was given back heads the list of its class, and the next one of that class takes it. So nothing is ever moved or
// compacted, a block is at most a quarter larger than its text, and memory is bounded by the texts held at one time
// whatever the rate of updates: by the sum, over the classes, of the most held at once.
type blocks struct {
	arena
	free  [64]uint64 // per class: reference + 1 of the first free block, which begins with the next one's; 0 ends
	spare []uint32   // chunks whose block was larger than largestBlock and is gone
}

// class returns the size class of a text of n bytes and the size of its blocks.
func class(n int) (id, size int) {
	n = max(n, 16)
	shift := bits.Len(uint(n-1)) - 3
	steps := (n-1)>>shift + 1
	return shift*4 + steps - 5, steps << shift
}

// resize returns a block for a text of n bytes in place of the block at ref that held one of was bytes; was is 0 when
// there is none. The block's content is undefined.
func (b *blocks) resize(ref uint64, was, n int) uint64 {
	id, size := class(n)
	if was > 0 {
		if old, _ := class(was); old == id {
			return ref
		}
		b.release(ref, was)
	}
	if size > largestBlock {
		return b.large(size)
	}
	if head := b.free[id]; head != 0 {
		b.free[id] = uint64(getInt(b.at(head-1, 8)))
		return head - 1
	}
	return b.alloc(size)
}

// large takes a chunk of its own, under the index of one that is gone when there is one.
func (b *blocks) large(size int) uint64 {
	n := len(b.spare)
	if n == 0 {
		return b.alloc(size)
	}
	i := b.spare[n-1]
	b.spare = b.spare[:n-1]
	b.chunks[i] = make([]byte, size)
	b.bytes += size
	return uint64(i) << 32
}

// release gives back the block at ref that holds a text of n bytes.
func (b *blocks) release(ref uint64, n int) {
	id, size := class(n)
	if size > largestBlock {
		b.chunks[ref>>32] = nil
		b.bytes -= size
		b.spare = append(b.spare, uint32(ref>>32))
		return
	}
	putInt(b.at(ref, 8), int64(b.free[id]))
	b.free[id] = ref + 1
}
