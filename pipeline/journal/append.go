package journal

import (
	"context"
	"fmt"
	"sync"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
)

// maxBatch is the most bytes of records that one append takes to the log, unless a single call has more.
const maxBatch = 4 << 20

// recordOverhead bounds what the log adds to a record's data, in bytes, besides the names of stream and chain.
const recordOverhead = 64

func batchLimit(segment int64) int64 {
	if segment == 0 {
		return maxBatch
	}
	return min(maxBatch, (segment-4*4096)/2)
}

// appending is the memory of one Append.
type appending struct {
	buf     []byte
	ends    []int
	heads   []head
	records []wal.Record
}

var appendings = sync.Pool{New: func() any { return &appending{} }}

// Append makes the calls of one commit durable, which covers everything below offset, with its side records. It returns
// when all of them are on disk; calls that were appended before, by a try that failed half way, are passed over.
//
// wal.ErrFull and wal.ErrNoSpace may pass: append again later. wal.ErrFailed and wal.ErrClosed are final for the journal,
// wal.ErrTooLarge for this commit. After any error some of the calls may be there; that does no harm, as long as no other
// commit of this owner takes their places.
func (j *Journal) Append(ctx context.Context, id store.LaneID, stateID string, owner store.Token, offset int64,
	calls []store.Call, side []source.SideRecord) error {
	j.mu.Lock()
	s := j.streamOf(id)
	if c := s.find(owner); c != nil {
		for len(calls) > 0 && !c.last.Less(calls[0].Next) {
			calls, side = calls[1:], nil
		}
	}
	j.mu.Unlock()
	a := appendings.Get().(*appending)
	defer a.release()
	for i := range calls {
		from := len(a.buf)
		a.buf = appendCall(a.buf, stateID, &calls[i], side)
		side = nil
		if from > 0 && a.size(s, owner)+recordOverhead > j.batch {
			over := len(a.buf) - from // it goes with the next batch
			a.buf = a.buf[:from]
			if err := j.flush(ctx, a, s, owner, offset); err != nil {
				return err
			}
			a.buf = append(a.buf, a.buf[from:from+over]...)
		}
		a.ends = append(a.ends, len(a.buf))
	}
	return j.flush(ctx, a, s, owner, offset)
}

// size bounds the bytes of the log that the batch takes.
func (a *appending) size(s *stream, owner store.Token) int64 {
	return int64(len(a.buf) + (len(a.ends)+1)*(recordOverhead+len(s.key)+len(owner)))
}

// flush appends what was encoded. The buffer is empty afterwards, its bytes untouched.
func (j *Journal) flush(ctx context.Context, a *appending, s *stream, owner store.Token, offset int64) error {
	if len(a.ends) == 0 {
		return nil
	}
	chain := []byte(owner)
	from := 0
	for _, end := range a.ends {
		data := a.buf[from:end:end]
		h, _, err := readHead(data)
		if err != nil {
			return err
		}
		a.heads = append(a.heads, h)
		a.records = append(a.records, wal.Record{
			Stream: s.key, Chain: chain, Pos: offset, Data: data,
			Place: wal.Place{Seq: uint64(h.next.Seq), Part: uint32(h.next.Chunk)},
		})
		from = end
	}
	first, err := j.log.Append(ctx, a.records...)
	if err != nil {
		return fmt.Errorf("journal lane %s: %w", s.id, err)
	}
	j.mu.Lock()
	for i := range a.records {
		s.note(owner, &a.heads[i], first+uint64(i), offset, tallyOf(&a.heads[i], a.records[i].Data))
	}
	j.mu.Unlock()
	a.reset()
	return nil
}

func (a *appending) reset() {
	clear(a.records)
	clear(a.heads)
	a.buf, a.ends, a.heads, a.records = a.buf[:0], a.ends[:0], a.heads[:0], a.records[:0]
}

func (a *appending) release() {
	a.reset()
	if cap(a.buf) <= 2*maxBatch {
		appendings.Put(a)
	}
}
