package wal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// Log is a write-ahead log. All methods are safe for concurrent use.
//
// Three kinds of goroutines share it: appenders (callers of Submit, Release and the like), the syncer, which alone writes
// and syncs records, and the housekeeper, which alone creates, renames and deletes files. Readers run beside all of them.
// The fields above mu are set before the log is shared and never change. mu guards everything from segs to stats, the
// streams reachable from there, and the fields of segments and stages that say so. A segment's own mutex is taken before
// mu (the syncer notes its statistics while it holds the segment); nobody takes a segment's mutex while holding mu. No
// file is read, written or synced under mu.
type Log struct {
	cfg   Config
	view  bool // only looked at: no lock, no goroutines, nothing is written
	dir   string
	fs    FS
	id    ID
	owner Owner
	lock  io.Closer

	mu        sync.Mutex
	segs      []*segment // with records, oldest first; the last one is appended to unless ended
	released  []*segment // out of segs, waiting for readers and the housekeeper
	sealing   []*segment // ended and flushed, waiting for the housekeeper
	next      *segment   // prepared ahead; nil while the housekeeper works on it
	free      []string   // files to recycle
	streams   map[string]*stream
	open      *stage   // taking records; nil when the last segment has ended
	queue     []*stage // full, in order, before open
	buffers   [][]byte // of flushed stages
	staged    int64    // bytes in open and queue
	used      int64    // bytes of frames in segs
	nextID    uint64
	nextIndex uint64 // of the next frame staged
	durable   uint64 // every frame below is durable
	head      uint64 // every record below was released
	blocked   error  // why the next segment could not be prepared
	refused   int64  // bytes of the largest batch for which there was no room, until one as large is taken; 0: there was none
	failure   error  // final
	closed    bool
	room      chan struct{} // closed when staging may go on
	tail      chan struct{} // closed when durable moved
	stats     Stats

	work, chores    chan struct{} // capacity 1: something to sync; something to do for the housekeeper
	stopSync, stop  chan struct{}
	syncer, keeping sync.WaitGroup
}

// Open opens or creates the log in cfg.Dir, repairs what a crash left, and reports what it found; corruption is reported, not
// an error. It fails with ErrLocked, ErrVersion or ErrForeign without having changed a segment, with ErrFailed when what is
// there cannot be made durable, or with what the file system said.
func Open(cfg Config) (*Log, *Recovery, error) {
	if err := cfg.Validate(); err != nil {
		return nil, nil, err
	}
	cfg = cfg.withDefaults()
	if err := cfg.FS.MkdirAll(cfg.Dir); err != nil {
		return nil, nil, fmt.Errorf("create log directory: %w", err)
	}
	lock, owner, err := lockDir(&cfg)
	if err != nil {
		return nil, nil, err
	}
	l := newLog(cfg)
	l.lock, l.owner = lock, owner
	rep, err := l.recover()
	if err != nil {
		if noSpace(err) {
			err = fmt.Errorf("%w: %w", ErrNoSpace, err)
		}
		_ = l.closeFiles() // the error that matters is the other one
		return nil, nil, errors.Join(fmt.Errorf("open log: %w", err), lock.Close())
	}
	l.keeping.Add(1)
	go l.keep()
	l.syncer.Add(1)
	go l.sync()
	return l, rep, nil
}

func newLog(cfg Config) *Log {
	return &Log{
		cfg: cfg, dir: cfg.Dir, fs: cfg.FS, streams: map[string]*stream{}, nextID: 1, nextIndex: 1, durable: 1,
		work: make(chan struct{}, 1), chores: make(chan struct{}, 1), stopSync: make(chan struct{}), stop: make(chan struct{}),
	}
}

// recover brings the directory into order and leaves the log ready to append, if the disk has room.
func (l *Log) recover() (*Recovery, error) {
	rep := &Recovery{}
	ls, err := list(l.fs, l.dir)
	if err != nil {
		return nil, err
	}
	if err := l.identify(ls, rep, true); err != nil {
		return nil, err
	}
	all, err := loadAll(l.fs, l.dir, l.id, ls, true)
	if err != nil {
		return nil, err
	}
	for _, name := range ls.tmp {
		if err := removeQuietly(l.fs, filepath.Join(l.dir, name)); err != nil {
			return nil, fmt.Errorf("remove unfinished file: %w", err)
		}
		rep.Removed = append(rep.Removed, name)
	}
	for _, name := range ls.free {
		id, _ := parseSegmentName(name, freeSuffix)
		l.nextID = max(l.nextID, id+1)
		l.free = append(l.free, filepath.Join(l.dir, name))
	}
	r := &recovery{l: l, repair: true, rep: rep}
	if err := r.run(all); err != nil {
		closeAll(all)
		return nil, err
	}
	for _, ld := range r.spare {
		if err := l.retire(ld.segment); err != nil {
			return nil, err
		}
	}
	if err := l.resume(); err != nil {
		return nil, err
	}
	l.trim() // what was released before a crash and not recycled yet
	return rep, nil
}

// identify reads the log's id. A new directory gets one; one that lost its file takes it from a segment.
func (l *Log) identify(ls listing, rep *Recovery, repair bool) error {
	id, err := readDisk(l.fs, l.dir)
	switch {
	case err == nil:
		l.id = id
		return nil
	case !errors.Is(err, ErrCorrupt) && !errors.Is(err, os.ErrNotExist):
		return err
	case errors.Is(err, os.ErrNotExist) && len(ls.segments) == 0:
		if !repair {
			return fmt.Errorf("%s is not a log: %w", l.dir, err)
		}
		l.id = newID()
		return writeDisk(l.fs, l.dir, l.id)
	}
	for _, segmentID := range ls.segments {
		b, readErr := l.readFixed(segmentID)
		if h, headerErr := decodeFixed(b); readErr == nil && headerErr == nil {
			l.id = h.log
			rep.Headers = append(rep.Headers, Range{Reason: diskFile + " is unreadable; the id was taken from a segment"})
			if repair {
				return writeDisk(l.fs, l.dir, l.id)
			}
			return nil
		}
	}
	return fmt.Errorf("the log's id is in no file: %w", err)
}

func (l *Log) readFixed(segmentID uint64) ([]byte, error) {
	f, err := l.fs.Open(filepath.Join(l.dir, segmentName(segmentID, segmentSuffix)), false)
	if err != nil {
		return nil, err
	}
	b := make([]byte, fixedSize)
	_, err = f.ReadAt(b, 0)
	return b, errors.Join(err, f.Close())
}

// resume makes the last segment ready for appending, or prepares a first one.
func (l *Log) resume() error {
	if n := len(l.segs); n > 0 && !l.segs[n-1].ended {
		last := l.segs[n-1]
		dev, err := openDevice(last.file, l.cfg.Backend, last.size)
		if err != nil {
			return fmt.Errorf("open segment for appending: %w", err)
		}
		last.dev = dev
		if last.slot.tail != last.durable {
			if err := last.mark(l.tailSlot(last, Active)); err != nil {
				return fmt.Errorf("write the tail into segment %016x: %w: %w", last.id, ErrFailed, err)
			}
		}
		l.open = l.newStage(last)
		kick(l.chores)
		return nil
	}
	l.prepareNext()
	if l.next != nil {
		l.roll()
	}
	kick(l.chores)
	return nil
}

// Identity says which log this is and who holds it.
func (l *Log) Identity() Identity { return Identity{Disk: l.id, Owner: l.owner} }

// Close flushes what is staged, writes the tail position and releases the directory. Records in flight are durable or have
// failed when it returns. It is idempotent.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		l.keeping.Wait()
		return nil
	}
	l.closed = true
	l.wakeRoom()
	l.mu.Unlock()
	close(l.stopSync)
	l.syncer.Wait()
	close(l.stop)
	l.keeping.Wait()
	l.mu.Lock()
	l.wakeTail()
	failure := l.failure
	l.mu.Unlock()
	return errors.Join(failure, l.closeFiles(), l.lock.Close())
}

func (l *Log) closeFiles() (err error) {
	for _, segs := range [][]*segment{l.segs, l.released, {l.next}} {
		for _, s := range segs {
			if s != nil {
				err = errors.Join(err, s.close())
			}
		}
	}
	return err
}

func (s *segment) close() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dev != nil {
		err = s.dev.Close()
		s.dev = nil
	}
	return errors.Join(err, s.file.Close())
}

func kick(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
