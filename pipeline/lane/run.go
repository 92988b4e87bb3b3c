package lane

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"millrace/pipeline/journal"
	"millrace/pipeline/source"
)

// signOfLife is how long a lane with nothing to commit stays silent: an empty commit also notices a Redis that forgot.
const signOfLife = time.Second

// patience is for how many commit intervals a lane folds on while every commit it may have under way is. Meanwhile what
// it folds joins the next commit: the slower Redis is, the more events one written entry stands for.
const patience = 10

// sideLimit is how many bytes of late and dead-letter records may wait for a commit.
const sideLimit = 8 << 20

// loop is the running lane. One goroutine executes it.
type loop struct {
	*Lane
	ctx       context.Context // ends when the lane must go
	deliver   context.Context // ends releaseGrace later
	committer *committer      // nil while its lane has none
	tail      *journal.Tail
	owed      []*journal.Tail // of earlier tokens: their side records were not sent
	alone     bool            // Redis had nothing of the lane when its state was last written again
	throttle  *time.Timer
	throttled bool // until the timer fires
	free      []*Commit
	flying    []*Commit // handed over, oldest first
	orders    orders
	asks      requests
	failing   atomic.Pointer[error] // why commits are not accepted now; the committer writes it

	lastMove   time.Time // when a record last came that could move the watermark
	lastCommit time.Time // when a commit was last handed over
	lastAck    time.Time
	asked      bool // a question about the log's end is under way
	answers    chan endAsked
	proof      endAsked // the last answer, until it is reached or too old; its end is -1 when there is none
	rateAt     time.Time
	rateRead   int64
	in         <-chan source.Batch
	ended      bool   // an incident has ended the reading
	warning    string // said beside a lane that runs
	shown      int64  // refused records as of the last list of them
}

func (l *Lane) loop(ctx context.Context) error {
	deliver, cancel := context.WithCancel(context.WithoutCancel(ctx))
	now := time.Now()
	r := &loop{
		Lane: l, ctx: ctx, deliver: deliver, asks: noRequests,
		answers: make(chan endAsked, 1), proof: noEnd,
		lastMove: now, lastCommit: now, lastAck: now, rateAt: now, rateRead: l.state.counters.Read,
	}
	for range l.program.Spec.Lane.CommitQueue + 1 {
		r.free = append(r.free, &Commit{})
	}
	r.throttle = time.NewTimer(time.Hour)
	r.throttle.Stop()
	r.startCommitter()
	defer func() {
		cancel()
		r.halt() // the producer may be closed when the lane has ended
		for _, t := range r.owed {
			t.Close()
		}
		if r.tail != nil {
			r.tail.Close()
		}
	}()
	return r.run()
}

// leastGrace is for how long at least Redis is tried before a commit goes to the journal.
const leastGrace = 500 * time.Millisecond

func (r *loop) startCommitter() {
	slots := r.program.Spec.Lane.CommitQueue + 1
	if r.deps.Journal != nil {
		r.tail = r.deps.Journal.Tail(r.id, r.program.StateID, r.token)
	}
	ctx, stop := context.WithCancel(r.deliver)
	r.committer = &committer{
		deps: r.deps, id: r.id, stateID: r.program.StateID,
		in: make(chan *Commit, slots), out: make(chan delivery, slots), stuck: r.stuck, stop: stop,
		tail: r.tail, owed: r.owed, alone: r.alone, disk: r.deliver, spilled: make(chan struct{}, 1),
		grace: max(leastGrace, patience/2*r.program.Spec.Lane.CommitInterval.Std()),
	}
	go r.committer.run(ctx, r.token)
}

// halt ends the committer and waits for it. Commits that reached the journal do not fly any more.
func (r *loop) halt() {
	c := r.committer
	if c == nil {
		return
	}
	r.committer = nil
	close(c.in)
	c.stop()
	for d := range c.out {
		if d.commit != nil && d.journaled && d.err == nil {
			r.landed(d.commit)
		}
	}
	r.owed = c.owed
}

// landed takes back the oldest commit under way.
func (r *loop) landed(c *Commit) {
	r.flying = r.flying[1:]
	r.free = append(r.free, c)
}

// stuck is called by the committer.
func (r *loop) stuck(err error) {
	if err == nil {
		r.failing.Store(nil)
		return
	}
	r.failing.Store(&err)
}

func (r *loop) run() error {
	tick := time.NewTicker(min(r.program.Spec.Lane.CommitInterval.Std(), signOfLife))
	defer tick.Stop()
	r.now.State = StateRunning
	_, changed := r.deps.Desired.get()
	r.follow()
	r.report()
	for {
		r.gate()
		select {
		case b, ok := <-r.in:
			if !ok {
				if err := r.readerEnded(); err != nil {
					return err
				}
				continue
			}
			r.fold(&b)
			if err := r.state.Lost(); err != nil {
				// Hidden by newer entries, it shows to whoever acquires the lane once these are committed: nobody
				// publishes meanwhile, and the operator decides about what Redis then has.
				r.deps.Log.Error("lane begins anew", "lane", r.id.String(), "error", err)
				return errors.Join(errNotWhole, r.release())
			}
		case <-tick.C:
			r.tick()
		case d, ok := <-r.committer.out:
			if err := r.delivered(d, ok); err != nil {
				return err
			}
		case end := <-r.answers:
			r.endNamed(end)
		case <-r.throttle.C:
			r.throttled = false
		case <-changed:
			_, changed = r.deps.Desired.get()
			r.follow()
		case <-r.wake:
			return errors.Join(errDecided, r.release())
		case <-r.ctx.Done():
			return r.release()
		}
	}
}

// gate decides whether the lane reads on, and says why not.
func (r *loop) gate() {
	r.in = nil
	switch {
	case r.ended:
		return
	case r.orders.paused:
		r.now.State, r.now.Reason = StatePaused, "paused by the operator"
	case r.share.Stopped():
		r.now.State, r.now.Reason = StateBlocked, "memory limit reached, lanes with a lower watermark go first"
	case r.overdue():
		r.now.State, r.now.Reason = StateBlocked, "commits wait for Redis"
		if err := r.failing.Load(); err != nil {
			r.now.Reason = fmt.Sprintf("commits wait: %v", *err)
		}
	case r.throttled:
		r.now.State, r.now.Reason = StateBlocked, "intake is throttled"
	default:
		r.now.State, r.now.Reason = StateRunning, r.warning
		r.in = r.reader.Batches()
	}
}

// overdue tells whether the lane has folded all it may before a commit comes back.
func (r *loop) overdue() bool {
	return len(r.free) == 0 && (r.state.sides.bytes > sideLimit ||
		time.Since(r.lastCommit) > patience*r.program.Spec.Lane.CommitInterval.Std())
}

func (r *loop) fold(b *source.Batch) {
	if n := len(b.Records); n > 0 {
		if wait := r.deps.route().Admit(n); wait > 0 {
			r.throttled = true
			r.throttle.Reset(wait)
		}
	}
	before := r.state.counters.Moves()
	r.state.Fold(b)
	if r.state.counters.Moves() != before {
		r.lastMove = time.Now()
	}
	r.now.End = b.HighWatermark
	b.Release()
	if inc := r.state.jumpIncident(); inc != nil {
		r.stopReading()
		r.park(inc, nil)
	}
	r.claimIdle()
	if r.state.sides.bytes > sideLimit {
		r.commit(-1)
	}
	r.share.Report(r.bytes(), r.state.Watermark(), r.state.idleEnd >= 0)
}

// bytes is the memory of the lane: its state and its commits, those at rest too, and what the next commit will need
// beyond them.
func (r *loop) bytes() int64 {
	n, spare := r.state.Bytes(), int64(0)
	for _, c := range r.free {
		spare = c.footprint() // the last one is used next
		n += spare
	}
	for _, c := range r.flying {
		n += c.footprint()
	}
	if r.tail != nil {
		n += r.tail.Held()
	}
	return n + max(0, r.state.Pending()-spare)
}

// follow takes the pipeline's desired state over.
func (r *loop) follow() {
	before := r.orders
	r.orders, _ = r.deps.Desired.get()
	if r.orders.paused != before.paused {
		if r.orders.paused {
			r.reader.Pause()
		} else {
			r.reader.Resume()
		}
	}
	if r.orders != before {
		r.commit(-1)
	}
}

func (r *loop) tick() {
	r.share.Report(r.bytes(), r.state.Watermark(), r.state.idleEnd >= 0)
	if r.due() {
		r.commit(-1)
	}
	r.askEnd()
	r.report()
}

// due tells whether a tick commits: what changed after every commit interval, a sign of life every second.
func (r *loop) due() bool {
	since, interval := time.Since(r.lastCommit), r.program.Spec.Lane.CommitInterval.Std()
	if r.state.Dirty() {
		return interval <= signOfLife || since >= interval-signOfLife/2 // ticks come every interval, or every second
	}
	return since >= signOfLife
}

// commit snapshots what changed and hands it over, unless as many commits as allowed are under way: then it joins a later
// one.
func (r *loop) commit(idleAt int64) {
	n := len(r.free)
	if n == 0 {
		return
	}
	c := r.free[n-1]
	r.free = r.free[:n-1]
	r.state.Snapshot(c, Control{
		Gen: r.orders.gen, SpecGen: r.orders.specGen, SealBefore: r.asks.seal, DropBefore: r.asks.drop, Rewrite: r.asks.rewrite, IdleAt: idleAt,
	})
	r.hand(c)
}

func (r *loop) hand(c *Commit) {
	r.flying = append(r.flying, c)
	r.lastCommit = time.Now()
	r.committer.in <- c
}

// readerEnded parks the lane where it stands: it goes on committing signs of life and holds its claim.
func (r *loop) readerEnded() error {
	err := r.reader.Err()
	if r.ctx.Err() != nil || err == nil {
		return r.release()
	}
	inc := readerIncident(err, r.state.Offset())
	if d := r.open(); d != nil && d.skipsUnreadable() && d.From <= inc.From && inc.From < d.To {
		r.stopReading()
		return errors.Join(errDecided, r.release()) // the lane had to read up to here again
	}
	r.stopReading()
	r.park(inc, nil)
	return nil
}

// stopReading ends the reading where the lane stands. The lane is not idle: what was proved of another log, or of one that
// was cut, proves nothing, and where the operator is asked about events, windows wait for the answer.
func (r *loop) stopReading() {
	r.ended = true
	r.state.idleEnd, r.state.touched = -1, true
}

// delivered takes the committer's answer.
func (r *loop) delivered(d delivery, ok bool) error {
	if !ok {
		return r.ctx.Err()
	}
	if d.err != nil {
		return r.broken(d.err)
	}
	if d.unsent > 0 {
		r.now.Unsent += d.unsent
		r.report()
		return nil
	}
	p := d.drained
	if c := d.commit; c != nil {
		r.landed(c)
		r.now.Journaled = c.Offset
		if d.journaled {
			r.report()
			return nil
		}
		p = progress{c.Offset, c.Effective, c.CtlGen, c.meta.Hint, 1, int64(c.Entries)}
	}
	r.asks.adopt(d.requests)
	r.acknowledged(p, d.took)
	if r.state.outdates(r.asks.rewrite) {
		r.deps.Log.Warn("entries are missing in redis, the lane writes all of them again", "lane", r.id.String())
		r.commit(-1)
	}
	return nil
}

// acknowledged follows what Redis has, and nothing else: the state's control values, the status, the group's offset.
func (r *loop) acknowledged(p progress, took time.Duration) {
	r.state.Reached(p.effective)
	now := time.Now()
	r.now.Commits += p.commits
	r.now.Written += p.entries
	r.now.CommitMs = float64(took.Microseconds()) / 1000
	r.now.GapMs = max(r.now.GapMs, float64(now.Sub(r.lastAck).Microseconds())/1000)
	r.lastAck = now
	r.now.Committed, r.now.CtlGen = p.offset, p.ctlGen
	r.hint(p.offset, p.hint)
	if r.tail != nil {
		r.tail.Committed(p.offset)
	}
	r.report()
}

// sayRefused keeps what is said about refused records up to date. That every record is refused is logged when it begins.
func (r *loop) sayRefused() {
	before := r.warning
	if r.warning = r.state.warning(); r.warning != "" && before == "" {
		r.deps.Log.Warn("the lane refuses every record", "lane", r.id.String(), "why", r.warning)
	}
	r.now.RefusesAll = r.warning != ""
	if n := r.state.refusals.count; n != r.shown {
		r.shown, r.now.Refused = n, r.state.Refused()
	}
}

// report publishes the lane's status.
func (r *loop) report() {
	s := &r.now
	s.Offset, s.Counters = r.state.Offset(), r.state.Counters()
	r.sayRefused()
	s.Slices, s.Entries, s.Bytes = r.state.Slices(), r.state.Entries(), r.bytes()
	if wm := r.state.Watermark(); wm != none {
		s.Watermark = &wm
	}
	if r.tail != nil {
		pending := r.tail.Pending()
		s.JournalCommits, s.JournalBytes = pending.Commits, pending.Bytes
	}
	if since := time.Since(r.rateAt); since >= time.Second {
		s.Rate = float64(s.Counters.Read-r.rateRead) / since.Seconds()
		r.rateAt, r.rateRead = time.Now(), s.Counters.Read
	}
	r.publish()
}
