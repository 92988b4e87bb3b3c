// Package faultfs is a file system in memory for testing what a log does when the disk misbehaves: the n-th write or sync
// fails, a write is torn, space runs out, the process is killed, the power goes.
//
// It keeps for every file what programs see and what is on the disk. A sync copies the dirty sectors from the one to the
// other; after a failed sync they are, as on Linux, neither on the disk nor dirty any more. Names are made durable by
// SyncDir; at a power loss, of the changes since, some prefix is on the disk, and of every file's dirty sectors any subset.
package faultfs

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"millrace/pipeline/wal"
)

const sector = 512

// ErrInjected is what an injected failure returns; it is an input/output error.
var ErrInjected = fmt.Errorf("injected: %w", syscall.EIO)

// FS is the file system as one process sees it. It is safe for concurrent use.
type FS struct {
	*machine
	born int // the life of the process
}

type machine struct {
	mu      sync.Mutex
	names   map[string]*node // as programs see them
	onDisk  map[string]*node // as the disk has them
	pending []change         // from onDisk to names, in order
	locks   map[string]bool
	life    int // changes when the process dies; whatever an earlier one does fails
	space   int64
	fault   Fault
}

// Fault says what goes wrong next. Counts are from now, 1 being the next; 0 is never. Each happens once.
type Fault struct {
	Write int // this write fails and writes nothing
	Tear  int // this write writes half and fails
	Sync  int // this sync fails
	Dir   int // this SyncDir fails
}

type node struct {
	data, disk []byte
	modified   time.Time
	dirty      map[int64]bool // sectors
	bad        map[int64]bool // sectors that cannot be read
}

// change is a name that came, went or moved.
type change struct {
	name string // gets node, if there is one
	node *node
	gone string // goes
}

// New returns an empty file system with room for space bytes; 0 is without limit.
func New(space int64) *FS {
	return &FS{machine: &machine{names: map[string]*node{}, onDisk: map[string]*node{}, locks: map[string]bool{}, space: space}}
}

// Inject sets what goes wrong next.
func (s *FS) Inject(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Resize changes the room; files keep what they have.
func (s *FS) Resize(space int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.space = space
}

// Kill ends the process and returns the view of the next one: locks are gone, what programs saw stays. Everything done
// through s or its files from now on fails.
func (s *FS) Kill() *FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reborn()
}

func (s *FS) reborn() *FS {
	s.life++
	s.locks, s.fault = map[string]bool{}, Fault{}
	return &FS{machine: s.machine, born: s.life}
}

// PowerLoss is Kill of the machine: what was not synced is gone, in part.
func (s *FS) PowerLoss(rnd *rand.Rand) *FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.pending[:rnd.IntN(len(s.pending)+1)] {
		c.apply(s.onDisk)
	}
	s.pending = nil
	s.names = maps.Clone(s.onDisk)
	chance := []float64{0, 0.1, 0.5, 0.9, 1}[rnd.IntN(5)]
	for _, name := range slices.Sorted(maps.Keys(s.names)) {
		n := s.names[name]
		for _, at := range slices.Sorted(maps.Keys(n.dirty)) {
			if rnd.Float64() < chance {
				n.persist(at)
			}
		}
		n.data, n.dirty = slices.Clone(n.disk), map[int64]bool{}
	}
	return s.reborn()
}

// alive fails for a process that was killed. Callers hold the lock.
func (s *FS) alive() error {
	if s.born != s.life {
		return errDead
	}
	return nil
}

func (c change) apply(names map[string]*node) {
	delete(names, c.gone)
	if c.node != nil {
		names[c.name] = c.node
	}
}

// persist copies one sector to the disk.
func (n *node) persist(at int64) {
	end := min((at+1)*sector, int64(len(n.data)))
	if int64(len(n.disk)) < end {
		n.disk = append(n.disk, make([]byte, end-int64(len(n.disk)))...)
	}
	if at*sector < end {
		copy(n.disk[at*sector:end], n.data[at*sector:end])
	}
}

// Mutate changes a file's bytes under everybody, on disk as well. It says whether there is such a file.
func (s *FS) Mutate(name string, change func([]byte) []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.names[name]
	if n == nil {
		return false
	}
	n.data = change(n.data)
	n.disk, n.dirty = slices.Clone(n.data), map[int64]bool{}
	return true
}

// Spoil makes the sectors that hold n bytes of a file from off unreadable.
func (s *FS) Spoil(name string, off, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	bad := map[int64]bool{}
	for at := off / sector; at*sector < off+n; at++ {
		bad[at] = true
	}
	s.names[name].bad = bad
}

// Files returns the names of all files, sorted.
func (s *FS) Files() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.names))
}

// Bytes returns a copy of a file's bytes, nil when there is none.
func (s *FS) Bytes(name string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.names[name]; n != nil {
		return slices.Clone(n.data)
	}
	return nil
}

// Clone returns a copy of the file system as it is now, without locks or handles.
func (s *FS) Clone() *FS {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := New(s.space)
	for name, n := range s.names {
		c.names[name] = &node{data: slices.Clone(n.data), disk: slices.Clone(n.disk), dirty: maps.Clone(n.dirty), modified: n.modified}
	}
	c.onDisk = maps.Clone(c.names)
	return c
}

// MkdirAll does nothing: directories are only prefixes of names.
func (s *FS) MkdirAll(string) error { return nil }

// ReadDir lists the files in dir.
func (s *FS) ReadDir(dir string) (names []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return nil, err
	}
	for name := range s.names {
		if rest, ok := strings.CutPrefix(name, dir+string(filepath.Separator)); ok && !strings.ContainsRune(rest, filepath.Separator) {
			names = append(names, rest)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Create makes or empties a file.
func (s *FS) Create(name string) (wal.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return nil, err
	}
	n := &node{dirty: map[int64]bool{}, modified: time.Now()}
	s.change(change{name: name, node: n})
	return &file{fs: s, node: n, write: true}, nil
}

// Open opens a file.
func (s *FS) Open(name string, write bool) (wal.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return nil, err
	}
	n := s.names[name]
	if n == nil {
		return nil, fmt.Errorf("open %s: %w", name, os.ErrNotExist)
	}
	return &file{fs: s, node: n, write: write}, nil
}

// Rename moves a file over another.
func (s *FS) Rename(from, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return err
	}
	n := s.names[from]
	if n == nil {
		return fmt.Errorf("rename %s: %w", from, os.ErrNotExist)
	}
	s.change(change{name: to, node: n, gone: from})
	return nil
}

// Remove removes a file.
func (s *FS) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return err
	}
	if s.names[name] == nil {
		return fmt.Errorf("remove %s: %w", name, os.ErrNotExist)
	}
	s.change(change{gone: name})
	return nil
}

func (s *FS) change(c change) {
	c.apply(s.names)
	s.pending = append(s.pending, c)
}

// SyncDir makes all names durable.
func (s *FS) SyncDir(string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return err
	}
	if s.due(&s.fault.Dir) {
		return ErrInjected
	}
	s.pending = nil
	s.onDisk = maps.Clone(s.names)
	return nil
}

// Lock locks a name until closed or killed.
func (s *FS) Lock(name string) (io.Closer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.alive(); err != nil {
		return nil, err
	}
	if s.locks[name] {
		return nil, wal.ErrLocked
	}
	s.locks[name] = true
	return unlock{s, name}, nil
}

type unlock struct {
	fs   *FS
	name string
}

func (u unlock) Close() error {
	u.fs.mu.Lock()
	defer u.fs.mu.Unlock()
	if u.fs.alive() == nil {
		delete(u.fs.locks, u.name)
	}
	return nil
}

// due counts a fault down.
func (s *FS) due(n *int) bool {
	if *n == 0 {
		return false
	}
	*n--
	return *n == 0
}

func (s *FS) used() (total int64) {
	for _, n := range s.names {
		total += int64(len(n.data))
	}
	return total
}

var errDead = errors.Join(os.ErrClosed, errors.New("the process was killed"))
