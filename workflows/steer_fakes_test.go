package workflows

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

var (
	nobodyPolls = temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, nil)
	noHeartbeat = temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_HEARTBEAT, nil)
	epochTime   = time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)
)

// steerEnv is a test environment for a workflow that has this id.
func steerEnv(name, id string, fn any) *testsuite.TestWorkflowEnvironment {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: id, TaskQueue: contract.TaskQueue})
	env.SetTestTimeout(20 * time.Second)
	env.SetDetachedChildWait(false)
	likeAServer(env)
	env.RegisterWorkflowWithOptions(fn, workflow.RegisterOptions{Name: name})
	return env
}

// hears collects what a workflow tells its pipeline.
func hears(env *testsuite.TestWorkflowEnvironment) *[]contract.ChildReport {
	reports := new([]contract.ChildReport)
	var mu sync.Mutex // the environment delivers signals side by side
	env.OnSignalExternalWorkflow(anything, contract.PipelineID("orders"), anything, contract.SignalReport, anything).Maybe().Return(
		func(_, _, _, _ string, arg any) error {
			mu.Lock()
			defer mu.Unlock()
			*reports = append(*reports, arg.(contract.ChildReport))
			return nil
		})
	return reports
}

// toldOf is the state and the reasons of each report.
func toldOf(reports []contract.ChildReport) []string {
	var told []string
	for _, r := range reports {
		text := r.State
		for _, w := range r.Waits {
			text += " " + w.For + ": " + w.Why
		}
		told = append(told, text)
	}
	return told
}

// reply collects what became of an update that is answered with a T.
type reply[T any] struct {
	rejected error
	got      *T
	err      error
}

func ask[T any](env *testsuite.TestWorkflowEnvironment, after time.Duration, name, id string, arg any) *reply[T] {
	r := new(reply[T])
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(name, id, &testsuite.TestUpdateCallback{
			OnAccept: func() {},
			OnReject: func(err error) { r.rejected = err },
			OnComplete: func(v any, err error) {
				r.err = err
				r.got, _ = v.(*T)
			},
		}, arg)
	}, after)
	return r
}

func statusOf[T any](t *testing.T, env *testsuite.TestWorkflowEnvironment) (status T) {
	t.Helper()
	value, err := env.QueryWorkflow(contract.QueryStatus)
	require.NoError(t, err)
	require.NoError(t, value.Get(&status))
	return status
}

func resultOf[T any](t *testing.T, env *testsuite.TestWorkflowEnvironment) (result T) {
	t.Helper()
	require.True(t, env.IsWorkflowCompleted())
	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, env.GetWorkflowResult(&result))
	return result
}

// mockMatch matches an activity's argument.
func mockMatch[T any](fits func(T) bool) any { return mock.MatchedBy(fits) }
