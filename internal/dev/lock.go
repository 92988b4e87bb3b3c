package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrInUse means that another process keeps its state in the same directory.
var ErrInUse = errors.New("directory is in use by another process")

const lockPoll = 50 * time.Millisecond

// lockFile creates dir and takes it for this process, waiting up to patience for another one to let go. The lock holds
// until the file is closed here and in every child that inherited it.
func lockFile(ctx context.Context, dir string, patience time.Duration) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock data directory: %w", err), f.Close())
		}
		select {
		case <-poll.C:
		case <-deadline.C:
			return nil, errors.Join(fmt.Errorf("%s: %w (stop that process or choose another data directory)", dir, ErrInUse), f.Close())
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		}
	}
}

// lockDir is lockFile for a server inside this process, without waiting. An empty dir needs no lock.
func lockDir(ctx context.Context, dir string) (release func() error, err error) {
	if dir == "" {
		return func() error { return nil }, nil
	}
	f, err := lockFile(ctx, dir, 0)
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}
