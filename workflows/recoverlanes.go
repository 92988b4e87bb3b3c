package workflows

import (
	"time"

	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/workflow"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// RecoverLanes takes a batch of lanes through the steps of a recovery on the process that was given them, and asks the operator
// about those that cannot go on by themselves. It never holds a lane up: what it does not come to in time the hot path does,
// and a batch that was done while Temporal was away comes with its report, which is recorded as it is. So does a batch of lanes
// that parked while they ran: all that is left to do for them is to ask.
func RecoverLanes(ctx workflow.Context, in contract.RecoverInput) (*contract.RecoverResult, error) {
	r, err := newRecovery(ctx, in)
	if err != nil {
		return nil, err
	}
	return r.run(ctx)
}

type recovery struct {
	batch    report.RecoveryBatch
	in       contract.RecoverInput
	state    contract.RecoverState
	started  time.Time
	ended    time.Time // of a batch that came with its report
	log      log.Logger
	recovery *activities.Recovery
	owners   *activities.Ownership
	hostBack workflow.ReceiveChannel
	pipeline outsider

	phase    string
	note     string
	gone     bool // the host's queue is not polled
	looks    int  // after steps that were not carried out, in a row
	changed  bool // a decision was made
	leaving  bool
	deciding []report.LaneRef // decisions under way
}

func newRecovery(ctx workflow.Context, in contract.RecoverInput) (*recovery, error) {
	r := &recovery{
		batch: in.Batch, in: in, started: workflow.Now(ctx), log: workflow.GetLogger(ctx), phase: contract.StateRecovering,
		hostBack: workflow.GetSignalChannel(ctx, contract.SignalHostBack),
		pipeline: outsider{parent: parent{id: contract.PipelineID(in.Batch.Pipeline)}, told: in.State != nil},
	}
	want := contract.RecoverLanesID(in.Batch.Pipeline, in.Batch.Process, in.Batch.Batch)
	if id := workflow.GetInfo(ctx).WorkflowExecution.ID; id != want {
		return nil, invalid(contract.ErrorInvalidInput, "workflow id is %q; the batch makes it %q; recoveries are started by the workers",
			id, want)
	}
	if in.State != nil {
		r.state = *in.State
	} else {
		for _, l := range in.Batch.Lanes {
			r.state.Lanes = append(r.state.Lanes, report.RecoveredLane{
				Topic: l.Topic, Partition: l.Partition, State: report.LaneRecovering, Offset: -1,
			})
		}
	}
	if in.Report != nil {
		r.ended = in.Report.Ended
		if in.State == nil {
			r.state.Done, r.state.Steps = len(report.Steps()), in.Report.Steps
			r.state.Lanes = in.Report.Lanes
		}
	}
	if err := workflow.SetQueryHandlerWithOptions(ctx, contract.QueryStatus, r.status,
		workflow.QueryHandlerOptions{Description: "lanes, steps, and incidents with their choices"}); err != nil {
		return nil, err
	}
	return r, workflow.SetUpdateHandlerWithOptions(ctx, contract.UpdateDecide, r.decide, workflow.UpdateHandlerOptions{
		Validator: r.admit, Description: "choose what happens to a lane with an incident",
	})
}

func (r *recovery) run(ctx workflow.Context) (*contract.RecoverResult, error) {
	r.show(ctx)
	again, err := r.recover(ctx)
	if again && !r.settled() {
		if err = handlersFinished(ctx); err == nil {
			return nil, r.next(ctx)
		}
		if cancelledLate(ctx) == nil {
			return nil, err
		}
	}
	r.leaving = true
	lasting, _ := workflow.NewDisconnectedContext(ctx)
	if err := handlersFinished(lasting); err != nil {
		return nil, err
	}
	if err != nil {
		r.pipeline.tellOver(lasting, err.Error())
		return nil, err
	}
	result := r.result(ctx)
	r.phase, r.note = contract.StateDone, result.Note
	r.show(ctx)
	r.pipeline.tellOver(lasting, result.Outcome)
	return result, nil
}

// long reports whether this run should be continued as new: the timeout is for work, not for waiting.
func (r *recovery) long(ctx workflow.Context) bool {
	return runIsLong(ctx, r.started) || workflow.Now(ctx).Sub(r.started) > contract.RecoverRunLimit
}

// next continues as new. Nothing may block between handlersFinished and the return.
func (r *recovery) next(ctx workflow.Context) error {
	state := r.state
	state.Runs++
	next := contract.RecoverInput{Version: contract.Version, Batch: r.batch, State: &state}
	if r.in.Report != nil {
		next.Report = &report.RecoveryReport{Ended: r.ended}
	}
	return workflow.NewContinueAsNewError(ctx, RecoverLanes, next)
}
