package archive

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"millrace/pipeline/ledger"
	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
	"millrace/tests/long"
)

// TestFaults lets every write, sync and rename of an archiving fail in turn. Either the archiving succeeds or no file has
// the name, and nothing unfinished stays.
func TestFaults(t *testing.T) {
	s := parseSpec(t, everything)
	schema, contents := schemaOf(t, s), hardContents(s)
	row := rowOf(contents)
	for name, fault := range map[string]func(n int) faultfs.Fault{
		"write": func(n int) faultfs.Fault { return faultfs.Fault{Write: n} },
		"tear":  func(n int) faultfs.Fault { return faultfs.Fault{Tear: n} },
		"sync":  func(n int) faultfs.Fault { return faultfs.Fault{Sync: n} },
	} {
		t.Run(name, func(t *testing.T) {
			failed := 0
			for n := 1; ; n++ {
				fs := faultfs.New(0)
				fs.Inject(fault(n))
				_, err := NewDir(fs, "archive").Write(t.Context(), schema, row, passing(contents))
				if err == nil {
					break
				}
				failed++
				require.ErrorIs(t, err, faultfs.ErrInjected)
				require.Empty(t, fs.Files())
			}
			require.Positive(t, failed)
		})
	}
	t.Run("directory", func(t *testing.T) {
		fs := faultfs.New(0)
		fs.Inject(faultfs.Fault{Dir: 1})
		d := NewDir(fs, "archive")
		_, err := d.Write(t.Context(), schema, row, passing(contents))
		require.ErrorIs(t, err, faultfs.ErrInjected, "a name that may not be durable is not reported")
		_, err = d.Write(t.Context(), schema, row, passing(contents))
		require.NoError(t, err)
		require.Len(t, fs.Files(), 1)
	})
}

// TestCrash kills the process, or the machine, at every step of an archiving. What then has the name is whole, and the
// next archiving succeeds.
func TestCrash(t *testing.T) {
	s := parseSpec(t, everything)
	schema, contents := schemaOf(t, s), hardContents(s)
	row := rowOf(contents)
	path := filepath.Join("archive", filepath.FromSlash(FileName(row)))
	whole := faultfs.New(0)
	want, err := NewDir(whole, "archive").Write(t.Context(), schema, row, passing(contents))
	require.NoError(t, err)
	for _, power := range []bool{false, true} {
		for seed := range long.Seeds(4, 10) {
			for step := 1; ; step++ {
				fs := &crashing{FS: faultfs.New(0), left: step, power: power, rnd: rand.New(rand.NewPCG(seed, 1))}
				_, err := NewDir(fs, "archive").Write(t.Context(), schema, row, passing(contents))
				if after := fs.after; after == nil {
					require.NoError(t, err)
					require.Greater(t, step, 5)
					break
				}
				require.Error(t, err)
				if bytes := fs.after.Bytes(path); bytes != nil {
					require.Equal(t, whole.Bytes(path), bytes, "step %d, seed %d", step, seed)
				}
				d := NewDir(fs.after, "archive")
				got, err := d.Write(t.Context(), schema, row, passing(contents))
				require.NoError(t, err)
				require.Equal(t, want, got)
				require.NoError(t, d.RemoveUnfinished("flights", "hourly", time.Now()), "its writer may be alive")
				require.NoError(t, d.RemoveUnfinished("flights", "hourly", time.Now().Add(2*tmpKept)))
				require.Equal(t, []string{path}, fs.after.Files())
				survivor := fs.after.PowerLoss(fs.rnd)
				require.NoError(t, NewDir(survivor, "archive").Verify(t.Context(), got, row), "what was reported is durable")
			}
			if !power {
				break // a killed process leaves the same every time
			}
		}
	}
}

// crashing is a file system whose machine goes down before its left-th change.
type crashing struct {
	*faultfs.FS
	left  int
	power bool
	rnd   *rand.Rand
	after *faultfs.FS
}

func (c *crashing) step() {
	if c.left--; c.left == 0 {
		if c.power {
			c.after = c.PowerLoss(c.rnd)
		} else {
			c.after = c.Kill()
		}
	}
}

func (c *crashing) Create(name string) (wal.File, error) {
	c.step()
	f, err := c.FS.Create(name)
	return &crashingFile{f, c}, err
}

func (c *crashing) Rename(from, to string) error {
	c.step()
	return c.FS.Rename(from, to)
}

func (c *crashing) SyncDir(dir string) error {
	c.step()
	return c.FS.SyncDir(dir)
}

type crashingFile struct {
	wal.File
	fs *crashing
}

func (f *crashingFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.step()
	return f.File.WriteAt(p, off)
}

func (f *crashingFile) Sync() error {
	f.fs.step()
	return f.File.Sync()
}

func (f *crashingFile) Close() error {
	if f.File == nil {
		return nil
	}
	return f.File.Close()
}

// TestDiskFull archives onto a disk that is too small, in memory and on a real file system.
func TestDiskFull(t *testing.T) {
	s := parseSpec(t, everything)
	schema, contents := schemaOf(t, s), hardContents(s)
	long := ledger.Content{Key: contents[0].Key, Values: []byte(strings.Replace(string(contents[3].Values), `"a,\"b}"`, `"`+noise(2<<20)+`"`, 1))}
	contents = append(contents, long)
	row := rowOf(contents)
	t.Run("faultfs", func(t *testing.T) {
		fs := faultfs.New(1 << 16)
		d := NewDir(fs, "archive")
		_, err := d.Write(t.Context(), schema, row, passing(contents))
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.Empty(t, fs.Files())
		fs.Resize(0)
		_, err = d.Write(t.Context(), schema, row, passing(contents))
		require.NoError(t, err)
	})
	t.Run("tmpfs", func(t *testing.T) {
		mount := t.TempDir()
		if err := unix.Mount("tmpfs", mount, "tmpfs", 0, "size=1m"); err != nil {
			t.Skipf("cannot mount a small file system: %v", err)
		}
		t.Cleanup(func() { require.NoError(t, unix.Unmount(mount, unix.MNT_DETACH)) })
		d := NewDir(wal.OS, mount)
		_, err := d.Write(t.Context(), schema, row, passing(contents))
		require.ErrorIs(t, err, syscall.ENOSPC)
		requireOnly(t, d)
		small := rowOf(contents[:1])
		_, err = d.Write(t.Context(), schema, small, passing(contents[:1]))
		require.NoError(t, err)
	})
}

// noise is a text of hexadecimal digits that compresses to no less than half.
func noise(n int) string {
	rnd := rand.New(rand.NewPCG(1, 2))
	text := make([]byte, n)
	for i := range text {
		text[i] = "0123456789abcdef"[rnd.IntN(16)]
	}
	return string(text)
}

// TestTornFile damages a file by hand, at each of its bytes and lengths.
func TestTornFile(t *testing.T) {
	s := parseSpec(t, everything)
	schema, contents := schemaOf(t, s), hardContents(s)
	row := rowOf(contents)
	fs := faultfs.New(0)
	d := NewDir(fs, "archive")
	file, err := d.Write(t.Context(), schema, row, passing(contents))
	require.NoError(t, err)
	path := d.pathOf(file.Name)
	whole := fs.Bytes(path)
	put := func(data []byte) { require.True(t, fs.Mutate(path, func([]byte) []byte { return data })) }

	for cut := 0; cut < len(whole); cut += 101 {
		put(whole[:cut:cut])
		require.ErrorIs(t, d.Verify(t.Context(), file, row), ErrDamaged)
	}
	for at := 0; at < len(whole); at += 29 {
		torn := append([]byte(nil), whole...)
		torn[at] ^= 0x11
		put(torn)
		require.ErrorIs(t, d.Verify(t.Context(), file, row), ErrDamaged)
		_, _ = d.Read(t.Context(), file.Name, func(ledger.Content) error { return nil }) // whatever it says, it does not panic
	}
	put(whole)
	require.NoError(t, d.Verify(t.Context(), file, row))

	other := *row
	other.Revision++
	require.ErrorContains(t, d.Verify(t.Context(), file, &other), "revision 2")
	other = *row
	other.Checksum = strings.Repeat("0", 32)
	require.ErrorIs(t, d.Verify(t.Context(), file, &other), ErrDamaged)
	fs.Spoil(path, 600, 1)
	err = d.Verify(t.Context(), file, row)
	require.ErrorIs(t, err, syscall.EIO)
	require.False(t, errors.Is(err, ErrDamaged), "a disk that cannot be read says nothing of the file")
	require.NoError(t, fs.Remove(path))
	require.ErrorIs(t, d.Verify(t.Context(), file, row), os.ErrNotExist)
}
