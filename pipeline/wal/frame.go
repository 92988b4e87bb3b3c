package wal

import (
	"encoding/binary"
	"hash/crc32"
)

// A frame is what stands in a segment: a header, a payload, zeros up to the next multiple of 8. docs/wal-format.md draws it.
//
//	0  crc     CRC-32C of everything after it, padding included, started from the segment's salt and the frame's offset
//	4  check   the low 24 bits of the CRC-32C, started alike, of the rest of the header
//	7  type    0 is no frame
//	8  length  bytes of payload
//	12 back    bytes from the start of the frame's group to the frame
//	16 index   the frame's number in the log
const frameHeader = 24

const (
	frameRecord  = 1
	frameRelease = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func align8(n int64) int64 { return (n + 7) &^ 7 }

// frame is a parsed frame.
type frame struct {
	off, end int64 // in the segment, padding included
	group    int64 // where the frame's group starts: every byte before it was durable when this frame was written
	index    uint64
	kind     byte
	length   int64 // of the payload
	payload  []byte
}

// place is where a frame is being written.
type framePlace struct {
	salt       uint32
	off, group int64
	index      uint64
}

// seed binds a checksum to the segment's life and to the offset: bytes of an earlier life, or of another place, never match.
func seed(salt uint32, off int64) uint32 { return salt ^ uint32(off>>3) }

// beginFrame appends room for a header and returns where the frame starts in dst.
func beginFrame(dst []byte) ([]byte, int) {
	start := len(dst)
	var header [frameHeader]byte
	return append(dst, header[:]...), start
}

// endFrame pads and seals the frame that starts at dst[start].
func endFrame(dst []byte, start int, kind byte, at framePlace) []byte {
	length := len(dst) - start - frameHeader
	for len(dst)&7 != start&7 {
		dst = append(dst, 0)
	}
	b := dst[start:]
	b[7] = kind
	binary.LittleEndian.PutUint32(b[8:], uint32(length))
	binary.LittleEndian.PutUint32(b[12:], uint32(at.off-at.group))
	binary.LittleEndian.PutUint64(b[16:], at.index)
	binary.LittleEndian.PutUint32(b[4:], headerCheck(b, at.salt, at.off)|uint32(kind)<<24)
	binary.LittleEndian.PutUint32(b, crc32.Update(seed(at.salt, at.off), castagnoli, b[4:]))
	return dst
}

// headerCheck lets a search for the next frame pass over payloads that look like headers without computing a checksum over
// whatever length they claim.
func headerCheck(b []byte, salt uint32, off int64) uint32 {
	return crc32.Update(seed(salt, off), castagnoli, b[7:frameHeader]) & 0xffffff
}

// peekFrame reads the header at the start of b, which lies at off in its segment, and says whether it is one: known type,
// right check, a length of at most limit. Nothing is trusted before checkFrame.
func peekFrame(b []byte, off, limit int64, salt uint32) (f frame, ok bool) {
	if len(b) < frameHeader || b[7] != frameRecord && b[7] != frameRelease {
		return frame{}, false
	}
	if binary.LittleEndian.Uint32(b[4:])&0xffffff != headerCheck(b, salt, off) {
		return frame{}, false
	}
	length := int64(binary.LittleEndian.Uint32(b[8:]))
	back := int64(binary.LittleEndian.Uint32(b[12:]))
	if length > limit-frameHeader || back > off-dataStart {
		return frame{}, false
	}
	return frame{
		off: off, end: off + align8(frameHeader+length), group: off - back, index: binary.LittleEndian.Uint64(b[16:]),
		kind: b[7], length: length,
	}, true
}

// take sets the payload of f, peeked at the start of b and known to be whole.
func (f *frame) take(b []byte) { f.payload = b[frameHeader : frameHeader+f.length] }

// checkFrame completes f, peeked at the start of b, and says whether the frame is whole, its checksum right and
// its payload what its type promises.
func checkFrame(b []byte, f *frame, salt uint32) bool {
	size := f.end - f.off
	if int64(len(b)) < size || crc32.Update(seed(salt, f.off), castagnoli, b[4:size]) != binary.LittleEndian.Uint32(b) {
		return false
	}
	f.take(b)
	if f.kind == frameRecord {
		_, ok := decodeRecord(f)
		return ok
	}
	_, _, ok := decodeRelease(f)
	return ok
}

// parseFrame is peekFrame and checkFrame.
func parseFrame(b []byte, off int64, salt uint32) (frame, bool) {
	f, ok := peekFrame(b, off, int64(len(b)), salt)
	return f, ok && checkFrame(b, &f, salt)
}
