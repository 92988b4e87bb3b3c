package activities

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

// Closing closes windows. Any worker can run it: transactional ids belong to window slots, not to workers.
type Closing struct {
	closers Closers
	leases  Leases
	watch   Watch
	beats   Heartbeats
	log     *slog.Logger
}

// NewClosing returns the activities that close windows.
func NewClosing(closers Closers, leases Leases, watch Watch, beats Heartbeats, log *slog.Logger) *Closing {
	return &Closing{closers: closers, leases: leases, watch: watch, beats: beats, log: log}
}

const (
	closeBeat   = 2 * time.Second
	closeLook   = time.Second // between rounds that found nothing to close
	roundErrors = 3           // rounds in a row that may fail before the attempt does
	maxProblem  = 2000        // bytes of a failure's text that travel in a result
)

// CloseDue waits for windows to become due and closes them, round by round, also while Temporal is away. It returns as
// contract.CloseReturnAfter and its neighbours say, or with a window that keeps failing.
func (a *Closing) CloseDue(ctx context.Context, in contract.CloseDueInput) (*contract.CloseDueResult, error) {
	s, err := parse(in.Spec)
	if err != nil {
		return nil, err
	}
	d := &due{in: in, began: time.Now(), sizes: sizes(s), fails: make(map[report.WindowRef]int)}
	err = newAttempt(ctx, a.beats, closeBeat).hold(ctx, d.details, func(ctx context.Context) error {
		closer, done, err := a.closers.Closer(ctx, s, activity.GetInfo(ctx).WorkflowExecution.RunID)
		if err != nil {
			return final(err)
		}
		defer done()
		d.closer.Store(&closer)
		return a.rounds(ctx, closer, d)
	})
	if err != nil {
		return nil, err
	}
	return &d.result, nil
}

// due is the progress of one CloseDue.
type due struct {
	in     contract.CloseDueInput
	began  time.Time
	sizes  map[string]time.Duration
	fails  map[report.WindowRef]int
	result contract.CloseDueResult
	atOnce bool
	shown  atomic.Pointer[contract.CloseDueDetails]
	closer atomic.Pointer[Closer]
}

// details are those of the last round, with what the round under way has open.
func (d *due) details() any {
	var now contract.CloseDueDetails
	if shown := d.shown.Load(); shown != nil {
		now = *shown
	}
	if closer := d.closer.Load(); closer != nil {
		now.Open = (*closer).OpenTransaction()
	}
	return &now
}

func sizes(s *spec.Spec) map[string]time.Duration {
	by := make(map[string]time.Duration, len(s.Windows))
	for _, w := range s.Windows {
		by[w.Name] = w.Size.Std()
	}
	return by
}

func (a *Closing) rounds(ctx context.Context, closer Closer, d *due) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go a.lookAtPipeline(ctx, cancel, d.in.Pipeline)
	failures := 0
	for {
		var round report.Round
		err := a.turn(ctx, d.in.Pipeline, func(ctx context.Context) (err error) {
			round, err = closer.Round(ctx, d.in.Skip)
			return err
		})
		d.book(round)
		if reason := reasonOf(ctx); reason != nil {
			return d.stopped(reason)
		}
		problem := ""
		if failures++; err == nil {
			failures = 0
		} else {
			problem = err.Error()
			closer.Hindered(err)
			a.log.WarnContext(ctx, "looking for windows to close failed", "pipeline", d.in.Pipeline, "error", err)
		}
		d.shown.Store(&contract.CloseDueDetails{
			Closed: d.result.Count, Waiting: d.result.Waiting, Problem: problem, Kept: d.result.Kept,
			Failing: round.Failed[:min(len(round.Failed), contract.MaxFailing)], Results: round.Results,
			Times: round.Times,
		})
		if failures >= roundErrors && d.result.Count == 0 {
			return final(err)
		}
		if d.finished(failures >= roundErrors, time.Now()) {
			return nil
		}
		select {
		case <-ctx.Done():
			return d.stopped(reasonOf(ctx))
		case <-time.After(PauseAfter(&round, err)):
		}
	}
}

// PauseAfter is how long a closer waits after a round before the next one: one that found something
// to close is often followed by another that does.
func PauseAfter(round *report.Round, err error) time.Duration {
	if len(round.Closed) > 0 && err == nil {
		return turnPause
	}
	return closeLook
}

// book adds a round to the result.
func (d *due) book(round report.Round) {
	d.result.Count += len(round.Closed)
	d.result.Waiting = round.Waiting
	if round.Kept != nil {
		d.result.Kept = round.Kept
	}
	for _, c := range round.Closed {
		delete(d.fails, c.WindowRef)
		if len(d.result.Closed) < contract.CloseReturnCount {
			d.result.Closed = append(d.result.Closed, c)
		}
		d.atOnce = d.atOnce || d.sizes[c.Window] >= contract.CloseAtOnceSize
	}
	for _, f := range round.Failed {
		if d.fails[f.WindowRef]++; d.fails[f.WindowRef] == contract.CloseFailuresAllowed && len(d.result.Failed) < contract.MaxPromoted {
			f.Problem = f.Problem[:min(len(f.Problem), maxProblem)]
			d.result.Failed = append(d.result.Failed, f)
		}
	}
}

// finished decides whether CloseDue returns now, and sets the outcome.
func (d *due) finished(failing bool, now time.Time) bool {
	passed := now.Sub(d.began)
	switch {
	case len(d.result.Failed) > 0:
		d.result.Outcome = contract.OutcomeFailing
	case d.result.Count > 0 && (d.atOnce || failing || passed >= contract.CloseReturnAfter || d.result.Count >= contract.CloseReturnCount):
		d.result.Outcome = contract.OutcomeClosed
	case passed >= contract.CloseIdleAfter:
		d.result.Outcome = contract.OutcomeIdle
	default:
		return false
	}
	return true
}

// stopped is the answer when the attempt should end. What was closed is in the ledger in any case; a result is preferred where
// there is something to tell.
func (d *due) stopped(reason error) error {
	switch {
	case errors.Is(reason, errPipelineGone):
		d.result.Outcome = contract.OutcomePipelineGone
		return nil
	case errors.Is(reason, errCancelled):
		d.result.Outcome = contract.OutcomeStopped
		return nil
	case errors.Is(reason, errStopping):
		if d.result.Count > 0 {
			d.result.Outcome = contract.OutcomeClosed
			return nil
		}
	}
	return ended(reason)
}

// CloseOne closes one window that could not be closed with the others. A failure is no failure when the pipeline is gone: nobody is
// left who could mend it or would tell the window's workflow to stop.
func (a *Closing) CloseOne(ctx context.Context, in contract.CloseOneInput) (*contract.CloseOneResult, error) {
	var result contract.CloseOneResult
	err := a.hold(ctx, in.Spec, func(ctx context.Context, s *spec.Spec, closer Closer) error {
		err := a.turn(ctx, s.Name, func(ctx context.Context) (err error) {
			result.Closed, result.Published, err = closer.CloseOne(ctx, in.Window)
			return err
		})
		if err != nil && a.pipelineGone(ctx, s.Name) {
			result.Gone, err = true, nil
		}
		return err
	})
	return &result, err
}

// Emit publishes every open window as it stands.
func (a *Closing) Emit(ctx context.Context, in contract.EmitInput) (*report.Emitted, error) {
	var emitted report.Emitted
	err := a.hold(ctx, in.Spec, func(ctx context.Context, s *spec.Spec, closer Closer) error {
		return a.turn(ctx, s.Name, func(ctx context.Context) (err error) {
			emitted, err = closer.Emit(ctx, in.Reason, in.Ends)
			return err
		})
	})
	emitted.Revisions = emitted.Revisions[:min(len(emitted.Revisions), contract.MaxEmittedRevisions)]
	return &emitted, err
}

// hold runs one piece of a closer's work in an attempt that beats.
func (a *Closing) hold(ctx context.Context, raw []byte, work func(context.Context, *spec.Spec, Closer) error) error {
	s, err := parse(raw)
	if err != nil {
		return err
	}
	details := func() any { return nil }
	return newAttempt(ctx, a.beats, closeBeat).hold(ctx, details, func(ctx context.Context) error {
		closer, done, err := a.closers.Closer(ctx, s, activity.GetInfo(ctx).WorkflowExecution.RunID)
		if err == nil {
			defer done()
			err = work(ctx, s, closer)
		}
		if reason := reasonOf(ctx); err != nil && reason != nil {
			return ended(reason)
		}
		return final(err)
	})
}
