package wal

// group is what one sync makes durable. err is set before done is closed.
type group struct {
	done chan struct{}
	err  error
}

// stage gathers encoded frames for one stretch of a segment, to be written and synced together. The log's mutex guards it
// while it is open or queued; once take has handed it out it belongs to the syncer, and then to the teller.
type stage struct {
	seg    *segment
	start  int64 // in the segment
	buf    []byte
	fresh  bool // the first of its segment: the slot that activates it goes with it
	wanted bool // somebody waits; otherwise it may wait for company
	group  *group
}

func (l *Log) newStage(seg *segment) *stage {
	st := &stage{seg: seg, start: seg.staged, fresh: !seg.active, group: &group{done: make(chan struct{})}}
	if n := len(l.buffers); n > 0 {
		st.buf, l.buffers = l.buffers[n-1], l.buffers[:n-1]
	}
	return st
}

// place is where the next frame of the open stage goes, and takes it.
func (l *Log) place(size int64) framePlace {
	st := l.open
	at := framePlace{salt: st.seg.salt, off: st.seg.staged, group: st.start, index: l.nextIndex}
	l.nextIndex++
	st.seg.staged += size
	l.staged += size
	l.used += size
	return at
}

// fits says whether size more bytes go into the segment being appended to.
func (l *Log) fits(size int64) bool {
	return l.open != nil && l.open.seg.staged+size <= l.open.seg.size
}

// roll ends the segment being appended to and goes on in the prepared one.
func (l *Log) roll() {
	if st := l.open; st != nil {
		l.end(st.seg)
		if len(st.buf) > 0 {
			l.queue = append(l.queue, st)
		}
	}
	seg := l.next
	l.next = nil
	seg.first, seg.next = l.nextIndex, l.nextIndex
	l.segs = append(l.segs, seg)
	l.open = l.newStage(seg)
	l.stats.Rolls++
	kick(l.chores)
}

// end takes no more frames into seg; once everything staged is durable the housekeeper seals it.
func (l *Log) end(seg *segment) {
	seg.ended = true
	if seg.durable == seg.staged {
		l.sealing = append(l.sealing, seg)
	}
}

// take hands the next stage to the syncer: nil when there is none, or none that anybody waits for and idle is not set.
func (l *Log) take(idle bool) *stage {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure != nil {
		return nil
	}
	if len(l.queue) > 0 {
		st := l.queue[0]
		l.queue = l.queue[1:]
		return st
	}
	st := l.open
	if st == nil || len(st.buf) == 0 || !st.wanted && !idle {
		return nil
	}
	l.open = l.newStage(st.seg)
	l.open.fresh = l.open.fresh && !st.fresh
	return st
}

func (l *Log) wakeRoom() {
	if l.room != nil {
		close(l.room)
		l.room = nil
	}
}

func (l *Log) wakeTail() {
	if l.tail != nil {
		close(l.tail)
		l.tail = nil
	}
}
