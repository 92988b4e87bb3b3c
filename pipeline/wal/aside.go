package wal

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// AsideCopy is a file beside the segments: bytes that could not be read, or a torn tail that was cut off.
type AsideCopy struct {
	File     string    `json:"file"` // in the log's directory
	Bytes    int64     `json:"bytes"`
	Modified time.Time `json:"modified"`
	// Held means that the log still has records of that part which nobody has decided about. Such a copy is never deleted.
	Held bool `json:"held"`
}

// Aside lists the copies that the log keeps, the oldest first.
func (l *Log) Aside() ([]AsideCopy, error) {
	copies, err := l.listAside()
	if err != nil {
		return nil, fmt.Errorf("list copies of unreadable ranges: %w", err)
	}
	return copies, nil
}

func (l *Log) listAside() ([]AsideCopy, error) {
	folder := filepath.Join(l.dir, asideFolder)
	names, err := l.fs.ReadDir(folder)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		return nil, err
	}
	held := l.undecided()
	copies := make([]AsideCopy, 0, len(names))
	for _, name := range names {
		f, err := l.fs.Open(filepath.Join(folder, name), false)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c := AsideCopy{File: filepath.Join(asideFolder, name), Held: held(name)}
		c.Bytes, err = f.Size()
		if err == nil {
			c.Modified, err = f.Modified()
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		copies = append(copies, c)
	}
	slices.SortFunc(copies, func(a, b AsideCopy) int {
		return cmp.Or(a.Modified.Compare(b.Modified), strings.Compare(a.File, b.File))
	})
	return copies, nil
}

// undecided returns a function that reports whether a copy belongs to a part of the log that is not released yet. Segments
// go strictly from the oldest, so that is every part from the oldest segment on, and the whole segments that were moved
// away before it as long as readers are still told of that gap.
func (l *Log) undecided() func(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	segs := slices.Concat(l.released, l.segs)
	if len(segs) == 0 {
		return func(string) bool { return false }
	}
	oldest := segs[0]
	gap := slices.ContainsFunc(oldest.holes, func(h Range) bool { return h.Length == 0 })
	return func(name string) bool {
		if strings.HasSuffix(name, tornSuffix) {
			return false // those bytes were never acknowledged
		}
		text, _, _ := strings.Cut(strings.TrimSuffix(name, segmentSuffix), "-")
		id, ok := parseSegmentName(text, "")
		return !ok || id >= oldest.id || gap && strings.HasSuffix(name, segmentSuffix)
	}
}

// SweepAside deletes copies older than Config.AsideAge, and then the oldest ones until all together are within
// Config.AsideLimit. It passes over copies that are held, so those alone may exceed the limit. It returns what it deleted.
func (l *Log) SweepAside(now time.Time) (deleted []AsideCopy, err error) {
	copies, err := l.Aside()
	if err != nil {
		return nil, err
	}
	total := int64(0)
	for _, c := range copies {
		total += c.Bytes
	}
	var errs []error
	for _, c := range copies {
		old := now.Sub(c.Modified) > l.cfg.AsideAge
		unfinished := strings.HasSuffix(c.File, tmpSuffix) // somebody may be writing it just now
		abandoned := unfinished && old
		switch {
		case c.Held && !abandoned: // nobody has decided about its records
			continue
		case !old && (unfinished || total <= l.cfg.AsideLimit):
			continue
		}
		if err := removeQuietly(l.fs, filepath.Join(l.dir, c.File)); err != nil {
			errs = append(errs, err)
			continue
		}
		total -= c.Bytes
		deleted = append(deleted, c)
	}
	if len(deleted) > 0 {
		errs = append(errs, l.fs.SyncDir(filepath.Join(l.dir, asideFolder)))
	}
	l.mu.Lock()
	for _, c := range deleted {
		l.stats.AsideDeleted++
		l.stats.AsideDeletedBytes += c.Bytes
	}
	l.mu.Unlock()
	if err := errors.Join(errs...); err != nil {
		return deleted, fmt.Errorf("delete copies of unreadable ranges: %w", err)
	}
	return deleted, nil
}
