package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// CloseWindows closes the windows of a pipeline as they become due. A window that keeps failing gets a workflow of its own, so
// that the others go on. It carries jobs out beside closing. It ends on a stop signal, on cancellation, and when the pipeline's workflow
// is closed.
func CloseWindows(ctx workflow.Context, in contract.CloseWindowsInput) (*contract.CloseWindowsResult, error) {
	c := &closeWindows{
		in: in, started: workflow.Now(ctx), state: contract.ChildClosing, log: workflow.GetLogger(ctx),
		parent:  parent{id: contract.PipelineID(in.Pipeline)},
		reports: workflow.GetSignalChannel(ctx, contract.SignalReport),
	}
	if err := c.setup(ctx); err != nil {
		return nil, err
	}
	return c.run(ctx)
}

type closeWindows struct {
	in      contract.CloseWindowsInput
	started time.Time
	parent  parent
	stopper stopper
	reports workflow.ReceiveChannel
	log     log.Logger
	closing *activities.Closing
	control *activities.Control

	state string
	note  string
	kept  *report.Kept // as of the last CloseDue
	jobs  jobs
}

func (c *closeWindows) setup(ctx workflow.Context) error {
	return workflow.SetQueryHandlerWithOptions(ctx, contract.QueryStatus, func() (*contract.CloseWindowsStatus, error) {
		return &contract.CloseWindowsStatus{
			Pipeline: c.in.Pipeline, State: c.state, Note: c.note, Closed: c.in.Closed, Last: c.in.Last, Promoted: c.in.Promoted,
			Kept: c.kept, Jobs: c.jobIDs(), Troubles: c.troubles(),
		}, nil
	}, workflow.QueryHandlerOptions{Description: "revisions published, windows with a workflow of their own, and jobs"})
}

func (c *closeWindows) run(ctx workflow.Context) (*contract.CloseWindowsResult, error) {
	work, cancel := workflow.WithCancel(ctx)
	c.stopper.watch(ctx, cancel)
	c.beginJobs(work)
	end, err := c.rounds(work)
	c.endJobs(ctx)
	if err != nil && work.Err() == nil {
		if workflow.GetVersion(ctx, changeTellsFailure, workflow.DefaultVersion, 1) == 1 {
			c.parent.tellEnd(ctx, endText(err))
		}
		return nil, err
	}
	if end == endContinue && c.stopper.mayContinue(ctx) {
		for c.receive() {
		}
		next := c.in
		next.Version = contract.Version
		return nil, workflow.NewContinueAsNewError(ctx, CloseWindows, next)
	}
	lasting, _ := workflow.NewDisconnectedContext(ctx)
	result := &contract.CloseWindowsResult{Outcome: contract.OutcomeStopped, Reason: c.stopper.reason, Closed: c.in.Closed}
	if end == endGone {
		result.Outcome, result.Reason = contract.OutcomePipelineGone, "the pipeline's workflow is closed"
	}
	for _, f := range c.in.Promoted {
		id := contract.CloseWindowID(c.in.Pipeline, f.WindowRef)
		stop := contract.StopSignal{Reason: result.Reason}
		_ = workflow.SignalExternalWorkflow(lasting, id, "", contract.SignalStop, stop).Get(lasting, nil)
	}
	c.state = contract.ChildEnded
	c.show(lasting)
	c.parent.tellEnd(lasting, result.Reason)
	return result, ctx.Err()
}

// changeTellsFailure: a closer that fails tells the pipeline. One that has adopted it would find out with its next look only.
const changeTellsFailure = "closer-tells-failure"

// rounds is the loop over CloseDue.
func (c *closeWindows) rounds(ctx workflow.Context) (ending, error) {
	c.reconcile(ctx)
	for {
		c.whileBlocked(ctx)
		if ctx.Err() != nil {
			return endStopped, nil
		}
		if runIsLong(ctx, c.started) {
			return endContinue, nil
		}
		result, err := c.round(ctx)
		switch {
		case err != nil && ctx.Err() != nil:
			return endStopped, nil
		case err != nil:
			c.set(ctx, contract.ChildBlocked, endText(err))
			if err := pause(ctx, blockedPause, "looks for windows to close again: "+c.note); err != nil {
				return endStopped, nil
			}
			continue
		}
		if err := c.take(ctx, result); err != nil {
			return endStopped, err
		}
		if result.Outcome == contract.OutcomePipelineGone {
			return endGone, nil
		}
	}
}

// blockedPause is how long the closer waits after a failure that trying again cannot mend by itself.
const blockedPause = time.Minute

// round runs one CloseDue. It is called off and run again when a promoted window is done, because it was told to leave
// that window alone.
func (c *closeWindows) round(ctx workflow.Context) (*contract.CloseDueResult, error) {
	c.set(ctx, contract.ChildClosing, "")
	work, cancel := workflow.WithCancel(ctx)
	options := contract.CloseDueOptions()
	options.Summary = "close what is due in " + c.in.Pipeline
	future := workflow.ExecuteActivity(workflow.WithActivityOptions(work, options), c.closing.CloseDue, contract.CloseDueInput{
		Pipeline: c.in.Pipeline, Spec: c.in.Spec, Skip: c.promoted(),
	})
	// Once ctx is cancelled every timer made on it is ready at once; what is left is to wait for the activity's answer.
	for !future.IsReady() && ctx.Err() == nil {
		skipped := len(c.in.Promoted)
		wake := workflow.NewSelector(ctx)
		wake.AddFuture(future, func(workflow.Future) {})
		wake.AddReceive(c.reports, func(workflow.ReceiveChannel, bool) { c.receive() })
		var looked bool
		timer, stop := workflow.WithCancel(ctx)
		if skipped > 0 {
			wake.AddFuture(c.untilLook(timer), func(f workflow.Future) { looked = f.Get(ctx, nil) == nil })
		}
		wake.Select(ctx)
		stop()
		if looked {
			c.reconcile(ctx)
		}
		if len(c.in.Promoted) < skipped {
			cancel()
		}
	}
	var result contract.CloseDueResult
	err := future.Get(ctx, &result)
	if temporal.IsCanceledError(err) && ctx.Err() == nil {
		return &contract.CloseDueResult{Outcome: contract.OutcomeStopped}, nil
	}
	return &result, err
}

// take books what a CloseDue did and promotes windows that keep failing.
func (c *closeWindows) take(ctx workflow.Context, result *contract.CloseDueResult) error {
	c.in.Closed += int64(result.Count)
	if n := len(result.Closed); n > 0 {
		last := result.Closed[n-1]
		c.in.Last = &last
	}
	if result.Kept != nil {
		c.kept = result.Kept
	}
	for _, f := range result.Failed {
		if len(c.in.Promoted) >= contract.MaxPromoted {
			break
		}
		if slices.Contains(c.promoted(), f.WindowRef) {
			continue
		}
		if err := c.promote(ctx, f); err != nil {
			return err
		}
	}
	c.show(ctx)
	return nil
}

func (c *closeWindows) promoted() []report.WindowRef {
	var refs []report.WindowRef
	for _, f := range c.in.Promoted {
		refs = append(refs, f.WindowRef)
	}
	return refs
}

// promote starts a workflow for the window, or adopts the one there is.
func (c *closeWindows) promote(ctx workflow.Context, f report.FailedWindow) error {
	lasting, _ := workflow.NewDisconnectedContext(ctx)
	id := contract.CloseWindowID(c.in.Pipeline, f.WindowRef)
	options := contract.ChildOptions(id, fmt.Sprintf("Closes %s of %s", f.WindowRef, c.in.Pipeline))
	options.TypedSearchAttributes = inherited(ctx)
	err := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(lasting, options), CloseWindow, contract.CloseWindowInput{
		Version: contract.Version, Pipeline: c.in.Pipeline, Spec: c.in.Spec, Window: f.WindowRef, Problem: f.Problem,
	}).GetChildWorkflowExecution().Get(lasting, nil)
	if err != nil && !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
		return err
	}
	f.Since = workflow.Now(ctx)
	c.in.Promoted = append(c.in.Promoted, f)
	return nil
}

// changeBlockedRenews: a closer that is blocked continues as new like any other.
const changeBlockedRenews = "a-blocked-closer-continues-as-new"

// whileBlocked waits as long as too many windows fail, but no longer than a run may last: something is wrong that one more workflow
// would not mend.
func (c *closeWindows) whileBlocked(ctx workflow.Context) {
	renews := func() bool {
		return runIsLong(ctx, c.started) && workflow.GetVersion(ctx, changeBlockedRenews, workflow.DefaultVersion, 1) == 1
	}
	for len(c.in.Promoted) >= contract.MaxPromoted && ctx.Err() == nil && !renews() {
		c.set(ctx, contract.ChildBlocked, fmt.Sprintf("%d windows fail; see the workflows %s:... for why", len(c.in.Promoted),
			contract.CloseWindowsID(c.in.Pipeline)))
		wake := workflow.NewSelector(ctx)
		timer, stop := workflow.WithCancel(ctx)
		var looked bool
		wake.AddReceive(c.reports, func(workflow.ReceiveChannel, bool) { c.receive() })
		wake.AddFuture(c.untilLook(timer), func(f workflow.Future) { looked = f.Get(ctx, nil) == nil })
		wake.Select(ctx)
		stop()
		if looked {
			c.reconcile(ctx)
		}
	}
}

// untilLook is the time until the next look at windows with a workflow of their own.
func (c *closeWindows) untilLook(ctx workflow.Context) workflow.Future {
	first := c.in.Promoted[0].WindowRef
	what := fmt.Sprintf("%s is blocked, see %s", first, contract.CloseWindowID(c.in.Pipeline, first))
	if more := len(c.in.Promoted) - 1; more > 0 {
		what = fmt.Sprintf("%d windows are blocked: %s and %d more", more+1, what, more)
	}
	return workflow.NewTimerWithOptions(ctx, contract.ReconcileEvery, workflow.TimerOptions{Summary: summary(what)})
}

// receive takes one report of a promoted window without blocking.
func (c *closeWindows) receive() bool {
	var told contract.ChildReport
	if !c.reports.ReceiveAsync(&told) {
		return false
	}
	if told.State == contract.ChildEnded {
		c.forget(told.ID)
	}
	return true
}

func (c *closeWindows) forget(ids ...string) {
	c.in.Promoted = slices.DeleteFunc(c.in.Promoted, func(f report.FailedWindow) bool {
		return slices.Contains(ids, contract.CloseWindowID(c.in.Pipeline, f.WindowRef))
	})
}

// reconcile forgets promoted windows whose workflow ended without a word. A look that fails is no reason to close nothing: the next
// one comes soon.
func (c *closeWindows) reconcile(ctx workflow.Context) {
	if len(c.in.Promoted) == 0 {
		return
	}
	in := contract.ReconcileInput{Pipeline: c.in.Pipeline}
	for _, ref := range c.promoted() {
		in.Children = append(in.Children, contract.CloseWindowID(c.in.Pipeline, ref))
	}
	var found contract.Reconciled
	options := contract.ControlOptions()
	options.Summary = "which windows with a workflow of their own are done?"
	act := workflow.WithActivityOptions(ctx, options)
	if err := workflow.ExecuteActivity(act, c.control.Reconcile, in).Get(ctx, &found); err != nil {
		c.log.Info("windows with a workflow of their own not looked up", "error", err)
		return
	}
	c.forget(found.Closed...)
}

func (c *closeWindows) set(ctx workflow.Context, state, note string) {
	c.state, c.note = state, note
	c.show(ctx)
	c.tellWaits(ctx)
}

// tellWaits tells the pipeline which windows have a workflow of their own, and why.
func (c *closeWindows) tellWaits(ctx workflow.Context) {
	var waits contract.ChildWaits
	for _, f := range c.in.Promoted {
		waits.Waits = append(waits.Waits, contract.Wait{
			For: f.String(), Why: f.Problem, Since: f.Since, ID: contract.CloseWindowID(c.in.Pipeline, f.WindowRef),
		})
	}
	if len(waits.Waits) > 0 && workflow.GetVersion(ctx, changeTellsPipeline, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		waits.Waits = nil
	}
	c.parent.tellWaits(ctx, c.state, "", c.told(), waits)
}

func (c *closeWindows) show(ctx workflow.Context) {
	var b strings.Builder
	fmt.Fprintf(&b, "The closer of **%s** is **%s** %s\n\n%d revisions published", c.in.Pipeline, c.state, c.note, c.in.Closed)
	if l := c.in.Last; l != nil {
		fmt.Fprintf(&b, ", the latest of %s: revision %d, %s, %d keys, %d events", l.WindowRef, l.Revision, l.Reason, l.Keys, l.Events)
	}
	b.WriteString("\n")
	if len(c.in.Promoted) > 0 {
		b.WriteString("\n| window with a workflow of its own | why |\n|---|---|\n")
	}
	for _, f := range c.in.Promoted {
		fmt.Fprintf(&b, "| %s | %s |\n", f.WindowRef, f.Problem)
	}
	if len(c.in.Jobs) > 0 {
		fmt.Fprintf(&b, "\nIt carries out, beside closing, in this order: %s\n", strings.Join(c.jobIDs(), ", "))
	}
	for _, trouble := range c.troubles() {
		fmt.Fprintf(&b, "\n%s has failed and is tried again: %s\n", trouble.ID, trouble.Why)
	}
	workflow.SetCurrentDetails(ctx, b.String())
}
