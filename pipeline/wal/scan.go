package wal

// hole is a stretch of a segment between two frames, or after the last one, that holds no readable frame.
type hole struct {
	start, end int64
	index      uint64 // the frame expected at start
	after      uint64 // the frame at end; 0 when there is none
}

// scan is what a pass over a segment's bytes finds, without deciding what a hole means.
type scan struct {
	frames int
	first  uint64 // index of the first frame; 0 when there is none and none was expected
	next   uint64 // index after the last frame
	end    int64  // end of the last frame
	proven int64  // every byte before it was durable when some frame found here was written
	holes  []hole
}

// scanFrames passes over the frames in data, the bytes of a segment up to the limit of interest, calling visit for each.
// first is the expected index of the first frame, 0 when it is not known.
func scanFrames(data []byte, salt uint32, first uint64, visit func(*frame)) scan {
	s := scan{first: first, next: first, end: dataStart, proven: dataStart}
	for off := int64(dataStart); ; {
		f, ok := nextFrame(data[off:], off, salt, s.next)
		if !ok {
			return s
		}
		if s.frames == 0 && first == 0 {
			s.first, s.next = f.index, f.index
		}
		if f.off > off || f.index != s.next {
			s.holes = append(s.holes, hole{start: off, end: f.off, index: s.next, after: f.index})
		}
		s.frames++
		s.next, s.end, s.proven = f.index+1, f.end, max(s.proven, f.group)
		if visit != nil {
			visit(&f)
		}
		off = f.end
	}
}

// nextFrame returns the first whole frame in b, which lies at off in its segment, with an index of at least want that the
// bytes skipped can account for. want 0 takes any index.
func nextFrame(b []byte, off int64, salt uint32, want uint64) (frame, bool) {
	for skipped := 0; len(b) >= frameHeader; skipped += 8 {
		f, ok := peekFrame(b, off+int64(skipped), int64(len(b)), salt)
		ok = ok && f.index >= max(want, 1) && (want == 0 || f.index-want <= uint64(skipped)/frameHeader)
		if ok && checkFrame(b, &f, salt) {
			return f, true
		}
		b = b[8:]
	}
	return frame{}, false
}

// verdict is what the holes of a segment mean.
type verdict struct {
	tail    int64  // where the segment's records end
	next    uint64 // index after the last record, lost ones counted
	corrupt []hole // acknowledged and unreadable
	torn    *hole  // where a write that was never acknowledged starts; nil for a clean end
	intact  int    // frames after the tear
}

// judge decides: durable is the offset before which every byte is known to have been acknowledged, by the segment itself
// (scan.proven), by its slots or by its successor. A hole that starts before it is corruption; the first that starts at or
// after it is a tear, and whatever follows belongs to the same unacknowledged group. durableIndex is the index of the
// frame at durable, 0 when not known.
func (s *scan) judge(data []byte, durable int64, durableIndex uint64) verdict {
	durable = max(durable, s.proven)
	v := verdict{tail: s.end, next: s.next}
	for i, h := range s.holes {
		if h.start < durable {
			v.corrupt = append(v.corrupt, h)
			continue
		}
		v.tail, v.next = h.start, h.index
		v.torn = &s.holes[i]
		v.intact = int(s.next - h.after)
		for _, later := range s.holes[i+1:] {
			v.intact -= int(later.after - later.index)
		}
		return v
	}
	switch {
	case s.end < durable:
		h := hole{start: s.end, end: durable, index: s.next, after: durableIndex}
		v.corrupt = append(v.corrupt, h)
		v.tail, v.next = durable, max(s.next, durableIndex)
	case !blank(data, s.end):
		v.torn = &hole{start: s.end, end: min(s.end+frameHeader, int64(len(data))), index: s.next}
	}
	return v
}

// blank says whether no frame was begun at off: every group is followed by an empty header, as far as the segment goes.
func blank(data []byte, off int64) bool {
	for _, b := range data[min(off, int64(len(data))):min(off+frameHeader, int64(len(data)))] {
		if b != 0 {
			return false
		}
	}
	return true
}
