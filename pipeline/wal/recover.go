package wal

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"
)

// recovery rebuilds a log from what its segments hold. With repair unset it only looks.
type recovery struct {
	l      *Log
	repair bool
	rep    *Recovery
	buf    []byte
	spare  []*loaded // readable segments without records
	lost   []Range   // to be shown to readers at the start of the next segment
}

// run goes through the segments from the oldest and leaves those with records in l.segs.
func (r *recovery) run(all []*loaded) error {
	start := time.Now()
	used := all[:0:0]
	for _, ld := range all {
		r.l.nextID = max(r.l.nextID, ld.id+1)
		r.rep.Headers = append(r.rep.Headers, ld.damaged...)
		ld.live = r.live(ld)
		if !ld.live && ld.intact && ld.named {
			r.spare = append(r.spare, ld)
		} else {
			used = append(used, ld)
		}
	}
	for i, ld := range used {
		var err error
		if ld.live {
			err = r.segment(ld, after(used[i+1:]))
		} else {
			err = r.discard(ld)
		}
		if err != nil {
			return err
		}
	}
	if n := len(r.l.segs); n > 0 {
		last := r.l.segs[n-1]
		r.mourn(last, last.durable)
		r.rep.First, r.l.nextIndex = r.l.segs[0].first, last.next
	}
	for _, seg := range r.l.segs {
		r.l.used += seg.staged - dataStart
		r.l.forget("", min(seg.slot.head, r.l.nextIndex))
	}
	r.l.durable = r.l.nextIndex
	r.rep.Segments, r.rep.Next, r.rep.Took = len(r.l.segs), r.l.nextIndex, time.Since(start)
	return nil
}

// live says whether the segment holds, or is about to hold, records. One whose activation was lost with its slot is told
// by its first frame.
func (r *recovery) live(ld *loaded) bool {
	if ld.named && ld.slot.state != Prepared {
		return true
	}
	if len(ld.damaged) > 0 {
		r.read(ld)
		_, ok := nextFrame(r.buf[dataStart:], dataStart, ld.salt, 0)
		return ok
	}
	header := make([]byte, frameHeader)
	if _, err := ld.file.ReadAt(header, dataStart); err != nil {
		return false
	}
	if _, ok := peekFrame(header, dataStart, ld.size-dataStart, ld.salt); !ok {
		return false
	}
	r.read(ld)
	_, ok := parseFrame(r.buf[dataStart:], dataStart, ld.salt)
	return ok
}

func (r *recovery) read(ld *loaded) {
	if int64(cap(r.buf)) < ld.size {
		r.buf = make([]byte, ld.size)
	}
	r.buf = r.buf[:ld.size]
	n, _ := readChunked(ld.file, r.buf, min(ld.have, ld.size))
	r.rep.Bytes += n
}

// segment recovers one segment with records; next is the one after it, nil for the last.
func (r *recovery) segment(ld, next *loaded) error {
	r.read(ld)
	data, durable, index := r.buf, int64(dataStart), uint64(0)
	if ld.named {
		durable, index = ld.slot.tail, ld.slot.tailIndex
	}
	told := next != nil && next.named && next.slot.prev == ld.id
	if told && next.slot.prevTail >= durable && next.slot.prevTail <= ld.size {
		durable, index = next.slot.prevTail, next.slot.first
	}
	if told || ld.named && ld.slot.state == Sealed {
		data = data[:durable]
	}
	sc := scanFrames(data, ld.salt, ld.first, nil)
	if next != nil && !told {
		durable = max(durable, sc.end) // the next segment has frames, so everything here had been acknowledged
	}
	v := sc.judge(data, durable, index)
	if next != nil && v.torn != nil {
		v.corrupt, v.torn = append(v.corrupt, *v.torn), nil
	}
	if short := ld.have < ld.size; short && next == nil && (v.torn != nil || v.tail+frameHeader > ld.have) {
		// The file was whole when it came into use, so this is no torn write, and what was acknowledged there is not known.
		if n := len(v.corrupt); n > 0 && v.corrupt[n-1].end == v.tail {
			v.corrupt[n-1].end = ld.size
		} else {
			v.corrupt, v.torn = append(v.corrupt, hole{start: v.tail, end: ld.size, index: v.next}), nil
		}
	} else if short {
		ld.damage(ld.have, true, "the file is cut short")
		r.rep.Headers = append(r.rep.Headers, ld.damaged[len(ld.damaged)-1])
	}
	if next == nil && !ld.active && v.tail == dataStart { // its first write was torn together with its activation
		r.spare = append(r.spare, ld)
		return r.torn(ld, dataStart, sc.end, sc.frames)
	}
	ld.first = sc.first
	if !r.order(ld) {
		return r.discard(ld)
	}
	ld.durable, ld.staged, ld.next = v.tail, v.tail, v.next
	for _, h := range v.corrupt {
		rg := Range{Segment: ld.id, Offset: h.start, Length: h.end - h.start, First: h.index, Reason: "no valid frame"}
		if h.after > h.index {
			rg.Lost = h.after - h.index
		}
		if h.end > ld.have {
			rg.Reason = "the file is cut short"
		}
		if err := r.setAside(&rg, corruptSuffix); err != nil {
			return err
		}
		ld.holes = append(ld.holes, rg)
		r.rep.Corrupt = append(r.rep.Corrupt, rg)
	}
	r.index(ld, data)
	r.l.segs = append(r.l.segs, ld.segment)
	if next != nil {
		ld.ended = true
		return nil
	}
	cut := len(v.corrupt) > 0 && v.corrupt[len(v.corrupt)-1].end >= v.tail
	ld.ended = !ld.intact || !ld.active || ld.slot.state == Sealed || cut
	return r.tail(ld, &sc, &v)
}

// order checks that indexes rise from segment to segment and reports those missing between.
func (r *recovery) order(ld *loaded) bool {
	if len(r.l.segs) > 0 {
		prev := r.l.segs[len(r.l.segs)-1]
		if ld.first < prev.next {
			return false
		}
		if ld.first > prev.next {
			gap := Range{Segment: prev.id, Offset: prev.durable, First: prev.next, Lost: ld.first - prev.next, Reason: "a segment is missing after this one"}
			r.rep.Corrupt = append(r.rep.Corrupt, gap)
			r.lost = append(r.lost, gap)
		}
	}
	r.mourn(ld.segment, dataStart)
	return true
}

// mourn lets readers stop in seg where records are known to be missing.
func (r *recovery) mourn(seg *segment, off int64) {
	if len(r.lost) == 0 {
		return
	}
	all := Range{Segment: seg.id, Offset: off, First: r.lost[len(r.lost)-1].First}
	for i, lost := range r.lost {
		all.Lost += lost.Lost
		if i > 0 {
			all.Reason += "; "
		}
		all.Reason += fmt.Sprintf("segment %016x: %s", lost.Segment, lost.Reason)
	}
	seg.holes = append(seg.holes, all)
	r.lost = nil
}

// after returns the first segment with records.
func after(rest []*loaded) *loaded {
	for _, ld := range rest {
		if ld.live {
			return ld
		}
	}
	return nil
}

// index notes every frame below the tail: where it is, whose it is, what it releases.
func (r *recovery) index(ld *loaded, data []byte) {
	holes := ld.holes
	for off := int64(dataStart); off < ld.durable; {
		for len(holes) > 0 && holes[0].Offset <= off {
			off = max(off, holes[0].Offset+holes[0].Length)
			holes = holes[1:]
		}
		if off >= ld.durable {
			return
		}
		f, ok := peekFrame(data[off:], off, int64(len(data))-off, ld.salt)
		if !ok || !checkFrame(data[off:], &f, ld.salt) {
			return
		}
		r.l.apply(ld.segment, &f)
		r.rep.Records += uint64(f.kind & frameRecord)
		off = f.end
	}
}

// tail makes the last segment's records durable, whatever became of the syncs of whoever wrote them, and clears what a
// torn write left.
func (r *recovery) tail(ld *loaded, sc *scan, v *verdict) error {
	var wipe int64
	if v.torn != nil {
		wipe = min(max(sc.end, v.tail+frameHeader), ld.size)
		if err := r.torn(ld, v.tail, wipe, v.intact); err != nil {
			return err
		}
	}
	if !r.repair {
		return nil
	}
	from := int64(dataStart)
	if ld.named {
		from = min(ld.slot.tail, v.tail)
	}
	if from == v.tail && wipe == 0 {
		return nil
	}
	err := r.rewrite(ld, from, v.tail)
	if err == nil && wipe > 0 {
		_, err = ld.file.WriteAt(make([]byte, min(wipe, ld.have)-min(v.tail, ld.have)), v.tail)
	}
	if err == nil {
		err = ld.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("make the tail of segment %016x durable: %w: %w", ld.id, ErrFailed, err)
	}
	return nil
}

// torn reports and copies a tail that is cut off.
func (r *recovery) torn(ld *loaded, from, to int64, intact int) error {
	aside := Range{Segment: ld.id, Offset: from, Length: to - from}
	if err := r.setAside(&aside, tornSuffix); err != nil {
		return err
	}
	r.rep.Torn = &Torn{Segment: ld.id, Offset: from, Length: to - from, Intact: intact, Copy: aside.Copy}
	return nil
}

// rewrite writes the bytes that were read once more, so that the next sync vouches for them: after a failed sync the
// system may show bytes it never wrote and has forgotten to. Holes stay as they are.
func (r *recovery) rewrite(ld *loaded, from, to int64) error {
	for _, h := range append(ld.holes[:len(ld.holes):len(ld.holes)], Range{Offset: to}) {
		if end := min(h.Offset, to); end > from {
			if _, err := ld.file.WriteAt(r.buf[from:end], from); err != nil {
				return err
			}
		}
		from = max(from, h.Offset+h.Length)
	}
	return nil
}

// discard moves a segment that holds nothing readable out of the way. A crash leaves none: whatever has a segment's name
// was whole when it got it.
func (r *recovery) discard(ld *loaded) error {
	rg := Range{Segment: ld.id, Offset: 0, Length: ld.have, Reason: "no readable header and no valid frame"}
	if r.repair {
		if err := r.l.fs.MkdirAll(filepath.Join(r.l.dir, asideFolder)); err != nil {
			return fmt.Errorf("set segment %016x aside: %w", ld.id, err)
		}
		rg.Copy = filepath.Join(asideFolder, segmentName(ld.id, segmentSuffix))
		err := errors.Join(ld.file.Close(), r.l.fs.Rename(ld.path, filepath.Join(r.l.dir, rg.Copy)))
		if err == nil {
			err = errors.Join(r.l.fs.SyncDir(filepath.Join(r.l.dir, asideFolder)), r.l.fs.SyncDir(r.l.dir))
		}
		if err != nil {
			return fmt.Errorf("set segment %016x aside: %w", ld.id, err)
		}
	}
	r.rep.Corrupt = append(r.rep.Corrupt, rg)
	r.lost = append(r.lost, rg)
	return nil
}

// setAside copies a range whose segment is in r.buf. On a full disk the copy waits until the segment is released.
func (r *recovery) setAside(rg *Range, suffix string) error {
	if !r.repair {
		return nil
	}
	err := setAside(r.l.fs, r.l.dir, rg, suffix, func(p []byte, off int64) (int, error) { return copy(p, r.buf[off:]), nil })
	if noSpace(err) {
		return nil
	}
	return err
}

// What is set aside: acknowledged bytes, which stay where they are until their segment is released, and torn ones, which
// are wiped.
const (
	corruptSuffix = ".corrupt"
	tornSuffix    = ".torn"
)

// setAside copies a range's bytes to a file of its own and names it in rg. The same corrupt range is copied once.
func setAside(fsys FS, dir string, rg *Range, suffix string, read func(p []byte, off int64) (int, error)) error {
	if rg.Length == 0 || rg.Copy != "" {
		return nil
	}
	name := filepath.Join(asideFolder, fmt.Sprintf("%016x-%d-%d%s", rg.Segment, rg.Offset, rg.Length, suffix))
	path := filepath.Join(dir, name)
	if f, err := fsys.Open(path, false); err == nil && suffix == corruptSuffix {
		rg.Copy = name
		return f.Close()
	} else if err == nil {
		_ = f.Close() // an older tear in the same place; it is replaced
	}
	if err := fsys.MkdirAll(filepath.Join(dir, asideFolder)); err != nil {
		return fmt.Errorf("set corrupt range aside: %w", err)
	}
	data := make([]byte, rg.Length)
	n, err := read(data, rg.Offset)
	if err != nil && !errors.Is(err, io.EOF) {
		n = 0 // the bytes themselves cannot be read; an empty file records that
	}
	if err := errors.Join(writeFile(fsys, path, data[:n]), fsys.SyncDir(dir)); err != nil {
		return fmt.Errorf("set corrupt range aside: %w", err)
	}
	rg.Copy = name
	return nil
}
