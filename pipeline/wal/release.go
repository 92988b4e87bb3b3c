package wal

// Release says that the stream's durable records below an index are not needed any more. Segments whose records are all
// released are recycled, oldest first. The note of it becomes durable with some later append or soon after; a crash before
// that brings the records back. An unknown stream is no error.
func (l *Log) Release(stream []byte, before uint64) {
	if len(stream) > 0 && len(stream) <= MaxStream {
		l.releaseBelow(string(stream), before)
	}
}

// Trim is Release for every stream.
func (l *Log) Trim(before uint64) { l.releaseBelow("", before) }

func (l *Log) releaseBelow(key string, before uint64) {
	l.mu.Lock()
	before = min(before, l.durable)
	if l.down() != nil || !l.forget(key, before) {
		l.mu.Unlock()
		return
	}
	if size := releaseSize(key); l.fits(size) {
		l.open.buf = appendRelease(l.open.buf, key, before, l.place(size))
	}
	l.trim()
	l.mu.Unlock()
	kick(l.work)
}

// forget marks records as released and says whether that was news. No key stands for every stream.
func (l *Log) forget(key string, before uint64) bool {
	if key == "" {
		if before <= l.head {
			return false
		}
		l.head = before
		for _, st := range l.streams {
			st.release(before)
		}
		return true
	}
	st := l.streams[key]
	if st == nil || before <= st.released {
		return false
	}
	st.release(before)
	return true
}

// trim takes the oldest segments out of the log as long as all their records are released. When space is short it also
// ends the segment being appended to, so that even that one can go.
func (l *Log) trim() {
	for len(l.segs) > 0 {
		seg := l.segs[0]
		last := !seg.ended
		if last && (l.open == nil || l.next == nil || seg.durable == dataStart || l.level() == Normal) {
			return
		}
		if seg.durable != seg.staged || !l.allReleased(seg) {
			return
		}
		if last {
			l.roll()
		}
		l.segs = l.segs[1:]
		l.released = append(l.released, seg)
		l.used -= seg.staged - dataStart
		for st := range seg.streams {
			l.unuse(st)
		}
		seg.streams = nil
		l.wakeRoom()
		kick(l.chores)
	}
}

func (l *Log) allReleased(seg *segment) bool {
	for st, p := range seg.streams {
		if p.last >= max(st.released, l.head) {
			return false
		}
	}
	return true
}
