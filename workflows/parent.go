package workflows

import (
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// parent is the other end of a child's reports. Telling is best effort: the parent reconciles now and then.
type parent struct {
	id   string
	last contract.ChildReport
}

// tell reports unless nothing has changed since the last report of this run. It does not wait for the delivery.
func (p *parent) tell(ctx workflow.Context, state, worker, note string) {
	if report, changed := p.report(ctx, state, worker, note); changed {
		workflow.SignalExternalWorkflow(ctx, p.id, "", contract.SignalReport, report)
	}
}

// tellEnd reports the end and waits until it is delivered or the parent is found gone: what a workflow sends in its last
// moment is lost otherwise.
func (p *parent) tellEnd(ctx workflow.Context, note string) {
	report, _ := p.report(ctx, contract.ChildEnded, "", note)
	if err := workflow.SignalExternalWorkflow(ctx, p.id, "", contract.SignalReport, report).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Info("end not reported", "to", p.id, "error", err)
	}
}

func (p *parent) report(ctx workflow.Context, state, worker, note string) (report contract.ChildReport, changed bool) {
	info := workflow.GetInfo(ctx)
	report = contract.ChildReport{
		ID: info.WorkflowExecution.ID, FirstRun: info.FirstRunID, State: state, Worker: worker, Note: note,
	}
	changed = report != p.last
	p.last = report
	return report, changed
}

// stopper follows the stop signal: it cancels the work under way.
type stopper struct {
	asked  bool
	reason string
}

// watch cancels when a stop signal comes, or has come already.
func (s *stopper) watch(ctx workflow.Context, cancel workflow.CancelFunc) {
	stops := workflow.GetSignalChannel(ctx, contract.SignalStop)
	workflow.Go(ctx, func(ctx workflow.Context) {
		var signal contract.StopSignal
		stops.Receive(ctx, &signal)
		s.asked, s.reason = true, signal.Reason
		cancel()
	})
}

// settle lets every other coroutine go on until it blocks. A signal that has come is handed to the coroutine that waits for
// it, which may not have run yet: without this it would be lost by continuing as new.
func settle(ctx workflow.Context) error {
	last := false
	workflow.Go(ctx, func(workflow.Context) { last = true })
	return workflow.Await(ctx, func() bool { return last })
}

// mayContinue tells whether a child may continue as new: nobody has cancelled it or asked it to stop. Nothing may block between
// this and the return.
func (s *stopper) mayContinue(ctx workflow.Context) bool {
	return settle(ctx) == nil && !s.asked && ctx.Err() == nil
}
