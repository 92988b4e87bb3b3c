package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// reconcile finds children that ended without a word and puts desired state back if Redis lost it.
func (p *pipeline) reconcile(ctx workflow.Context) error {
	in := contract.ReconcileInput{
		Pipeline: p.spec.Name,
		Desired: &contract.Desired{
			Generation: p.state.Generation, Paused: p.state.Paused, CommitNow: p.state.CommitNow, Begun: p.state.Begin,
			Orders: p.state.Orders,
		},
		RequestID: fmt.Sprintf("restore:%s:%d", workflow.GetInfo(ctx).WorkflowExecution.RunID, workflow.Now(ctx).UnixMilli()),
	}
	for _, c := range p.children() {
		in.Children = append(in.Children, c.state.ID)
	}
	for _, c := range p.state.Attached {
		if c.ID != contract.CompactID(p.spec.Name) { // what a run has found stands until the next one takes it back
			in.Children = append(in.Children, c.ID)
		}
	}
	look, callOff := workflow.WithCancel(ctx)
	defer callOff()
	p.callOff = callOff
	defer func() { p.callOff = nil }()
	var found contract.Reconciled
	err := p.waits.try(look, step{activity: p.control.Reconcile, options: contract.ControlOptions(), patience: contract.ReconcileEvery,
		wait: contract.Pending{
			For:  "Temporal and Redis: see whether the children are open and the desired state is there",
			Then: "it looks again; hot paths and closing go on meanwhile",
		}}, in, &found)
	switch {
	case err == nil:
		p.written(ctx, in.Desired.Generation, found.Generation)
		p.markClosed(ctx, found.Closed)
		p.detach(found.Closed...)
		return nil
	case ctx.Err() != nil || isFinal(err) && look.Err() == nil:
		return err
	}
	return nil // serve looks again, or ends
}

// changeOwedMeanwhile: what is commanded while a look at the children writes what is owed is owed still, and written with the next
// look, which begins at once.
const changeOwedMeanwhile = "what-is-commanded-during-a-look-stays-owed"

// written notes that a look found the desired state of generation sent in Redis, or wrote it there, and that Redis has generation
// found since. What was commanded after sent and is owed gets a generation of its own: the look may have taken that of the command.
func (p *pipeline) written(ctx workflow.Context, sent, found int64) {
	p.state.Owed = p.state.Owed && p.state.Generation > sent &&
		workflow.GetVersion(ctx, changeOwedMeanwhile, workflow.DefaultVersion, 1) == 1
	if p.state.Owed {
		found++
	}
	p.state.Generation = max(p.state.Generation, found)
}

// changeStopFirst: a stop calls off the look at the children that is under way, so that it does not wait for what the look
// waits for.
const changeStopFirst = "a-stop-calls-off-the-look-at-children"

// finish ends the pipeline.
func (p *pipeline) finish(ctx workflow.Context, result *contract.PipelineResult) {
	p.finished = result
	if p.callOff != nil && workflow.GetVersion(ctx, changeStopFirst, workflow.DefaultVersion, 1) == 1 {
		p.callOff()
	}
}

func (p *pipeline) markClosed(ctx workflow.Context, closed []string) {
	for _, c := range p.all() {
		if !c.ended && slices.Contains(closed, c.state.ID) {
			c.end(ctx, "found closed")
		}
	}
}
