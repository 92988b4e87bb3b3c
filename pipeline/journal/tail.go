package journal

import (
	"context"
	"fmt"
	"sync/atomic"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// Tail is the journal as a running lane sees it: one owner's chain, to which it adds commits while Redis cannot take them,
// and which it drains. Append may be called beside Drain and Rest, each by one
// goroutine.
type Tail struct {
	j       *Journal
	s       *stream
	stateID string
	owner   store.Token
	fenced  bool  // another owner was found in this process; the journal's mutex guards it
	feed    *feed // nil while there is nothing to drain
	held    atomic.Int64
	sent    int64  // calls whose side records were published by Sides
	sentTo  uint64 // index behind the last of them
}

// Tail begins the part of owner, which has just acquired the lane and resumed what there was before. Close it.
func (j *Journal) Tail(id store.LaneID, stateID string, owner store.Token) *Tail {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.streamOf(id)
	s.fence()
	s.tail = &Tail{j: j, s: s, stateID: stateID, owner: owner}
	return s.tail
}

// fence ends the part of the owner that ran the lane before.
func (s *stream) fence() {
	if s.tail != nil {
		s.tail.fenced = true
		s.tail = nil
	}
}

// Append is Journal.Append, or store.ErrFenced when a later owner was seen in this process.
func (t *Tail) Append(ctx context.Context, offset int64, calls []store.Call, side []source.SideRecord) error {
	if t.isFenced() {
		return fmt.Errorf("journal lane %s: %w", t.s.id, store.ErrFenced)
	}
	err := t.j.Append(ctx, t.s.id, t.stateID, t.owner, offset, calls, side)
	if t.isFenced() { // meanwhile: whoever has the lane now will not look again
		t.Supersede("another owner has taken the lane")
	}
	return err
}

func (t *Tail) isFenced() bool {
	t.j.mu.Lock()
	defer t.j.mu.Unlock()
	return t.fenced
}

// Pending counts what was appended and is not drained.
func (t *Tail) Pending() Tally {
	t.j.mu.Lock()
	defer t.j.mu.Unlock()
	if c := t.s.find(t.owner); c != nil {
		return c.spilled.minus(c.drained)
	}
	return Tally{}
}

// Drain applies the next calls, up to a few megabytes, with their side records. What it returns was acknowledged by Redis,
// also beside an error; Drained.Meta is valid until the next call. With nothing left it returns at once.
//
// store.ErrFenced, store.ErrLostWrites and store.ErrNoMeta end the chain, as they do for any commit. ErrBroken, a
// *wal.CorruptError among its causes or not, and ErrUnreadable mean that the rest cannot be read. A *SideError is not about
// Redis. After any other error call it again.
func (t *Tail) Drain(ctx context.Context, st Applier, side SideSender) (Drained, error) {
	none := Drained{First: -1}
	if ok, err := t.ready(); err != nil || !ok {
		return none, err
	}
	return t.feed.apply(ctx, st, side, t.owner)
}

// ready makes sure that the batch holds calls, and reports whether there are any.
func (t *Tail) ready() (bool, error) {
	if t.feed != nil && t.feed.batch.rest() > 0 {
		return true, nil
	}
	if t.Pending().Calls == 0 {
		return false, nil
	}
	if t.feed == nil {
		t.j.mu.Lock()
		c := t.s.find(t.owner)
		t.j.mu.Unlock()
		t.feed = t.j.newFeed(t.s, c)
	}
	t.held.Store(min(batchBytes, t.Pending().Bytes))
	if err := t.feed.fill(); err != nil {
		return false, err
	}
	if t.feed.batch.rest() == 0 && t.feed.broken != nil {
		return false, t.feed.broken
	}
	return t.feed.batch.rest() > 0, nil
}

// Rest gives the reader up, which keeps segments from being used again, as long as there is nothing to drain. It is for the
// goroutine that drains.
func (t *Tail) Rest() {
	if t.feed != nil {
		t.feed.close()
		t.feed = nil
		t.held.Store(0)
	}
}

// Held is about how many bytes of memory draining takes now. It may be called by anybody.
func (t *Tail) Held() int64 { return t.held.Load() }

// Sides publishes the side records that were never drained, in order. A lane that writes its memory again after Redis
// forgot writes will not read their events again, so it must call it, until it succeeds, before the commit that does so.
// Nothing of the chain can be applied any more after it was called.
//
// Where the chain cannot be read it fails as Drain does. With salvage it passes over what cannot be read, publishes the rest, and
// returns how many records are lost.
func (t *Tail) Sides(ctx context.Context, side SideSender, salvage bool) (lost int64, err error) {
	for {
		ok, err := t.ready()
		switch {
		case err != nil && salvage && t.feed != nil && t.feed.broken != nil:
			t.feed.loosen(max(t.sentTo, t.feed.first()))
			continue
		case err != nil:
			return 0, err
		case !ok:
			return t.unsent(), nil
		}
		b := &t.feed.batch
		for b.rest() > 0 {
			r := &b.recs[b.from]
			if err := t.feed.sides(ctx, side, r); err != nil {
				return 0, err
			}
			t.sent += r.tally.Calls
			t.sentTo = r.index + 1
			b.from++
		}
		if t.sentTo > t.feed.end() {
			return t.unsent(), nil
		}
	}
}

// unsent is how many records of the chain Sides has not seen.
func (t *Tail) unsent() int64 { return max(0, t.Pending().Calls-t.sent) }

// Supersede makes sure that the chain is never applied.
func (t *Tail) Supersede(reason string) {
	t.j.mu.Lock()
	defer t.j.mu.Unlock()
	if c := t.s.find(t.owner); c != nil {
		t.s.supersede(c, reason)
	}
}

// Committed tells the journal that everything below offset is committed in Redis: superseded chains up to there may go.
func (t *Tail) Committed(offset int64) {
	t.j.mu.Lock()
	defer t.j.mu.Unlock()
	t.j.pass(t.s, offset)
}

// Close ends the owner's part. What is pending waits for the next acquisition, or for Settle.
func (t *Tail) Close() {
	t.Rest()
	t.j.mu.Lock()
	defer t.j.mu.Unlock()
	if t.s.tail == t {
		t.s.tail = nil
	}
	t.j.release(t.s, (*chain).applied)
}
