package deliver

import (
	"context"
	"errors"
	"time"

	"millrace/pipeline/store"
)

const (
	routeEvery  = 50 * time.Millisecond // between two looks whether Redis may be tried
	drainAgain  = 50 * time.Millisecond // before the first repetition of a failed step
	drainSlower = 2 * time.Second       // before the later ones
)

// drain brings the journal to Redis whenever there is something in it and Redis may be tried, until ctx ends or the chain
// breaks. It has a goroutine of its own.
func (c *Committer) drain(ctx context.Context) {
	tail, pause := c.cfg.Journal.Tail, drainAgain
	for {
		for tail.Pending().Calls == 0 {
			tail.Rest()
			select {
			case <-c.attempts.journal.spilled:
			case <-ctx.Done():
				return
			}
		}
		if !c.deps.route().Direct() {
			if !wait(ctx, routeEvery) {
				return
			}
			continue
		}
		r, err := c.attempts.Drain(ctx)
		if r.Err != nil || r.InRedis {
			c.out <- r
		}
		if r.Err != nil {
			return
		}
		c.failed(err)
		if err == nil {
			pause = drainAgain
			continue
		}
		c.deps.Log.WarnContext(ctx, "journal not drained, trying again", "lane", c.cfg.Lane.String(), "in", pause, "error", err)
		if !wait(ctx, pause) {
			return
		}
		pause = min(2*pause, drainSlower)
	}
}

// supersedeFenced gives the chain up when another owner has taken the lane: it will never be applied.
func (s *Sender) supersedeFenced(err error) {
	if errors.Is(err, store.ErrFenced) {
		s.cfg.Journal.Tail.Supersede("another owner has taken the lane")
	}
}
