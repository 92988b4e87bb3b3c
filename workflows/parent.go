package workflows

import (
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// parent is the other end of a child's reports. Telling is best effort: the parent reconciles now and then.
type parent struct {
	id   string
	last contract.ChildReport
	sent workflow.Future // of the last report that nobody has waited for; nil when there is none
}

// tell reports unless nothing has changed since the last report of this run. It does not wait for the delivery.
func (p *parent) tell(ctx workflow.Context, state, worker, note string) {
	p.tellWaits(ctx, state, worker, note, contract.ChildWaits{})
}

// tellWaits is tell with what the child waits for.
func (p *parent) tellWaits(ctx workflow.Context, state, worker, note string, waits contract.ChildWaits) {
	if report, changed := p.report(ctx, state, worker, note, waits); changed {
		p.sent = workflow.SignalExternalWorkflow(ctx, p.id, "", contract.SignalReport, report)
	}
}

// tellEnd reports the end and waits until it is delivered or the parent is found gone: what a workflow sends in its last
// moment is lost otherwise.
func (p *parent) tellEnd(ctx workflow.Context, note string) {
	report, _ := p.report(ctx, contract.ChildEnded, "", note, contract.ChildWaits{})
	if err := workflow.SignalExternalWorkflow(ctx, p.id, "", contract.SignalReport, report).Get(ctx, nil); err != nil {
		workflow.GetLogger(ctx).Info("end not reported", "to", p.id, "error", err)
	}
}

func (p *parent) report(ctx workflow.Context, state, worker, note string, waits contract.ChildWaits,
) (report contract.ChildReport, changed bool) {
	info := workflow.GetInfo(ctx)
	if more := len(waits.Waits) - contract.MaxWaits; more > 0 {
		waits.Waits, waits.MoreWaits = waits.Waits[:contract.MaxWaits], waits.MoreWaits+more
	}
	report = contract.ChildReport{
		ID: info.WorkflowExecution.ID, FirstRun: info.FirstRunID, State: state, Worker: worker, Note: contract.Cut(note), ChildWaits: waits,
	}
	changed = !report.Equal(p.last)
	p.last = report
	return report, changed
}

// changeTellsPipeline: what serves a pipeline without being its child (recoveries, degradations, replays of journals) tells it
// what it waits for.
const changeTellsPipeline = "tells-pipeline"

// outsider reports to a pipeline from a workflow that is no child of it: only what somebody has to know, and when that is over.
type outsider struct {
	parent
	told bool // the pipeline knows something that has to be taken back
}

// tellState reports a state that matters, or that it matters no longer. It does not wait for the delivery.
func (o *outsider) tellState(ctx workflow.Context, matters bool, state, note string, waits contract.ChildWaits) {
	if !matters && !o.told || !o.tells(ctx) {
		return
	}
	if o.told = matters; matters {
		o.tellWaits(ctx, state, "", note, waits)
		return
	}
	o.tell(ctx, contract.ChildEnded, "", note)
}

// tellOver takes back what the pipeline was told, before the workflow ends. It waits for the delivery, also of what was taken back
// a moment ago.
func (o *outsider) tellOver(ctx workflow.Context, note string) {
	switch {
	case o.told && o.tells(ctx):
		o.tellEnd(ctx, note)
	case o.sent != nil:
		_ = o.sent.Get(ctx, nil) // the pipeline may be closed
	}
	o.told = false
}

// forgetTold makes the next report go out even if nothing has changed: a pipeline that was started since has heard of nothing.
func (o *outsider) forgetTold() { o.last = contract.ChildReport{} }

func (o *outsider) tells(ctx workflow.Context) bool {
	return workflow.GetVersion(ctx, changeTellsPipeline, workflow.DefaultVersion, 1) != workflow.DefaultVersion
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

// mayContinue reports whether a child may continue as new: nobody has cancelled it or asked it to stop. Nothing may block between
// this and the return.
func (s *stopper) mayContinue(ctx workflow.Context) bool {
	return settle(ctx) == nil && !s.asked && ctx.Err() == nil
}

// changeCancelledLate: a cancellation that comes while a run that is to continue as new waits for its updates ends the workflow.
const changeCancelledLate = "a-late-cancellation-ends-the-workflow"

// cancelledLate returns why a run must not continue as new although it was about to: it has been cancelled, and the next run would
// not know.
func cancelledLate(ctx workflow.Context) error {
	if ctx.Err() == nil || workflow.GetVersion(ctx, changeCancelledLate, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return nil
	}
	return ctx.Err()
}

// handlersFinished waits until every update that has come is answered.
func handlersFinished(ctx workflow.Context) error {
	for first := true; first || !workflow.AllHandlersFinished(ctx); first = false {
		if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
			return err
		}
		if err := settle(ctx); err != nil {
			return err
		}
	}
	return nil
}
