package wal

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// sync is the one goroutine that writes and syncs records. While it is busy appenders fill the next stage, so the slower
// the disk, the larger the groups.
func (l *Log) sync() {
	defer l.syncer.Done()
	told := newTeller(l)
	idle := time.NewTimer(math.MaxInt64)
	defer idle.Stop()
	for {
		for st := l.take(false); st != nil; idle.Reset(l.cfg.MarkAfter) {
			err := l.flush(st)
			var next *stage
			if err == nil { // after a failure nothing more may reach the disk: it would prove what was never synced
				next = l.take(false)
			}
			told.finish(st, err, next != nil)
			st = next
		}
		select {
		case <-l.work:
			idle.Reset(l.cfg.MarkAfter)
		case <-idle.C:
			l.settle(told)
		case <-l.stopSync:
			l.settle(told)
			told.close()
			l.mark()
			return
		}
	}
}

// teller tells appenders how their group fared. When the next group waits already it does so in a goroutine of its own, so
// that the disk need not wait for that; otherwise the hand-over would cost more than it saves. Groups are told in order.
type teller struct {
	l      *Log
	stages chan *stage
	behind atomic.Int32 // stages handed over and not told yet
	done   chan struct{}
}

func newTeller(l *Log) *teller {
	t := &teller{l: l, stages: make(chan *stage, 4), done: make(chan struct{})}
	go func() {
		defer close(t.done)
		for st := range t.stages {
			l.finish(st, nil)
			t.behind.Add(-1)
		}
	}()
	return t
}

func (t *teller) finish(st *stage, err error, hurry bool) {
	if err != nil || !hurry && t.behind.Load() == 0 {
		t.l.finish(st, err)
		return
	}
	t.behind.Add(1)
	t.stages <- st
}

func (t *teller) close() {
	close(t.stages)
	<-t.done
}

// flush writes a stage and makes it durable.
func (l *Log) flush(st *stage) error {
	seg := st.seg
	seg.mu.Lock()
	defer seg.mu.Unlock()
	from, end := st.start, st.start+int64(len(st.buf))
	if st.fresh {
		off, err := seg.writeSlot(l.activation(seg))
		if err != nil {
			return fmt.Errorf("activate segment %016x: %w", seg.id, err)
		}
		from = off
	}
	// An empty header ends the group, so that bytes of the file's earlier life do not look like a write cut short.
	var empty [frameHeader]byte
	buf := append(st.buf, empty[:min(frameHeader, seg.size-end)]...)
	if _, err := seg.dev.WriteAt(buf, st.start); err != nil {
		return fmt.Errorf("write segment %016x at %d: %w", seg.id, st.start, err)
	}
	began := time.Now()
	err := seg.dev.Sync(from, st.start+int64(len(buf))-from)
	took := time.Since(began)
	l.countCall("sync", began, err)
	l.mu.Lock()
	l.stats.Syncs++
	l.stats.SyncTime += took
	l.stats.WorstSync = max(l.stats.WorstSync, took)
	l.mu.Unlock()
	if err != nil {
		return fmt.Errorf("sync segment %016x: %w", seg.id, err)
	}
	return nil
}

// activation is the slot that goes with a segment's first group. It says where the segment before it ends: everything
// there is durable by now.
func (l *Log) activation(seg *segment) slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, other := range l.segs {
		if other == seg && i > 0 {
			seg.prev, seg.prevTail = l.segs[i-1].id, l.segs[i-1].staged // all of it flushed
		}
	}
	seg.active = true
	return l.tailSlot(seg, Active)
}

// finish publishes a stage's outcome and wakes whoever waits for it.
func (l *Log) finish(st *stage, err error) {
	if err != nil {
		l.fail(err, st)
		return
	}
	l.mu.Lock()
	seg := st.seg
	l.publish(st)
	l.staged -= int64(len(st.buf))
	l.stats.Groups++
	if cap(st.buf) <= 2*maxStaged && len(l.buffers) < 2 {
		l.buffers = append(l.buffers, st.buf[:0])
	}
	if seg.ended && seg.durable == seg.staged {
		l.sealing = append(l.sealing, seg)
		kick(l.chores)
	}
	l.trim()
	l.wakeRoom()
	l.wakeTail()
	l.mu.Unlock()
	close(st.group.done)
}

// publish makes a durable stage's frames visible.
func (l *Log) publish(st *stage) {
	seg := st.seg
	for b, off := st.buf, st.start; len(b) > 0; off = seg.durable {
		f, _ := peekFrame(b, off, int64(len(b)), seg.salt)
		f.take(b)
		if of := l.apply(seg, &f); of != nil {
			l.stats.Records++
			l.unuse(of)
		}
		seg.durable, seg.next = f.end, f.index+1
		b = b[f.end-f.off:]
	}
	l.stats.Bytes += uint64(len(st.buf))
	l.durable = seg.next
}

// apply notes a durable frame: where it is and whose, what it releases. It returns the stream of a record.
func (l *Log) apply(seg *segment, f *frame) *stream {
	seg.noteFrame(f.off, f.index)
	if r, ok := decodeRecord(f); ok {
		st := l.streamOf(r.Stream)
		st.note(&r)
		if seg.noteRecord(st, f.off, f.index) {
			st.uses++
		}
		return st
	}
	if key, before, ok := decodeRelease(f); ok {
		l.forget(string(key), before)
	}
	return nil
}

// fail makes the log's failure final and tells everybody who waits.
func (l *Log) fail(err error, flushing *stage) {
	l.mu.Lock()
	if l.failure == nil {
		l.failure = fmt.Errorf("%w: %w", ErrFailed, err)
		l.stats.Failed = true
	}
	failed := l.queue
	if l.open != nil {
		failed = append(failed, l.open)
	}
	if flushing != nil {
		failed = append(failed, flushing)
	}
	l.queue, l.open = nil, nil
	for _, st := range failed {
		st.group.err = l.failure
	}
	l.wakeRoom()
	l.wakeTail()
	l.mu.Unlock()
	for _, st := range failed {
		close(st.group.done)
	}
}

// settle runs when appenders pause: it flushes what nobody waits for, and marks the tail.
func (l *Log) settle(told *teller) {
	for st := l.take(true); st != nil; st = l.take(true) {
		told.finish(st, l.flush(st), false)
	}
	l.mark()
}

// mark writes the tail into the header, which proves to a later recovery that everything before it was acknowledged.
func (l *Log) mark() {
	l.mu.Lock()
	if l.open == nil || l.failure != nil {
		l.mu.Unlock()
		return
	}
	seg := l.open.seg
	next, shown := l.tailSlot(seg, Active), seg.marked
	l.mu.Unlock()
	if next.tail == shown {
		return
	}
	if err := seg.mark(next); err != nil {
		l.fail(fmt.Errorf("write the tail into segment %016x: %w", seg.id, err), nil)
		return
	}
	l.mu.Lock()
	seg.marked = next.tail
	l.mu.Unlock()
}

// tailSlot is a slot that shows seg's tail as it is now. Callers hold l.mu.
func (l *Log) tailSlot(seg *segment, state State) slot {
	s := slot{state: state, first: seg.first, head: l.head, tail: seg.durable, tailIndex: seg.next}
	s.prev, s.prevTail = seg.prev, seg.prevTail
	return s
}
