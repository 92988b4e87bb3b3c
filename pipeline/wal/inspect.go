package wal

import (
	"errors"
	"fmt"
	"os"
)

// View is a log that is only looked at: it takes no lock and changes nothing, so it may be opened beside the process that
// writes the log. It then shows some moment of it; what is being written just then may show as a torn tail, and segments
// that are recycled meanwhile as corrupt.
type View struct{ l *Log }

// Inspect opens the log in dir for looking. fsys nil means OS. Errors: ErrVersion, ErrForeign, os.ErrNotExist for a
// directory without a log, or the disk's.
func Inspect(fsys FS, dir string) (*View, *Recovery, error) {
	l := newLog(Config{Dir: dir, FS: fsys}.withDefaults())
	l.view = true
	rep := &Recovery{}
	ls, err := list(l.fs, dir)
	if err == nil {
		err = l.identify(ls, rep, false)
	}
	var all []*loaded
	if err == nil {
		all, err = loadAll(l.fs, dir, l.id, ls, false)
	}
	if err == nil {
		r := &recovery{l: l, rep: rep}
		if err = r.run(all); err == nil {
			for _, ld := range r.spare {
				err = errors.Join(err, ld.file.Close())
			}
		}
	}
	if err != nil {
		closeAll(all)
		return nil, nil, fmt.Errorf("inspect log: %w", err)
	}
	if owner, ownerErr := ReadOwner(l.fs, dir); ownerErr == nil {
		l.owner = owner
	} else if !errors.Is(ownerErr, os.ErrNotExist) {
		rep.Headers = append(rep.Headers, Range{Reason: ownerFile + " is unreadable"})
	}
	return &View{l}, rep, nil
}

// Identity says which log this is and who holds or last held it.
func (v *View) Identity() Identity { return v.l.Identity() }

// Segments describes the segments with records, oldest first.
func (v *View) Segments() []SegmentInfo { return v.l.Segments() }

// Streams sums up every stream with records not released.
func (v *View) Streams() []StreamInfo { return v.l.Streams() }

// Aside is Log.Aside.
func (v *View) Aside() ([]AsideCopy, error) { return v.l.Aside() }

// Reader is Log.Reader.
func (v *View) Reader(from uint64) *Reader { return v.l.Reader(from) }

// StreamReader is Log.StreamReader.
func (v *View) StreamReader(stream []byte, from uint64) *Reader {
	return v.l.StreamReader(stream, from)
}

// Close closes the view's files.
func (v *View) Close() error {
	v.l.mu.Lock()
	closed := v.l.closed
	v.l.closed = true
	v.l.mu.Unlock()
	if closed {
		return nil
	}
	return v.l.closeFiles()
}
