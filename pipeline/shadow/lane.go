package shadow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"millrace/pipeline/lane"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/lane/inflight"
	"millrace/pipeline/page"
	"millrace/pipeline/profile"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// atOnce is how many commits of a lane may be in flight. Nothing is folded meanwhile, so that what is read again after a death
// is what one commit would have held.
const atOnce = 1

// reading is one lane of a shadow that runs. Its goroutine alone uses what is not atomic.
type reading struct {
	run     *running
	index   int // in the plan
	plan    *plan.Lane
	id      store.LaneID
	program *fold.Program // it decodes for this lane alone
	share   *lane.Share
	wanted  *spans

	token     store.Token
	state     *fold.State
	commits   *inflight.Commits
	committer *deliver.Committer
	reader    source.Reader
	rest      source.Batch // of the batch under way: records that are not folded yet
	folded    int          // records of it that are
	throttle  *time.Timer
	throttled bool
	kept      int64 // slices that begin before are not needed any more, ms

	// What other goroutines read.
	offset    atomic.Int64
	committed atomic.Int64
	reason    atomic.Pointer[string]
	discard   chan struct{} // capacity 1: running.needed has risen
}

// Run reads the lane to its end and stays until ctx ends: slices are dropped as windows are compared. It returns nil only
// when ctx ended.
func (l *reading) Run(ctx context.Context) error {
	profile.Set(profile.OfLane(profile.Shadow, l.id.Pipeline, l.id.Topic, l.id.Partition))
	defer l.share.Leave()
	pause := 50 * time.Millisecond
	for {
		err := l.readOwned(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrLostWrites):
			// Redis stands behind what it had acknowledged. What it has is a state of the lane: read on from there.
		case isFinal(err):
			return fmt.Errorf("lane %s: %w", l.id, err)
		}
		l.run.cfg.Log.WarnContext(ctx, "lane of a shadow begins anew", "lane", l.id.String(), "in", pause, "error", err)
		l.waits(err.Error())
		if !sleep(ctx, pause/2+rand.N(pause)) {
			return nil
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// isFinal reports whether no further attempt can mend err.
func isFinal(err error) bool {
	for _, final := range []error{
		ErrLost, ErrOtherPlan, store.ErrShadowEnds, store.ErrFenced, store.ErrOwnerChanged, store.ErrNoMeta, store.ErrPartialLoss,
		store.ErrRemoved, store.ErrCorrupt, page.ErrNewer, source.ErrOffsetOutOfRange, source.ErrOtherTopic, errRead,
	} {
		if errors.Is(err, final) {
			return true
		}
	}
	var format *store.FormatError
	var state *store.StateIDError
	return errors.As(err, &format) || errors.As(err, &state)
}

// errRead ends a lane whose log cannot be read to its end.
var errRead = errors.New("the log cannot be read")

// readOwned takes the lane over, restores it and reads on.
func (l *reading) readOwned(ctx context.Context) error {
	if err := l.takeOver(ctx); err != nil {
		return err
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	deps := &deliver.Deps{Store: l.run.store, Side: noSides{}, Log: l.run.cfg.Log}
	l.committer = deliver.Start(inner, deps, deliver.Config{
		Lane: l.id, StateID: l.program.StateID, Owner: l.token, InFlight: atOnce,
	})
	defer l.committer.Stop()
	if !l.isAtEnd() {
		l.reader = l.run.cfg.Open(source.ReaderConfig{
			Pipeline: l.id.Pipeline, Topic: l.plan.Topic, Partition: l.plan.Partition, Offset: l.state.Offset(), TopicID: l.plan.TopicID,
			FetchBytes: l.program.Spec.Lane.FetchBytes, FetchBatches: l.program.Spec.Lane.FetchBatches,
		})
		defer func() {
			l.reader.Close()
			l.reader = nil
			l.rest.Release()
			l.folded = 0
		}()
	}
	return l.loop(ctx)
}

// takeOver makes this process the owner of the lane and restores its state. A lane that is not there is never made here.
func (l *reading) takeOver(ctx context.Context) error {
	st := l.run.cfg.Store
	meta, found, err := st.ReadMeta(ctx, l.id)
	switch {
	case err != nil:
		return err
	case !found || meta.Offset == store.NotStarted:
		return fmt.Errorf("%w: it is not there", ErrLost)
	}
	if err := checkMeta(meta, l.run.begun); err != nil {
		return err
	}
	token := store.NextToken(meta.Owner)
	if _, _, err := st.Acquire(ctx, l.id, l.program.StateID, meta.Owner, token); err != nil {
		return err
	}
	state, _, err := lane.Restore(ctx, st, l.program, l.id, token)
	if err != nil {
		return err
	}
	l.state, l.token = state, token
	l.state.Prescribe(fold.Prescription{Seals: l.plan.Seals, Late: l.plan.Late, Keeps: l.keeps})
	l.offset.Store(state.Offset())
	l.committed.Store(state.Offset())
	l.commits, l.kept = inflight.New(state, atOnce, l.interval(), time.Now()), l.run.needed.Load()
	l.wakeDiscard()
	l.run.moved()
	return nil
}

// keeps reports whether a slice belongs to a window that has still to be compared.
func (l *reading) keeps(start int64) bool { return start >= l.kept && l.wanted.holds(start) }

// loop reads, folds and commits.
func (l *reading) loop(ctx context.Context) error {
	tick := time.NewTicker(min(l.interval(), inflight.SignOfLife))
	defer tick.Stop()
	l.throttle, l.throttled = time.NewTimer(time.Hour), false
	defer l.throttle.Stop()
	for {
		select {
		case b, ok := <-l.batches():
			if !ok {
				return l.readerEnded()
			}
			l.rest, l.folded = b, 0
			if err := l.foldRest(); err != nil {
				return err
			}
		case <-l.more():
			if err := l.foldRest(); err != nil {
				return err
			}
		case <-tick.C:
			l.publishStanding()
			if l.commits.Due(time.Now()) {
				l.commitChanges()
			}
		case r, ok := <-l.committer.Results():
			if !ok {
				return ctx.Err()
			}
			if r.Err != nil {
				return r.Err
			}
			l.answered(&r)
		case <-l.discard:
			l.dropCompared()
		case <-l.throttle.C:
			l.throttled = false
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// batches is where records come from, unless the lane must not read now, or has not folded what it has read.
func (l *reading) batches() <-chan source.Batch {
	if l.reader == nil || l.rest.Records != nil || !l.mayFold() {
		return nil
	}
	return l.reader.Batches()
}

// always is a channel that is always ready.
var always = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// more is ready when there are records to be folded of the batch under way, unless the lane must not read now.
func (l *reading) more() <-chan struct{} {
	if l.rest.Records == nil || !l.mayFold() {
		return nil
	}
	return always
}

// mayFold reports whether the lane may read on now, and says what it waits for.
func (l *reading) mayFold() bool {
	reason := ""
	switch {
	case l.isAtEnd():
		l.waits("")
		return false
	case l.run.pace.heldBecause() != "":
		reason = l.run.pace.heldBecause()
	case l.throttled:
		l.waits(l.run.pace.limitedBy())
		return false
	case l.share.Stopped():
		reason = "the shadow's memory limit is reached, lanes with a lower watermark go first"
	case l.commits.InFlight() > 0:
		// Nothing is folded beside a commit: what a death costs is one commit, and Redis rests in between.
		l.waits(l.slowCommit())
		return false
	}
	l.waits(reason)
	return reason == ""
}

// slowCommit is why the commit under way takes longer than commits should, "" when it does not.
func (l *reading) slowCommit() string {
	if err := l.committer.Failing(); err != nil {
		return err.Error()
	}
	if l.commits.Overdue(time.Now()) {
		return "commits wait for Redis"
	}
	return ""
}

func (l *reading) waits(reason string) {
	if old := l.reason.Load(); old == nil || *old != reason {
		l.reason.Store(&reason)
	}
}

func (l *reading) interval() time.Duration { return l.program.Spec.Lane.CommitInterval.Std() }

// foldRest folds records of the batch under way, as many at a time as the rate allows in a moment.
func (l *reading) foldRest() error {
	all := l.rest.Records
	for len(all) > l.folded && all[len(all)-1].Offset >= l.plan.End {
		all = all[:len(all)-1]
	}
	n := min(len(all)-l.folded, l.run.pace.atOnce())
	cut := source.Batch{Records: all[l.folded : l.folded+n], Next: min(l.rest.Next, l.plan.End)}
	if l.folded += n; l.folded < len(all) {
		cut.Next = all[l.folded].Offset
	}
	began := time.Now()
	l.state.Fold(&cut)
	took := time.Since(began)
	if l.folded == len(all) {
		l.rest.Release()
	}
	if wait := l.run.pace.spent(n, took); wait > 0 {
		l.throttled = true
		l.throttle.Reset(wait)
	}
	l.publishStanding()
	if l.isAtEnd() {
		l.commitChanges()
	}
	return l.state.Lost()
}

// isAtEnd reports whether the lane has read all that it is to read.
func (l *reading) isAtEnd() bool { return l.state.Offset() >= l.plan.End }

func (l *reading) publishStanding() {
	l.offset.Store(l.state.Offset())
	l.share.Report(l.commits.Bytes(), l.state.Watermark(), l.isAtEnd())
}

// commitChanges hands a snapshot over, unless one is in flight: what changed joins the next one then.
func (l *reading) commitChanges() {
	l.commits.AllowPages(l.run.cfg.KeepFields == nil || l.run.cfg.KeepFields() == "")
	if c := l.commits.Next(inflight.Orders{IdleAt: store.NotIdle}, time.Now()); c != nil {
		l.committer.Send(c)
	}
}

// answered takes a commit back that Redis has. The last one of the lane follows at once: windows wait for it.
func (l *reading) answered(r *deliver.Result) {
	l.commits.Answer(*r)
	l.committed.Store(r.Reached.Offset)
	l.run.moved()
	if l.isAtEnd() && r.Reached.Offset < l.plan.End {
		l.commitChanges()
	}
}

// dropCompared lets go of what no window needs any more.
func (l *reading) dropCompared() {
	l.kept = max(l.kept, l.run.needed.Load())
	l.state.Discard(l.keeps)
}

// wakeDiscard tells the lane that less is needed.
func (l *reading) wakeDiscard() {
	select {
	case l.discard <- struct{}{}:
	default:
	}
}

// readerEnded says why the log cannot be read.
func (l *reading) readerEnded() error {
	err := l.reader.Err()
	if err == nil {
		err = source.ErrClosed
	}
	return fmt.Errorf("%w: %w", errRead, err)
}

// noSides takes no late and no dead-letter records: a shadow's spec names no topic for them, so none are made.
type noSides struct{}

func (noSides) Send(context.Context, []source.SideRecord) error {
	return errors.New("a shadow sends no side records")
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
