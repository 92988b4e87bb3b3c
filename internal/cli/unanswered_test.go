package cli

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/internal/contract"
)

// silent is a Temporal with an open workflow, which no worker answers for.
type silent struct {
	client.Client
	polled time.Time // the latest poll of the task queue
}

func (s silent) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	return &workflowservice.DescribeWorkflowExecutionResponse{
		WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING},
	}, nil
}

func (s silent) DescribeTaskQueue(context.Context, string, enumspb.TaskQueueType) (*workflowservice.DescribeTaskQueueResponse, error) {
	return &workflowservice.DescribeTaskQueueResponse{
		Pollers: []*taskqueuepb.PollerInfo{{LastAccessTime: timestamppb.New(s.polled)}},
	}, nil
}

func (silent) QueryWorkflow(context.Context, string, string, string, ...any) (converter.EncodedValue, error) {
	return nil, context.DeadlineExceeded
}

// Where Temporal answers and no worker does, it is not Temporal that is away.
func TestAWorkflowThatNobodyAnswersFor(t *testing.T) {
	look := func(polled time.Time) contract.Standing {
		view, found := statusView{Pipeline: "orders"}, findings{pipeline: "orders", phase: contract.StateRunning}
		require.NoError(t, describe(t.Context(), silent{polled: polled}, &view, &found))
		return contract.NewStanding("orders", found.phase, 4, found.conditions, time.Now())
	}
	lately := look(time.Now())
	require.Equal(t, contract.ConditionUnanswered, lately.Conditions[0].Kind)
	require.Equal(t, "running as far as is known; no worker answers for its workflow (workflow pipeline:orders: context deadline exceeded)",
		lately.Line)
	require.False(t, lately.Healthy)
	require.Equal(t, contract.ConditionNoWorker, look(time.Now().Add(-2 * pollerMaxAge)).Conditions[0].Kind)
}

// A start that no worker takes ends like any wait for a server.
func TestAStartThatNobodyAnswers(t *testing.T) {
	late := client.NewWorkflowUpdateServiceTimeoutOrCanceledError(context.DeadlineExceeded)
	err := notRunning(t.Context(), silent{}, "orders", time.Minute, late)
	require.Equal(t, ExitUnreachable, Code(err))
	require.ErrorContains(t, err, "pipeline orders was started, and no worker has said within 1m15s whether it runs")
}

// A deadline that has passed is explained in whichever form it comes back from gRPC.
func TestADeadlineIsExplained(t *testing.T) {
	for _, late := range []error{context.DeadlineExceeded, serviceerror.NewDeadlineExceeded("context deadline exceeded")} {
		for _, err := range []error{explain("orders", late), explainWorkflow("compact:orders", "", late), explainSchedule("orders", late)} {
			require.EqualError(t, err, "Temporal does not answer: context deadline exceeded")
			var failed *Fail
			require.ErrorAs(t, err, &failed)
			require.Equal(t, ExitUnreachable, failed.Code)
		}
	}
}
