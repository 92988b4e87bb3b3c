package lane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// forgot tells whether an error means that Redis forgot acknowledged writes.
func forgot(err error) bool {
	return errors.Is(err, store.ErrLostWrites) || errors.Is(err, store.ErrNoMeta)
}

// onlyHere tells whether an error ends the chain of commits while nobody but this lane knows the state: Redis forgot it, or has
// none and the journal cannot be read. It asks Redis until it answers or ctx ends.
func (r *loop) onlyHere(ctx context.Context, err error) bool {
	if !deliver.JournalUnreadable(err) {
		return forgot(err)
	}
	for {
		meta, found, askErr := r.deps.Store.ReadMeta(ctx, r.id)
		if askErr == nil {
			return !found || meta.Offset < 0
		}
		r.now.Reason = askErr.Error()
		r.report()
		if !pause(ctx, reseedAgain) {
			return false
		}
	}
}

// reseedAgain is the pause before another try to write the state again.
const reseedAgain = 200 * time.Millisecond

// broken handles the end of the chain of commits. A fenced lane ends; one that alone knows the state takes a new token
// and writes its whole memory again; anything else that no retry mends parks it.
func (r *loop) broken(err error) error {
	switch {
	case r.onlyHere(r.ctx, err):
	case store.IsFinal(err) && !errors.Is(err, store.ErrFenced):
		return &Incident{Kind: cmp.Or(lossKind(err), IncidentCorrupt), From: -1, To: -1, Detail: withoutLane(err)}
	default:
		return err
	}
	r.deps.Log.Warn("redis forgot acknowledged writes, the lane writes its state again", "lane", r.id.String(), "error", err)
	for {
		assigned, askErr := r.claim.StillAssigned(r.ctx)
		if r.ctx.Err() != nil {
			return r.ctx.Err()
		}
		if askErr == nil && !assigned {
			return store.ErrFenced
		}
		if askErr == nil {
			err = r.reseed(r.ctx)
			if err == nil && r.ended {
				r.parkAgain()
			}
			if err == nil || errors.Is(err, store.ErrFenced) {
				return err
			}
			var inc *Incident
			if errors.As(err, &inc) {
				return err
			}
			askErr = err
		}
		r.now.Reason = askErr.Error()
		r.report()
		if !pause(r.ctx, reseedAgain) {
			return r.ctx.Err()
		}
	}
}

// reseed takes a new token and hands over one commit with everything in it, and the side records of every commit that
// was under way. Those of commits in the journal go out before it.
func (r *loop) reseed(ctx context.Context) error {
	r.halt()
	var stored []store.SliceStat
	_, meta, err := r.take(ctx)
	if err == nil {
		_, stored, err = r.deps.Store.LaneView(ctx, r.id, r.program.StateID)
	}
	if lossKind(err) == IncidentCorrupt {
		meta, err = r.clear(ctx)
	}
	if err != nil {
		return lossIncident(err)
	}
	if r.tail != nil {
		r.owed, r.tail = append(r.owed, r.tail), nil
	}
	var side []source.SideRecord
	for _, f := range r.inFlight {
		side = append(side, f.Side...)
	}
	r.free = append(r.free, r.inFlight...)
	c := r.free[len(r.free)-1]
	r.free, r.inFlight = r.free[:len(r.free)-1], nil
	r.state.Reseed(c, meta.Cursor, stored)
	c.OweSides(side)
	r.reseeds++
	r.now.Reseeds, r.now.Owner = r.reseeds, r.token
	r.alone = meta.Offset < 0
	if !r.alone { // a hint beside no state at all is what tells that the state was lost
		r.claim.ResetHint(meta.Offset, r.hintText)
	}
	r.asks.Rewrite = 0 // it was asked of the owner before, and is done
	r.startCommitter()
	r.hand(c)
	return nil
}

// parkAgain renews the incident of a parked lane that has another token: nobody can decide under the one before any more.
func (r *loop) parkAgain() {
	inc := *r.now.Incident
	inc.ID = ""
	r.park(&inc, nil)
}

// clear takes what Redis holds of the lane away, because it cannot be read: this lane's memory is whole. Nothing happens when
// another owner has written there since.
func (r *loop) clear(ctx context.Context) (store.Meta, error) {
	owner, err := r.deps.Store.ReadOwner(ctx, r.id)
	if err != nil {
		return store.Meta{}, err
	}
	if owner != r.token {
		return store.Meta{}, store.ErrFenced
	}
	r.deps.Log.Error("what redis holds of the lane cannot be read, it is replaced by what the lane has in memory", "lane", r.id.String())
	next := store.NextToken(owner)
	notStarted := func(_ store.Meta, m *store.MetaUpdate) (purge bool) {
		m.Offset = store.NotStarted
		return true
	}
	meta, err := replaceLane(ctx, r.deps.Store, r.program, r.id, owner, next, store.Meta{}, notStarted)
	if err == nil {
		r.token = next
	}
	return meta, err
}

// leaveEvery is between two looks whether a lane may go.
const leaveEvery = 50 * time.Millisecond

// release commits what the lane holds and waits for it, within the grace.
func (r *loop) release() error {
	r.now.State, r.now.Reason = StateReleasing, ""
	r.report()
	ctx, cancel := context.WithTimeout(r.delivery, releaseGrace)
	defer cancel()
	look := time.NewTicker(leaveEvery)
	defer look.Stop()
	r.committer.Hurry()
	final := false
	for {
		if !final && len(r.free) > 0 {
			final = true
			r.commit(-1) // also with nothing new: it notices a Redis that forgot
		}
		if final && len(r.inFlight) == 0 && r.leave() {
			return nil
		}
		select {
		case <-look.C:
		case d, ok := <-r.committer.Results():
			if !ok {
				return nil
			}
			if d.Err != nil && r.onlyHere(ctx, d.Err) {
				// Its successor would find nothing, or too little: nobody knows the state but this lane.
				if err := r.reseedForSuccessor(ctx); err != nil {
					return errors.Join(d.Err, err)
				}
				r.committer.Hurry()
				continue
			}
			if d.Err != nil {
				return d.Err
			}
			if err := r.delivered(d, ok); err != nil {
				return err
			}
		case <-ctx.Done():
			if final && len(r.inFlight) == 0 {
				return nil // the rest is in the journal
			}
			return fmt.Errorf("release lane %s: commits not accepted within %s; its next owner reads on from offset %d",
				r.id, releaseGrace, r.now.Committed)
		}
	}
}

// reseedForSuccessor writes the state of a lane that must go again, if the coordinator still knows this member. A worker that
// was thrown out while it was frozen has a successor, or its pipeline was removed and nothing of it may come back.
func (r *loop) reseedForSuccessor(ctx context.Context) error {
	for {
		member, err := r.claim.StillMember(ctx)
		switch {
		case err == nil && member:
			return r.reseed(ctx)
		case err == nil:
			return store.ErrFenced
		}
		r.now.Reason = err.Error()
		r.report()
		if !pause(ctx, reseedAgain) {
			return err
		}
	}
}

// leave tells whether a lane whose commits are all durable may go: with an empty journal, or when the journal does not
// become empty now. What is left in it waits for whoever acquires the lane.
func (r *loop) leave() bool {
	return r.tail == nil || r.tail.Pending().Calls == 0 || r.committer.Failing() != nil || !r.deps.route().Direct()
}

// pause waits for d or the end of ctx, and reports whether it was d.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
