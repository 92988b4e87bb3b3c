package activities

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
)

// Heartbeats records heartbeats by task token; a Temporal client does. The SDK's own activity.RecordHeartbeat is not used: it
// cancels the activity's context when Temporal has been away for most of the heartbeat timeout.
type Heartbeats interface {
	RecordActivityHeartbeat(ctx context.Context, taskToken []byte, details ...any) error
}

// Why an attempt should end. They are causes of the context that hold gives to the work.
var (
	errOver      = errors.New("no longer known to Temporal")
	errCancelled = errors.New("cancelled")
	errSuspended = errors.New("paused or reset by an operator")
	errStopping  = errors.New("the worker stops")
)

// judge says what a heartbeat's answer means: nil to go on, one of the reasons above, or away true when Temporal could not
// be asked, which is no reason to stop anything.
func judge(err error) (reason error, away bool) {
	var canceled *temporal.CanceledError
	var notFound *serviceerror.NotFound
	switch {
	case err == nil:
		return nil, false
	case errors.As(err, &canceled):
		return errCancelled, false
	case errors.Is(err, activity.ErrActivityPaused), errors.Is(err, activity.ErrActivityReset):
		return errSuspended, false
	case errors.As(err, &notFound):
		return errOver, false
	}
	return nil, true
}

// beatLimit bounds one heartbeat, so that a Temporal that hangs is found away within the heartbeat timeout.
const beatLimit = 4 * time.Second

// attempt is one attempt of an activity. It beats for itself, under its own context.
type attempt struct {
	beats    Heartbeats
	token    []byte
	every    time.Duration
	stopping <-chan struct{} // closed when the worker stops
}

func newAttempt(ctx context.Context, beats Heartbeats, every time.Duration) *attempt {
	return &attempt{
		beats: beats, token: activity.GetInfo(ctx).TaskToken, every: every, stopping: activity.GetWorkerStopChannel(ctx),
	}
}

// open beats until Temporal confirms this attempt. Nothing may be touched before: a worker that was frozen and thaws starts
// attempts that were given up long ago.
func (a *attempt) open(ctx context.Context) error {
	for {
		reason, away := judge(a.beat(ctx, nil))
		switch {
		case reason != nil:
			return ended(reason)
		case !away:
			return nil
		}
		select {
		case <-a.stopping:
			return ended(errStopping)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(a.every):
		}
	}
}

func (a *attempt) beat(ctx context.Context, details any) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatLimit)
	defer cancel()
	if details == nil {
		return a.beats.RecordActivityHeartbeat(ctx, a.token)
	}
	return a.beats.RecordActivityHeartbeat(ctx, a.token, details)
}

// hold confirms the attempt and runs work under a context of its own, beating until work returns. The context is cancelled, with
// the reason as its cause, when Temporal says so or the worker stops; never because Temporal is away.
func (a *attempt) hold(ctx context.Context, details func() any, work func(context.Context) error) error {
	if err := a.open(ctx); err != nil {
		return err
	}
	own, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var pulse sync.WaitGroup
	done := make(chan struct{})
	pulse.Go(func() { a.pulse(own, cancel, details, done) })
	pulse.Go(func() {
		select {
		case <-a.stopping:
			cancel(errStopping)
		case <-done:
		}
	})
	err := work(own)
	close(done)
	cancel(nil)
	pulse.Wait()
	return err
}

// pulse beats until done, also after the work was told to stop: stopping takes time, and the attempt is alive until then.
func (a *attempt) pulse(ctx context.Context, cancel context.CancelCauseFunc, details func() any, done <-chan struct{}) {
	tick := time.NewTicker(a.every)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		reason, _ := judge(a.beat(ctx, details()))
		if reason != nil {
			cancel(reason)
		}
		if errors.Is(reason, errOver) {
			return
		}
	}
}

// ended is the activity's answer to a reason to end when there is nothing else to say.
func ended(reason error) error {
	switch {
	case errors.Is(reason, errOver):
		return typed(contract.ErrorAttemptOver, "%v", reason)
	case errors.Is(reason, errCancelled):
		return temporal.NewCanceledError()
	case errors.Is(reason, errSuspended):
		return typed(contract.ErrorSuspended, "%v", reason)
	case errors.Is(reason, errStopping):
		return movedError("the worker stops")
	}
	return reason
}

// reasonOf returns why hold cancelled the context, nil if it has not.
func reasonOf(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return context.Cause(ctx)
}
