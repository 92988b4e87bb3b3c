package workflows

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

// Compact rolls up whatever of a pipeline is final and not rolled up yet, archives what is past its retention, and says what has
// expired. The ledger alone says what is to be done, so a run that was skipped or cut off needs no repetition: the next one does
// its work. What somebody has to see to is told to the pipeline, and taken back by the next run that finds it mended.
func Compact(ctx workflow.Context, in contract.CompactInput) (*contract.CompactResult, error) {
	c, err := newCompaction(ctx, in)
	if err != nil {
		return nil, err
	}
	return c.run(ctx)
}

// compaction is one Compact.
type compaction struct {
	in         contract.CompactInput
	bound      time.Time // windows that end at or before it
	began      time.Time
	giveUp     time.Time
	compacting *activities.Compacting
	waits      waits
	errands    *errands
	before     *contract.CompactResult // of the run before, nil when that is not known

	raw   json.RawMessage // of the spec
	spec  *spec.Spec
	phase string
	note  string
	work  contract.CompactWork
}

func newCompaction(ctx workflow.Context, in contract.CompactInput) (*compaction, error) {
	began := workflow.Now(ctx)
	c := &compaction{in: in, bound: in.Until, began: began, giveUp: began.Add(contract.CompactPatience), phase: contract.StatePlanning}
	c.waits.show = c.show
	if err := in.Validate(); err != nil {
		return nil, invalid(contract.ErrorInvalidInput, "%v", err)
	}
	id := workflow.GetInfo(ctx).WorkflowExecution.ID
	if pipeline, ok := contract.CompactOf(id); !ok || pipeline != in.Pipeline {
		return nil, invalid(contract.ErrorInvalidInput, "workflow id is %q; the input makes it %q", id, contract.CompactID(in.Pipeline))
	}
	if isScheduled(ctx) || in.Until.IsZero() {
		c.bound = scheduledTime(ctx)
	}
	c.bound = c.bound.UTC()
	if workflow.HasLastCompletionResult(ctx) {
		var before contract.CompactResult
		if err := workflow.GetLastCompletionResult(ctx, &before); err == nil {
			c.before = &before
		}
	}
	if err := workflow.SetQueryHandlerWithOptions(ctx, contract.QueryStatus, c.status,
		workflow.QueryHandlerOptions{Description: "what was rolled up, archived and expired, and what it waits for"}); err != nil {
		return nil, err
	}
	c.errands = newErrands(ctx, &c.waits)
	return c, nil
}

func (c *compaction) run(ctx workflow.Context) (*contract.CompactResult, error) {
	c.show(ctx)
	labelPipeline(ctx, c.in.Pipeline)
	if err := c.plan(ctx); err != nil {
		return nil, err
	}
	failed := c.carryOutJobs(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c.takeStock(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c.work.Problems = append(failed, c.work.FindProblems(c.spec)...)
	c.tellPipeline(ctx)
	if len(failed) > 0 {
		return nil, invalid(contract.ErrorRefused, "%s", strings.Join(c.work.Problems, "; "))
	}
	outcome := contract.OutcomeCompacted
	if len(c.work.Problems) > 0 {
		outcome = contract.OutcomeIncomplete
	}
	c.set(ctx, contract.StateDone, c.work.String())
	return &contract.CompactResult{
		Pipeline: c.in.Pipeline, Outcome: outcome, Note: c.note, Bound: c.bound, Began: c.began, Ended: workflow.Now(ctx),
		CompactWork: c.work,
	}, nil
}

// plan finds the pipeline's spec, or fails because there is no such pipeline, or nothing to do for it.
func (c *compaction) plan(ctx workflow.Context) error {
	const what = "Temporal: find the pipeline's spec"
	var planned contract.PlannedCompact
	err := c.waits.try(ctx, step{
		activity: c.compacting.PlanCompact, options: contract.PlanCompactOptions(), patience: contract.CompactPlanPatience,
		wait: contract.Pending{For: what},
	}, contract.CompactRef{Pipeline: c.in.Pipeline}, &planned)
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil && isFinal(err):
		return invalid(contract.ErrorRefused, "%s", failureText(err))
	case err != nil:
		return invalid(contract.ErrorRefused, "compact %s: %s: given up after %s: %s", c.in.Pipeline, what,
			spec.Duration(contract.CompactPlanPatience), failureText(err))
	}
	//workflowcheck:ignore parsing reads nothing but its argument
	if c.spec, err = spec.Parse("spec", planned.Spec); err != nil {
		return invalid(contract.ErrorInvalidSpec, "%v", err)
	}
	c.raw = planned.Spec
	if err := contract.RequireCompactable(c.spec); err != nil {
		return invalid(contract.ErrorRefused, "%v", err)
	}
	return nil
}

// carryOutJobs rolls up and archives. A job that fails does not keep the next one from being carried out; what went wrong is
// returned.
func (c *compaction) carryOutJobs(ctx workflow.Context) (failed []string) {
	if len(c.spec.Rollups) > 0 {
		did, err := c.carryOut(ctx, contract.JobRollup, contract.RollupJob{UpperBound: c.bound.UnixMilli()})
		if err != nil {
			failed = append(failed, failureText(err))
		} else if c.work.Rollup = did.RolledUp(); c.work.Rollup != nil {
			var before *report.Rollup
			if c.before != nil {
				before = c.before.Rollup
			}
			contract.CarryWaiting(c.work.Rollup, before)
		}
	}
	if c.spec.Archive != nil && ctx.Err() == nil {
		did, err := c.carryOut(ctx, contract.JobArchive, contract.ArchiveJob{By: c.bound.UnixMilli()})
		if err != nil {
			failed = append(failed, failureText(err))
		} else {
			c.work.Archived = did.Archived(c.spec)
		}
	}
	return failed
}

var compactNotes = map[string]string{
	contract.JobRollup:  "rolling up",
	contract.JobArchive: "archiving",
}

// carryOut has a job carried out. Its id is that of this run, so that asking again is no other job.
func (c *compaction) carryOut(ctx workflow.Context, kind string, body any) (*contract.JobReport, error) {
	phase := contract.StateRollingUp
	if kind == contract.JobArchive {
		phase = contract.StateArchiving
	}
	c.set(ctx, phase, compactNotes[kind]+" what is due until "+stamp(c.bound))
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	self := workflow.GetInfo(ctx).WorkflowExecution
	job := contract.CarryOutJob{
		ID: fmt.Sprintf("%s/%s/%s", self.ID, self.RunID, kind), Kind: kind, Pipeline: c.in.Pipeline, ReplyTo: self.ID,
		Spec: c.raw, Body: text,
	}
	return c.errands.carryOut(ctx, job, compactNotes[kind], c.giveUp)
}

// takeStock counts what is kept and what has expired. A run does without when that fails.
func (c *compaction) takeStock(ctx workflow.Context) {
	c.set(ctx, contract.StateCounting, "counts what is kept and what has expired")
	in := contract.TakeStockInput{Pipeline: c.in.Pipeline, Spec: c.raw, At: workflow.Now(ctx)}
	if c.before != nil && c.before.Stock != nil {
		in.Since = c.before.Stock.At
	}
	var stock contract.Stock
	err := c.waits.try(ctx, step{
		activity: c.compacting.TakeStock, options: contract.TakeStockOptions(), patience: contract.StockPatience,
		wait: contract.Pending{For: "Kafka: read the ledger", Then: "the run ends without the count"},
	}, in, &stock)
	if err == nil {
		c.work.Stock = &stock
	}
}

// tellPipeline tells the pipeline what somebody has to see to, or that there is nothing any more. A scheduled run knows that the one
// before has told nothing, and then says nothing either.
func (c *compaction) tellPipeline(ctx workflow.Context) {
	told := contract.ChildReport{ID: contract.CompactID(c.in.Pipeline), State: contract.ChildEnded}
	if len(c.work.Problems) > 0 {
		told.State, told.Note = contract.StateFailed, contract.Cut(strings.Join(c.work.Problems, "; "))
	} else if c.before != nil && len(c.before.Problems) == 0 && workflow.GetLastError(ctx) == nil {
		return
	}
	err := workflow.SignalExternalWorkflow(ctx, contract.PipelineID(c.in.Pipeline), "", contract.SignalReport, told).Get(ctx, nil)
	if err != nil {
		workflow.GetLogger(ctx).Info("not told", "to", contract.PipelineID(c.in.Pipeline), "error", err)
	}
}
