package lane

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/stage"
	"millrace/pipeline/store"
)

// Lane runs one lane from acquisition to release. Run may be called again after it returned. The goroutine that calls Run
// owns everything in it but the status, the decisions and wake, which are for any.
type Lane struct {
	*Holder
	share  *Share
	status atomic.Pointer[Status]

	acquisition *Acquisition
	reader      source.Reader
	times       times
	now         Status // what publish hands out
	reseeds     int
	wake        chan struct{} // a decision waits to be carried out
}

// New prepares a lane for a claim. It touches nothing until Run.
func New(deps *Deps, program *fold.Program, claim source.Claim) *Lane {
	l := &Lane{Holder: NewHolder(deps, program, claim, new(Decisions)), wake: make(chan struct{}, 1), times: newTimes()}
	l.now = Status{Topic: l.tp.Topic, Partition: l.tp.Partition, State: StateAcquiring, End: -1, Committed: -1}
	l.publish()
	return l
}

// ID names the lane.
func (l *Lane) ID() store.LaneID { return l.id }

// Status returns the latest snapshot. It may be called from any goroutine.
func (l *Lane) Status() Status {
	s := *l.status.Load()
	s.Decisions, s.Times = l.decisions.list(), l.times.account()
	return s
}

// Waits says, before Run, what the lane waits for.
func (l *Lane) Waits(reason string) {
	l.now.Reason = reason
	l.publish()
}

func (l *Lane) publish() {
	s := l.now
	s.UpdatedAt = time.Now()
	l.status.Store(&s)
}

// releaseGrace bounds how long a lane that must go tries to commit what it has.
const releaseGrace = 10 * time.Second

// Run owns the lane until ctx ends, then commits what it holds and releases. It returns nil when ctx ended, or
// store.ErrFenced when another owner took the lane while the claim seemed to be ours: the caller asks the coordinator.
// A lane that cannot go on parks until ctx ends or the operator decides.
func (l *Lane) Run(ctx context.Context) error {
	l.share = l.deps.Budget.Join()
	defer l.share.Leave()
	for {
		err := l.life(ctx)
		var inc *report.Incident
		switch {
		case errors.Is(err, store.ErrFenced):
			return err
		case errors.As(err, &inc):
			l.park(inc)
			l.times.lane.Enter(stage.Parked)
			select {
			case <-l.wake:
			case <-ctx.Done():
				return nil
			}
		case (errors.Is(err, errDecided) || errors.Is(err, errNotWhole)) && ctx.Err() == nil:
		case ctx.Err() == nil:
			return err
		default:
			return nil
		}
	}
}

// life is one acquisition and what follows it.
func (l *Lane) life(ctx context.Context) error {
	l.times.lane.Enter(stage.Acquire)
	l.acquisition = newAcquisition(l.id)
	l.Begin()
	err := l.acquireLane(ctx)
	var inc *report.Incident
	switch {
	case errors.As(err, &inc):
		l.concluded(report.LaneParked)
		return err
	case err != nil:
		l.concluded(report.LaneSuperseded)
		return err
	}
	l.concluded(report.LaneRunning)
	l.reader = l.deps.Open(source.ReaderConfig{
		Pipeline: l.id.Pipeline, Topic: l.tp.Topic, Partition: l.tp.Partition, Offset: l.state.Offset(), TopicID: l.state.TopicID(),
		FetchBytes: l.program.Spec.Lane.FetchBytes, FetchBatches: l.program.Spec.Lane.FetchBatches,
		Traces: l.deps.Tracing != nil, Clock: l.times.reader,
	})
	defer l.reader.Close()
	return l.loop(ctx)
}

// park reports an incident with the operator's choices. An incident of a lane that had resumed is told to the gate: it
// belongs to no acquisition whose outcome anybody waits for.
func (l *Lane) park(inc *report.Incident) {
	if inc.ID == "" {
		l.offer(inc, nil, l.state, l.now.Committed)
	}
	l.deps.Log.Error("lane parked", "lane", l.id.String(), "incident", inc.Kind, "from", inc.From, "to", inc.To, "detail", inc.Detail)
	l.now.State, l.now.Reason, l.now.Incident, l.now.Owner = StateParked, inc.Kind, inc, l.token
	l.publish()
	if _, outcome := l.acquisition.Results(); outcome == report.LaneRunning && l.deps.Gate != nil {
		l.deps.Gate.Parked(Parking{Lane: l.id, Token: l.token, Incident: inc, Committed: l.now.Committed, LogEnd: l.now.End})
	}
}

// acquireLane takes ownership, restores the state and verifies the position. It tries until it succeeds, finds an incident, or
// ctx ends.
func (l *Lane) acquireLane(ctx context.Context) error {
	wait := 50 * time.Millisecond
	for {
		l.now.State, l.now.Incident = StateAcquiring, nil
		l.publish()
		ends, err := l.Acquire(ctx, l.step)
		if err == nil {
			l.now.Owner, l.now.Committed, l.now.Reason, l.now.End = l.token, l.state.Offset(), "", ends.HighWatermark
		}
		var inc *report.Incident
		if err == nil || ctx.Err() != nil || errors.As(err, &inc) || errors.Is(err, store.ErrFenced) {
			return err
		}
		l.now.Reason = withoutLane(err)
		l.publish()
		l.deps.Log.WarnContext(ctx, "lane not acquired, trying again", "lane", l.id.String(), "in", wait, "error", err)
		if !pause(ctx, wait) {
			return ctx.Err()
		}
		wait = min(2*wait, 5*time.Second)
	}
}
