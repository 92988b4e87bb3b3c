package workflows

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// An override on all workers is desired state, reaches those that run hot paths at once, is shown until auto, and comes with the
// next run.
func TestDegradeOnAllWorkers(t *testing.T) {
	env, w := pipelineEnv(t)
	w.queues = []string{contract.HostQueue("a"), contract.HostQueue("b")}
	var mu sync.Mutex // activities run side by side
	var asked []contract.OrderLevelsInput
	register(env, contract.ActivityOrderLevels, func(ctx context.Context, in contract.OrderLevelsInput) (*contract.OrderedLevels, error) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, in)
		if activity.GetInfo(ctx).TaskQueue == contract.HostQueue("b") && len(in.Lift) == 0 {
			return nil, temporal.NewNonRetryableApplicationError("no such process", contract.ErrorStale, errors.New("gone"))
		}
		return &contract.OrderedLevels{Levels: []contract.OrderedLevel{
			{Worker: "a", Dependency: report.DependencyRedis, Level: report.LevelPaused, Override: report.OverrideOpen},
		}}, nil
	})
	wrong := send(env, time.Minute, contract.UpdateDegrade, "wrong", contract.DegradeRequest{Override: "shut"})
	opened := send(env, 2*time.Minute, contract.UpdateDegrade, "open-1", contract.DegradeRequest{Override: report.OverrideOpen,
		Reason: "maintenance"})
	var between contract.PipelineStatus
	env.RegisterDelayedCallback(func() { between = pipelineStatusOf(t, env) }, 4*time.Minute)
	lifted := send(env, 5*time.Minute, contract.UpdateDegrade, "auto-1", contract.DegradeRequest{Override: contract.UpdateAuto})
	stopped := send(env, 6*time.Minute, contract.UpdateStop, "stop", contract.StopRequest{})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())

	require.ErrorContains(t, wrong.rejected, `override is "shut"; want "hold", "open", "close" or "auto"`)
	require.NoError(t, opened.err)
	require.False(t, opened.receipt.Applied, "one process has not answered")
	require.Len(t, opened.receipt.Levels, 2)
	require.Contains(t, opened.receipt.Levels[1].Problem, "no such process")
	require.Len(t, asked, 4, "two processes, twice")
	require.Equal(t, report.OverrideOpen, asked[0].Orders[0].Override)
	require.GreaterOrEqual(t, opened.receipt.Generation, asked[0].Generation, "what is told directly is not newer than what is written")

	require.Len(t, between.Orders, 1)
	require.Equal(t, report.LevelOrder{
		Dependency: report.DependencyRedis, Override: report.OverrideOpen, By: "update open-1", Reason: "maintenance",
		At: between.Orders[0].At,
	}, between.Orders[0])
	require.Contains(t, between.Standing.Line, "maintenance")

	require.True(t, lifted.receipt.Applied)
	require.Equal(t, []string{report.DependencyRedis, report.DependencyResults}, asked[2].Lift)
	require.NotNil(t, stopped.receipt)
	var written []int
	for _, c := range w.changes {
		if c.Orders != nil {
			written = append(written, len(*c.Orders))
		}
	}
	require.Equal(t, []int{0, 1, 0}, written, "a start begins without, then the order, then its end")
}

func pipelineStatusOf(t *testing.T, env *testsuite.TestWorkflowEnvironment) (status contract.PipelineStatus) {
	value, err := env.QueryWorkflow(contract.QueryStatus)
	require.NoError(t, err)
	require.NoError(t, value.Get(&status))
	return status
}

// Orders are carried into the next run, and told to a Redis that has lost them.
func TestOrdersAreCarriedAndRestored(t *testing.T) {
	env, w := pipelineEnv(t)
	order := report.LevelOrder{Dependency: report.DependencyRedis, Override: report.OverrideHold, By: "update x",
		At: time.Unix(7, 0).UTC()}
	stopped := send(env, contract.ReconcileEvery+time.Minute, contract.UpdateStop, "stop", contract.StopRequest{})
	env.RegisterDelayedCallback(func() {
		require.Equal(t, []report.LevelOrder{order}, pipelineStatusOf(t, env).Orders)
	}, time.Minute)
	start(env, &contract.PipelineState{Replicas: 2, Generation: 7, Orders: []report.LevelOrder{order}})
	require.NoError(t, env.GetWorkflowError())
	require.NotNil(t, stopped.receipt)
	require.Equal(t, []report.LevelOrder{order}, w.restores[0].Orders)
}
