package wal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Reader reads durable records in order, beside appends and releases. It is used by one goroutine. A reader keeps the
// file it is on, and every later one, from being recycled; so close it.
//
// The syncer moves a segment's end while a reader is on it. A reader therefore decides by what look copied under the
// log's mutex, and touches only the immutable fields of seg (see segment) without that mutex.
type Reader struct {
	l      *Log
	key    string // "" reads every stream
	want   uint64 // records below this index are passed over
	seg    *segment
	off    int64  // of the next frame
	expect uint64 // index of the next frame, 0 when not known

	limit int64   // durable end of seg when look last copied it
	next  uint64  // index of the frame at limit
	ended bool    // whether limit is final
	holes []Range // of seg; noteHole replaces the list and never changes one

	passed int64 // offset of a hole without bytes that was skipped, else -1
	block  int64 // the block a stream reader last asked about
	buf    []byte
	bufOff int64
	stuck  error // what Next returns until told otherwise
}

// Reader returns a reader of every record from an index on; 0 means from the first not released. Close it.
func (l *Log) Reader(from uint64) *Reader { return &Reader{l: l, want: from} }

// StreamReader returns a reader of one stream's records. It does not read parts of the log where the stream has none, and
// passes over released segments. A stream is 1 to MaxStream bytes.
func (l *Log) StreamReader(stream []byte, from uint64) *Reader {
	r := &Reader{l: l, key: string(stream), want: from}
	if r.key == "" {
		r.stuck = fmt.Errorf("stream without a name: %w", ErrTooLarge)
	}
	return r
}

// Next returns the next record, which is valid until the following call. At the durable end it returns io.EOF; call it again
// after more was appended, or see Wait. Where records cannot be read it returns a *CorruptError, again and again until Skip is
// called. Other errors are ErrTrimmed (a reader of all streams fell behind what was released), ErrClosed, or the disk's.
func (r *Reader) Next() (Record, error) {
	for {
		if r.stuck != nil {
			return Record{}, r.stuck
		}
		if r.seg == nil {
			if err := r.enter(); err != nil {
				return Record{}, err
			}
		}
		if h, ok := r.hole(); ok {
			r.stuck = &CorruptError{Range: h}
			continue
		}
		if r.key != "" && r.off/blockSize != r.block {
			r.jump()
			continue
		}
		if r.off >= r.limit {
			if more, err := r.refresh(); err != nil || !more {
				return Record{}, err
			}
			continue
		}
		var f frame
		if ok, err := r.frame(&f); err != nil {
			return Record{}, err
		} else if !ok {
			continue // a hole was found and noted
		}
		r.off, r.expect = f.end, f.index+1
		if rec, ok := decodeRecord(&f); ok && f.index >= r.want && (r.key == "" || string(rec.Stream) == r.key) {
			return rec, nil
		}
	}
}

// Skip goes on after the corrupt range that Next reported.
func (r *Reader) Skip() {
	var corrupt *CorruptError
	if !errors.As(r.stuck, &corrupt) {
		return
	}
	h := corrupt.Range
	r.stuck = nil
	if h.Length == 0 {
		r.passed = h.Offset
		return
	}
	r.off, r.expect = h.Offset+h.Length, 0
}

// Wait returns nil when something was appended after the reader met io.EOF, or the log has failed or was closed.
func (r *Reader) Wait(ctx context.Context) error {
	r.l.mu.Lock()
	n := len(r.l.segs)
	if n > 0 && (r.seg == nil || r.off < r.seg.durable || r.l.segs[n-1] != r.seg) || r.l.down() != nil {
		r.l.mu.Unlock()
		return nil
	}
	if r.l.tail == nil {
		r.l.tail = make(chan struct{})
	}
	moved := r.l.tail
	r.l.mu.Unlock()
	select {
	case <-moved:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close lets go of the reader's segment. It is idempotent.
func (r *Reader) Close() {
	r.l.mu.Lock()
	r.leave()
	r.l.mu.Unlock()
	r.stuck = ErrClosed
}

// hole returns the known hole at the reader's place.
func (r *Reader) hole() (Range, bool) {
	for _, h := range r.holes {
		if h.Offset == r.off && (h.Length > 0 || r.passed != r.off) && (h.Lost == 0 || h.First+h.Lost > r.want) {
			return h, true
		}
		if h.Offset == r.off && h.Length > 0 { // of records that were not asked for
			r.off, r.expect = h.Offset+h.Length, 0
		}
	}
	return Range{}, false
}

// enter goes to the segment that holds the first wanted index.
func (r *Reader) enter() error {
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return ErrClosed
	}
	if r.want == 0 {
		r.want = max(l.head, 1)
		if st := l.streams[r.key]; st != nil {
			r.want = max(r.want, st.released)
		}
	} else if r.key == "" && len(l.segs) > 0 && r.want < l.segs[0].first {
		return fmt.Errorf("index %d, the first one left is %d: %w", r.want, l.segs[0].first, ErrTrimmed)
	}
	for i, seg := range l.segs { // every segment has a first index; the last one takes what is still to come
		if i+1 == len(l.segs) || r.want < l.segs[i+1].first {
			off, index := seg.seek(r.want)
			r.on(seg, off, index)
			return nil
		}
	}
	return io.EOF
}

// on puts the reader into seg. Callers hold l.mu.
func (r *Reader) on(seg *segment, off int64, index uint64) {
	r.leave()
	seg.refs++
	r.seg, r.off, r.expect, r.passed, r.block, r.buf = seg, off, index, -1, -1, r.buf[:0]
	r.look()
}

// look copies what the segment holds now, as one consistent view. Callers hold l.mu.
func (r *Reader) look() {
	r.limit, r.next = r.seg.durable, r.seg.next
	r.ended = r.seg.ended && r.seg.durable == r.seg.staged
	r.holes = r.seg.holes[:len(r.seg.holes):len(r.seg.holes)]
}

func (r *Reader) leave() {
	if r.seg == nil {
		return
	}
	if r.seg.refs--; r.seg.refs == 0 {
		kick(r.l.chores)
	}
	r.seg = nil
}

// refresh looks for more at the end of what was durable: in this segment or in the next.
func (r *Reader) refresh() (more bool, err error) {
	l := r.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, ErrClosed
	}
	if r.off < r.seg.durable || len(r.seg.holes) != len(r.holes) {
		r.look()
		r.block = -1
		return true, nil
	}
	r.look()
	if !r.ended {
		return false, io.EOF
	}
	for _, seg := range l.segs {
		if seg.id <= r.seg.id {
			continue
		}
		if last := r.next; r.key == "" && seg.first > last && (len(seg.holes) == 0 || seg.holes[0].First != last) {
			return false, fmt.Errorf("index %d, the first one left is %d: %w", last, seg.first, ErrTrimmed)
		}
		r.on(seg, dataStart, seg.first)
		return true, nil
	}
	return false, io.EOF
}

// jump moves a stream reader on to the next block that has one of its records. It never passes a hole: what was lost there
// may have been the stream's.
func (r *Reader) jump() {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	r.look()
	to := blockStart{off: r.limit, index: r.next}
	if p := r.seg.streams[r.l.streams[r.key]]; p != nil {
		if b, ok := r.seg.nextBlock(p, r.off); ok {
			to = b
		}
	}
	for _, h := range r.holes {
		if h.Offset >= r.off && h.Offset < to.off {
			to = blockStart{off: h.Offset}
		}
	}
	if to.off > r.off {
		r.off, r.expect = to.off, to.index
	}
	r.block = r.off / blockSize
}

// frame reads and checks the frame at off. false without an error means it cannot be read and a hole was noted.
func (r *Reader) frame(f *frame) (ok bool, err error) {
	b, err := r.fill(frameHeader)
	if err == nil {
		if *f, ok = peekFrame(b, r.off, r.limit-r.off, r.seg.salt); !ok || f.end > r.limit {
			return false, r.damaged("no valid frame")
		}
		if b, err = r.fill(f.end - f.off); err == nil {
			if !checkFrame(b, f, r.seg.salt) || r.expect > 0 && f.index != r.expect {
				return false, r.damaged("no valid frame")
			}
			return true, nil
		}
	}
	if errors.Is(err, os.ErrClosed) {
		return false, ErrClosed
	}
	return false, r.damaged(err.Error())
}

// readAhead is how much a reader reads at once, in bytes.
const readAhead = 64 << 10

// fill returns at least n bytes from off, fewer only if the segment's durable part ends before.
func (r *Reader) fill(n int64) ([]byte, error) {
	if have := r.bufOff + int64(len(r.buf)) - r.off; r.off >= r.bufOff && have >= n {
		return r.buf[r.off-r.bufOff:], nil
	}
	n = min(n, r.limit-r.off)
	err := r.load(min(max(n, readAhead), r.limit-r.off))
	if err != nil && int64(len(r.buf)) < n {
		err = r.load(n) // what could not be read may lie behind
	}
	if int64(len(r.buf)) >= n {
		return r.buf, nil
	}
	return nil, err
}

// load reads n bytes from off into the buffer, or none. What a file that was cut short lacks reads as zeros, as it does to
// recovery; checksums tell whether it matters.
func (r *Reader) load(n int64) error {
	if int64(cap(r.buf)) < n {
		r.buf = make([]byte, n)
	}
	r.buf, r.bufOff = r.buf[:n], r.off
	got, err := r.seg.file.ReadAt(r.buf, r.off)
	if err != nil && !errors.Is(err, io.EOF) {
		r.buf = r.buf[:0]
		return err
	}
	clear(r.buf[got:])
	return nil
}

// damaged notes that acknowledged bytes at off cannot be read: up to the next frame, or to the durable end the reader
// knows. They are copied aside, counted, and shown to this and every later reader. Frames that became durable since the
// reader's last look lie behind that end and are not lost, so they must not be counted.
func (r *Reader) damaged(reason string) error {
	rest := make([]byte, r.limit-r.off)
	readChunked(io.NewSectionReader(r.seg.file, r.off, int64(len(rest))), rest, int64(len(rest)))
	h := Range{Segment: r.seg.id, Offset: r.off, Length: r.limit - r.off, First: r.expect, Reason: reason}
	after := r.next
	if f, ok := nextFrame(rest, r.off, r.seg.salt, r.expect); ok {
		h.Length, after = f.off-r.off, f.index
	}
	if h.Length == 0 {
		return fmt.Errorf("segment %016x at %d: %s, but a second look found a valid frame", r.seg.id, r.off, reason)
	}
	if r.expect > 0 && after > r.expect {
		h.Lost = after - r.expect
	}
	if !r.l.view {
		read := func(p []byte, _ int64) (int, error) { return copy(p, rest), nil }
		if err := setAside(r.l.fs, r.l.dir, &h, corruptSuffix, read); err != nil && !noSpace(err) {
			return err
		}
	}
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	r.seg.noteHole(h)
	r.look()
	return nil
}

// noteHole adds a hole unless it is known. Readers hold on to the old list.
func (s *segment) noteHole(h Range) {
	holes := make([]Range, 0, len(s.holes)+1)
	for i, old := range s.holes {
		if old.Offset == h.Offset && old.Length > 0 {
			return
		}
		if old.Offset > h.Offset {
			holes = append(append(holes, h), s.holes[i:]...)
			s.holes = holes
			return
		}
		holes = append(holes, old)
	}
	s.holes = append(holes, h)
}
