package lane

import (
	"context"
	"errors"
	"strings"
	"time"

	"millrace/pipeline/journal"
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
)

const (
	routeEvery  = 50 * time.Millisecond // between two looks whether Redis may be tried
	drainAgain  = 50 * time.Millisecond // before the first repetition of a failed step
	drainSlower = 2 * time.Second       // before the later ones
)

// drain brings the journal to Redis whenever there is something in it and Redis may be tried, until ctx ends or the chain
// breaks.
func (c *committer) drain(ctx context.Context, owner store.Token) {
	side, wait := Fitting(&trustedSide{c, owner, c.deps.Side}), drainAgain
	for {
		for c.tail.Pending().Calls == 0 {
			c.tail.Rest()
			select {
			case <-c.spilled:
			case <-ctx.Done():
				return
			}
		}
		if !c.deps.route().Direct() {
			if !pause(ctx, routeEvery) {
				return
			}
			continue
		}
		began := time.Now()
		step, err := c.tail.Drain(ctx, c.deps.Store, side)
		c.judge(ctx, step, err)
		d := delivery{drained: progressOf(step), took: time.Since(began), requests: noRequests}
		if step.Meta != nil && err == nil {
			d.requests = c.requests(ctx, owner)
		}
		if d.err = c.final(err); d.err != nil || step.Meta != nil {
			c.out <- d
		}
		if d.err != nil {
			return
		}
		if err == nil {
			if step.Calls > 0 {
				c.acknowledge()
			}
			c.stuck(nil)
			wait = drainAgain
			continue
		}
		c.stuck(err)
		c.deps.Log.Warn("journal not drained, trying again", "lane", c.id.String(), "in", wait, "error", err)
		if !pause(ctx, wait) {
			return
		}
		wait = min(2*wait, drainSlower)
	}
}

// judge tells the route what Redis said, if it was asked.
func (c *committer) judge(ctx context.Context, step journal.Drained, err error) {
	var side *journal.SideError
	if errors.As(err, &side) || unreadable(err) || errors.Is(err, wal.ErrClosed) {
		return
	}
	if err != nil || step.Calls > 0 {
		c.report(ctx, err)
	}
}

// final returns the error if it ends the chain. A chain of another owner will never be applied.
func (c *committer) final(err error) error {
	switch {
	case errors.Is(err, store.ErrFenced):
		c.tail.Supersede("another owner has taken the lane")
	case !store.IsFinal(err) && !unreadable(err):
		return nil
	}
	return err
}

// unreadable tells whether an error means that the rest of a chain cannot be read. The lane then starts again from what
// Redis has, which reads from Kafka what the journal lost.
func unreadable(err error) bool {
	return errors.Is(err, journal.ErrBroken) || errors.Is(err, journal.ErrUnreadable) || errors.Is(err, journal.ErrVersion)
}

func progressOf(d journal.Drained) progress {
	if d.Meta == nil {
		return progress{}
	}
	return progress{
		offset: d.Meta.Offset, effective: max(d.Meta.Watermark, d.Meta.Sealed),
		ctlGen: d.Meta.CtlGen, hint: strings.Clone(d.Meta.Hint), commits: d.Commits, entries: d.Entries,
	}
}

// settle publishes the side records that wait in the journals of the lane's earlier tokens: the lane has written its memory
// again and will not read their events once more. It is false when the lane must not go on, or ctx ended before.
//
// What cannot be read there is read from Kafka again, by a lane that starts from what Redis has. Where Redis has nothing, nobody
// but this lane knows the state: it goes on, and what is missing from the late and dead-letter topics is counted and said.
func (c *committer) settle(ctx context.Context) bool {
	side, wait := Fitting(c.deps.Side), drainAgain
	for len(c.owed) > 0 {
		owed := c.owed[0]
		lost, err := owed.Sides(ctx, side, c.alone)
		if unreadable(err) {
			c.out <- delivery{err: err}
			return false
		}
		if err != nil {
			c.stuck(err)
			if !pause(ctx, wait) {
				return false
			}
			wait = min(2*wait, drainSlower)
			continue
		}
		if lost > 0 {
			c.out <- delivery{unsent: lost}
			c.deps.Log.Error("records of the journal cannot be read: the late and dead-letter records in them are lost",
				"lane", c.id.String(), "records", lost)
		}
		owed.Supersede("redis forgot acknowledged writes, the lane has written its state again")
		owed.Close()
		c.owed = c.owed[1:]
		c.stuck(nil)
	}
	return true
}
