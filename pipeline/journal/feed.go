package journal

import (
	"context"
	"errors"
	"fmt"
	"io"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
)

// Applier is what applies calls: the store, through the same scripts as commits that were never journalled.
type Applier interface {
	Apply(ctx context.Context, id store.LaneID, stateID string, owner store.Token, calls []store.Call) (int, error)
}

// SideSender publishes late and dead-letter records; it returns when all are acknowledged.
type SideSender interface {
	Send(ctx context.Context, records []source.SideRecord) error
}

// batchBytes is how many bytes of calls are read and applied at a time.
const batchBytes = 2 << 20

// feed reads the calls of one chain in order and applies them. One goroutine uses it.
type feed struct {
	j      *Journal
	s      *stream
	c      *chain
	reader *wal.Reader
	at     store.Cursor // place of the last call read, or applied before
	placed bool         // at is known
	strict bool         // a corrupt range ends the feed
	loose  bool         // only side records are wanted: what cannot be read is passed over
	batch  batch
	broken error // why nothing more can be read
}

// newFeed starts at the first record of the chain that is not drained.
func (j *Journal) newFeed(s *stream, c *chain) *feed {
	j.mu.Lock()
	defer j.mu.Unlock()
	return &feed{j: j, s: s, c: c, reader: j.log.StreamReader(s.key, c.next)}
}

func (f *feed) close() { f.reader.Close() }

// loosen goes on at a record, with side records only.
func (f *feed) loosen(from uint64) {
	f.reader.Close()
	f.reader = f.j.log.StreamReader(f.s.key, from)
	f.loose, f.broken = true, nil
}

// end is the index of the chain's last record.
func (f *feed) end() uint64 {
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	return f.c.lastIndex
}

// fill reads calls into the batch, which has been settled, until it is full or the chain ends. It leaves the batch empty at
// the end of the chain, and sets broken where the chain does not go on as it should: an error that another try may mend is
// returned instead.
func (f *feed) fill() error {
	f.batch.reset()
	end := f.end()
	for f.broken == nil && f.batch.bytes < batchBytes {
		rec, err := f.reader.Next()
		var corrupt *wal.CorruptError
		switch {
		case err == nil && rec.Index > end, errors.Is(err, io.EOF):
			if f.loose || f.settledTo(end) {
				return nil
			}
			f.broken = fmt.Errorf("%w: records up to %d are missing", ErrBroken, end)
		case errors.As(err, &corrupt) && f.strict && !f.loose:
			f.broken = err
		case errors.As(err, &corrupt):
			f.reader.Skip()
		case err != nil:
			return fmt.Errorf("read journal of lane %s: %w", f.s.id, err)
		case string(rec.Chain) == string(f.c.owner):
			f.take(&rec)
		}
		if err == nil && rec.Index >= end {
			break
		}
	}
	return nil
}

// first is the index of the first record not drained.
func (f *feed) first() uint64 {
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	return f.c.next
}

// settledTo reports whether every record up to index end was read.
func (f *feed) settledTo(end uint64) bool {
	if n := len(f.batch.recs); n > 0 {
		return f.batch.recs[n-1].index >= end
	}
	return f.first() > end
}

// take adds a record to the batch if it follows what was read before. One that is in Redis already counts as drained.
func (f *feed) take(rec *wal.Record) {
	call, side, err := f.batch.add(rec.Data)
	if err != nil && f.loose {
		return
	}
	if err != nil {
		f.broken = fmt.Errorf("lane %s, record %d: %w", f.s.id, rec.Index, err)
		return
	}
	h, _, _ := readHead(rec.Data)
	r := record{index: rec.Index, pos: rec.Pos, side: side, tally: tallyOf(&h, rec.Data)}
	switch {
	case f.loose:
		f.batch.recs = append(f.batch.recs, r)
		return
	case f.placed && !f.at.Less(call.Next):
		f.batch.calls = f.batch.calls[:len(f.batch.calls)-1]
		if len(f.batch.recs) == 0 {
			f.j.mu.Lock()
			f.s.settle(f.c, &r)
			f.j.mu.Unlock()
			return
		}
		last := &f.batch.recs[len(f.batch.recs)-1] // settled together with the call before
		last.index, last.pos = r.index, max(last.pos, r.pos)
		last.tally.add(r.tally)
		return
	case !f.placed && rec.Index != f.first():
		f.broken = fmt.Errorf("%w: record %d is missing", ErrBroken, f.first())
	case f.placed && call.Prev != f.at:
		f.broken = fmt.Errorf("%w: call %s follows %s, and the state stands at %s", ErrBroken, call.Next, call.Prev, f.at)
	case h.stateID != f.c.stateID:
		f.broken = fmt.Errorf("%w: call %s is of state %s, the chain of %s", ErrBroken, call.Next, h.stateID, f.c.stateID)
	default:
		f.batch.recs = append(f.batch.recs, r)
		f.at, f.placed = call.Next, true
		return
	}
	f.batch.calls = f.batch.calls[:len(f.batch.calls)-1]
}

// Drained says what one step brought to Redis.
type Drained struct {
	Tally
	First int64             // offset that the first commit covers, -1 without one
	Meta  *store.MetaUpdate // of the last commit, nil without one
	Seq   int64             // number of that commit
}

// apply brings the batch to Redis: before each call with side records these, after everything before is acknowledged. What
// is acknowledged is settled, also when an error ends it; calling it again goes on from there.
func (f *feed) apply(ctx context.Context, st Applier, side SideSender, owner store.Token) (Drained, error) {
	b, done := &f.batch, Drained{First: -1}
	for b.rest() > 0 {
		if err := f.sides(ctx, side, &b.recs[b.from]); err != nil {
			return done, err
		}
		to := b.from + 1
		for to < len(b.calls) && len(b.recs[to].side) == 0 {
			to++
		}
		n, err := st.Apply(ctx, f.s.id, f.c.stateID, owner, b.calls[b.from:to])
		f.settle(n, &done)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// SideError is a failure to publish side records: Redis has no part in it.
type SideError struct{ Err error }

func (e *SideError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *SideError) Unwrap() error { return e.Err }

func (f *feed) sides(ctx context.Context, side SideSender, r *record) error {
	if len(r.side) == 0 {
		return nil
	}
	if err := side.Send(ctx, r.side); err != nil {
		return &SideError{Err: err}
	}
	r.side = nil
	return nil
}

// settle counts the next n calls of the batch as drained and lets the log forget them.
func (f *feed) settle(n int, done *Drained) {
	b := &f.batch
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	for range n {
		r, call := &b.recs[b.from], &b.calls[b.from]
		meta := call.Meta
		f.s.settle(f.c, r)
		done.add(r.tally)
		if meta != nil {
			if done.Meta == nil {
				done.First = meta.Offset
			}
			done.Meta, done.Seq = meta, call.Next.Seq
		}
		b.from++
	}
	if f.c.next > f.c.lastIndex {
		f.placed = false // commits may go past the journal before the next one comes here
	}
	if n > 0 {
		f.j.release(f.s, (*chain).applied)
	}
}
