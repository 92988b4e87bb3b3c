package lane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/pipeline/journal"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
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
	ctx       context.Context    // ends when the lane must go
	delivery  context.Context    // ends releaseGrace later
	committer *deliver.Committer // nil while its lane has none
	tail      *journal.Tail
	owed      []*journal.Tail // of earlier tokens: their side records were not sent
	alone     bool            // Redis had nothing of the lane when its state was last written again
	throttle  *time.Timer
	throttled bool // until the timer fires
	free      []*fold.Commit
	inFlight  []*fold.Commit // handed over, oldest first
	orders    orders
	asks      deliver.Requests

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
	delivery, cancel := context.WithCancel(context.WithoutCancel(ctx))
	now := time.Now()
	r := &loop{
		Lane: l, ctx: ctx, delivery: delivery, asks: deliver.NoRequests,
		answers: make(chan endAsked, 1), proof: noEnd,
		lastMove: now, lastCommit: now, lastAck: now, rateAt: now, rateRead: l.state.Counters().Read,
	}
	for range l.program.Spec.Lane.CommitQueue + 1 {
		r.free = append(r.free, &fold.Commit{})
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
	if r.deps.Journal != nil {
		r.tail = r.deps.Journal.Tail(r.id, r.program.StateID, r.token)
	}
	r.committer = deliver.Start(r.delivery, &deliver.Deps{Store: r.deps.Store, Side: r.deps.Side, Route: r.deps.Route, Log: r.deps.Log}, deliver.Config{
		Lane: r.id, StateID: r.program.StateID, Owner: r.token, InFlight: r.program.Spec.Lane.CommitQueue + 1,
		Grace:   max(leastGrace, patience/2*r.program.Spec.Lane.CommitInterval.Std()),
		Journal: deliver.Journal{Tail: r.tail, Owed: r.owed, OnlyCopy: r.alone},
	})
}

// halt ends the committer and waits for it. Commits that reached the journal are not in flight any more.
func (r *loop) halt() {
	c := r.committer
	if c == nil {
		return
	}
	r.committer = nil
	unread, owed := c.Stop()
	for _, d := range unread {
		if d.Commit != nil && d.Journaled && d.Err == nil {
			r.landed(d.Commit)
		}
	}
	r.owed = owed
}

// landed takes back the oldest commit in flight.
func (r *loop) landed(c *fold.Commit) {
	r.inFlight = r.inFlight[1:]
	r.free = append(r.free, c)
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
		case d, ok := <-r.committer.Results():
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
		if err := r.committer.Failing(); err != nil {
			r.now.Reason = fmt.Sprintf("commits wait: %v", err)
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
	return len(r.free) == 0 && (r.state.SideBytes() > sideLimit ||
		time.Since(r.lastCommit) > patience*r.program.Spec.Lane.CommitInterval.Std())
}

func (r *loop) fold(b *source.Batch) {
	if n := len(b.Records); n > 0 {
		if wait := r.deps.route().Admit(n); wait > 0 {
			r.throttled = true
			r.throttle.Reset(wait)
		}
	}
	before := r.moves()
	r.state.Fold(b)
	if r.moves() != before {
		r.lastMove = time.Now()
	}
	r.now.End = b.HighWatermark
	b.Release()
	if inc := jumpIncident(r.state); inc != nil {
		r.stopReading()
		r.park(inc, nil)
	}
	r.claimIdle()
	if r.state.SideBytes() > sideLimit {
		r.commit(-1)
	}
	r.share.Report(r.bytes(), r.state.Watermark(), r.state.IdleEnd() >= 0)
}

// bytes is the memory of the lane: its state and its commits, those at rest too, and what the next commit will need
// beyond them.
func (r *loop) bytes() int64 {
	n, spare := r.state.Bytes(), int64(0)
	for _, c := range r.free {
		spare = c.Footprint() // the last one is used next
		n += spare
	}
	for _, c := range r.inFlight {
		n += c.Footprint()
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

// moves counts the records that could move the watermark.
func (r *loop) moves() int64 {
	c := r.state.Counters()
	return c.Moves()
}

func (r *loop) tick() {
	r.share.Report(r.bytes(), r.state.Watermark(), r.state.IdleEnd() >= 0)
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
	r.state.Snapshot(c, fold.Control{
		Gen: r.orders.gen, SpecGen: r.orders.specGen, SealBefore: r.asks.Seal, DropBefore: r.asks.Drop, Rewrite: r.asks.Rewrite, IdleAt: idleAt,
	})
	r.hand(c)
}

func (r *loop) hand(c *fold.Commit) {
	r.inFlight = append(r.inFlight, c)
	r.lastCommit = time.Now()
	r.committer.Send(c)
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
	r.state.EndIdleness()
}

// delivered takes the committer's answer.
func (r *loop) delivered(d deliver.Result, ok bool) error {
	if !ok {
		return r.ctx.Err()
	}
	if d.Err != nil {
		return r.broken(d.Err)
	}
	if d.Unsent > 0 {
		r.now.Unsent += d.Unsent
		r.report()
		return nil
	}
	if c := d.Commit; c != nil {
		r.landed(c)
		r.now.Journaled = c.Offset
		if d.Journaled {
			r.report()
			return nil
		}
	}
	r.asks.Follow(d.Requests)
	r.acknowledged(d.Reached, d.Took)
	if r.state.OwesEntries(r.asks.Rewrite) {
		r.deps.Log.Warn("entries are missing in redis, the lane writes all of them again", "lane", r.id.String())
		r.commit(-1)
	}
	return nil
}

// acknowledged follows what Redis has, and nothing else: the state's control values, the status, the group's offset.
func (r *loop) acknowledged(p deliver.Progress, took time.Duration) {
	r.state.Reached(p.Effective)
	now := time.Now()
	r.now.Commits += p.Commits
	r.now.Written += p.Entries
	r.now.CommitMs = float64(took.Microseconds()) / 1000
	r.now.GapMs = max(r.now.GapMs, float64(now.Sub(r.lastAck).Microseconds())/1000)
	r.lastAck = now
	r.now.Committed, r.now.CtlGen = p.Offset, p.CtlGen
	r.hint(p.Offset, p.Hint)
	if r.tail != nil {
		r.tail.Committed(p.Offset)
	}
	r.report()
}

// sayRefused keeps what is said about refused records up to date. That every record is refused is logged when it begins.
func (r *loop) sayRefused() {
	before := r.warning
	if r.warning = r.state.RefusesAll(); r.warning != "" && before == "" {
		r.deps.Log.Warn("the lane refuses every record", "lane", r.id.String(), "why", r.warning)
	}
	r.now.RefusesAll = r.warning != ""
	if n := r.state.RefusedCount(); n != r.shown {
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
