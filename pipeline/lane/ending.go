package lane

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/pipeline/lane/inflight"
	"millrace/pipeline/report"
	"millrace/pipeline/stage"
	"millrace/pipeline/store"
)

// reseedAgain is the pause before another try to write the state again.
const reseedAgain = 200 * time.Millisecond

// verdict says what the lane does about an error that broke its chain of commits. It asks Redis if it must, until Redis
// answers or ctx ends.
func (r *loop) verdict(ctx context.Context, err error) inflight.Verdict {
	v := inflight.Judge(err)
	for v == inflight.AskRedis {
		meta, found, askErr := r.deps.Store.ReadMeta(ctx, r.id)
		switch {
		case askErr == nil && inflight.HoldsOnlyCopy(meta, found):
			return inflight.Reseed
		case askErr == nil:
			return inflight.End
		}
		r.now.Reason = askErr.Error()
		r.report()
		if !pause(ctx, reseedAgain) {
			return inflight.End
		}
	}
	return v
}

// chainBroken handles the end of the chain of commits. A fenced lane ends; one that alone knows the state takes a new token
// and writes its whole memory again, also when it must go meanwhile; anything else that no retry mends parks it.
func (r *loop) chainBroken(err error) error {
	v := r.verdict(r.ctx, err)
	if r.ctx.Err() != nil {
		return r.leaveBroken(err)
	}
	switch v {
	case inflight.End:
		return err
	case inflight.Park:
		return &report.Incident{Kind: cmp.Or(lossKind(err), report.IncidentCorrupt), From: -1, To: -1, Detail: withoutLane(err)}
	}
	r.deps.Log.Warn("redis forgot acknowledged writes, the lane writes its state again", "lane", r.id.String(), "error", err)
	for {
		assigned, againErr := r.claim.StillAssigned(r.ctx)
		if againErr == nil && !assigned && r.ctx.Err() == nil {
			return store.ErrFenced
		}
		if againErr == nil && assigned {
			againErr = r.reseed(r.ctx)
			if againErr == nil && r.ended {
				r.parkAgain()
			}
			var inc *report.Incident
			if againErr == nil || errors.Is(againErr, store.ErrFenced) || errors.As(againErr, &inc) {
				return againErr
			}
		}
		if againErr != nil {
			r.now.Reason = againErr.Error()
			r.report()
		}
		if !pause(r.ctx, reseedAgain) {
			return r.leaveBroken(err)
		}
	}
}

// leaveBroken releases a lane that must go while its chain of commits is broken.
func (r *loop) leaveBroken(err error) error {
	ctx, cancel := context.WithTimeout(r.delivery, releaseGrace)
	defer cancel()
	if err := r.handOver(ctx, err); err != nil {
		return err
	}
	return r.release()
}

// handOver writes the state again if nobody knows it but this lane, which must go: its successor would find nothing, or
// too little. Any other end of the chain of commits is returned.
func (r *loop) handOver(ctx context.Context, err error) error {
	if r.verdict(ctx, err) != inflight.Reseed {
		return err
	}
	if againErr := r.reseedForSuccessor(ctx); againErr != nil {
		return errors.Join(err, againErr)
	}
	return nil
}

// reseed takes a new token and hands over one commit with everything that Redis forgot, and the side records of every commit that
// was in flight. Those of commits in the journal go out before it.
func (r *loop) reseed(ctx context.Context) error {
	r.stopCommitter()
	found, err := r.Retake(ctx)
	if err != nil {
		return err
	}
	c := r.commits.Reseed(found, time.Now())
	r.reseeds++
	r.now.Reseeds, r.now.Owner = r.reseeds, r.token
	r.HintBack(found.Meta)
	r.startCommitter()
	r.following.handedOver(c.Offset)
	r.committer.Send(c)
	return nil
}

// parkAgain renews the incident of a parked lane that has another token: nobody can decide under the one before any more.
func (r *loop) parkAgain() {
	inc := *r.now.Incident
	inc.ID = ""
	r.park(&inc)
}

// leaveEvery is between two looks whether a lane may go.
const leaveEvery = 50 * time.Millisecond

// release commits what the lane holds and waits for it, within the grace.
func (r *loop) release() error {
	r.now.State, r.now.Reason = StateReleasing, ""
	r.times.lane.Enter(stage.Commit)
	r.report()
	ctx, cancel := context.WithTimeout(r.delivery, releaseGrace)
	defer cancel()
	look := time.NewTicker(leaveEvery)
	defer look.Stop()
	r.committer.Hurry()
	final := false
	for {
		if !final && r.commits.Ready() {
			final = true
			r.commit(store.NotIdle) // also with nothing new: it notices a Redis that forgot
		}
		if final && r.commits.InFlight() == 0 && r.mayLeave() {
			return nil
		}
		select {
		case <-look.C:
		case d, ok := <-r.committer.Results():
			if !ok {
				return nil
			}
			if d.Err != nil {
				if err := r.handOver(ctx, d.Err); err != nil {
					return err
				}
				r.committer.Hurry()
				continue
			}
			if err := r.delivered(d, ok); err != nil {
				return err
			}
		case <-ctx.Done():
			if final && r.commits.InFlight() == 0 {
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

// mayLeave reports whether a lane whose commits are all durable may go: with an empty journal, or when the journal does not
// become empty now. What is left in it waits for whoever acquires the lane.
func (r *loop) mayLeave() bool {
	return r.commits.Pending().Calls == 0 || r.committer.Failing() != nil || !r.deps.route().Direct()
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
