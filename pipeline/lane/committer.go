package lane

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"millrace/pipeline/journal"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// Applier is what a committer needs of the store.
type Applier interface {
	Apply(ctx context.Context, id store.LaneID, stateID string, owner store.Token, calls []store.Call) (int, error)
}

// SideSender publishes late and dead-letter records; it returns when all are acknowledged.
type SideSender interface {
	Send(ctx context.Context, records []source.SideRecord) error
}

// PublishSides sends the side records of the commit that were not sent yet and returns when all are acknowledged. It comes
// before the commit's calls are applied, and may be called again after an error.
func (c *Commit) PublishSides(ctx context.Context, side SideSender) error {
	if len(c.Side) == 0 {
		return nil
	}
	if err := sendFitting(ctx, side, c.Side); err != nil {
		return err
	}
	clear(c.Side)
	c.Side = c.Side[:0]
	return nil
}

// delivery is the committer's answer: about a commit, or about commits that have left the journal for Redis.
type delivery struct {
	commit    *Commit  // nil when it is about the journal
	journaled bool     // the commit is in the journal, not in Redis
	drained   progress // what Redis has from the journal
	unsent    int64    // records of a journal that are lost with their side records; such a delivery says nothing else
	err       error    // nil, or an error that breaks the chain
	took      time.Duration
	requests  requests
}

// requests are what the closer asks of the lane.
type requests struct {
	seal, drop int64
	rewrite    int64 // number of a commit of this owner at which entries did not add up, 0 for none
}

var noRequests = requests{seal: none, drop: none}

// adopt follows what was asked later. Requests only ever grow.
func (r *requests) adopt(next requests) {
	r.seal, r.drop, r.rewrite = max(r.seal, next.seal), max(r.drop, next.drop), max(r.rewrite, next.rewrite)
}

// progress is where the last of some commits has brought the lane.
type progress struct {
	offset, effective, ctlGen int64
	hint                      string // metadata of the group's offset
	commits, entries          int64
}

// committer delivers commits one after the other and reads the lane's requests after each. With a journal it is still one
// queue: while anything is in the journal, everything goes there, and a second goroutine brings it to Redis in order. So
// whoever waits for Redis never keeps commits from becoming durable.
type committer struct {
	deps    *Deps
	id      store.LaneID
	stateID string
	in      chan *Commit
	out     chan delivery // read until it is closed, whatever happens
	stuck   func(error)   // told of every failed try, nil when it works again
	stop    context.CancelFunc

	tail    *journal.Tail   // nil without a journal
	owed    []*journal.Tail // of earlier owners of this lane's life: their side records go out first
	alone   bool            // Redis had nothing of the lane's state when it was written again
	disk    context.Context // what is on its way to the disk is waited for as long as this
	grace   time.Duration   // after which a commit that Redis does not take goes to the journal
	hurry   atomic.Bool     // the lane must go: the journal at the first failure
	spilled chan struct{}   // capacity 1: something was put into the journal

	acked atomic.Pointer[time.Time] // when Redis last named this lane's owner
}

// run delivers until in is closed, the chain breaks or ctx ends. It closes out at its end.
func (c *committer) run(ctx context.Context, owner store.Token) {
	defer close(c.out)
	c.acknowledge()
	if !c.settle(ctx) {
		return
	}
	var drain sync.WaitGroup
	defer drain.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.tail != nil {
		drain.Go(func() { c.drain(ctx, owner) })
	}
	for commit := range c.in {
		if ctx.Err() != nil {
			return
		}
		d := c.deliver(ctx, owner, commit)
		if d.err == nil && !d.journaled {
			d.requests = c.requests(ctx, owner)
		}
		if c.out <- d; d.err != nil {
			return
		}
	}
}

// deliver tries until the commit is durable, the chain is broken or ctx ends.
func (c *committer) deliver(ctx context.Context, owner store.Token, commit *Commit) delivery {
	commit.meta.UpdatedAt = time.Now().UnixMilli()
	began := time.Now()
	longest := 2 * time.Second
	if c.tail != nil {
		longest = 100 * time.Millisecond // it may be the drain that it waits for
	}
	wait := 20 * time.Millisecond
	for failed := false; ; failed = true {
		journaled, err := c.try(ctx, owner, commit, began, failed)
		if err == nil && failed && !journaled {
			c.stuck(nil)
		}
		if err == nil || store.IsFinal(err) || ctx.Err() != nil {
			return delivery{commit: commit, journaled: journaled, err: err, took: time.Since(began)}
		}
		c.stuck(err)
		if wait < longest || c.tail == nil {
			c.deps.Log.Warn("commit not accepted, trying again", "lane", c.id.String(), "offset", commit.Offset,
				"in", wait, "error", err)
		}
		if !pause(ctx, wait/2+rand.N(wait)) {
			return delivery{commit: commit, err: ctx.Err()}
		}
		wait = min(2*wait, longest)
	}
}

// try makes one attempt. The journal takes the commit when it is not empty, when Redis must not be tried, and when Redis
// has been tried long enough. A journal that cannot take it, for now or for good, makes it wait: for room, or until the
// journal is drained and Redis takes commits again.
func (c *committer) try(ctx context.Context, owner store.Token, commit *Commit, began time.Time, failed bool) (journaled bool, err error) {
	if c.tail == nil {
		return false, c.direct(ctx, owner, commit)
	}
	left := c.grace - time.Since(began)
	barred := c.tail.Pending().Calls > 0 || !c.deps.route().Direct()
	if barred || failed && (left <= 0 || c.hurry.Load()) {
		err = c.tail.Append(c.disk, commit.Offset, commit.Calls, commit.Side)
		select {
		case c.spilled <- struct{}{}: // after an error as well: a part of the commit may be there, which bars Redis until it is drained
		default:
		}
		if err == nil {
			return true, nil
		}
		if barred || store.IsFinal(err) {
			return false, err
		}
	}
	if left > 0 { // a Redis that is slow rather than away must not hold the commit back
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left)
		defer cancel()
	}
	return false, c.direct(ctx, owner, commit)
}

// direct delivers past the journal, and tells the route what Redis said.
func (c *committer) direct(ctx context.Context, owner store.Token, commit *Commit) error {
	if err := commit.PublishSides(ctx, &trustedSide{c, owner, c.deps.Side}); err != nil {
		return err
	}
	_, err := c.deps.Store.Apply(ctx, c.id, c.stateID, owner, commit.Calls)
	if err == nil {
		c.acknowledge()
	}
	c.report(ctx, err)
	return err
}

func (c *committer) report(ctx context.Context, err error) {
	switch {
	case err == nil || store.IsFinal(err):
		c.deps.route().Report(nil)
	case !errors.Is(ctx.Err(), context.Canceled):
		c.deps.route().Report(err)
	}
}

// requests reads what the closer asks of this lane. A failure only makes the answer late.
func (c *committer) requests(ctx context.Context, owner store.Token) requests {
	ctl, err := c.deps.Store.ReadCtl(ctx, c.id)
	if err != nil {
		c.deps.Log.Warn("lane requests not read", "lane", c.id.String(), "error", err)
		return noRequests
	}
	r := requests{seal: ctl[0].SealBefore, drop: ctl[0].DropBefore}
	if ctl[0].Rewrite.Owner == owner {
		r.rewrite = ctl[0].Rewrite.Seq
	}
	return r
}

// pause waits for d or the end of ctx, and tells whether it was d.
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
