package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func (p *pipeline) stop(ctx workflow.Context, req contract.StopRequest) (*contract.Receipt, error) {
	o := order{contract.UpdateStop, req, req.Reason, req.ExpectGeneration, true}
	return p.command(ctx, o, func(ctx workflow.Context, r *contract.Receipt) error {
		if req.Drain {
			if p.state.Paused {
				return errPausedDrain()
			}
			drained, err := p.drain(ctx, o, r, workflow.Now(ctx).Add(req.DrainTimeout()))
			if err != nil {
				return err
			}
			if r.Drained = &drained; !drained {
				return nil
			}
		}
		p.cancelFlushes()
		left, unwritten := p.halt(ctx, o.wait(r, "", ""), "stopped by update "+r.RequestID)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, c := range p.children() {
			if !slices.Contains(left, c.state.ID) {
				r.Stopped = append(r.Stopped, c.state.ID)
			}
		}
		r.Generation, r.Applied, r.Note = p.state.Generation, len(left) == 0, strings.TrimSpace(unanswered(left)+" "+unwritten)
		p.finish(ctx, &contract.PipelineResult{
			Pipeline: p.spec.Name, Outcome: contract.OutcomeStopped, Drained: req.Drain, By: r.RequestID, Note: r.Note,
		})
		return nil
	})
}

// changeDrainBound: a drain keeps to its timeout in all of its phases.
const changeDrainBound = "a-drain-keeps-to-its-timeout"

// leastPublish is how long a drain tries to publish however little of its time is left: everything was read by then.
const leastPublish = 10 * time.Second

// drain waits until everything that is in Kafka now has been committed and publishes every open window, all before until. When
// that cannot be done the pipeline goes on as before, its closer included, and the receipt says why.
func (p *pipeline) drain(ctx workflow.Context, o order, r *contract.Receipt, until time.Time) (bool, error) {
	bounded := workflow.GetVersion(ctx, changeDrainBound, workflow.DefaultVersion, 1) == 1
	var ends contract.EndOffsets
	err := p.waits.try(ctx, step{
		activity: p.control.EndOffsets, options: contract.ControlOptions(),
		patience: min(contract.DrainStall, until.Sub(workflow.Now(ctx))),
		once:     !bounded,
		wait:     o.wait(r, "Kafka: read the end offsets of the source topics", thenGoesOn),
	}, contract.SpecInput{Spec: p.raw}, &ends)
	switch {
	case err == nil:
	case ctx.Err() != nil || isFinal(err):
		return false, err
	default:
		return p.undrained(r, "Kafka does not say what the source topics hold: "+failureText(err)), nil
	}
	phase, note := p.phase, p.note
	p.phase, p.note = contract.StateDraining, "reading to the offsets of update "+r.RequestID
	p.show(ctx)
	drained, err := p.drainTo(ctx, o, r, ends.Ends, until, bounded)
	if err == nil && !drained {
		p.phase, p.note = phase, note
	}
	return drained, err
}

// thenGoesOn is what becomes of a drain whose time is up.
const thenGoesOn = "the drain is given up with the reason, and the pipeline goes on"

// undrained notes why a drain is given up. It returns false.
func (p *pipeline) undrained(r *contract.Receipt, why string) bool {
	r.Generation = p.state.Generation
	r.Note = "not drained: " + why + "; the pipeline goes on"
	return false
}

func (p *pipeline) drainTo(ctx workflow.Context, o order, r *contract.Receipt, ends []report.LaneEnd, until time.Time, bounded bool,
) (bool, error) {
	left := func() time.Duration { return until.Sub(workflow.Now(ctx)) }
	applied, err := p.awaitDrained(ctx, o, r, ends, until)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		return p.undrained(r, "the lanes could not be read: "+failureText(err)), nil
	}
	r.Lanes, r.Missing = applied.Lanes, applied.Missing
	if len(applied.Missing) > 0 {
		return p.undrained(r, contract.MissingText(applied.Missing)), nil
	}
	// The closer ends first: two of them would fence one another's transactions.
	p.cancelFlushes()
	patience := contract.ChildStopTimeout
	if bounded {
		patience = min(patience, max(left(), leastPublish))
	}
	closer := p.closer
	still := p.stopChildren(ctx, []*child{closer}, patience, o.wait(r, "", thenGoesOn), "drain by update "+r.RequestID)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if bounded && len(still) > 0 {
		p.closeAgain()
		return p.undrained(r, fmt.Sprintf("everything was read, but %s, which is closing windows, did not end within %s; see "+
			"`temporal workflow describe --workflow-id %s`", childrenText([]*child{closer}), patience, closer.state.ID)), nil
	}
	p.note = "publishing the open windows"
	r.Emitted, err = p.emit(ctx, o.wait(r, "the open windows to be published", thenGoesOn), max(left(), leastPublish),
		contract.EmitInput{Spec: p.raw, Reason: contract.ReasonDrain, Ends: ends})
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		p.closeAgain()
		return p.undrained(r, "everything was read, but the open windows could not be published: "+failureText(err)), nil
	}
	return true, nil
}

// awaitDrained waits until the lanes have committed to their ends.
func (p *pipeline) awaitDrained(ctx workflow.Context, o order, r *contract.Receipt, ends []report.LaneEnd, until time.Time,
) (applied contract.Applied, err error) {
	wait := o.wait(r, "every lane to commit to what was in Kafka", thenGoesOn)
	wait.Until = &until
	entry := p.waits.begin(ctx, wait, nil)
	defer func() { p.waits.end(ctx, entry) }()
	timeout := max(until.Sub(workflow.Now(ctx)), time.Second)
	options := contract.AwaitOptions(timeout)
	options.Summary = summary("waits for " + wait.For)
	err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), p.control.AwaitDrained, contract.AwaitDrainedInput{
		Spec: p.raw, Ends: ends, Replicas: p.state.Replicas,
		StallSeconds: int(contract.DrainStall.Seconds()), DeadlineSeconds: int(timeout.Seconds()),
	}).Get(ctx, &applied)
	return applied, err
}

// closeAgain has windows closed again after a drain that was given up.
func (p *pipeline) closeAgain() {
	p.closer = p.newCloser()
	workflow.Go(p.lasting, func(ctx workflow.Context) { p.supervise(ctx, p.closer) })
}

// changeHaltTries: a stop says what it waits for, and waits for Redis no longer than contract.HaltPatience.
const changeHaltTries = "a-stop-says-what-it-waits-for"

// halt ends all children. It returns those that did not end in time, and what could not be written.
func (p *pipeline) halt(ctx workflow.Context, wait contract.Pending, reason string) (left []string, unwritten string) {
	p.phase, p.note = contract.StateStopping, reason
	p.show(ctx)
	wait.Then = "the hot paths are stopped all the same"
	stopping := true
	change := contract.DesiredChange{
		RequestID: fmt.Sprintf("stop:%s:%d", workflow.GetInfo(ctx).WorkflowExecution.RunID, workflow.Now(ctx).UnixMilli()),
		Stopping:  &stopping, Above: p.state.Generation,
	}
	s := step{activity: p.control.WriteDesired, options: contract.ControlOptions(), wait: wait, patience: contract.HaltPatience}
	s.wait.For = "Redis: write that it stops"
	if s.once = workflow.GetVersion(ctx, changeHaltTries, workflow.DefaultVersion, 1) == workflow.DefaultVersion; s.once {
		s.options.ScheduleToCloseTimeout = contract.HaltPatience
	}
	var written contract.WrittenDesired
	err := p.waits.try(ctx, s, contract.WriteDesiredInput{Pipeline: p.spec.Name, Replicas: p.state.Replicas, Change: change}, &written)
	if p.state.Generation = max(p.state.Generation, written.Generation); err != nil {
		p.log.Warn("stopping could not be written to Redis; the hot paths are stopped all the same", "error", err)
		unwritten = "That the pipeline stops could not be written to Redis (" + failureText(err) +
			"); its hot paths were told by their workflows"
	}
	wait.Then = "the stop ends without them; each stops by itself once it finds the pipeline's workflow closed"
	left = p.stopChildren(ctx, p.children(), contract.ChildStopTimeout, wait, reason)
	if ctx.Err() == nil {
		p.phase = contract.StateStopped
		p.show(ctx)
	}
	return left, unwritten
}

// cancelFlushes gives up flushes that are under way.
func (p *pipeline) cancelFlushes() {
	for _, f := range p.flushes {
		f.cancel()
	}
}
