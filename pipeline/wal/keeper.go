package wal

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"time"
)

// keep is the housekeeper: it prepares the next segment, seals full ones and recycles released ones, so that neither
// appenders nor the syncer ever create, map, rename or delete a file.
func (l *Log) keep() {
	defer l.keeping.Done()
	retry := time.NewTimer(math.MaxInt64)
	defer retry.Stop()
	for {
		select {
		case <-l.chores:
		case <-retry.C:
		case <-l.stop:
			l.sealEnded()
			l.recycleReleased()
			return
		}
		l.prepareNext()
		l.sealEnded()
		again := l.recycleReleased()
		if !l.prepareNext() || again {
			retry.Reset(l.cfg.RetryAfter)
		}
	}
}

// prepareNext makes sure a segment is prepared, and says whether one is (or none is needed any more).
func (l *Log) prepareNext() bool {
	l.mu.Lock()
	if l.next != nil || l.failure != nil || l.closed {
		l.mu.Unlock()
		return true
	}
	id := l.nextID
	l.nextID++
	free := ""
	if n := len(l.free); n > 0 {
		free, l.free = l.free[n-1], l.free[:n-1]
	}
	l.mu.Unlock()

	seg, err := l.prepare(id, free)
	if err != nil && free != "" { // the file may be of another size, or damaged; a new one may do
		if err = removeQuietly(l.fs, free); err == nil {
			free = ""
			seg, err = l.prepare(id, "")
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wakeRoom()
	if err != nil {
		if noSpace(err) {
			err = fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		l.blocked = fmt.Errorf("prepare segment: %w", err)
		return false
	}
	l.next, l.blocked = seg, nil
	if free != "" {
		l.stats.Recycled++
	} else {
		l.stats.Created++
	}
	l.trim()
	return true
}

func (l *Log) prepare(id uint64, free string) (*segment, error) {
	h, salt := fixedOf(l.id, id, l.cfg.SegmentSize), saltOf(l.id, id)
	var f File
	var err error
	if free == "" {
		f, err = createSegment(l.fs, l.dir, h, salt)
	} else {
		f, err = recycleSegment(l.fs, free, h, salt)
	}
	if err != nil {
		return nil, err
	}
	seg := newSegment(filepath.Join(l.dir, segmentName(id, segmentSuffix)), f, h, salt)
	if seg.dev, err = openDevice(f, l.cfg.Backend, h.size); err != nil {
		return nil, errors.Join(err, f.Close(), removeQuietly(l.fs, seg.path))
	}
	return seg, nil
}

// sealEnded writes the final tail of ended segments into their headers and lets go of what writing needed. The successor's
// header says the same, so nothing depends on it; but a failed sync is a failed sync.
func (l *Log) sealEnded() {
	l.mu.Lock()
	ended := l.sealing
	l.sealing = nil
	l.mu.Unlock()
	for _, seg := range ended {
		l.mu.Lock()
		next := l.tailSlot(seg, Sealed)
		l.mu.Unlock()
		err := seg.mark(next)
		seg.mu.Lock()
		if seg.dev != nil {
			err = errors.Join(err, seg.dev.Close())
			seg.dev = nil
		}
		seg.mu.Unlock()
		if err != nil {
			l.fail(fmt.Errorf("seal segment %016x: %w", seg.id, err), nil)
		}
	}
}

// recycleReleased retires released segments, and says whether that must be tried again. It goes strictly from the oldest, up to
// the first a reader is on: whenever the process dies, what is left on disk has no hole.
func (l *Log) recycleReleased() (again bool) {
	for {
		l.mu.Lock()
		if len(l.released) == 0 || l.released[0].refs > 0 {
			l.mu.Unlock()
			return false
		}
		seg := l.released[0]
		l.mu.Unlock()
		if err := l.retire(seg); err != nil {
			return true
		}
		l.mu.Lock()
		l.released = l.released[1:]
		l.mu.Unlock()
	}
}

// retire turns a segment into a free file, or deletes it when there are enough. Corrupt ranges are copied aside first: a
// segment whose ranges cannot be copied stays.
func (l *Log) retire(seg *segment) error {
	for i := range seg.holes {
		if err := setAside(l.fs, l.dir, &seg.holes[i], corruptSuffix, seg.file.ReadAt); err != nil {
			return err
		}
	}
	l.mu.Lock()
	keep := len(l.free) < spareFiles && seg.size == l.cfg.SegmentSize && seg.intact
	l.mu.Unlock()
	// The name goes first, durably: a file called a segment always has the header of that segment.
	if free := strings.TrimSuffix(seg.path, segmentSuffix) + freeSuffix; free != seg.path {
		if err := l.fs.Rename(seg.path, free); err != nil {
			return fmt.Errorf("free segment: %w", err)
		}
		seg.path = free
	}
	if err := l.fs.SyncDir(l.dir); err != nil {
		return fmt.Errorf("free segment: %w", err)
	}
	if err := seg.close(); err != nil {
		return fmt.Errorf("free segment: %w", err)
	}
	if !keep {
		return removeQuietly(l.fs, seg.path)
	}
	l.mu.Lock()
	l.free = append(l.free, seg.path)
	l.mu.Unlock()
	return nil
}
