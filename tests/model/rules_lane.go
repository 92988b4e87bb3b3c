package model

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strconv"

	"millrace/pipeline/agg"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/store"
)

// laneStore is the real store as a lane sees it, without the rule that is off.
type laneStore struct {
	*store.Store
	l        *laneProc
	rulings  []*ruling         // the history of the state that was viewed last
	viewed   store.Meta        // of that state
	at       *store.Cursor     // noReseed: where the chain really stands
	claimed  int64             // movesEnd: the last claim to be idle
	replaced store.Token       // ownBefore: whose token the lane replaces
	same     map[string]bool   // rowsSeq: slice and key
	written  map[string]string // touched: content without stamp as it was read or written

	// A commit that is sent again is sent as it was twisted first.
	place   store.Cursor
	twisted []store.Call
}

// Acquire notes the token that Redis has accepted.
func (s *laneStore) Acquire(ctx context.Context, id store.LaneID, stateID string, expected, next store.Token) (store.Meta, bool, error) {
	l := s.l
	if l.retaking && l.w.is(ownBefore) && expected != "" {
		expected = s.replaced
	}
	meta, found, err := s.Store.Acquire(ctx, id, stateID, expected, next)
	if err == nil {
		l.token, l.infos = next, map[string]*commitInfo{}
		l.w.infos[next] = l.infos
		s.at, s.written, s.twisted, s.claimed = nil, map[string]string{}, nil, store.NotIdle
	}
	return meta, found, err
}

func (s *laneStore) WholeIndex(ctx context.Context, id store.LaneID, stateID string) (store.LaneIndex, error) {
	found, err := s.Store.WholeIndex(ctx, id, stateID)
	s.rulings, s.viewed = s.l.w.laneTag(s.l.p).rulings(), found.Meta
	if err != nil {
		return found, err
	}
	s.l.w.twistIndex(&found)
	switch s.l.w.off {
	case wantWhole:
		s.makeWhole(ctx, &found)
	case beyondGo:
		for i := range found.Slices {
			found.Slices[i].Beyond = nil
		}
	}
	return found, nil
}

// makeWhole lets a lane believe that what is left of a state is all of it.
func (s *laneStore) makeWhole(ctx context.Context, found *store.LaneIndex) {
	found.Meta.Balance.Known = false
	for i := range found.Slices {
		x, held := &found.Slices[i], int64(0)
		_, err := s.ReadContent(ctx, s.l.id, s.l.w.program.StateID, x, s.l.w.spec.Lane.Buckets, func(_, entry []byte) error {
			_, _, count, err := agg.EntryHeader(entry)
			held += count
			return err
		})
		if err == nil && x.FirstOffset != store.NoOffset {
			x.Folded = min(x.Folded, held)
		}
	}
}

// Replace notes what takes the place of a state that is spoilt.
func (s *laneStore) Replace(ctx context.Context, id store.LaneID, stateID string, expected, next store.Token, buckets int,
	m *store.MetaUpdate) (store.Meta, error) {
	s.l.replacing = s.l.carryOut(s.viewed, m)
	meta, err := s.Store.Replace(ctx, id, stateID, expected, next, buckets, m)
	if err == nil {
		s.l.w.out.Replaced++
		s.l.carriedOut()
	}
	return meta, err
}

func (s *laneStore) ReadSlice(ctx context.Context, id store.LaneID, stateID string, sl store.SliceID, from, to int,
	fn func(bucket int, key, entry []byte) error) (store.Guard, error) {
	return s.Store.ReadSlice(ctx, id, stateID, sl, from, to, func(bucket int, key, entry []byte) error {
		if s.l.w.is(stamps) {
			entry = restamp(entry, func(int64) int64 { return 0 })
		}
		if s.l.w.is(touched) {
			s.written[sl.String()+string(key)] = unstamped(entry)
		}
		return fn(bucket, key, entry)
	})
}

func (s *laneStore) Apply(ctx context.Context, id store.LaneID, stateID string, owner store.Token, calls []store.Call) (int, error) {
	if s.l.acquiring && !s.l.replays && s.l.w.current == s.l.main { // what else calls now belongs to a life before
		meta := calls[0].Meta
		s.l.infos[calls[0].Next.String()] = s.l.carryOut(s.viewed, meta)
		n, err := s.Store.Apply(ctx, id, stateID, owner, calls)
		if err == nil {
			s.l.carriedOut()
		}
		return n, err
	}
	if s.l.w.mutated() && s.l.disk == nil { // a drain sends parts of several commits
		if place := calls[len(calls)-1].Next; s.twisted == nil || s.place != place {
			s.place, s.twisted = place, s.twist(slices.Clone(calls))
		}
		calls = s.twisted
	}
	for {
		n, err := s.Store.Apply(ctx, id, stateID, owner, calls)
		meta := "mr:{" + id.String() + "}:meta"
		switch {
		case s.l.w.is(fencing) && errors.Is(err, store.ErrFenced):
			_, _ = s.l.w.redis.do([]string{"hset", meta, "owner", string(owner)})
		case s.l.w.is(cursors) && errors.Is(err, store.ErrLostWrites):
			_, _ = s.l.w.redis.do([]string{"hset", meta, "cursor", calls[n].Prev.String()})
		default:
			if err == nil && s.at != nil {
				*s.at = calls[len(calls)-1].Next
			}
			return n, err
		}
	}
}

// twist changes a commit's calls as the rule that is off would have prevented.
func (s *laneStore) twist(calls []store.Call) []store.Call {
	last := &calls[len(calls)-1]
	switch s.l.w.off {
	case noReseed:
		s.rechain(calls)
	case stampsUp:
		offset := last.Meta.Offset
		s.rewrite(calls, func(_ store.SliceID, _, entry string) (string, bool) {
			return string(restamp([]byte(entry), func(stamp int64) int64 { return min(stamp, offset) })), true
		})
	case touched:
		s.rewrite(calls, func(sl store.SliceID, key, entry string) (string, bool) {
			name, content := sl.String()+key, unstamped([]byte(entry))
			same := s.written[name] == content
			s.written[name] = content
			return entry, !same
		})
	case entriesFirst:
		if first := &calls[0]; first != last {
			s.l.infos[first.Next.String()] = s.l.infos[last.Next.String()]
			delete(s.l.infos, last.Next.String())
			first.Meta, last.Meta = last.Meta, nil
		}
	case countSlices:
		calls[0].Registered = 0
	case keepsDropped:
		meta := *last.Meta
		meta.Balance.Dropped = 0
		last.Meta = &meta
	case deletedLater:
		s.deleteAtOnce(calls)
	case freshKeys:
		for i := range calls {
			if calls[i].Format != store.PageFormat && len(calls[i].Drop)+len(calls[i].Purge) == 0 {
				calls[i].Buckets = 0
			}
		}
	case sealCommitted:
		meta := *last.Meta
		meta.Sealed, meta.Seals = store.NoTime, nil
		last.Meta = &meta
	}
	return calls
}

func (s *laneStore) rechain(calls []store.Call) {
	if s.at == nil {
		return
	}
	at := *s.at
	for i := range calls {
		calls[i].Prev = at
		at = store.Cursor{Seq: s.at.Seq + 1, Chunk: int64(i)}
		calls[i].Next = at
	}
	s.l.infos[at.String()] = &commitInfo{partition: s.l.p, offset: calls[len(calls)-1].Meta.Offset, rulings: s.l.rulings}
}

// rewrite passes every entry of the calls through fn, which may leave it out.
func (s *laneStore) rewrite(calls []store.Call, fn func(sl store.SliceID, key, entry string) (string, bool)) {
	for i := range calls {
		calls[i].Writes = slices.Clone(calls[i].Writes)
		for j := range calls[i].Writes {
			wr := &calls[i].Writes[j]
			var fields []string
			for k := 0; k+1 < len(wr.Fields); k += 2 {
				if entry, keep := fn(wr.Slice, wr.Fields[k], wr.Fields[k+1]); keep {
					fields = append(fields, wr.Fields[k], entry)
				}
			}
			wr.Fields = fields
		}
	}
}

// goOn is what a lane without re-seeding does after lost writes: it goes on with the commits in flight.
func (l *laneProc) goOn() error {
	found, err := l.holder.Retake(l.w.ctx)
	if err != nil {
		return err
	}
	l.st.at = &found.Meta.Cursor
	l.queue, l.out = slices.Clone(l.handed), nil
	l.startCommitter()
	return nil
}

// trustsHint reports whether the lane takes the group's offset for its own, since Redis has none.
func (l *laneProc) trustsHint() bool {
	return l.w.is(trustHint) && l.acquiring && l.w.hints[l.p].offset >= 0 && !l.started()
}

// twistIdle changes with which end of the log a snapshot is made.
func (l *laneProc) twistIdle(idleAt int64) int64 {
	if l.w.is(sealAtEnd) && l.commits.Requests().Seal > l.sealed {
		return l.holder.State().Offset()
	}
	return idleAt
}

// twistRequests changes what a lane believes it was asked.
func (l *laneProc) twistRequests(r *deliver.Result) {
	if l.w.is(dropAsked) && r.InRedis {
		r.Requests.Drop = max(r.Requests.Drop, l.holder.State().Watermark())
	}
}

// twistCommit changes a commit between its snapshot and its delivery.
func (l *laneProc) twistCommit(c *fold.Commit) {
	switch l.w.off {
	case sidesAfter:
		l.publish(c.Side, false)
		c.Side = nil
	case movesEnd:
		meta := c.Calls[len(c.Calls)-1].Meta
		l.st.claimed = max(l.st.claimed, meta.IdleEnd)
		meta.IdleEnd = l.st.claimed
	case keptBehind:
		meta, r := c.Calls[len(c.Calls)-1].Meta, &c.Replay
		meta.Accepted = slices.DeleteFunc(slices.Clone(meta.Accepted), func(offset int64) bool { return offset < r.From })
		meta.Seals = slices.DeleteFunc(slices.Clone(meta.Seals), func(s store.Seal) bool {
			return r.Basis.Known && s.Before <= r.Basis.Sealed
		})
	case acceptedAgain:
		c.Calls[len(c.Calls)-1].Meta.Accepted = nil
	case streakKept:
		meta := c.Calls[len(c.Calls)-1].Meta
		meta.Jumps = min(meta.Jumps, 0)
	case pendingGone:
		l.deleteSurvivors(c)
	case dropSealed:
		l.holder.State().Acknowledged(c)
		for i := range c.Calls {
			for _, d := range c.Calls[i].Drop {
				c.Calls[i].Purge = append(c.Calls[i].Purge, d.SliceID)
			}
			c.Calls[i].Drop = nil
		}
	}
}

// restamp returns the entry with another stamp.
func restamp(entry []byte, fn func(int64) int64) []byte {
	stamp, n := binary.Uvarint(entry[1:])
	out := binary.AppendUvarint([]byte{entry[0]}, uint64(fn(int64(stamp))))
	return append(out, entry[1+n:]...)
}

func unstamped(entry []byte) string {
	_, n := binary.Uvarint(entry[1:])
	return string(entry[1+n:])
}

func atoi(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return math.MinInt64
	}
	return n
}
