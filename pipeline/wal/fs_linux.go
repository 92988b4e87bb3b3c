package wal

import (
	"errors"

	"golang.org/x/sys/unix"
)

// mapFlags fault the whole mapping in when it is made (for reading: nothing becomes dirty), away from the hot path.
const mapFlags = unix.MAP_POPULATE

// Sync flushes the data, and of the metadata only what reading them needs.
func (f osFile) Sync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (f osFile) Allocate(size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), 0, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
			return nil // the zeros written next allocate as well, only later
		default:
			return err
		}
	}
}
