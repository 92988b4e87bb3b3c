package activities

import (
	"context"
	"errors"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"

	"millrace/internal/contract"
)

// Watch finds out whether workflows are open.
type Watch interface {
	// Open reports whether the latest run of the workflow is open. An error says that Temporal could not be asked.
	Open(ctx context.Context, workflowID string) (bool, error)
	// HotPath returns what a replica's hot path said last, and when. ok is false when it says nothing or cannot be asked.
	HotPath(ctx context.Context, pipeline string, replica int) (status contract.EngineStatus, at time.Time, ok bool)
}

// Describer is the part of a Temporal client that a Watch needs.
type Describer interface {
	DescribeWorkflowExecution(ctx context.Context, workflowID, runID string) (*workflowservice.DescribeWorkflowExecutionResponse, error)
}

// NewWatch returns a Watch that asks Temporal.
func NewWatch(client Describer) Watch { return describing{client} }

type describing struct{ client Describer }

func (d describing) Open(ctx context.Context, workflowID string) (bool, error) {
	answer, err := d.client.DescribeWorkflowExecution(ctx, workflowID, "")
	var notFound *serviceerror.NotFound
	if errors.As(err, &notFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return answer.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, nil
}

// HotPath implements Watch.
func (d describing) HotPath(ctx context.Context, pipeline string, replica int) (status contract.EngineStatus, at time.Time, ok bool) {
	answer, err := d.client.DescribeWorkflowExecution(ctx, contract.ReplicaID(pipeline, replica), "")
	if err != nil {
		return status, at, false
	}
	return contract.BeatOf[contract.EngineStatus](answer, contract.ActivityRun)
}

func attemptNumber(ctx context.Context) int { return int(activity.GetInfo(ctx).Attempt) }
