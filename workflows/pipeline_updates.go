package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// request is what all update arguments have in common.
type request interface{ Validate() error }

func (p *pipeline) setUpdates(ctx workflow.Context) error {
	return handleUpdates(ctx, []handledUpdate{
		{contract.UpdateFlush, "publish what every open window holds now", p.flush,
			func(ctx workflow.Context, r contract.FlushRequest) error {
				return p.admit(ctx, contract.UpdateFlush, r, r.ExpectGeneration)
			}},
		{contract.UpdatePause, "stop reading until a resume", p.pause,
			func(ctx workflow.Context, r contract.PauseRequest) error {
				return p.admit(ctx, contract.UpdatePause, r, r.ExpectGeneration)
			}},
		{contract.UpdateResume, "end a pause", p.resume,
			func(ctx workflow.Context, r contract.ResumeRequest) error {
				return p.admit(ctx, contract.UpdateResume, r, r.ExpectGeneration)
			}},
		{contract.UpdateScale, "set the number of hot paths", p.scale,
			func(ctx workflow.Context, r contract.ScaleRequest) error {
				return p.admit(ctx, contract.UpdateScale, r, r.ExpectGeneration)
			}},
		{contract.UpdateDegrade, "override a dependency's level on all workers, until auto", p.degrade,
			func(ctx workflow.Context, r contract.DegradeRequest) error {
				return p.admit(ctx, contract.UpdateDegrade, r, r.ExpectGeneration)
			}},
		{contract.UpdateStop, "end the pipeline, with drain or without", p.stop, p.admitStop},
		{contract.UpdateAwaitRunning, "wait until every lane is read, or say why not", p.awaitRunning, p.admitAwaitRunning},
	})
}

// admit decides whether an update enters the history. A repeated request always does: it is answered with its receipt.
func (p *pipeline) admit(ctx workflow.Context, update string, r request, expected *int64) error {
	if err := r.Validate(); err != nil {
		return err
	}
	if past, ok := p.receipt(workflow.GetCurrentUpdateInfo(ctx).ID); ok {
		return past.Past().Repeats(update, contract.Fingerprint(r))
	}
	if err := p.open(update); err != nil {
		return err
	}
	return p.unchanged(update, expected)
}

// unchanged refuses a command whose sender does not know what was commanded last.
func (p *pipeline) unchanged(update string, expected *int64) error {
	if expected == nil || *expected == p.state.Generation {
		return nil
	}
	var last *contract.Receipt
	if n := len(p.state.Receipts); n > 0 {
		last = &p.state.Receipts[n-1]
	}
	return refused("%v", contract.ChangedSince(p.spec.Name, update, *expected, p.state.Generation, last))
}

func (p *pipeline) admitStop(ctx workflow.Context, r contract.StopRequest) error {
	if err := p.admit(ctx, contract.UpdateStop, r, r.ExpectGeneration); err != nil {
		return err
	}
	if _, repeated := p.receipt(workflow.GetCurrentUpdateInfo(ctx).ID); r.Drain && p.state.Paused && !repeated {
		return errPausedDrain()
	}
	return nil
}

func errPausedDrain() error {
	return refused("stop: a paused pipeline reads nothing, so it cannot drain; resume it first, or stop without drain")
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

// order is what an update asks for.
type order struct {
	update    string
	request   request
	reason    string
	expected  *int64 // generation
	exclusive bool   // it waits for other exclusive ones
}

// wait is one that holds the order up.
func (o order) wait(r *contract.Receipt, what, then string) contract.Pending {
	return contract.Pending{For: what, Update: o.update, RequestID: r.RequestID, Then: then}
}

// command carries an update out once and keeps its receipt.
func (p *pipeline) command(ctx workflow.Context, o order, do func(workflow.Context, *contract.Receipt) error) (*contract.Receipt, error) {
	r := &contract.Receipt{
		RequestID: workflow.GetCurrentUpdateInfo(ctx).ID, Update: o.update, Reason: o.reason, Input: contract.Fingerprint(o.request),
	}
	if past, ok := p.receipt(r.RequestID); ok {
		past.Repeated = true
		return &past, nil
	}
	if err := p.turn(ctx, o, r); err != nil {
		return nil, err
	}
	if o.exclusive {
		defer p.mutex.Unlock()
	}
	if err := p.open(o.update); err != nil {
		return nil, err
	}
	// Another command may have been carried out since this one was admitted.
	if err := p.unchanged(o.update, o.expected); err != nil {
		return nil, err
	}
	if err := do(ctx, r); err != nil {
		return nil, err
	}
	r.At = workflow.Now(ctx)
	p.state.Receipts = contract.TrimReceipts(append(p.state.Receipts, *r))
	p.show(ctx)
	return r, nil
}

// turn waits until a command may be carried out: the pipeline is ready, and no other exclusive command is under way.
func (p *pipeline) turn(ctx workflow.Context, o order, r *contract.Receipt) error {
	if !p.ready && !p.leaving {
		entry := p.waits.begin(ctx, o.wait(r, "the pipeline to start", ""), nil)
		err := workflow.Await(ctx, func() bool { return p.ready || p.leaving })
		p.waits.end(ctx, entry)
		if err != nil {
			return err
		}
	}
	if !o.exclusive {
		return nil
	}
	if p.mutex.IsLocked() {
		wait := o.wait(r, fmt.Sprintf("%s of request %s to end", p.current.Update, p.current.RequestID), "")
		wait.Behind = p.current.RequestID
		entry := p.waits.begin(ctx, wait, nil)
		defer p.waits.end(ctx, entry)
	}
	if err := p.mutex.Lock(ctx); err != nil {
		return err
	}
	p.current = contract.Pending{Update: o.update, RequestID: r.RequestID}
	return nil
}

// write changes desired state.
func (p *pipeline) write(ctx workflow.Context, wait contract.Pending, patience time.Duration, change contract.DesiredChange,
) (contract.WrittenDesired, error) {
	change.Above = p.state.Generation
	if p.state.Owed {
		change = p.withOwed(change)
	}
	wait.For = "Redis: write the desired state"
	var written contract.WrittenDesired
	err := p.waits.try(ctx, step{
		activity: p.control.WriteDesired, options: contract.ControlOptions(), wait: wait, patience: patience,
	}, contract.WriteDesiredInput{Pipeline: p.spec.Name, Replicas: p.state.Replicas, Change: change}, &written)
	p.state.Generation = max(p.state.Generation, written.Generation)
	return written, err
}

// withOwed adds to a change what earlier ones owe. Its generation will be above theirs, so no look at the children would write
// them later.
func (p *pipeline) withOwed(change contract.DesiredChange) contract.DesiredChange {
	if change.Paused == nil {
		change.Paused = &p.state.Paused
	}
	if change.Orders == nil {
		orders := append([]report.LevelOrder{}, p.state.Orders...) // never nil, which would leave a lifted order in force
		change.Orders = &orders
	}
	return change
}

// owe keeps a change that could not be written in time: it stands, and is written with the next look at the children, which
// begins at once and goes on until Redis answers.
func (p *pipeline) owe(r *contract.Receipt, why error) {
	p.state.Generation++
	p.state.Owed = true
	r.Generation = p.state.Generation
	r.Note = fmt.Sprintf("not written yet: Redis: %s. The command stands, and is written as soon as Redis answers", failureText(why))
}

// apply writes a change, nudges the hot paths and waits until every lane has adopted it, or says which have not.
func (p *pipeline) apply(ctx workflow.Context, o order, r *contract.Receipt, change contract.DesiredChange) error {
	change.RequestID = r.RequestID
	then := "the command is answered; it stands, and is written as soon as Redis answers"
	if change.CommitNow != nil {
		then = "the flush is given up"
	}
	written, err := p.write(ctx, o.wait(r, "", then), contract.WritePatience, change)
	switch {
	case err == nil:
	case ctx.Err() != nil || isFinal(err):
		return err
	case change.CommitNow != nil:
		return refused("flush: nothing was published: Redis does not take the request since %s: %s; flush again when it answers",
			contract.WritePatience, failureText(err))
	default:
		p.owe(r, err)
		return nil
	}
	r.Generation = written.Generation
	var nudges []workflow.Future
	for _, queue := range written.Queues {
		options := contract.NudgeOptions(queue)
		options.Summary = fmt.Sprintf("read desired state %d now", written.Generation)
		act := workflow.WithActivityOptions(ctx, options)
		nudges = append(nudges, workflow.ExecuteActivity(act, p.hosting.Nudge, contract.PipelineRef{Pipeline: p.spec.Name}))
	}
	var applied contract.Applied
	until := workflow.Now(ctx).Add(contract.AppliedDeadline)
	wait := o.wait(r, fmt.Sprintf("every lane to commit under generation %d", r.Generation),
		"the command is answered with the lanes that have not, and stands")
	wait.Until = &until
	entry := p.waits.begin(ctx, wait, nil)
	options := contract.AwaitOptions(contract.AppliedDeadline)
	options.Summary = summary("waits for " + wait.For)
	err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), p.control.AwaitApplied, contract.AwaitAppliedInput{
		Spec: p.raw, Generation: r.Generation, DeadlineSeconds: int(contract.AppliedDeadline.Seconds()), Replicas: p.state.Replicas,
	}).Get(ctx, &applied)
	p.waits.end(ctx, entry)
	for _, n := range nudges {
		_ = n.Get(ctx, nil) // a courtesy: owners look every second anyway
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		r.Note = "written, but which lanes have adopted it could not be read: " + failureText(err)
		return nil
	}
	r.Lanes, r.Missing = applied.Lanes, applied.Missing
	r.Applied = len(applied.Missing) == 0
	return nil
}

func (p *pipeline) pause(ctx workflow.Context, req contract.PauseRequest) (*contract.Receipt, error) {
	return p.setPaused(ctx, order{contract.UpdatePause, req, req.Reason, req.ExpectGeneration, true}, true, contract.StatePaused)
}

func (p *pipeline) resume(ctx workflow.Context, req contract.ResumeRequest) (*contract.Receipt, error) {
	return p.setPaused(ctx, order{contract.UpdateResume, req, req.Reason, req.ExpectGeneration, true}, false, contract.StateRunning)
}

func (p *pipeline) setPaused(ctx workflow.Context, o order, paused bool, phase string) (*contract.Receipt, error) {
	return p.command(ctx, o, func(ctx workflow.Context, r *contract.Receipt) error {
		if p.state.Paused == paused {
			r.Note = "it was " + phase + " already"
		}
		before, phaseBefore, noteBefore := p.state, p.phase, p.note
		p.setPhase(ctx, paused, phase, o.reason)
		err := p.apply(ctx, o, r, contract.DesiredChange{Paused: &paused})
		if err != nil && ctx.Err() == nil && workflow.GetVersion(ctx, changeTakenBack, workflow.DefaultVersion, 1) == 1 {
			p.state.Paused, p.state.Reason, p.state.PausedAt = before.Paused, before.Reason, before.PausedAt
			p.phase, p.note = phaseBefore, noteBefore
			p.show(ctx)
		}
		return err
	})
}

// changeTakenBack: a pause or resume that Redis refuses for good is not shown as if it held.
const changeTakenBack = "a-refused-pause-is-taken-back"

// setPhase notes a pause or its end, also for the runs that this one is continued as.
func (p *pipeline) setPhase(ctx workflow.Context, paused bool, phase, reason string) {
	switch {
	case !paused:
		p.state.PausedAt = time.Time{}
	case !p.state.Paused:
		p.state.PausedAt = workflow.Now(ctx)
	}
	p.state.Paused, p.state.Reason = paused, reason
	p.phase, p.note = phase, reason
	p.show(ctx)
}

// flushing is a flush under way.
type flushing struct{ cancel workflow.CancelFunc }

func (p *pipeline) flush(ctx workflow.Context, req contract.FlushRequest) (*contract.Receipt, error) {
	o := order{contract.UpdateFlush, req, req.Reason, req.ExpectGeneration, false}
	return p.command(ctx, o, func(ctx workflow.Context, r *contract.Receipt) error {
		work, cancel := workflow.WithCancel(ctx)
		running := &flushing{cancel}
		p.flushes = append(p.flushes, running)
		defer func() {
			p.flushes = slices.DeleteFunc(p.flushes, func(f *flushing) bool { return f == running })
		}()
		p.state.CommitNow = r.RequestID
		err := p.apply(work, o, r, contract.DesiredChange{CommitNow: &r.RequestID})
		if err == nil {
			wait := o.wait(r, "the open windows to be published", "the flush fails with the reason")
			r.Emitted, err = p.emit(work, wait, contract.FlushPatience, contract.EmitInput{Spec: p.raw, Reason: contract.ReasonFlush})
		}
		if err != nil && work.Err() != nil {
			return refused("flush: given up, the pipeline is being stopped")
		}
		return err
	})
}

// changeEmitTries: publishing is tried step by step, so that the page says why it does not succeed.
const changeEmitTries = "publishing-is-tried-step-by-step"

func (p *pipeline) emit(ctx workflow.Context, wait contract.Pending, patience time.Duration, in contract.EmitInput,
) (*report.Emitted, error) {
	s := step{activity: p.closing.Emit, options: contract.EmitOptions(), wait: wait, patience: patience}
	s.once = workflow.GetVersion(ctx, changeEmitTries, workflow.DefaultVersion, 1) == workflow.DefaultVersion
	var emitted report.Emitted
	if err := p.waits.try(ctx, s, in, &emitted); err != nil {
		return nil, err
	}
	return &emitted, nil
}

func (p *pipeline) scale(ctx workflow.Context, req contract.ScaleRequest) (*contract.Receipt, error) {
	o := order{contract.UpdateScale, req, req.Reason, req.ExpectGeneration, true}
	return p.command(ctx, o, func(ctx workflow.Context, r *contract.Receipt) error {
		for n := len(p.replicas); n < req.Replicas; n++ {
			c := p.newReplica(n)
			p.replicas = append(p.replicas, c)
			r.Started = append(r.Started, c.state.ID)
			workflow.Go(p.lasting, func(ctx workflow.Context) { p.supervise(ctx, c) })
		}
		p.state.Replicas = req.Replicas
		if extra := p.replicas[req.Replicas:]; len(extra) > 0 {
			left := p.stopChildren(ctx, extra, contract.ChildStopTimeout,
				o.wait(r, "", "the command goes on; each of them stops by itself once it finds its workflow closed"),
				fmt.Sprintf("scaled to %d by update %s", req.Replicas, r.RequestID))
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
		err := p.apply(ctx, o, r, contract.DesiredChange{})
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
