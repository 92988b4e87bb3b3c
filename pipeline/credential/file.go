// Package credential holds what the program proves itself with and whom it trusts: certificates, keys, passwords and tokens.
// What stands in a file is bounded in size and read again when the file has changed, so that it can be replaced without a
// restart; while a new one cannot be read, the last good one stays. Nothing here is ever part of an error or of a log line.
package credential

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// The most that files may hold, in bytes.
const (
	MaxSecretBytes      = 64 << 10
	MaxCertificateBytes = 1 << 20
)

// File is a small file that is read again when it has changed. It is safe for concurrent use.
type File struct {
	path  string
	limit int64

	mu       sync.Mutex // guards the rest
	info     os.FileInfo
	data     []byte
	readAt   time.Time
	outdated error
}

// NewFile returns a file of at most limit bytes. It is not read before Read.
func NewFile(path string, limit int64) *File { return &File{path: path, limit: limit} }

// Path is where the file is.
func (f *File) Path() string { return f.path }

// Read returns what the file holds now. The caller must not change it. An error means that it has never been read.
func (f *File) Read() ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, data, err := f.look()
	switch {
	case err == nil:
		f.info, f.data, f.readAt = info, data, time.Now()
	case f.data == nil:
		return nil, err
	}
	f.outdated = err
	return f.data, nil
}

// Outdated says why the last Read returned what the file held before that, nil when it did not.
func (f *File) Outdated() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.outdated
}

// racy is how soon after a change a second one may leave a file's size and time of change as they are.
const racy = time.Second

// look reads the file unless it is as it was. What it returns is the slice it returned before when the content is the same.
func (f *File) look() (os.FileInfo, []byte, error) {
	in, err := os.Open(f.path)
	if err != nil {
		return nil, nil, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return nil, nil, err
	}
	if f.data != nil && same(f.info, info) && f.readAt.Sub(info.ModTime()) > racy {
		return f.info, f.data, nil
	}
	data, err := io.ReadAll(io.LimitReader(in, f.limit+1))
	switch {
	case err != nil:
		return nil, nil, err
	case int64(len(data)) > f.limit:
		return nil, nil, fmt.Errorf("%s has more than %d bytes, the limit for such a file", f.path, f.limit)
	case len(data) == 0:
		return nil, nil, fmt.Errorf("%s is empty", f.path)
	case bytes.Equal(data, f.data):
		data = f.data
	}
	return info, data, nil
}

// same reports whether two looks at a path saw the same file with the same content, as far as that can be told from outside.
func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
