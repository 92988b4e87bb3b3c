package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"millrace/pipeline/wal"
)

// unfinished ends the name of a file that is to take the place of another one.
const unfinished = ".tmp"

// makeRoom makes sure that n more bytes fit into the file. What was delivered goes first. If what waits takes more than
// three quarters of the limit even so, the oldest reports are dropped: they tell of recoveries that are long over, and the
// quarter keeps the file from being written anew for every report.
func (l *reportLog) makeRoom(n int64) error {
	if l.size+n <= l.limit {
		return nil
	}
	if n > l.limit/4 {
		return fmt.Errorf("recovery report of %d bytes, at most %d fit; raise --reports-limit", n, l.limit/4)
	}
	live := int64(0)
	for _, w := range l.waiting {
		live += w.n // 0 for those in memory
	}
	kept := make([]waitingReport, 0, len(l.waiting))
	dropped := 0
	for _, w := range l.waiting {
		if w.report == nil && live > l.limit/4*3 {
			live -= w.n
			dropped++
			continue
		}
		kept = append(kept, w)
	}
	if err := l.rewrite(kept); err != nil {
		return fmt.Errorf("rewrite recovery reports: %w", err)
	}
	if dropped > 0 {
		l.dropped += dropped
		l.log.Warn("recovery reports dropped: more wait for Temporal than the file may hold; the recoveries they tell of were done",
			"file", l.path, "limit", l.limit, "dropped", dropped, "dropped_since_start", l.dropped)
	}
	return nil
}

// rewrite replaces the file by one with the lines of kept alone. The old file stays until the new one is whole.
func (l *reportLog) rewrite(kept []waitingReport) error {
	next, err := os.OpenFile(l.path+unfinished, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	size := int64(0)
	for i := range kept {
		if kept[i].report != nil {
			continue
		}
		if _, err = io.Copy(io.NewOffsetWriter(next, size), io.NewSectionReader(l.file, kept[i].at, kept[i].n)); err != nil {
			break
		}
		kept[i].at = size
		size += kept[i].n
	}
	if err == nil {
		err = next.Sync()
	}
	if err == nil {
		err = os.Rename(l.path+unfinished, l.path)
	}
	if err != nil {
		return errors.Join(err, next.Close(), os.Remove(l.path+unfinished))
	}
	old := l.file
	l.file, l.size, l.waiting = next, size, kept
	return errors.Join(old.Close(), wal.OS.SyncDir(filepath.Dir(l.path)))
}
