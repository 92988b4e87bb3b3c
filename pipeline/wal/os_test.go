package wal_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"millrace/pipeline/wal"
)

// TestFullFileSystem fills a real, small file system: appends fail with ErrNoSpace and go on when there is room again. In
// a sparse mapping the first store past the end of the disk would have killed the test.
func TestFullFileSystem(t *testing.T) {
	backends(t, func(t *testing.T, backend wal.Backend) {
		mount := t.TempDir()
		if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=8m"); err != nil {
			t.Skipf("cannot mount a small file system: %v", err)
		}
		t.Cleanup(func() { require.NoError(t, unix.Unmount(mount, unix.MNT_DETACH)) })
		cfg := small(wal.OS, filepath.Join(mount, "log"), backend)
		cfg.SegmentSize, cfg.HardLimit = 1<<20, 1<<30
		l, _ := open(t, cfg)
		other := filepath.Join(mount, "other")
		require.NoError(t, os.WriteFile(other, make([]byte, 2<<20), 0o600))
		var err error
		n := 0
		for ; err == nil; n++ {
			_, err = l.Append(deadline(t), record("a", n, 20_000))
		}
		require.ErrorIs(t, err, wal.ErrNoSpace)
		require.Equal(t, wal.Hard, l.Level())
		require.Greater(t, n, 100)
		for range 3 { // whatever little there is left gets used up
			f, err := os.OpenFile(other, os.O_APPEND|os.O_WRONLY, 0)
			require.NoError(t, err)
			for err == nil {
				_, err = f.Write(make([]byte, 4096))
			}
			require.ErrorIs(t, err, unix.ENOSPC)
			require.NoError(t, f.Close())
			_, err = l.Append(deadline(t), record("a", n, 20_000))
			require.ErrorIs(t, err, wal.ErrNoSpace)
		}
		require.NoError(t, os.Remove(other))
		eventually(t, func() bool { return l.Level() == wal.Normal })
		_, err = l.Append(deadline(t), record("a", n-1, 20_000))
		require.NoError(t, err)
		got, corrupt := read(t, l.Reader(0))
		require.Empty(t, corrupt)
		require.Len(t, got, n)
		for i, r := range got {
			require.Equal(t, uint64(i), r.Place.Seq)
		}
	})
}

// TestFaultIsAnError cuts a mapped file short: the store faults, and the process lives.
func TestFaultIsAnError(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	f, err := wal.OS.Create(name)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.Allocate(1<<20))
	_, err = f.Map(2 << 20)
	require.ErrorContains(t, err, "1048576 bytes of 2097152 are there")
	m, err := f.Map(1 << 20)
	require.NoError(t, err)
	defer m.Close()
	_, err = m.WriteAt([]byte("x"), 1<<20)
	require.Error(t, err)
	_, err = m.WriteAt([]byte("x"), 500_000)
	require.NoError(t, err)
	require.NoError(t, m.Sync(500_000, 1))
	require.NoError(t, os.Truncate(name, 4096))
	_, err = m.WriteAt([]byte("x"), 500_000)
	require.ErrorIs(t, err, unix.EIO)
	require.NoError(t, m.Close())
	require.NoError(t, m.Close())
}

func TestMappedLogCutShort(t *testing.T) {
	cfg := small(wal.OS, t.TempDir(), wal.Mmap)
	l, _ := open(t, cfg)
	_, err := l.Append(deadline(t), record("a", 1, 100))
	require.NoError(t, err)
	segs, err := filepath.Glob(filepath.Join(cfg.Dir, "*.seg"))
	require.NoError(t, err)
	for _, name := range segs {
		require.NoError(t, os.Truncate(name, dataStart))
	}
	for i := 0; err == nil && i < 100; i++ {
		_, err = l.Append(deadline(t), record("a", 2+i, 4000))
	}
	require.ErrorIs(t, err, wal.ErrFailed)
	require.True(t, errors.Is(l.Close(), wal.ErrFailed))
}
