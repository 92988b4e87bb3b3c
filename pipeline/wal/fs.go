package wal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// FS is all the log asks of a file system. Paths are those of package filepath. Implementations are safe for concurrent
// use. A full disk shows as syscall.ENOSPC (or EDQUOT), a missing file as os.ErrNotExist.
type FS interface {
	// MkdirAll makes a directory and those above it, durably.
	MkdirAll(dir string) error
	// ReadDir returns the names in dir, sorted.
	ReadDir(dir string) ([]string, error)
	// Create makes an empty file, or empties an existing one, for reading and writing.
	Create(name string) (File, error)
	// Open opens an existing file for reading, and for writing too if asked.
	Open(name string, write bool) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes the directory's names durable.
	SyncDir(dir string) error
	// Lock takes an exclusive lock until closed, or fails with ErrLocked.
	Lock(name string) (io.Closer, error)
}

// File is an open file. Reads may run beside writes.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	// Modified is when the file's bytes were last written.
	Modified() (time.Time, error)
	// Allocate reserves size bytes on disk, so that writing them cannot run out of space where the file system can promise
	// that. It extends the file.
	Allocate(size int64) error
	// Sync makes the file's bytes durable. After a failure nothing is known about any byte written since the last success.
	Sync() error
	// Map maps the file's first size bytes, which must be allocated and written.
	Map(size int64) (Mapping, error)
}

// Mapping is a writable shared mapping of a file. It is used by one goroutine at a time.
type Mapping interface {
	// WriteAt stores into the mapping. A fault (a file cut short, an unreadable page) is an error.
	io.WriterAt
	// Sync makes n bytes from off durable.
	Sync(off, n int64) error
	Close() error
}

const (
	segmentSuffix = ".seg"  // a segment with records, or prepared for them
	freeSuffix    = ".free" // a released segment, to be recycled
	tmpSuffix     = ".tmp"  // not finished; removed at the next opening
)

// writeFile replaces a small file: after it returns, and after any crash, name holds the old or the new content, whole.
func writeFile(fsys FS, name string, data []byte) error {
	f, err := fsys.Create(name + tmpSuffix)
	if err != nil {
		return fmt.Errorf("create %s: %w", name+tmpSuffix, err)
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = fsys.Rename(name+tmpSuffix, name)
	}
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(name))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), removeQuietly(fsys, name+tmpSuffix))
	}
	return nil
}

// readFile reads a file of at most limit bytes.
func readFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name, false)
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err == nil && size > limit {
		err = fmt.Errorf("%s: %d bytes, want at most %d: %w", name, size, limit, ErrCorrupt)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	data := make([]byte, size)
	n, err := f.ReadAt(data, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return data[:n], errors.Join(err, f.Close())
}

// removeQuietly removes name and does not mind when it is gone.
func removeQuietly(fsys FS, name string) error {
	if err := fsys.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
