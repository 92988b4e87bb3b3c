package journal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/time/rate"

	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

// settling is what becomes of a lane's chains while they are settled.
type settling struct{ report.SettledChain }

// newSettling begins the settling of chains of a lane, of which nothing is done yet.
func newSettling(id store.LaneID, chain store.Token) *settling {
	return &settling{report.SettledChain{
		ChainRef: report.ChainRef{Topic: id.Topic, Partition: id.Partition, Chain: string(chain)}, Outcome: report.ChainNone, From: -1, To: -1,
	}}
}

// addApplied counts what Redis has taken.
func (r *settling) addApplied(d Drained) {
	r.Commits += d.Commits
	r.Calls += d.Calls
	r.Entries += d.Entries
	r.Bytes += d.Bytes
	if d.Meta != nil {
		if r.From < 0 {
			r.From = d.First
		}
		r.To = d.Meta.Offset
	}
}

// supersede makes sure that a chain is never applied, and counts what is left of it. Callers hold the journal's mutex.
func (r *settling) supersede(s *stream, c *chain, reason string) {
	s.supersede(c, reason)
	if left := c.spilled.minus(c.drained); left.Calls > 0 {
		sum := left.Account()
		if r.Superseded != nil {
			sum = sum.Plus(*r.Superseded)
		}
		r.Superseded = &sum
	}
	r.Outcome, r.Chain, r.Reason = report.ChainSuperseded, string(c.owner), reason
}

// Resume is called by an acquisition that has made owner the owner of the lane, before it reads the lane's state: previous
// is the owner that it replaced in the same step, and at the cursor it found. The rest of previous's chain is applied with
// the new token if it follows at without a gap and has the state id; what cannot be applied, and every other chain of the
// lane, is superseded. The lane's offset and cursor have moved afterwards: read its meta again.
//
// After an error the lane must be acquired anew: what was applied stays, and the next acquisition in this process goes on
// with the chain, as it replaces owner.
func (j *Journal) Resume(ctx context.Context, st Applier, side SideSender, id store.LaneID, stateID string,
	previous, owner store.Token, at store.Cursor) (report.SettledChain, error) {
	r := newSettling(id, "")
	j.mu.Lock()
	s := j.streams[id.String()]
	if s == nil {
		j.mu.Unlock()
		return r.SettledChain, nil
	}
	s.fence()
	j.mu.Unlock()
	s.busy.Lock()
	defer s.busy.Unlock()
	j.mu.Lock()
	mine := s.take(previous, owner)
	for _, c := range s.chains {
		if c != mine && !c.superseded {
			r.supersede(s, c, fmt.Sprintf("the lane's owner was %s", previous))
		}
	}
	if mine != nil && mine.stateID != stateID {
		r.supersede(s, mine, fmt.Sprintf("it is of state %s, the lane of %s", mine.stateID, stateID))
		mine = nil
	}
	j.mu.Unlock()
	if mine == nil {
		return r.SettledChain, nil
	}
	f := j.newFeed(s, mine)
	defer f.close()
	f.at, f.placed = at, true
	err := j.finish(ctx, f, r, st, side, owner, nil)
	return r.SettledChain, err
}

// take finds the chain that a new owner may go on with, and notes that it does. Callers hold j.mu.
func (s *stream) take(previous, owner store.Token) *chain {
	from := previous
	if origin, ok := s.moved[previous]; ok {
		from = origin // previous acquired the lane to apply that chain, and did not come to its end
	}
	clear(s.moved)
	c := s.find(from)
	if c == nil || c.superseded {
		return nil
	}
	s.moved[owner] = from
	return c
}

// finish applies what is left of a chain and decides about the rest.
func (j *Journal) finish(ctx context.Context, f *feed, r *settling, st Applier, side SideSender, owner store.Token, pace *rate.Limiter) error {
	for {
		if err := f.fill(); err != nil {
			return err
		}
		if f.batch.rest() == 0 {
			break
		}
		if pace != nil {
			if err := pace.WaitN(ctx, min(f.batch.bytes, pace.Burst())); err != nil {
				return err
			}
		}
		d, err := f.apply(ctx, st, side, owner)
		r.addApplied(d)
		if errors.Is(err, store.ErrPartialLoss) {
			// Nothing goes on from a state that is not whole. Whoever restores the lane finds that out too, and asks.
			f.broken = err
			break
		}
		if err != nil {
			return fmt.Errorf("apply the journal of lane %s: %w", f.s.id, err)
		}
	}
	if f.broken != nil && f.strict && !errors.Is(f.broken, store.ErrPartialLoss) {
		return fmt.Errorf("journal of lane %s: %w", f.s.id, f.broken)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	clear(f.s.moved)
	if f.broken != nil {
		r.supersede(f.s, f.c, f.broken.Error())
	} else {
		r.Outcome, r.Chain = report.ChainDrained, string(f.c.owner)
	}
	j.release(f.s, (*chain).applied)
	return nil
}

// pass drops superseded chains that end at or below a committed offset. Callers hold j.mu.
func (j *Journal) pass(s *stream, offset int64) {
	for _, c := range s.chains {
		if c.superseded && c.pos <= offset {
			j.release(s, func(c *chain) bool { return c.applied() || c.superseded && c.pos <= offset })
			return
		}
	}
}

// Sweep lets superseded chains go that their lanes have passed, and those of pipelines that are being removed, whose lanes
// never will. meta returns a lane's meta as it is now; a lane that it does not find keeps its chains. It returns how many
// chains went, and the errors of meta.
func (j *Journal) Sweep(ctx context.Context, meta func(store.LaneID) (store.Meta, bool, error)) (int, error) {
	var errs []error
	before := 0
	for _, c := range j.Chains() {
		if c.State != Superseded || ctx.Err() != nil {
			continue
		}
		m, found, err := meta(c.Lane)
		if err != nil || !found {
			errs = append(errs, err)
			continue
		}
		passed := m.Offset
		if m.Owner.Removed() {
			passed = math.MaxInt64
		}
		j.mu.Lock()
		s := j.streamOf(c.Lane)
		had := len(s.chains)
		j.pass(s, passed)
		before += had - len(s.chains)
		j.mu.Unlock()
	}
	return before, errors.Join(append(errs, ctx.Err())...)
}

// Store is what Settle needs of Redis.
type Store interface {
	Applier
	ReadMeta(ctx context.Context, id store.LaneID) (store.Meta, bool, error)
	Acquire(ctx context.Context, id store.LaneID, stateID string, expected, next store.Token) (store.Meta, bool, error)
}

// SettleOptions say how to settle a chain.
type SettleOptions struct {
	Store Store
	Side  SideSender
	// BytesPerSecond bounds how fast calls are applied; 0 does not.
	BytesPerSecond int
	// Quarantine goes on past corrupt ranges: what is behind one is superseded unless it follows what was applied.
	Quarantine bool
}

// Settle decides about a chain whose lane nobody runs in this process. If the lane's owner still is the chain's, a new token
// takes its place and the rest is applied; otherwise the chain is superseded, and goes at once if the lane has passed it.
// The lane has no running owner afterwards; whoever acquires it goes on.
//
// Errors: ErrUnknown, ErrLive, store.ErrOwnerChanged (try again), a *wal.CorruptError without Quarantine, and what Redis or
// Kafka say. What was applied before an error stays, and the next Settle in this process goes on from there.
func (j *Journal) Settle(ctx context.Context, id store.LaneID, owner store.Token, opts SettleOptions) (report.SettledChain, error) {
	r := newSettling(id, owner)
	s, _, err := j.idle(id, owner)
	if err != nil {
		return r.SettledChain, err
	}
	s.busy.Lock()
	defer s.busy.Unlock()
	_, c, err := j.idle(id, owner) // an acquisition may have settled it meanwhile
	if err != nil {
		return r.SettledChain, err
	}
	meta, found, err := opts.Store.ReadMeta(ctx, id)
	if err != nil {
		return r.SettledChain, err
	}
	if !j.belongs(s, c, meta.Owner) {
		j.mu.Lock()
		defer j.mu.Unlock()
		r.supersede(s, c, fmt.Sprintf("the lane's owner was %q", meta.Owner))
		if found {
			j.pass(s, meta.Offset)
		}
		return r.SettledChain, nil
	}
	next := store.NextToken(meta.Owner)
	if meta, _, err = opts.Store.Acquire(ctx, id, c.stateID, meta.Owner, next); err != nil {
		return r.SettledChain, err
	}
	j.mu.Lock()
	clear(s.moved)
	s.moved[next] = owner
	j.mu.Unlock()
	f := j.newFeed(s, c)
	defer f.close()
	f.at, f.placed, f.strict = meta.Cursor, true, !opts.Quarantine
	var pace *rate.Limiter
	if opts.BytesPerSecond > 0 {
		pace = rate.NewLimiter(rate.Limit(opts.BytesPerSecond), batchBytes)
		pace.ReserveN(time.Now(), batchBytes) // no burst at the start
	}
	err = j.finish(ctx, f, r, opts.Store, opts.Side, next, pace)
	return r.SettledChain, err
}

// idle finds a chain that no lane of this process works on.
func (j *Journal) idle(id store.LaneID, owner store.Token) (*stream, *chain, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.streams[id.String()]
	if s == nil || s.find(owner) == nil {
		return nil, nil, fmt.Errorf("lane %s, owner %s: %w", id, owner, ErrUnknown)
	}
	if s.tail != nil {
		return nil, nil, fmt.Errorf("lane %s: %w", id, ErrLive)
	}
	return s, s.find(owner), nil
}

// belongs reports whether a chain may be applied: the owner of the lane is the chain's, or took its place to apply it.
func (j *Journal) belongs(s *stream, c *chain, now store.Token) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !c.superseded && (now == c.owner || s.moved[now] == c.owner)
}
