package deliver

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"millrace/pipeline/journal"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/profile"
	"millrace/pipeline/stage"
)

// Committer delivers the commits of a lane one after the other and reads the lane's requests after each. With a journal it
// is still one queue: while anything is in the journal, everything goes there, and a second goroutine brings it to Redis in
// order. So whoever waits for Redis never keeps commits from becoming durable.
//
// The lane's goroutine calls Send, Hurry and Stop; Failing may be called from any. Results is to be read until it is
// closed, or Stop called.
type Committer struct {
	attempts *Sender
	deps     *Deps
	cfg      Config
	in       chan *fold.Commit
	out      chan Result
	stop     context.CancelFunc
	failing  atomic.Pointer[error] // why commits are not accepted now
	owed     []*journal.Tail       // the committer's goroutine's until out is closed
}

// Start starts the committer of a lane. It ends when ctx does, when the chain breaks, or by Stop.
func Start(ctx context.Context, deps *Deps, cfg Config) *Committer {
	c := &Committer{
		attempts: NewSender(ctx, deps, cfg), deps: deps, cfg: cfg,
		in: make(chan *fold.Commit, cfg.InFlight), out: make(chan Result, cfg.InFlight), owed: cfg.Journal.Owed,
	}
	inner, stop := context.WithCancel(ctx)
	c.stop = stop
	go c.run(inner)
	return c
}

// Send hands a commit over. It does not block while no more commits are in flight than the config says.
func (c *Committer) Send(commit *fold.Commit) { c.in <- commit }

// Results answers commits in their order, and says what has left the journal. It is closed when the committer has ended.
func (c *Committer) Results() <-chan Result { return c.out }

// Hurry makes the journal take commits at Redis's first failure: the lane must go.
func (c *Committer) Hurry() {
	if j := c.attempts.journal; j != nil {
		j.hurry.Store(true)
	}
}

// Failing says why commits are not accepted now, nil when they are.
func (c *Committer) Failing() error {
	if err := c.failing.Load(); err != nil {
		return *err
	}
	return nil
}

// failed notes the outcome of a try.
func (c *Committer) failed(err error) {
	if err == nil {
		c.failing.Store(nil)
		return
	}
	c.failing.Store(&err)
}

// Stop ends the committer and waits for it. It returns what was not read of Results, and the journals whose side records
// are still owed.
func (c *Committer) Stop() (unread []Result, owed []*journal.Tail) {
	close(c.in)
	c.stop()
	for r := range c.out {
		unread = append(unread, r)
	}
	return unread, c.owed
}

// run delivers until in is closed, the chain breaks or ctx ends. It closes out at its end.
func (c *Committer) run(ctx context.Context) {
	label := func(part string) {
		profile.Set(profile.OfLane(part, c.cfg.Lane.Pipeline, c.cfg.Lane.Topic, c.cfg.Lane.Partition))
	}
	label(profile.Committer)
	defer close(c.out)
	if !c.publishOwed(ctx) {
		return
	}
	var drain sync.WaitGroup
	defer drain.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if c.attempts.journal != nil {
		drain.Go(func() {
			label(profile.Drain)
			c.drain(ctx)
		})
	}
	clock := c.cfg.Clock
	defer clock.Enter(stage.Idle)
	clock.Enter(stage.Idle)
	for commit := range c.in {
		if ctx.Err() != nil {
			return
		}
		clock.Enter(stage.Rest)
		r := c.retry(ctx, commit)
		if r.Err == nil {
			c.attempts.Answered(ctx, &r)
		}
		clock.Enter(stage.Lane)
		if c.out <- r; r.Err != nil {
			return
		}
		clock.Enter(stage.Idle)
	}
}

// wait waits for d or the end of ctx, and reports whether it was d.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
