package wal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"time"
)

// A segment starts with three pages, so that a torn write of one never damages another: the fixed page, written before the
// segment gets its name, and two slots that are written in turn.
const (
	pageSize  = 4096
	slotA     = pageSize
	slotB     = 2 * pageSize
	dataStart = 3 * pageSize

	format = 1 // the newest version of the segment format this package reads and writes
)

var segmentMagic = [8]byte{'M', 'R', 'W', 'A', 'L', 'S', 'E', 'G'}

// ID identifies a log, that is, a directory on a disk.
type ID [16]byte

// salt is where the checksums of a segment's frames and slots start. Segment ids are never used twice.
func saltOf(id ID, segment uint64) uint32 {
	var b [24]byte
	copy(b[:], id[:])
	binary.LittleEndian.PutUint64(b[16:], segment)
	return crc32.Checksum(b[:], castagnoli)
}

// fixed is the part of a header that never changes. Its first 16 bytes look the same in every version of the format.
type fixed struct {
	version uint32
	log     ID
	segment uint64
	size    int64
	created time.Time
}

const fixedSize = 64

func (h *fixed) encode() []byte {
	b := make([]byte, pageSize)
	copy(b, segmentMagic[:])
	binary.LittleEndian.PutUint32(b[8:], h.version)
	binary.LittleEndian.PutUint32(b[12:], crc32.Checksum(b[:12], castagnoli))
	copy(b[16:], h.log[:])
	binary.LittleEndian.PutUint64(b[32:], h.segment)
	binary.LittleEndian.PutUint64(b[40:], uint64(h.size))
	binary.LittleEndian.PutUint64(b[48:], uint64(h.created.UnixNano()))
	binary.LittleEndian.PutUint32(b[56:], dataStart)
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// decodeFixed returns a *VersionError (without a file name) for a newer format and ErrCorrupt for anything unreadable.
func decodeFixed(b []byte) (fixed, error) {
	if len(b) < fixedSize || !bytes.Equal(b[:8], segmentMagic[:]) || crc32.Checksum(b[:12], castagnoli) != binary.LittleEndian.Uint32(b[12:]) {
		return fixed{}, ErrCorrupt
	}
	h := fixed{version: binary.LittleEndian.Uint32(b[8:])}
	if h.version > format {
		return h, &VersionError{Found: h.version, Supported: format}
	}
	if crc32.Checksum(b[:60], castagnoli) != binary.LittleEndian.Uint32(b[60:]) || binary.LittleEndian.Uint32(b[56:]) != dataStart || h.version == 0 {
		return fixed{}, ErrCorrupt
	}
	copy(h.log[:], b[16:])
	h.segment = binary.LittleEndian.Uint64(b[32:])
	h.size = int64(binary.LittleEndian.Uint64(b[40:]))
	h.created = time.Unix(0, int64(binary.LittleEndian.Uint64(b[48:])))
	if h.size < MinSegmentSize || h.size > MaxSegmentSize || h.size%pageSize != 0 {
		return fixed{}, ErrCorrupt
	}
	return h, nil
}

// State is what a segment is used for.
type State uint32

// A segment is prepared, then active, then sealed; released, it becomes a free file.
const (
	Prepared State = 1 // allocated, without records
	Active   State = 2 // being appended to, or was when its writer ended
	Sealed   State = 3 // full; its tail is final
)

func (s State) String() string {
	switch s {
	case Prepared:
		return "prepared"
	case Active:
		return "active"
	case Sealed:
		return "sealed"
	}
	return "unknown"
}

// slot is the part of a header that changes. Of two readable slots the one with the higher number holds.
type slot struct {
	number    uint64
	state     State
	first     uint64 // index of the first frame
	head      uint64 // frames below this index were released when the slot was written
	tail      int64  // every byte before it was durable when the slot was written
	tailIndex uint64 // index of the frame that starts at tail
	prev      uint64 // id of the segment before, 0 for none known
	prevTail  int64  // where that one ends
}

const slotSize = 72

func (s *slot) encode(salt uint32) []byte {
	b := make([]byte, slotSize)
	binary.LittleEndian.PutUint64(b, s.number)
	binary.LittleEndian.PutUint32(b[8:], uint32(s.state))
	binary.LittleEndian.PutUint64(b[16:], s.first)
	binary.LittleEndian.PutUint64(b[24:], s.head)
	binary.LittleEndian.PutUint64(b[32:], uint64(s.tail))
	binary.LittleEndian.PutUint64(b[40:], s.tailIndex)
	binary.LittleEndian.PutUint64(b[48:], s.prev)
	binary.LittleEndian.PutUint64(b[56:], uint64(s.prevTail))
	binary.LittleEndian.PutUint32(b[64:], crc32.Update(salt, castagnoli, b[:64]))
	return b
}

func decodeSlot(b []byte, salt uint32, size int64) (slot, bool) {
	if len(b) < slotSize || crc32.Update(salt, castagnoli, b[:64]) != binary.LittleEndian.Uint32(b[64:]) {
		return slot{}, false
	}
	s := slot{
		number:    binary.LittleEndian.Uint64(b),
		state:     State(binary.LittleEndian.Uint32(b[8:])),
		first:     binary.LittleEndian.Uint64(b[16:]),
		head:      binary.LittleEndian.Uint64(b[24:]),
		tail:      int64(binary.LittleEndian.Uint64(b[32:])),
		tailIndex: binary.LittleEndian.Uint64(b[40:]),
		prev:      binary.LittleEndian.Uint64(b[48:]),
		prevTail:  int64(binary.LittleEndian.Uint64(b[56:])),
	}
	sane := s.state >= Prepared && s.state <= Sealed && s.tail >= dataStart && s.tail <= size && s.tail%8 == 0 && s.number > 0
	return s, sane
}

// slotOffset is where the slot with this number stands.
func slotOffset(number uint64) int64 {
	if number%2 == 1 {
		return slotA
	}
	return slotB
}

// headerOf returns the three header pages of a segment that is prepared.
func headerOf(h *fixed, salt uint32) []byte {
	b := make([]byte, dataStart+frameHeader) // no frame follows: of an earlier life nothing may look like one
	copy(b, h.encode())
	first := slot{number: 1, state: Prepared, tail: dataStart}
	copy(b[slotA:], first.encode(salt))
	return b
}
