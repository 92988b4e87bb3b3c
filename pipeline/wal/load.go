package wal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// loaded is a segment file as opening finds it.
type loaded struct {
	*segment
	named    bool // some slot was readable
	readable bool // the fixed page was
	live     bool // has, or is about to have, records
	have     int64
}

// listing is a log's directory.
type listing struct {
	segments []uint64 // ascending, as names sort
	free     []string
	tmp      []string
}

func list(fsys FS, dir string) (ls listing, err error) {
	names, err := fsys.ReadDir(dir)
	if err != nil {
		return ls, fmt.Errorf("list log directory: %w", err)
	}
	for _, name := range names {
		if id, ok := parseSegmentName(name, segmentSuffix); ok {
			ls.segments = append(ls.segments, id)
		} else if _, ok := parseSegmentName(name, freeSuffix); ok {
			ls.free = append(ls.free, name)
		} else if filepath.Ext(name) == tmpSuffix {
			ls.tmp = append(ls.tmp, name)
		}
	}
	return ls, nil
}

// loadHeader opens a segment and reads its header. It fails for what must stop the opening of a log: a newer format,
// another log's file, a file that cannot be opened. A damaged header does not.
func loadHeader(fsys FS, dir string, id ID, segmentID uint64, write bool) (*loaded, error) {
	path := filepath.Join(dir, segmentName(segmentID, segmentSuffix))
	f, err := fsys.Open(path, write)
	if err != nil {
		return nil, err
	}
	have, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	header := make([]byte, dataStart)
	_, unreadable := readChunked(f, header, min(have, dataStart))
	h, err := decodeFixed(header)
	var newer *VersionError
	if errors.As(err, &newer) {
		newer.File = path
		return nil, errors.Join(newer, f.Close())
	}
	if err == nil && h.log != id {
		return nil, errors.Join(fmt.Errorf("%s: written by log %s, this is %s: %w", path, h.log, id, ErrForeign), f.Close())
	}
	ld := &loaded{readable: err == nil && h.segment == segmentID && unreadable == 0, have: have}
	if !ld.readable {
		size := min(max(have&^(pageSize-1), MinSegmentSize), MaxSegmentSize)
		h = fixed{version: format, log: id, segment: segmentID, size: size}
	}
	salt := saltOf(id, segmentID)
	ld.segment = newSegment(path, f, h, salt)
	ld.intact = ld.readable && have == h.size
	ld.damage(0, !ld.readable, "header page is unreadable")
	ld.slot = slot{}
	for _, off := range []int64{slotA, slotB} {
		b := header[off : off+slotSize]
		s, ok := decodeSlot(b, salt, h.size)
		if ok && slotOffset(s.number) == off {
			if s.number > ld.slot.number {
				ld.slot, ld.named = s, true
			}
			continue
		}
		ld.damage(off, !zero(b), "slot page is unreadable")
	}
	if ld.named {
		ld.first, ld.next = ld.slot.first, ld.slot.first
		ld.active, ld.marked = ld.slot.state != Prepared, ld.slot.tail
		ld.prev, ld.prevTail = ld.slot.prev, ld.slot.prevTail
	} else if ld.readable {
		ld.damage(slotA, len(ld.damaged) == 0, "both slot pages are unreadable")
	}
	return ld, nil
}

func (ld *loaded) damage(off int64, yes bool, reason string) {
	if yes {
		ld.damaged = append(ld.damaged, Range{Segment: ld.id, Offset: off, Length: pageSize, Reason: reason})
	}
}

func zero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// readChunked reads the first n bytes of f into buf and clears the rest. A page that cannot be read is left as zeros and
// counted, so that one bad sector does not hide the records around it.
func readChunked(f io.ReaderAt, buf []byte, n int64) (read int64, unreadable int64) {
	const chunk = 1 << 20
	var step int64
	for off := int64(0); off < n; off += step {
		step = min(chunk, n-off)
		part := buf[off : off+step]
		got, err := f.ReadAt(part, off)
		if err == nil || errors.Is(err, io.EOF) {
			clear(part[got:])
			read += int64(got)
			continue
		}
		step = min(step, pageSize-off%pageSize)
		part = part[:step]
		if got, err = f.ReadAt(part, off); err != nil && !errors.Is(err, io.EOF) {
			got = 0
			unreadable += step
		}
		clear(part[got:])
		read += int64(got)
	}
	clear(buf[n:])
	return read, unreadable
}

// loadAll reads all headers. A file that vanished or changed hands meanwhile is left out when the log is only looked at.
func loadAll(fsys FS, dir string, id ID, ls listing, write bool) (all []*loaded, err error) {
	for _, segmentID := range ls.segments {
		ld, err := loadHeader(fsys, dir, id, segmentID, write)
		if errors.Is(err, os.ErrNotExist) && !write {
			continue
		}
		if err != nil {
			closeAll(all)
			return nil, fmt.Errorf("open segment: %w", err)
		}
		all = append(all, ld)
	}
	return all, nil
}

func closeAll(all []*loaded) {
	for _, ld := range all {
		_ = ld.file.Close() // nothing was written through it
	}
}
