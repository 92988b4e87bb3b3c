package lane

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/inflight"
	"millrace/pipeline/source"
	"millrace/pipeline/stage"
	"millrace/pipeline/store"
)

// loop is the running lane: it selects what happens next. The lane's goroutine alone uses it.
type loop struct {
	*Lane
	ctx       context.Context    // ends when the lane must go
	delivery  context.Context    // ends releaseGrace later
	committer *deliver.Committer // nil while its lane has none
	commits   *inflight.Commits
	idle      *inflight.Idleness
	ends      chan endAsked // answers about the log's end
	throttle  *time.Timer
	throttled bool // until the timer fires
	orders    orders
	in        <-chan source.Batch
	ended     bool // an incident has ended the reading
	pace      pace
	sizes     sizes
	warning   string // said beside a lane that runs
	following *following
	ages      ages
}

// pace is what the status says about speed.
type pace struct {
	answered time.Time // when Redis last took a commit
	since    time.Time // of the rate
	read     int64     // records, then
	refused  int64     // records, as of the last list of them
}

// sizes are what the entries that went to Redis add up to.
type sizes struct{ entries, bytes int64 }

func (l *Lane) loop(ctx context.Context) error {
	delivery, cancel := context.WithCancel(context.WithoutCancel(ctx))
	now := time.Now()
	spec := l.program.Spec
	r := &loop{
		Lane: l, ctx: ctx, delivery: delivery, ends: make(chan endAsked, 1),
		commits: inflight.New(l.state, spec.Lane.CommitQueue+1, spec.Lane.CommitInterval.Std(), now),
		pace:    pace{answered: now, since: now, read: l.state.Counters().Read},
	}
	r.idle = inflight.NewIdleness(r.commits, spec.Watermark.IdleTimeout.Std(), now)
	r.throttle = time.NewTimer(time.Hour)
	r.throttle.Stop()
	r.startCommitter()
	r.following = newFollowing(l.deps.Tracing, l.id, func() store.Token { return r.token })
	defer func() {
		cancel()
		r.following.close()
		r.stopCommitter() // the producer may be closed when the lane has ended
		r.commits.Close()
	}()
	return r.run()
}

// leastGrace is for how long at least Redis is tried before a commit goes to the journal.
const leastGrace = 500 * time.Millisecond

func (r *loop) startCommitter() {
	if r.deps.Journal != nil {
		r.commits.Begin(r.deps.Journal.Tail(r.id, r.program.StateID, r.token))
	}
	deps := &deliver.Deps{Store: r.deps.Store, Side: r.deps.Side, Route: r.deps.Route, Log: r.deps.Log}
	r.committer = deliver.Start(r.delivery, deps, deliver.Config{
		Lane: r.id, StateID: r.program.StateID, Owner: r.token, InFlight: r.program.Spec.Lane.CommitQueue + 1,
		Grace:   max(leastGrace, inflight.Patience/2*r.program.Spec.Lane.CommitInterval.Std()),
		Journal: r.commits.Journal(), Clock: r.times.committer,
	})
}

// stopCommitter ends the committer and waits for it.
func (r *loop) stopCommitter() {
	c := r.committer
	if c == nil {
		return
	}
	r.committer = nil
	r.commits.Withdraw(c.Stop())
}

func (r *loop) run() error {
	tick := time.NewTicker(min(r.program.Spec.Lane.CommitInterval.Std(), inflight.SignOfLife))
	defer tick.Stop()
	r.now.State = StateRunning
	_, changed := r.deps.Desired.get()
	r.followOrders()
	r.report()
	for {
		r.times.lane.Enter(r.chooseReading())
		select {
		case b, ok := <-r.in:
			if !ok {
				if err := r.readerEnded(); err != nil {
					return err
				}
				continue
			}
			r.foldBatch(&b)
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
		case end := <-r.ends:
			r.endNamed(end)
		case <-r.throttle.C:
			r.throttled = false
		case <-changed:
			_, changed = r.deps.Desired.get()
			r.followOrders()
		case <-r.wake:
			return errors.Join(errDecided, r.release())
		case <-r.ctx.Done():
			return r.release()
		}
	}
}

// chooseReading decides whether the lane reads on, says why not, and returns what it waits for.
func (r *loop) chooseReading() stage.Stage {
	r.in = nil
	switch {
	case r.ended:
		return stage.Parked
	case r.orders.paused:
		r.now.State, r.now.Reason = StatePaused, "paused by the operator"
		return stage.Paused
	case r.share.Stopped():
		r.now.State, r.now.Reason = StateBlocked, "memory limit reached, lanes with a lower watermark go first"
		return stage.Memory
	case r.commits.Overdue(time.Now()):
		r.now.State, r.now.Reason = StateBlocked, "commits wait for Redis"
		if err := r.committer.Failing(); err != nil {
			r.now.Reason = fmt.Sprintf("commits wait: %v", err)
		}
		return stage.Commit
	case r.throttled:
		r.now.State, r.now.Reason = StateBlocked, "intake is throttled"
		return stage.Throttle
	default:
		r.now.State, r.now.Reason = StateRunning, r.warning
		r.in = r.reader.Batches()
		return stage.Fetch
	}
}

// foldBatch folds a batch and does what follows from it.
func (r *loop) foldBatch(b *source.Batch) {
	if n := len(b.Records); n > 0 {
		if wait := r.deps.route().Admit(n); wait > 0 {
			r.throttled = true
			r.throttle.Reset(wait)
		}
	}
	before := r.moves()
	r.foldBooked(b)
	if b.Next > r.state.ReadBefore() { // what is read again was readable before
		r.ages.fold(b.Stamps)
	}
	if r.moves() != before {
		r.idle.Moved(time.Now())
	}
	r.now.End = b.HighWatermark
	b.Release()
	if inc := r.JumpIncident(r.now.Committed); inc != nil {
		r.stopReading()
		r.park(inc)
	}
	r.claimIdle()
	if r.commits.SidesFull() {
		r.commit(store.NotIdle)
	}
	r.share.Report(r.commits.Bytes(), r.state.Watermark(), r.state.IdleEnd() >= 0)
}

// followOrders takes the pipeline's desired state over.
func (r *loop) followOrders() {
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
		r.commit(store.NotIdle)
	}
}

// moves counts the records that could move the watermark.
func (r *loop) moves() int64 {
	c := r.state.Counters()
	return c.Moves()
}

func (r *loop) tick() {
	r.times.lane.Enter(stage.Rest)
	r.share.Report(r.commits.Bytes(), r.state.Watermark(), r.state.IdleEnd() >= 0)
	if r.commits.Due(time.Now()) {
		r.commit(store.NotIdle)
	}
	r.askEnd()
	r.report()
}

// commit hands over what changed, unless as many commits as allowed are in flight: then it joins a later one.
func (r *loop) commit(idleAt int64) {
	before := r.times.lane.Enter(stage.Encode)
	defer r.times.lane.Enter(before)
	r.commits.AllowPages(r.deps.keepFields() == "")
	c := r.commits.Next(inflight.Orders{Gen: r.orders.gen, SpecGen: r.orders.specGen, IdleAt: idleAt}, time.Now())
	if c != nil {
		r.following.handedOver(c.Offset)
		r.ages.commit(c.Offset)
		r.committer.Send(c)
	}
}

// readerEnded parks the lane where it stands: it goes on committing signs of life and holds its claim.
func (r *loop) readerEnded() error {
	err := r.reader.Err()
	if r.ctx.Err() != nil || err == nil {
		return r.release()
	}
	inc := readerIncident(err, r.state.Offset())
	if d := r.decisions.open(); d != nil && skipsUnreadable(d) && d.From <= inc.From && inc.From < d.To {
		r.stopReading()
		return errors.Join(errDecided, r.release()) // the lane had to read up to here again
	}
	r.stopReading()
	r.park(inc)
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
	r.times.lane.Enter(stage.Rest)
	if !ok {
		return r.ctx.Err()
	}
	if d.Err != nil {
		return r.chainBroken(d.Err)
	}
	if d.Unsent > 0 {
		r.now.Unsent += d.Unsent
		r.report()
		return nil
	}
	rewrite := r.commits.Answer(d)
	if d.Commit != nil {
		r.now.Journaled = d.Commit.Offset
		if d.Journaled {
			r.following.journaled(d.Commit.Offset)
		}
		r.deps.measure().Commit.Observe(d.Took)
		r.sizes.entries += int64(d.Commit.Entries)
		r.sizes.bytes += int64(d.Commit.Bytes)
	}
	if !d.InRedis {
		r.report()
		return nil
	}
	r.ages.readable(d.Reached.Offset, d.At, r.deps.measure().Readable)
	r.followRedis(d.Reached, d.Took, d.At)
	if rewrite {
		r.deps.Log.Warn("entries are missing in redis, the lane writes all of them again", "lane", r.id.String())
		r.commit(store.NotIdle)
	}
	return nil
}

// followRedis lets the status and the group's offset follow what Redis has, and nothing else.
func (r *loop) followRedis(p deliver.Progress, took time.Duration, at time.Time) {
	now := time.Now()
	r.following.committed(p.Offset, at, r.deps.measure().Readable)
	r.now.Commits += p.Commits
	r.now.Written += p.Entries
	r.now.CommitMs = float64(took.Microseconds()) / 1000
	r.now.GapMs = max(r.now.GapMs, float64(now.Sub(r.pace.answered).Microseconds())/1000)
	r.pace.answered = now
	r.now.Committed, r.now.CtlGen = p.Offset, p.CtlGen
	r.Hint(p.Offset, p.Hint)
	r.report()
}

// sayRefused keeps what is said about refused records up to date. That every record is refused is logged when it begins.
func (r *loop) sayRefused() {
	before := r.warning
	if r.warning = r.state.RefusesAll(); r.warning != "" && before == "" {
		r.deps.Log.Warn("the lane refuses every record", "lane", r.id.String(), "why", r.warning)
	}
	r.now.RefusesAll = r.warning != ""
	if n := r.state.RefusedCount(); n != r.pace.refused {
		r.pace.refused, r.now.Refused = n, r.state.Refused()
	}
}

// report publishes the lane's status.
func (r *loop) report() {
	s := &r.now
	s.Offset, s.Counters = r.state.Offset(), r.state.Counters()
	r.sayRefused()
	if r.sizes.entries > 0 {
		s.EntryBytes = float64(r.sizes.bytes) / float64(r.sizes.entries)
	}
	r.sayFormat()
	s.Slices, s.Entries, s.Bytes = r.state.Slices(), r.state.Entries(), r.commits.Bytes()
	if wm := r.state.Watermark(); wm != none {
		s.Watermark = &wm
	}
	pending := r.commits.Pending()
	s.JournalCommits, s.JournalBytes = pending.Commits, pending.Bytes
	if since := time.Since(r.pace.since); since >= time.Second {
		s.Rate = float64(s.Counters.Read-r.pace.read) / since.Seconds()
		r.pace.since, r.pace.read = time.Now(), s.Counters.Read
	}
	r.publish()
}
