package wal

import "sort"

// blockSize is the grain in which a segment remembers where frames start and which streams they belong to, in bytes.
const blockSize = 64 << 10

// blockStart is the first frame that starts in a block.
type blockStart struct {
	off   int64
	index uint64
}

// presence is what a segment knows of one stream's records in it.
type presence struct {
	blocks      []uint64 // one bit for each block in which one of them starts
	first, last uint64   // their indexes
}

func (p *presence) has(block int64) bool {
	word := int(block / 64)
	return word < len(p.blocks) && p.blocks[word]&(1<<(block%64)) != 0
}

// noteFrame remembers that a frame starts at off.
func (s *segment) noteFrame(off int64, index uint64) {
	if n := len(s.blocks); n == 0 || s.blocks[n-1].off/blockSize < off/blockSize {
		s.blocks = append(s.blocks, blockStart{off, index})
	}
}

// noteRecord remembers that a record of the stream starts at off, and says whether it is the stream's first here.
func (s *segment) noteRecord(st *stream, off int64, index uint64) (first bool) {
	p := s.streams[st]
	if p == nil {
		first = true
		p = &presence{blocks: make([]uint64, (s.size/blockSize+64)/64), first: index}
		s.streams[st] = p
	}
	block := off / blockSize
	p.blocks[block/64] |= 1 << (block % 64)
	p.last = index
	return first
}

// seek returns a frame to start reading from so as not to miss index.
func (s *segment) seek(index uint64) (off int64, first uint64) {
	i := sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].index > index })
	if i == 0 {
		return dataStart, s.first
	}
	return s.blocks[i-1].off, s.blocks[i-1].index
}

// nextBlock returns the first frame, at or after the block of off, of a block in which a record of the stream starts.
func (s *segment) nextBlock(p *presence, off int64) (blockStart, bool) {
	i := sort.Search(len(s.blocks), func(i int) bool { return s.blocks[i].off/blockSize >= off/blockSize })
	for ; i < len(s.blocks); i++ {
		if p.has(s.blocks[i].off / blockSize) {
			return s.blocks[i], true
		}
	}
	return blockStart{}, false
}
