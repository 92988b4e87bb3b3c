package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// scheduledStart is the search attribute of a workflow that a schedule has started.
var scheduledStart = temporal.NewSearchAttributeKeyTime("TemporalScheduledStartTime")

// scheduledTime is when a schedule wanted this run, or when somebody has started it. A run that starts late, or is made up for, is
// about the time that it was meant for.
func scheduledTime(ctx workflow.Context) time.Time {
	if at, ok := workflow.GetTypedSearchAttributes(ctx).GetTime(scheduledStart); ok {
		return at
	}
	return workflow.GetInfo(ctx).WorkflowStartTime
}

// isScheduled reports whether a schedule has started this run.
func isScheduled(ctx workflow.Context) bool {
	_, ok := workflow.GetTypedSearchAttributes(ctx).GetTime(scheduledStart)
	return ok
}

// labelPipeline sets the search attribute that finds what belongs to a pipeline, where the namespace has it. A workflow does without.
func labelPipeline(ctx workflow.Context, pipeline string) {
	var has contract.Searchable
	act := workflow.WithActivityOptions(ctx, contract.SearchOptions())
	if workflow.ExecuteActivity(act, contract.ActivitySearchAttributes).Get(ctx, &has) != nil {
		return
	}
	if update, ok := has.Pipeline(pipeline); ok {
		if err := workflow.UpsertTypedSearchAttributes(ctx, update); err != nil {
			workflow.GetLogger(ctx).Warn("search attributes not written", "error", err)
		}
	}
}
