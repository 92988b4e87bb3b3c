package chaos

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/tests/rig"
)

// walSwitch tells whether the worker has a write-ahead log. Faults of it are left out where it has not.
var walSwitch = sync.OnceValue(func() bool {
	path, err := rig.Binary("worker")
	if err != nil {
		return false
	}
	out, err := exec.Command(path, "--help").CombinedOutput()
	return err == nil && strings.Contains(string(out), "--wal ")
})

const (
	walScarce = "size=1m"   // room for the log's name, not for a segment
	walAmple  = "size=512m" // room for what a seed can journal
)

// giveWAL gives a worker a directory for its log. In a seed with full disks it is a file system of its own, too small
// until the fault ends; who may not mount one gets a small limit instead.
func (r *run) giveWAL(w *worker) {
	w.wal = filepath.Join(r.t.TempDir(), "wal")
	require.NoError(r.t, os.Mkdir(w.wal, 0o755))
	scarce := func(s Step) bool { return s.Kind == WALFull && s.Worker == w.n }
	if !slices.ContainsFunc(r.plan.Steps, scarce) {
		return
	}
	if err := syscall.Mount("tmpfs", w.wal, "tmpfs", 0, walScarce); err != nil {
		r.say("no file system for %s (%v), its log has a small limit instead", w.name, err)
		w.walArgs = []string{"--wal-hard-limit", "4MiB"}
		return
	}
	r.t.Cleanup(func() { syscall.Unmount(w.wal, syscall.MNT_DETACH) })
}

// fillWAL takes a worker's way to Redis while there is no room for its log, so that it must journal and cannot. In the
// end there is room; a later fault of this kind finds it and is a cut only.
func (r *run) fillWAL(s Step) (end func() bool) {
	w := r.workers[s.Worker]
	w.link.Point("")
	return func() bool {
		if w.walArgs == nil {
			require.NoError(r.t, syscall.Mount("tmpfs", w.wal, "tmpfs", syscall.MS_REMOUNT, walAmple))
		}
		w.link.Point(r.redis.Addr)
		return true
	}
}

// damageWAL cuts a worker off so that it journals, kills it, damages its log, and starts it again.
func (r *run) damageWAL(s Step) (end func() bool) {
	w := r.workers[s.Worker]
	w.link.Point("")
	return func() bool {
		w.process.Kill()
		if name, size := newest(w.wal); size > 0 {
			r.say("  %s of %s, %d bytes used", s.Kind, filepath.Base(name), size)
			require.NoError(r.t, damage(name, size, s))
		}
		w.link.Point(r.redis.Addr)
		w.start()
		return true
	}
}

// newest is the file of a log that was written last, and where its last byte that is not zero ends.
func newest(dir string) (name string, used int64) {
	var last time.Time
	filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil
		}
		info, err := entry.Info()
		if err != nil || info.Size() < 4096 || info.ModTime().Before(last) {
			return nil
		}
		text, err := os.ReadFile(path)
		if n := len(bytes.TrimRight(text, "\x00")); err == nil && n > 0 {
			name, used, last = path, int64(n), info.ModTime()
		}
		return nil
	})
	return name, used
}

// damage does to a file what a crash of the machine or a bad disk does.
func damage(name string, used int64, s Step) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if s.Kind == WALTorn {
		n := min(used, 1+int64(s.Dice%200))
		_, err = f.WriteAt(make([]byte, n), used-n)
		return err
	}
	at := int64(s.Dice % uint64(used))
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 1 << (s.Dice >> 61)
	_, err = f.WriteAt(b[:], at)
	return err
}
