package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// request is what all update arguments have in common.
type request interface{ Validate() error }

func (p *pipeline) setUpdates(ctx workflow.Context) error {
	for _, u := range []struct {
		name, description  string
		handler, validator any
	}{
		{contract.UpdateFlush, "publish what every open window holds now", p.flush,
			func(ctx workflow.Context, r contract.FlushRequest) error {
				return p.admit(ctx, contract.UpdateFlush, r)
			}},
		{contract.UpdatePause, "stop reading until a resume", p.pause,
			func(ctx workflow.Context, r contract.PauseRequest) error {
				return p.admit(ctx, contract.UpdatePause, r)
			}},
		{contract.UpdateResume, "end a pause", p.resume,
			func(ctx workflow.Context, r contract.ResumeRequest) error {
				return p.admit(ctx, contract.UpdateResume, r)
			}},
		{contract.UpdateScale, "set the number of hot paths", p.scale,
			func(ctx workflow.Context, r contract.ScaleRequest) error {
				return p.admit(ctx, contract.UpdateScale, r)
			}},
		{contract.UpdateStop, "end the pipeline, with drain or without", p.stop, p.admitStop},
	} {
		if err := workflow.SetUpdateHandlerWithOptions(ctx, u.name, u.handler, workflow.UpdateHandlerOptions{
			Validator: u.validator, Description: u.description,
		}); err != nil {
			return err
		}
	}
	return nil
}

// admit decides whether an update enters the history. A repeated request always does: it is answered with its receipt.
func (p *pipeline) admit(ctx workflow.Context, update string, r request) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if past, ok := p.receipt(workflow.GetCurrentUpdateInfo(ctx).ID); ok {
		if past.Update != update {
			return fmt.Errorf("%s: update id %q was used for %s at generation %d; give another id", update, past.RequestID, past.Update, past.Generation)
		}
		return nil
	}
	return p.open(update)
}

func (p *pipeline) admitStop(ctx workflow.Context, r contract.StopRequest) error {
	if err := p.admit(ctx, contract.UpdateStop, r); err != nil {
		return err
	}
	if r.Drain && p.state.Paused {
		return errPausedDrain()
	}
	return nil
}

func errPausedDrain() error {
	return refused("stop: a paused pipeline reads nothing, so it cannot drain; resume it first, or stop without drain")
}

func refused(format string, args ...any) error {
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), contract.ErrorRefused, nil)
}

// open refuses once the pipeline is on its way out.
func (p *pipeline) open(update string) error {
	if p.finished != nil || p.leaving || p.phase == contract.StateStopping {
		return refused("%s: the pipeline is being stopped", update)
	}
	return nil
}

func (p *pipeline) receipt(id string) (contract.Receipt, bool) {
	for _, r := range p.state.Receipts {
		if r.RequestID == id {
			return r, true
		}
	}
	return contract.Receipt{}, false
}

// command carries an update out once and keeps its receipt. Exclusive ones wait for one another.
func (p *pipeline) command(ctx workflow.Context, update, reason string, exclusive bool,
	do func(workflow.Context, *contract.Receipt) error,
) (*contract.Receipt, error) {
	id := workflow.GetCurrentUpdateInfo(ctx).ID
	if past, ok := p.receipt(id); ok {
		return &past, nil
	}
	if err := workflow.Await(ctx, func() bool { return p.ready || p.leaving }); err != nil {
		return nil, err
	}
	if exclusive {
		if err := p.mutex.Lock(ctx); err != nil {
			return nil, err
		}
		defer p.mutex.Unlock()
	}
	if err := p.open(update); err != nil {
		return nil, err
	}
	r := &contract.Receipt{RequestID: id, Update: update, Reason: reason}
	if err := do(ctx, r); err != nil {
		return nil, err
	}
	r.At = workflow.Now(ctx)
	p.state.Receipts = contract.TrimReceipts(append(p.state.Receipts, *r))
	p.show(ctx)
	return r, nil
}

// write changes desired state. It tries for ever: what was commanded must come to hold.
func (p *pipeline) write(ctx workflow.Context, change contract.DesiredChange) (contract.WrittenDesired, error) {
	return p.writeWith(ctx, contract.ControlOptions(), change)
}

func (p *pipeline) writeWith(ctx workflow.Context, options workflow.ActivityOptions, change contract.DesiredChange) (contract.WrittenDesired, error) {
	change.Above = p.state.Generation
	var written contract.WrittenDesired
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), p.control.WriteDesired, contract.WriteDesiredInput{
		Pipeline: p.spec.Name, Replicas: p.state.Replicas, Change: change,
	}).Get(ctx, &written)
	p.state.Generation = max(p.state.Generation, written.Generation)
	return written, err
}

// apply writes a change, nudges the hot paths and waits until every lane has adopted it, or says which have not.
func (p *pipeline) apply(ctx workflow.Context, r *contract.Receipt, change contract.DesiredChange) error {
	change.RequestID = r.RequestID
	written, err := p.write(ctx, change)
	if err != nil {
		return err
	}
	r.Generation = written.Generation
	var nudges []workflow.Future
	for _, queue := range written.Queues {
		act := workflow.WithActivityOptions(ctx, contract.NudgeOptions(queue))
		nudges = append(nudges, workflow.ExecuteActivity(act, p.hosting.Nudge, contract.PipelineRef{Pipeline: p.spec.Name}))
	}
	var applied contract.Applied
	act := workflow.WithActivityOptions(ctx, contract.AwaitOptions(contract.AppliedDeadline))
	err = workflow.ExecuteActivity(act, p.control.AwaitApplied, contract.AwaitAppliedInput{
		Spec: p.raw, Generation: r.Generation, DeadlineSeconds: int(contract.AppliedDeadline.Seconds()),
	}).Get(ctx, &applied)
	for _, n := range nudges {
		_ = n.Get(ctx, nil) // a courtesy: owners look every second anyway
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.Note = fmt.Sprintf("written, but which lanes have adopted it could not be read: %v", err)
		return nil
	}
	r.Lanes, r.Missing = applied.Lanes, applied.Missing
	r.Applied = len(applied.Missing) == 0
	return nil
}

func (p *pipeline) pause(ctx workflow.Context, req contract.PauseRequest) (*contract.Receipt, error) {
	return p.setPaused(ctx, contract.UpdatePause, req.Reason, true, contract.StatePaused)
}

func (p *pipeline) resume(ctx workflow.Context, req contract.ResumeRequest) (*contract.Receipt, error) {
	return p.setPaused(ctx, contract.UpdateResume, req.Reason, false, contract.StateRunning)
}

func (p *pipeline) setPaused(ctx workflow.Context, update, reason string, paused bool, phase string) (*contract.Receipt, error) {
	return p.command(ctx, update, reason, true, func(ctx workflow.Context, r *contract.Receipt) error {
		if p.state.Paused == paused {
			r.Note = "it was " + phase + " already"
		}
		p.state.Paused, p.phase, p.note = paused, phase, reason
		p.show(ctx)
		return p.apply(ctx, r, contract.DesiredChange{Paused: &paused})
	})
}

// flushing is a flush under way.
type flushing struct{ cancel workflow.CancelFunc }

func (p *pipeline) flush(ctx workflow.Context, req contract.FlushRequest) (*contract.Receipt, error) {
	return p.command(ctx, contract.UpdateFlush, req.Reason, false, func(ctx workflow.Context, r *contract.Receipt) error {
		work, cancel := workflow.WithCancel(ctx)
		running := &flushing{cancel}
		p.flushes = append(p.flushes, running)
		defer func() {
			p.flushes = slices.DeleteFunc(p.flushes, func(f *flushing) bool { return f == running })
		}()
		p.state.CommitNow = r.RequestID
		err := p.apply(work, r, contract.DesiredChange{CommitNow: &r.RequestID})
		if err == nil {
			r.Emitted, err = p.emit(work, contract.EmitInput{Spec: p.raw, Reason: contract.ReasonFlush})
		}
		if err != nil && work.Err() != nil {
			return refused("flush: given up, the pipeline is being stopped")
		}
		return err
	})
}

func (p *pipeline) emit(ctx workflow.Context, in contract.EmitInput) (*contract.Emitted, error) {
	var emitted contract.Emitted
	act := workflow.WithActivityOptions(ctx, contract.EmitOptions())
	if err := workflow.ExecuteActivity(act, p.closing.Emit, in).Get(ctx, &emitted); err != nil {
		return nil, err
	}
	return &emitted, nil
}

func (p *pipeline) scale(ctx workflow.Context, req contract.ScaleRequest) (*contract.Receipt, error) {
	return p.command(ctx, contract.UpdateScale, req.Reason, true, func(ctx workflow.Context, r *contract.Receipt) error {
		for n := len(p.replicas); n < req.Replicas; n++ {
			c := p.newReplica(n)
			p.replicas = append(p.replicas, c)
			r.Started = append(r.Started, c.state.ID)
			workflow.Go(p.lasting, func(ctx workflow.Context) { p.supervise(ctx, c) })
		}
		p.state.Replicas = req.Replicas
		if extra := p.replicas[req.Replicas:]; len(extra) > 0 {
			left := p.stopChildren(ctx, extra, fmt.Sprintf("scaled to %d by update %s", req.Replicas, r.RequestID))
			if ctx.Err() != nil {
				return ctx.Err()
			}
			for _, c := range extra {
				r.Stopped = append(r.Stopped, c.state.ID)
			}
			r.Note = unanswered(left)
			p.replicas = p.replicas[:req.Replicas]
		}
		r.Replicas = req.Replicas
		note := r.Note
		err := p.apply(ctx, r, contract.DesiredChange{})
		if note != "" && r.Note == "" {
			r.Note = note
		}
		return err
	})
}

func unanswered(left []string) string {
	if len(left) == 0 {
		return ""
	}
	return fmt.Sprintf("%q did not end within %s; each stops by itself once it finds its workflow or the pipeline's closed",
		left, contract.ChildStopTimeout)
}
