package workflows

import (
	"encoding/json"
	"errors"
	"time"

	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// Pipeline runs one pipeline until it is stopped: it checks the spec, makes sure of the topics, owns the children and answers
// updates, each with a receipt. Cancelling it stops without a drain.
func Pipeline(ctx workflow.Context, in contract.PipelineInput) (*contract.PipelineResult, error) {
	p, err := newPipeline(ctx, in)
	if err != nil {
		return nil, err
	}
	return p.run(ctx, in)
}

type pipeline struct {
	spec  *spec.Spec
	raw   json.RawMessage
	state contract.PipelineState
	fresh bool // the first run: nothing has been written yet

	begins *contract.Begin // where the lanes begin; nil when the start does not say

	// lasting outlives cancellation. Children and what watches them belong to it.
	lasting  workflow.Context
	log      log.Logger
	started  time.Time
	control  *activities.Control
	closing  *activities.Closing
	hosting  *activities.Hosting
	mutex    workflow.Mutex
	current  contract.Pending // the command that holds the mutex
	reports  workflow.ReceiveChannel
	closer   *child
	replicas []*child

	waits     waits
	callOff   workflow.CancelFunc // of a look at the children that is under way; nil without one
	leftovers []*child
	starting  int // children whose start has not been answered
	signals   int
	flushes   []*flushing

	phase  string
	note   string
	shown  string // memo as last written
	search contract.Searchable
	found  string // search attributes as last written

	shownAt    time.Time // when show ran last: queries have no clock
	phaseShown string
	phaseSince time.Time

	ready    bool // updates may be carried out
	leaving  bool // updates that were not carried out yet are refused
	finished *contract.PipelineResult
}

func newPipeline(ctx workflow.Context, in contract.PipelineInput) (*pipeline, error) {
	p := &pipeline{raw: in.Spec, log: workflow.GetLogger(ctx), started: workflow.Now(ctx), phase: contract.StateStarting}
	if err := in.Validate(); err != nil {
		return nil, invalid(contract.ErrorInvalidInput, "%v", err)
	}
	var err error
	//workflowcheck:ignore parsing reads nothing but its argument
	if p.spec, err = spec.Parse("spec", in.Spec); err != nil {
		return nil, temporal.NewNonRetryableApplicationError(err.Error(), contract.ErrorInvalidSpec, nil)
	}
	if id := workflow.GetInfo(ctx).WorkflowExecution.ID; id != contract.PipelineID(p.spec.Name) {
		return nil, invalid(contract.ErrorInvalidInput, "workflow id is %q; the pipeline is named %q, so it must be %q",
			id, p.spec.Name, contract.PipelineID(p.spec.Name))
	}
	if p.fresh = in.State == nil; p.fresh {
		p.state = contract.PipelineState{Since: p.started, Replicas: p.spec.Replicas}
		p.begins = in.Begin(workflow.GetInfo(ctx).FirstRunID)
	} else {
		p.state = *in.State
	}
	p.waits.show = p.showPage
	p.lasting, _ = workflow.NewDisconnectedContext(ctx)
	p.mutex = workflow.NewMutex(ctx)
	p.reports = workflow.GetSignalChannel(ctx, contract.SignalReport)
	p.closer = p.newCloser()
	for n := range p.state.Replicas {
		p.replicas = append(p.replicas, p.newReplica(n))
	}
	p.state.Children = nil // from here on the children know
	if err := workflow.SetQueryHandlerWithOptions(ctx, contract.QueryStatus, p.status,
		workflow.QueryHandlerOptions{Description: "desired state, children and the latest receipts"}); err != nil {
		return nil, err
	}
	return p, p.setUpdates(ctx)
}

var errContinue = errors.New("continue as new")

func (p *pipeline) run(ctx workflow.Context, in contract.PipelineInput) (*contract.PipelineResult, error) {
	workflow.Go(p.lasting, p.listen)
	err := p.begin(ctx)
	if err == nil {
		err = p.serve(ctx)
	}
	if err != nil && !errors.Is(err, errContinue) && ctx.Err() == nil {
		p.failed(p.lasting, err)
	}
	p.leaving = err == nil || !errors.Is(err, errContinue)
	for halted := false; ; {
		if p.cancelled(ctx) {
			halted, p.leaving = true, true
			p.cancelFlushes()
			left, _ := p.halt(p.lasting, contract.Pending{}, "the pipeline's workflow was cancelled")
			p.log.Info("stopped without a drain", "left", left)
		}
		if err := p.quiet(); err != nil {
			return nil, err
		}
		// A cancellation may have come while the handlers were waited for.
		if halted || !p.cancelled(ctx) ||
			workflow.GetVersion(ctx, changeLateCancel, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
			break
		}
	}
	switch {
	case p.finished != nil:
		return p.finished, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, errContinue):
		return nil, p.next(ctx, in)
	}
	return nil, err
}

// changeLateCancel: a pipeline that is cancelled while it is about to continue as new stops its children too.
const changeLateCancel = "a-late-cancellation-stops-the-children"

// cancelled reports whether the workflow is to stop its children because it was cancelled.
func (p *pipeline) cancelled(ctx workflow.Context) bool { return ctx.Err() != nil && p.finished == nil }

// quiet waits until every update is answered and every child that is being started has been.
func (p *pipeline) quiet() error {
	idle := func() bool { return workflow.AllHandlersFinished(p.lasting) && p.starting == 0 }
	for first := true; first || !idle(); first = false {
		if err := workflow.Await(p.lasting, idle); err != nil {
			return err
		}
		if err := settle(p.lasting); err != nil {
			return err
		}
	}
	return nil
}

// begin makes the pipeline ready for updates and starts or adopts its children.
func (p *pipeline) begin(ctx workflow.Context) error {
	p.show(ctx)
	p.askSearch(ctx)
	if p.fresh {
		if err := p.prepare(ctx); err != nil {
			return err
		}
	}
	p.phase = contract.StateRunning
	if p.state.Paused {
		p.phase = contract.StatePaused
		if at := p.state.PausedAt; !at.IsZero() {
			p.phaseShown, p.phaseSince = p.phase, at
		}
	}
	p.note = p.state.Reason
	for _, c := range append([]*child{p.closer}, p.replicas...) {
		workflow.Go(p.lasting, func(ctx workflow.Context) { p.supervise(ctx, c) })
	}
	p.ready = true
	p.show(ctx)
	return nil
}

// serve waits until the pipeline was stopped, is cancelled or should continue as new.
func (p *pipeline) serve(ctx workflow.Context) error {
	for {
		woken, err := awaitFor(ctx, contract.ReconcileEvery, "between looks whether the children are open", func() bool {
			return p.finished != nil || p.due(ctx) || p.state.Owed
		})
		switch {
		case err != nil:
			return err
		case p.finished != nil:
			return nil
		case woken && p.due(ctx):
			return errContinue
		}
		if err := p.reconcile(ctx); err != nil {
			return err
		}
	}
}

func (p *pipeline) due(ctx workflow.Context) bool {
	return p.signals > contract.MaxSignalsPerRun || runIsLong(ctx, p.started)
}

// runIsLong reports whether a run that began at started should continue as new.
func runIsLong(ctx workflow.Context, started time.Time) bool {
	return workflow.GetInfo(ctx).GetContinueAsNewSuggested() || workflow.Now(ctx).Sub(started) > contract.RunLimit
}

// next continues as new. Nothing may block between settle and the return.
func (p *pipeline) next(ctx workflow.Context, in contract.PipelineInput) error {
	p.state.Runs++
	p.state.Children = p.childStates()
	state := p.state
	return workflow.NewContinueAsNewError(ctx, Pipeline, contract.PipelineInput{
		Version: contract.Version, Spec: in.Spec, State: &state,
	})
}
