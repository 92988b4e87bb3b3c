package lane

import (
	"context"
	"math/rand/v2"
	"time"

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

// Deliver makes one commit durable: first its side records, all acknowledged, then its calls in order. It may be
// called again after an error; calls that were applied are acknowledged without effect. store.ErrFenced,
// store.ErrLostWrites and store.ErrNoMeta are final for the chain the commit belongs to; anything else may be tried again.
func Deliver(ctx context.Context, st Applier, side SideSender, id store.LaneID, stateID string, owner store.Token, c *Commit) error {
	if len(c.Side) > 0 {
		if err := sendFitting(ctx, side, c.Side); err != nil {
			return err
		}
		clear(c.Side)
		c.Side = c.Side[:0]
	}
	_, err := st.Apply(ctx, id, stateID, owner, c.Calls)
	return err
}

// delivery is the committer's answer to one commit.
type delivery struct {
	commit *Commit
	err    error // nil, or an error that breaks the chain
	took   time.Duration
	seal   int64
	drop   int64
}

// committer delivers commits one after the other and reads the lane's requests after each.
type committer struct {
	deps    *Deps
	id      store.LaneID
	stateID string
	in      chan *Commit
	out     chan delivery
	stuck   func(error) // told of every failed try, nil when it works again
}

// run delivers until in is closed, the chain breaks or ctx ends. It closes out at its end.
func (c *committer) run(ctx context.Context, owner store.Token) {
	defer close(c.out)
	for commit := range c.in {
		began := time.Now()
		d := delivery{commit: commit, err: c.deliver(ctx, owner, commit)}
		d.took = time.Since(began)
		if d.err == nil {
			d.seal, d.drop = c.requests(ctx)
		}
		select {
		case c.out <- d:
		case <-ctx.Done():
			return
		}
		if d.err != nil {
			return
		}
	}
}

// deliver tries until the commit is durable, the chain is broken or ctx ends.
func (c *committer) deliver(ctx context.Context, owner store.Token, commit *Commit) error {
	commit.meta.UpdatedAt = time.Now().UnixMilli()
	wait := 20 * time.Millisecond
	for failed := false; ; failed = true {
		err := Deliver(ctx, c.deps.Store, c.deps.Side, c.id, c.stateID, owner, commit)
		if err == nil && failed {
			c.stuck(nil)
		}
		if err == nil || store.IsFinal(err) || ctx.Err() != nil {
			return err
		}
		c.stuck(err)
		c.deps.Log.Warn("commit not accepted, trying again", "lane", c.id.String(), "offset", commit.Offset,
			"in", wait, "error", err)
		if !pause(ctx, wait/2+rand.N(wait)) {
			return ctx.Err()
		}
		wait = min(2*wait, 2*time.Second)
	}
}

// requests reads what the closer asks of this lane. A failure only makes the answer late.
func (c *committer) requests(ctx context.Context) (seal, drop int64) {
	ctl, err := c.deps.Store.ReadCtl(ctx, c.id)
	if err != nil {
		c.deps.Log.Warn("lane requests not read", "lane", c.id.String(), "error", err)
		return none, none
	}
	return ctl[0].SealBefore, ctl[0].DropBefore
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
