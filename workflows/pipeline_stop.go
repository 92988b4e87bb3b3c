package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

func (p *pipeline) stop(ctx workflow.Context, req contract.StopRequest) (*contract.Receipt, error) {
	return p.command(ctx, contract.UpdateStop, req.Reason, true, func(ctx workflow.Context, r *contract.Receipt) error {
		if req.Drain {
			if p.state.Paused {
				return errPausedDrain()
			}
			drained, err := p.drain(ctx, r, req.DrainTimeout())
			if err != nil {
				return err
			}
			if r.Drained = &drained; !drained {
				return nil
			}
		}
		p.cancelFlushes()
		left := p.halt(ctx, "stopped by update "+r.RequestID)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, c := range p.children() {
			if !slices.Contains(left, c.state.ID) {
				r.Stopped = append(r.Stopped, c.state.ID)
			}
		}
		r.Generation, r.Applied, r.Note = p.state.Generation, len(left) == 0, unanswered(left)
		p.finished = &contract.PipelineResult{
			Pipeline: p.spec.Name, Outcome: contract.OutcomeStopped, Drained: req.Drain, By: r.RequestID, Note: r.Note,
		}
		return nil
	})
}

// drain waits until everything that is in Kafka now has been committed and publishes every open window. When that cannot be done
// the pipeline goes on as before and the receipt says why.
func (p *pipeline) drain(ctx workflow.Context, r *contract.Receipt, timeout time.Duration) (bool, error) {
	var ends contract.EndOffsets
	act := workflow.WithActivityOptions(ctx, contract.ControlOptions())
	if err := workflow.ExecuteActivity(act, p.control.EndOffsets, contract.SpecInput{Spec: p.raw}).Get(ctx, &ends); err != nil {
		return false, err
	}
	p.phase, p.note = contract.StateDraining, "reading to the offsets of update "+r.RequestID
	p.show(ctx)
	drained, err := p.drainTo(ctx, r, ends.Ends, timeout)
	if err == nil && !drained {
		p.phase, p.note = contract.StateRunning, ""
	}
	return drained, err
}

func (p *pipeline) drainTo(ctx workflow.Context, r *contract.Receipt, ends []contract.LaneEnd, timeout time.Duration) (bool, error) {
	var applied contract.Applied
	act := workflow.WithActivityOptions(ctx, contract.AwaitOptions(timeout))
	err := workflow.ExecuteActivity(act, p.control.AwaitDrained, contract.AwaitDrainedInput{
		Spec: p.raw, Ends: ends,
		StallSeconds: int(contract.DrainStall.Seconds()), DeadlineSeconds: int(timeout.Seconds()),
	}).Get(ctx, &applied)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		r.Note = fmt.Sprintf("not drained: the lanes could not be read: %v; the pipeline goes on", err)
		return false, nil
	}
	r.Lanes, r.Missing = applied.Lanes, applied.Missing
	if len(applied.Missing) > 0 {
		r.Note = "not drained: " + lanesText(applied.Missing) + "; the pipeline goes on"
		return false, nil
	}
	// The closer ends first: two of them would fence one another's transactions.
	p.cancelFlushes()
	closer := p.closer
	p.stopChildren(ctx, []*child{closer}, "drain by update "+r.RequestID)
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	r.Emitted, err = p.emit(ctx, contract.EmitInput{Spec: p.raw, Reason: contract.ReasonDrain, Ends: ends})
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		r.Note = fmt.Sprintf("not drained: everything was read, but the open windows could not be published: %v; the pipeline goes on", err)
		p.closer = p.newCloser()
		workflow.Go(p.lasting, func(ctx workflow.Context) { p.supervise(ctx, p.closer) })
		return false, nil
	}
	return true, nil
}

// lanesText names lanes and why they are missing, the first few of them.
func lanesText(missing []contract.LaneMissing) string {
	const shown = 5
	var parts []string
	for _, m := range missing[:min(shown, len(missing))] {
		parts = append(parts, fmt.Sprintf("lane %s/%d: %s", m.Topic, m.Partition, m.Reason))
	}
	if more := len(missing) - shown; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, "; ")
}

// haltWrite is how long a stop waits for Redis before it goes on to stop the hot paths.
const haltWrite = 30 * time.Second

// halt ends all children. It returns those that did not end in time.
func (p *pipeline) halt(ctx workflow.Context, reason string) []string {
	p.phase, p.note = contract.StateStopping, reason
	p.show(ctx)
	options := contract.ControlOptions()
	options.ScheduleToCloseTimeout = haltWrite
	stopping := true
	if _, err := p.writeWith(ctx, options, contract.DesiredChange{
		RequestID: fmt.Sprintf("stop:%s:%d", workflow.GetInfo(ctx).WorkflowExecution.RunID, workflow.Now(ctx).UnixMilli()),
		Stopping:  &stopping,
	}); err != nil {
		p.log.Warn("stopping could not be written to Redis; the hot paths are stopped all the same", "error", err)
	}
	left := p.stopChildren(ctx, p.children(), reason)
	if ctx.Err() == nil {
		p.phase = contract.StateStopped
		p.show(ctx)
	}
	return left
}

// cancelFlushes gives up flushes that are under way.
func (p *pipeline) cancelFlushes() {
	for _, f := range p.flushes {
		f.cancel()
	}
}
