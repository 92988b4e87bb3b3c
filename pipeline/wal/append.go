package wal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/pipeline/measure"
)

// Pending is a batch on its way to the disk.
type Pending struct {
	group *group
	first uint64
}

// First is the index the first record of the batch has got; the others follow.
func (p Pending) First() uint64 { return p.first }

// Done is closed when the batch is durable or has failed.
func (p Pending) Done() <-chan struct{} { return p.group.done }

// Wait returns nil when the batch is durable, ErrFailed when it may not be, or ctx's error when that comes first; the
// batch is then still on its way.
func (p Pending) Wait(ctx context.Context) error {
	select {
	case <-p.group.done:
		return p.group.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Append appends a batch and returns when every record of it is durable, with the index of the first. The records follow
// one another in the log. After a crash before the acknowledgement none, some from the front, or all of them may be there.
// Errors: ErrFull, ErrNoSpace (both: nothing was appended, try again later), ErrTooLarge, ErrFailed, ErrClosed, or ctx's
// (the batch may become durable).
func (l *Log) Append(ctx context.Context, records ...Record) (uint64, error) {
	began := time.Now()
	p, err := l.Submit(ctx, records...)
	if err == nil {
		err = p.Wait(ctx)
	}
	l.countCall("append", began, err)
	return p.first, err
}

// countCall counts an append or a sync. One that its caller has given up says nothing about the disk.
func (l *Log) countCall(operation string, began time.Time, err error) {
	outcome := measure.Failed
	switch {
	case err == nil:
		outcome = measure.OK
	case errors.Is(err, ErrFull), errors.Is(err, ErrNoSpace), errors.Is(err, ErrTooLarge):
		outcome = measure.Refused
	case errors.Is(err, context.DeadlineExceeded):
		outcome = measure.Timeout
	case errors.Is(err, context.Canceled):
		return
	}
	l.cfg.Calls.Done(operation, outcome, time.Since(began))
}

// Submit is Append without the wait. It returns as soon as the records are copied, and waits only while the disk is more
// than a few megabytes behind or the next segment is not ready.
func (l *Log) Submit(ctx context.Context, records ...Record) (Pending, error) {
	var size int64
	for i := range records {
		if err := records[i].check(); err != nil {
			return Pending{}, err
		}
		size += records[i].size()
	}
	if limit := (l.cfg.SegmentSize - dataStart) / 2; size > limit || size == 0 {
		return Pending{}, fmt.Errorf("batch of %d records and %d bytes, want one record or more and at most %d bytes: %w", len(records), size, limit, ErrTooLarge)
	}
	l.mu.Lock()
	for {
		wait, err := l.admit(size)
		if err != nil {
			l.mu.Unlock()
			return Pending{}, err
		}
		if wait == nil {
			break
		}
		l.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return Pending{}, ctx.Err()
		}
		l.mu.Lock()
	}
	p := Pending{group: l.open.group, first: l.nextIndex}
	for i := range records {
		l.streamOf(records[i].Stream).uses++
		l.open.buf = appendRecord(l.open.buf, &records[i], l.place(records[i].size()))
	}
	l.open.wanted = true
	l.mu.Unlock()
	kick(l.work)
	return p, nil
}

// admit makes sure that the open stage can take size bytes. A channel means to wait for it and ask again.
func (l *Log) admit(size int64) (<-chan struct{}, error) {
	wait, err := l.roomFor(size)
	switch {
	case err == nil:
		if wait == nil && size >= l.refused {
			l.refused = 0
		}
	case errors.Is(err, ErrFull), errors.Is(err, ErrNoSpace):
		l.refused = max(l.refused, size)
	}
	return wait, err
}

func (l *Log) roomFor(size int64) (<-chan struct{}, error) {
	if err := l.down(); err != nil {
		return nil, err
	}
	if l.used+size > l.cfg.HardLimit {
		return nil, fmt.Errorf("%d bytes stored, limit %d: %w", l.used, l.cfg.HardLimit, ErrFull)
	}
	if l.staged > 0 && l.staged+size > maxStaged {
		return l.waitRoom(), nil
	}
	if l.fits(size) {
		return nil, nil
	}
	if l.next == nil {
		if l.blocked != nil {
			return nil, l.blocked
		}
		l.stats.RollWaits++
		kick(l.chores)
		return l.waitRoom(), nil
	}
	l.roll()
	return nil, nil
}

// down says why nothing can be appended any more.
func (l *Log) down() error {
	switch {
	case l.failure != nil:
		return l.failure
	case l.closed:
		return ErrClosed
	}
	return nil
}

func (l *Log) waitRoom() <-chan struct{} {
	if l.room == nil {
		l.room = make(chan struct{})
	}
	return l.room
}
