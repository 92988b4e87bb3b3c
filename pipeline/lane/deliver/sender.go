package deliver

import (
	"context"
	"strings"
	"time"

	"millrace/pipeline/journal"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/stage"
)

// attempt is one attempt at making a commit durable.
type attempt struct {
	commit    *fold.Commit
	failed    bool          // an attempt before it has failed
	left      time.Duration // for which Redis is still to be tried before the journal takes the commit
	journaled bool          // what became of it: the journal has it, not Redis
}

// sender is a stage that a commit passes on its way to Redis.
type sender interface {
	send(ctx context.Context, a *attempt) error
}

// Sender makes single attempts at what a lane under one owner token wants of Redis, without waiting for anything between
// them. Send is called by one goroutine at a time, Drain by one goroutine at a time beside it.
type Sender struct {
	deps    *Deps
	cfg     Config
	trust   *trust
	journal *journalSender // nil without a journal
	first   sender
	drained SideSender
}

// NewSender returns the sender of a lane. disk bounds how long a commit that is on its way to the journal is waited for.
func NewSender(disk context.Context, deps *Deps, cfg Config) *Sender {
	s := &Sender{deps: deps, cfg: cfg, trust: newTrust(deps.Store, cfg.Lane, cfg.Owner)}
	side := &trustedSide{trust: s.trust, to: deps.Side}
	s.first = &storeSender{store: deps.Store, cfg: &s.cfg, trust: s.trust}
	s.first = &breakerSender{route: deps.route(), next: s.first}
	s.first = &sidesSender{side: side, clock: cfg.Clock, next: s.first}
	s.drained = Fitting(side)
	if cfg.Journal.Tail != nil {
		s.journal = &journalSender{
			tail: cfg.Journal.Tail, route: deps.route(), disk: disk, spilled: make(chan struct{}, 1), clock: cfg.Clock, next: s.first,
		}
		s.first = s.journal
	}
	return s
}

// Send makes one attempt at making a commit durable and reports whether the journal has it instead of Redis. failed says
// that an attempt before it has failed, and left for how long Redis is still to be tried before the journal takes it.
func (s *Sender) Send(ctx context.Context, c *fold.Commit, failed bool, left time.Duration) (journaled bool, err error) {
	a := attempt{commit: c, failed: failed, left: left}
	err = s.first.send(ctx, &a)
	return a.journaled, err
}

// Answered completes the result of a commit that is durable: what Redis has with it, and what it asks of the lane.
func (s *Sender) Answered(ctx context.Context, r *Result) {
	if r.Journaled {
		return
	}
	c := r.Commit
	r.InRedis = true
	r.Reached = Progress{
		Seq: c.Seq(), Offset: c.Offset, Effective: c.Effective, CtlGen: c.CtlGen, Hint: c.Hint(), Commits: 1, Entries: int64(c.Entries),
	}
	before := s.cfg.Clock.Enter(stage.Redis)
	r.Requests = s.readRequests(ctx)
	s.cfg.Clock.Enter(before)
}

// Drain brings the next part of the journal to Redis. The result is worth telling when it says that Redis has more commits,
// or with an error that breaks the chain; err is also what the next attempt may mend.
func (s *Sender) Drain(ctx context.Context) (r Result, err error) {
	began := time.Now()
	step, err := s.cfg.Journal.Tail.Drain(ctx, s.deps.Store, s.drained)
	reportDrained(ctx, s.deps.route(), step, err)
	now := time.Now()
	r = Result{InRedis: step.Meta != nil, Reached: progressOf(step), Took: now.Sub(began), At: now, Requests: NoRequests}
	if r.InRedis && err == nil {
		r.Requests = s.readRequests(ctx)
	}
	if BreaksChain(err) {
		s.supersedeFenced(err)
		r.Err = err
	}
	if err == nil && step.Calls > 0 {
		s.trust.renew()
	}
	return r, err
}

func progressOf(d journal.Drained) Progress {
	if d.Meta == nil {
		return Progress{}
	}
	return Progress{
		Seq: d.Seq, Offset: d.Meta.Offset, Effective: max(d.Meta.Watermark, d.Meta.Sealed),
		CtlGen: d.Meta.CtlGen, Hint: strings.Clone(d.Meta.Hint), Commits: d.Commits, Entries: d.Entries,
	}
}

// sidesSender publishes the commit's side records before its calls.
type sidesSender struct {
	side  SideSender
	clock *stage.Clock
	next  sender
}

func (s *sidesSender) send(ctx context.Context, a *attempt) error {
	before := s.clock.Enter(stage.Sides)
	err := PublishSides(ctx, a.commit, s.side)
	s.clock.Enter(before)
	if err != nil {
		return err
	}
	return s.next.send(ctx, a)
}

// storeSender applies the commit's calls.
type storeSender struct {
	store Store
	cfg   *Config
	trust *trust
}

func (s *storeSender) send(ctx context.Context, a *attempt) error {
	before := s.cfg.Clock.Enter(stage.Redis)
	_, err := s.store.Apply(ctx, s.cfg.Lane, s.cfg.StateID, s.cfg.Owner, a.commit.Calls)
	s.cfg.Clock.Enter(before)
	if err == nil {
		s.trust.renew()
	}
	return err
}

// readRequests reads what the closer asks of the lane. A failure only makes the answer late.
func (s *Sender) readRequests(ctx context.Context) Requests {
	ctl, err := s.deps.Store.ReadCtl(ctx, s.cfg.Lane)
	if err != nil {
		s.deps.Log.WarnContext(ctx, "lane requests not read", "lane", s.cfg.Lane.String(), "error", err)
		return NoRequests
	}
	r := Requests{Seal: ctl[0].SealBefore, Drop: ctl[0].DropBefore}
	if ctl[0].Rewrite.Owner == s.cfg.Owner {
		r.Rewrite = ctl[0].Rewrite.Seq
	}
	return r
}
