package faultfs

import (
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"millrace/pipeline/wal"
)

// file is an open file, and its mapping too.
type file struct {
	fs     *FS
	node   *node
	write  bool
	closed bool
}

// check says whether the handle is alive. Callers hold the lock.
func (f *file) check() error {
	if f.closed {
		return os.ErrClosed
	}
	return f.fs.alive()
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(); err != nil {
		return 0, err
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	for at := range f.node.bad {
		if at*sector < off+int64(len(p)) && (at+1)*sector > off {
			return 0, fmt.Errorf("read: %w", syscall.EIO)
		}
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(); err != nil {
		return 0, err
	}
	if !f.write {
		return 0, fmt.Errorf("file is not open for writing: %w", os.ErrPermission)
	}
	if f.fs.due(&f.fs.fault.Write) {
		return 0, ErrInjected
	}
	tear := f.fs.due(&f.fs.fault.Tear)
	if tear {
		p = p[:len(p)/2]
	}
	if err := f.grow(off + int64(len(p))); err != nil {
		return 0, err
	}
	copy(f.node.data[off:], p)
	f.node.modified = time.Now()
	f.touch(off, int64(len(p)))
	if tear {
		return len(p), ErrInjected
	}
	return len(p), nil
}

func (f *file) grow(size int64) error {
	more := size - int64(len(f.node.data))
	if more <= 0 {
		return nil
	}
	if f.fs.space > 0 && f.fs.used()+more > f.fs.space {
		return fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	from := int64(len(f.node.data))
	f.node.data = append(f.node.data, make([]byte, more)...)
	f.touch(from, more)
	return nil
}

func (f *file) touch(off, n int64) {
	for at := off / sector; at*sector < off+n; at++ {
		f.node.dirty[at] = true
	}
}

func (f *file) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return int64(len(f.node.data)), f.check()
}

func (f *file) Modified() (time.Time, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.node.modified, f.check()
}

func (f *file) Allocate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(); err != nil {
		return err
	}
	return f.grow(size)
}

func (f *file) Sync() error {
	size, err := f.Size()
	if err != nil {
		return err
	}
	return f.sync(0, size)
}

func (f *file) sync(off, n int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.check(); err != nil {
		return err
	}
	failed := f.fs.due(&f.fs.fault.Sync)
	for at := range f.node.dirty {
		if at*sector < off+n && (at+1)*sector > off {
			if !failed {
				f.node.persist(at)
			}
			delete(f.node.dirty, at)
		}
	}
	if failed {
		return ErrInjected
	}
	return nil
}

func (f *file) Map(size int64) (wal.Mapping, error) {
	have, err := f.Size()
	if err == nil && have < size {
		err = fmt.Errorf("map: %d bytes of %d are there", have, size)
	}
	if err != nil {
		return nil, err
	}
	return &mapping{file{fs: f.fs, node: f.node, write: true}}, nil
}

func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	err := f.check()
	f.closed = true
	return err
}

type mapping struct{ file }

func (m *mapping) Sync(off, n int64) error { return m.sync(off, n) }
