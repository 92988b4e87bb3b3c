package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
)

// Schedules are those that compact pipelines, with the runs that they have started. All methods may be repeated.
type Schedules interface {
	// Exists reports whether the pipeline has a schedule.
	Exists(ctx context.Context, pipeline string) (bool, error)
	// Delete deletes the pipeline's schedule, and the one that recounts it. existed is false when there is none.
	Delete(ctx context.Context, pipeline string) (existed bool, err error)
	// Running are the ids of open runs of Compact for the pipeline, started by the schedule or by hand.
	Running(ctx context.Context, pipeline string) ([]string, error)
	// Cancel asks an open run to end. One that has ended is no error.
	Cancel(ctx context.Context, workflowID string) error
}

// ScheduleClient is the part of a Temporal client that Schedules need.
type ScheduleClient interface {
	Histories
	Describer
	ScheduleClient() client.ScheduleClient
	CancelWorkflow(ctx context.Context, workflowID, runID string) error
}

// NewSchedules returns the schedules that Temporal has.
func NewSchedules(temporal ScheduleClient) Schedules { return scheduled{temporal} }

type scheduled struct{ client ScheduleClient }

// Exists implements Schedules.
func (s scheduled) Exists(ctx context.Context, pipeline string) (bool, error) {
	_, err := s.client.ScheduleClient().GetHandle(ctx, contract.CompactID(pipeline)).Describe(ctx)
	return foundSchedule(err)
}

// Delete implements Schedules.
func (s scheduled) Delete(ctx context.Context, pipeline string) (existed bool, err error) {
	for _, id := range []string{contract.CompactID(pipeline), contract.RecountScheduleID(pipeline)} {
		found, err := foundSchedule(s.client.ScheduleClient().GetHandle(ctx, id).Delete(ctx))
		if err != nil {
			return existed, err
		}
		existed = existed || found
	}
	return existed, nil
}

func foundSchedule(err error) (found bool, _ error) {
	var notFound *serviceerror.NotFound
	if errors.As(err, &notFound) {
		return false, nil
	}
	return err == nil, err
}

// Running implements Schedules. The list of workflows may be a moment late, so those that the schedule itself knows of, and the run
// without a schedule, are asked for by name.
func (s scheduled) Running(ctx context.Context, pipeline string) (ids []string, err error) {
	query := fmt.Sprintf("WorkflowType = '%s' AND ExecutionStatus = 'Running'", contract.WorkflowCompact)
	found := []string{contract.CompactID(pipeline)}
	err = started{s.client}.each(ctx, query, func(e *workflowpb.WorkflowExecutionInfo) {
		if name, ok := contract.CompactOf(e.GetExecution().GetWorkflowId()); ok && name == pipeline {
			found = append(found, e.GetExecution().GetWorkflowId())
		}
	})
	if err != nil {
		return nil, err
	}
	described, err := s.client.ScheduleClient().GetHandle(ctx, contract.CompactID(pipeline)).Describe(ctx)
	if exists, err := foundSchedule(err); err != nil {
		return nil, err
	} else if exists {
		for _, run := range described.Info.RunningWorkflows {
			found = append(found, run.WorkflowID)
		}
	}
	slices.Sort(found)
	for _, id := range slices.Compact(found) {
		open, err := describing{s.client}.Open(ctx, id)
		if err != nil {
			return nil, err
		}
		if open {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Cancel implements Schedules.
func (s scheduled) Cancel(ctx context.Context, workflowID string) error {
	_, err := foundSchedule(s.client.CancelWorkflow(ctx, workflowID, ""))
	return err
}
