package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// recover carries out the steps that are left and then waits for decisions. again is true when the run should be continued as new.
func (r *recovery) recover(ctx workflow.Context) (again bool, err error) {
	steps := report.Steps()
	for r.state.Done < len(steps) && !r.settled() {
		told, err := r.step(ctx, steps[r.state.Done])
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case err == nil:
			r.take(told)
			r.set(ctx, contract.StateRecovering, "")
		case isType(err, contract.ErrorStale):
			r.supersede(func(report.RecoveredLane) bool { return true }, overtakenText(err))
		default:
			if err := r.withoutHost(ctx, err); err != nil {
				return false, err
			}
			if r.long(ctx) {
				return true, nil
			}
		}
	}
	return r.ask(ctx)
}

func (r *recovery) step(ctx workflow.Context, step string) (told report.StepReport, err error) {
	options := contract.RecoverStepOptions(r.batch.Queue)
	options.Summary = fmt.Sprintf("%s %s", step, lanesOf(r.batch))
	err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), r.recovery.RecoverStep, contract.RecoverStepInput{
		Pipeline: r.batch.Pipeline, Replica: r.batch.Replica, Batch: r.batch.Batch, Step: step,
	}).Get(ctx, &told)
	return told, err
}

func lanesOf(b report.RecoveryBatch) string {
	n := len(b.Lanes) + b.More
	if n == 1 {
		return fmt.Sprintf("%s/%d of %s", b.Lanes[0].Topic, b.Lanes[0].Partition, b.Pipeline)
	}
	return fmt.Sprintf("%d lanes of %s", n, b.Pipeline)
}

// take books a step. Decisions that were made meanwhile stand: the report may be older.
func (r *recovery) take(told report.StepReport) {
	r.gone, r.looks = false, 0
	for _, l := range told.Lanes {
		at := r.find(l.Topic, l.Partition)
		if at == nil {
			r.state.Lanes = append(r.state.Lanes, l)
			continue
		}
		if over(at.State) {
			continue
		}
		if at.Incident != nil && at.Incident.Decided != "" && l.Incident != nil && l.Incident.ID == at.Incident.ID {
			l.Incident.Decided = at.Incident.Decided
		}
		*at = l
	}
	told.Lanes = nil
	r.state.Steps = append(r.state.Steps, told)
	r.state.Done++
}

func (r *recovery) find(topic string, partition int32) *report.RecoveredLane {
	for i := range r.state.Lanes {
		if l := &r.state.Lanes[i]; l.Topic == topic && l.Partition == partition {
			return l
		}
	}
	return nil
}

// over reports whether nothing more is to be done for a lane in this state by this recovery.
func over(state string) bool {
	return state == report.LaneSuperseded || state == report.LaneGivenUp
}

// settled reports whether no lane needs this recovery any more.
func (r *recovery) settled() bool {
	return !slices.ContainsFunc(r.state.Lanes, func(l report.RecoveredLane) bool { return !over(l.State) })
}

func (r *recovery) supersede(which func(report.RecoveredLane) bool, why string) {
	for i := range r.state.Lanes {
		if l := &r.state.Lanes[i]; !over(l.State) && which(*l) {
			l.State, l.Note = report.LaneSuperseded, contract.Cut(why)
		}
	}
}
