package wal

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// segment is one file of frames. Whoever takes both of its mutexes takes the segment's own first, then the log's.
type segment struct {
	// Set before the segment is shared; they never change and anybody may read them.
	id   uint64
	size int64
	salt uint32
	file File // safe for concurrent reads

	// The log's mutex guards what follows. Once the segment is released and no reader is on it, it is the housekeeper's
	// alone, which then renames the file and copies holes aside without the mutex.
	path     string
	first    uint64 // index of the first frame
	next     uint64 // index after the last durable frame
	durable  int64  // every byte before it is durable; readers stop here
	staged   int64  // where the next frame goes
	prev     uint64 // the segment before, as the header shows it
	prevTail int64
	marked   int64 // the tail its header shows
	active   bool  // its header shows it in use
	ended    bool  // no further frame will be staged
	intact   bool  // header readable and file whole, so that it can be appended to
	refs     int   // readers on it
	blocks   []blockStart
	streams  map[*stream]*presence
	holes    []Range
	damaged  []Range // header pages that could not be read

	// The segment's own mutex guards what follows. It is held while bytes go to the disk.
	mu   sync.Mutex
	dev  device // nil when not appended to (any more)
	slot slot   // the one last written
}

// device is where a segment's bytes go while it is appended to.
type device interface {
	WriteAt(p []byte, off int64) (int, error)
	// Sync makes n bytes from off durable; it may do so for more.
	Sync(off, n int64) error
	Close() error
}

// fileDevice is the Write backend. The file itself stays open for readers.
type fileDevice struct{ File }

func (d fileDevice) Sync(int64, int64) error { return d.File.Sync() }
func (d fileDevice) Close() error            { return nil }

func openDevice(f File, b Backend, size int64) (device, error) {
	if b == Mmap {
		return f.Map(size)
	}
	return fileDevice{f}, nil
}

// writeSlot writes the slot in turn. It is not durable before the device is synced. Callers hold s.mu.
func (s *segment) writeSlot(next slot) (off int64, err error) {
	next.number = s.slot.number + 1
	off = slotOffset(next.number)
	if s.dev == nil {
		return off, fmt.Errorf("segment %016x is not open for writing", s.id)
	}
	if _, err = s.dev.WriteAt(next.encode(s.salt), off); err == nil {
		s.slot = next
	}
	return off, err
}

// mark writes and syncs a slot, unless the segment is not written to any more.
func (s *segment) mark(next slot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dev == nil {
		return nil
	}
	off, err := s.writeSlot(next)
	if err == nil {
		err = s.dev.Sync(off, pageSize)
	}
	return err
}

func segmentName(id uint64, suffix string) string { return fmt.Sprintf("%016x%s", id, suffix) }

func parseSegmentName(name, suffix string) (uint64, bool) {
	text, ok := strings.CutSuffix(name, suffix)
	if !ok || len(text) != 16 {
		return 0, false
	}
	id, err := strconv.ParseUint(text, 16, 64)
	return id, err == nil && id > 0
}

// zeroChunk is how much is written between two syncs of a new segment, in bytes: small, so that the syncer's own syncs get
// their turn.
const zeroChunk = 1 << 20

// createSegment makes a segment file that is allocated and written throughout, and durable under its name. A full disk
// shows here, not later.
func createSegment(fsys FS, dir string, h fixed, salt uint32) (File, error) {
	tmp := filepath.Join(dir, segmentName(h.segment, tmpSuffix))
	f, err := fsys.Create(tmp)
	if err != nil {
		return nil, fmt.Errorf("create segment: %w", err)
	}
	err = f.Allocate(h.size)
	zeros := make([]byte, pageSize)
	for off := int64(0); err == nil && off < h.size; off += pageSize {
		if _, err = f.WriteAt(zeros, off); err == nil && (off+pageSize)%zeroChunk == 0 {
			err = f.Sync()
		}
	}
	if err == nil {
		err = publishSegment(fsys, f, tmp, filepath.Join(dir, segmentName(h.segment, segmentSuffix)), h, salt)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("create segment: %w", err), f.Close(), removeQuietly(fsys, tmp))
	}
	return f, nil
}

// recycleSegment gives a free file a new life: a new id makes every checksum in it wrong.
func recycleSegment(fsys FS, free string, h fixed, salt uint32) (File, error) {
	f, err := fsys.Open(free, true)
	if err != nil {
		return nil, fmt.Errorf("recycle segment: %w", err)
	}
	size, err := f.Size()
	if err == nil && size != h.size {
		err = fmt.Errorf("%s: %d bytes, want %d", free, size, h.size)
	}
	if err == nil {
		err = publishSegment(fsys, f, free, filepath.Join(filepath.Dir(free), segmentName(h.segment, segmentSuffix)), h, salt)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("recycle segment: %w", err), f.Close())
	}
	return f, nil
}

// publishSegment writes the header, and only when that is durable gives the file its name.
func publishSegment(fsys FS, f File, from, to string, h fixed, salt uint32) error {
	if _, err := f.WriteAt(headerOf(&h, salt), 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := fsys.Rename(from, to); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(to))
}

func newSegment(path string, f File, h fixed, salt uint32) *segment {
	return &segment{
		id: h.segment, path: path, size: h.size, salt: salt, file: f, durable: dataStart, staged: dataStart, marked: dataStart,
		intact: true,
		slot:   slot{number: 1, state: Prepared, tail: dataStart}, streams: map[*stream]*presence{},
	}
}

func fixedOf(id ID, segment uint64, size int64) fixed {
	return fixed{version: format, log: id, segment: segment, size: size, created: time.Now()}
}
