package workflows

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
)

var errRefusedConnection = errors.New("dial tcp 10.0.0.7:6379: connect: connection refused")

// redisAway makes writes of desired state fail while away returns true. It answers as the world does otherwise.
func redisAway(env *testsuite.TestWorkflowEnvironment, w *world, away func() bool) {
	write := func(_ context.Context, in contract.WriteDesiredInput) (*contract.WrittenDesired, error) {
		if away() {
			return nil, errRefusedConnection
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.generation = max(w.generation, in.Change.Above) + 1
		w.changes = append(w.changes, in.Change)
		return &contract.WrittenDesired{Generation: w.generation}, nil
	}
	env.OnActivity(contract.ActivityWriteDesired, anything, anything).Return(write)
	env.OnActivity(contract.ActivityReconcile, anything, anything).Return(
		func(_ context.Context, in contract.ReconcileInput) (*contract.Reconciled, error) {
			if in.Desired != nil && away() {
				return nil, errRefusedConnection
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			found := &contract.Reconciled{Generation: w.generation}
			if in.Desired == nil && w.generation == 0 {
				found.Closed = in.Children
			}
			if in.Desired != nil && w.generation < in.Desired.Generation {
				w.generation = in.Desired.Generation + 1
				w.changes = append(w.changes, contract.DesiredChange{RequestID: in.RequestID, Paused: &in.Desired.Paused})
				found.Restored, found.Generation = true, w.generation
			}
			return found, nil
		})
}

func statusAt(t *testing.T, env *testsuite.TestWorkflowEnvironment, at time.Duration) *contract.PipelineStatus {
	status := new(contract.PipelineStatus)
	env.RegisterDelayedCallback(func() { *status = statusOf[contract.PipelineStatus](t, env) }, at)
	return status
}

// between returns whether the environment's time lies between two points after the start.
func between(env *testsuite.TestWorkflowEnvironment, from, to time.Duration) func() bool {
	began := env.Now()
	return func() bool {
		passed := env.Now().Sub(began)
		return passed >= from && passed < to
	}
}

func TestAPauseWithoutRedisSaysWhatItWaitsForAndIsWrittenLater(t *testing.T) {
	env, w := pipelineEnv(t)
	redisAway(env, w, between(env, time.Minute, 10*time.Minute))
	pause := send(env, 2*time.Minute, contract.UpdatePause, "p", contract.PauseRequest{Reason: "maintenance"})
	soon := statusAt(t, env, 2*time.Minute+3*time.Second)
	answered := statusAt(t, env, 4*time.Minute)
	back := statusAt(t, env, 16*time.Minute)
	send(env, 20*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())
	require.Len(t, soon.Pending, 1)
	wait := soon.Pending[0]
	require.Equal(t, contract.UpdatePause, wait.Update)
	require.Equal(t, "p", wait.RequestID)
	require.Contains(t, wait.String(), "waits for Redis: write the desired state since ")
	require.Contains(t, wait.String(), errRefusedConnection.Error())
	require.Contains(t, wait.Then, "written as soon as Redis answers")
	require.WithinDuration(t, wait.Since.Add(contract.WritePatience), *wait.Until, time.Second)

	require.NoError(t, pause.err)
	require.False(t, pause.receipt.Applied)
	require.Contains(t, pause.receipt.Note, "not written yet: Redis: dial tcp")
	require.Equal(t, contract.StatePaused, answered.State)
	require.Contains(t, answered.Pending[0].For, "the desired state is there", "it goes on trying")
	require.Empty(t, back.Pending)
	restored := w.changes[1]
	require.Contains(t, restored.RequestID, "restore:")
	require.True(t, *restored.Paused, "what was commanded came to hold")
	require.GreaterOrEqual(t, back.Generation, pause.receipt.Generation)
}

// A command behind another one names it, so that whoever asks can be told what that one waits for.
func TestACommandSaysBehindWhichOtherItWaits(t *testing.T) {
	env, w := pipelineEnv(t)
	redisAway(env, w, between(env, time.Minute, 10*time.Minute))
	send(env, 2*time.Minute, contract.UpdatePause, "first", contract.PauseRequest{})
	second := send(env, 2*time.Minute+time.Second, contract.UpdateScale, "second", contract.ScaleRequest{Replicas: 3})
	soon := statusAt(t, env, 2*time.Minute+3*time.Second)
	send(env, 20*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())
	require.Len(t, soon.Pending, 2)
	wait := soon.Pending[1]
	require.Equal(t, "second", wait.RequestID)
	require.Equal(t, "pause of request first to end", wait.For)
	require.Equal(t, soon.Pending[0].RequestID, wait.Behind)
	require.NoError(t, second.err)
}

func TestAStopWithoutRedisEnds(t *testing.T) {
	for _, looking := range []bool{false, true} { // also while a look at the children waits for Redis
		env, w := pipelineEnv(t)
		at := 2 * time.Minute
		if looking {
			at = 10*time.Minute + 5*time.Second
		}
		redisAway(env, w, between(env, time.Minute, time.Hour))
		began := env.Now()
		stop := send(env, at, contract.UpdateStop, "s", contract.StopRequest{})
		start(env, nil)
		require.NoError(t, env.GetWorkflowError())
		require.Less(t, env.Now().Sub(began)-at, contract.HaltPatience+5*time.Second)
		require.Equal(t, 3, w.called("stop "), "the children were told")
		require.Contains(t, stop.receipt.Note, "could not be written to Redis (dial tcp")
		require.True(t, stop.receipt.Applied)
	}
}

func TestAFlushWithoutRedisIsGivenUp(t *testing.T) {
	env, w := pipelineEnv(t)
	redisAway(env, w, between(env, time.Minute, 5*time.Minute))
	flush := send(env, 2*time.Minute, contract.UpdateFlush, "f", contract.FlushRequest{})
	send(env, 6*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())
	require.ErrorContains(t, flush.err, "flush: nothing was published: Redis does not take the request since 1m0s: dial tcp")
}

func TestACommandIsRefusedWhenSomebodyElseHasCommandedSince(t *testing.T) {
	env, _ := pipelineEnv(t)
	first := send(env, time.Minute, contract.UpdatePause, "first", contract.PauseRequest{Reason: "maintenance"})
	stale, present := int64(1), int64(2)
	refusal := send(env, 2*time.Minute, contract.UpdateResume, "late", contract.ResumeRequest{ExpectGeneration: &stale})
	accepted := send(env, 3*time.Minute, contract.UpdateResume, "r", contract.ResumeRequest{ExpectGeneration: &present})
	// Admitted side by side with another command that is carried out first.
	three := int64(3)
	send(env, 4*time.Minute, contract.UpdateScale, "scale", contract.ScaleRequest{Replicas: 3})
	raced := send(env, 4*time.Minute, contract.UpdatePause, "raced", contract.PauseRequest{ExpectGeneration: &three})
	send(env, 10*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())
	require.EqualValues(t, 2, first.receipt.Generation)
	for _, text := range []string{"expect_generation is 1", "has generation 2", `pause, request "first"`, "(maintenance)"} {
		require.ErrorContains(t, refusal.rejected, text)
	}
	require.EqualValues(t, 3, accepted.receipt.Generation)
	require.ErrorContains(t, errors.Join(raced.err, raced.rejected), `scale, request "scale"`)
}

func TestARepeatedRequest(t *testing.T) {
	state := func() *contract.PipelineState {
		asked := contract.PauseRequest{Reason: "night"}
		return &contract.PipelineState{Replicas: 1, Generation: 4, Receipts: []contract.Receipt{
			{RequestID: "x", Update: contract.UpdatePause, Generation: 3, Input: contract.Fingerprint(asked)},
		}}
	}
	env, w := pipelineEnv(t)
	w.generation = 4
	same := send(env, time.Minute, contract.UpdatePause, "x", contract.PauseRequest{Reason: "night"})
	send(env, 2*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, state())
	require.NoError(t, env.GetWorkflowError())
	require.True(t, same.receipt.Repeated)
	require.EqualValues(t, 3, same.receipt.Generation)

	env, w = pipelineEnv(t)
	w.generation = 4
	other := send(env, time.Minute, contract.UpdatePause, "x", contract.PauseRequest{Reason: "day"})
	send(env, 2*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, state())
	require.ErrorContains(t, other.rejected, `request id "x" was used for another pause, with other input`)
}

func TestADrainKeepsToItsTimeout(t *testing.T) {
	t.Run("windows cannot be published", func(t *testing.T) {
		env, w := pipelineEnv(t)
		w.emitErr = errors.New("window hourly 2001-01-01T00:00:00Z cannot be published: NOT_ENOUGH_REPLICAS")
		began := time.Minute
		drain := send(env, began, contract.UpdateStop, "d", contract.StopRequest{Drain: true, TimeoutSeconds: 120})
		soon := statusAt(t, env, began+3*time.Second)
		after := statusAt(t, env, began+140*time.Second)
		send(env, 40*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
		start(env, nil)
		require.NoError(t, env.GetWorkflowError())
		require.False(t, *drain.receipt.Drained)
		require.Contains(t, drain.receipt.Note,
			"not drained: everything was read, but the open windows could not be published: window hourly")
		require.Contains(t, soon.Pending[0].String(), "waits for the open windows to be published since")
		require.Contains(t, soon.Pending[0].Why, "NOT_ENOUGH_REPLICAS")
		require.Empty(t, after.Pending, "the bound holds")
		require.Equal(t, contract.StateRunning, after.State)
		require.Equal(t, contract.ChildRunning, after.Children[0].State, "windows are closed again")
	})
	t.Run("Kafka does not answer", func(t *testing.T) {
		env, _ := pipelineEnv(t)
		env.OnActivity(contract.ActivityEndOffsets, anything, anything).Return(nil, errors.New("no broker answers"))
		drain := send(env, time.Minute, contract.UpdateStop, "d", contract.StopRequest{Drain: true, TimeoutSeconds: 30})
		soon := statusAt(t, env, time.Minute+3*time.Second)
		after := statusAt(t, env, time.Minute+31*time.Second)
		send(env, 10*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
		start(env, nil)
		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, "Kafka: read the end offsets of the source topics", soon.Pending[0].For)
		require.Equal(t, "no broker answers", soon.Pending[0].Why)
		require.Equal(t, "not drained: Kafka does not say what the source topics hold: no broker answers; the pipeline goes on",
			drain.receipt.Note)
		require.Empty(t, after.Pending)
	})
	t.Run("the closer does not end", func(t *testing.T) {
		env, w := pipelineEnv(t)
		w.deaf = contract.CloseWindowsID("orders")
		drain := send(env, time.Minute, contract.UpdateStop, "d", contract.StopRequest{Drain: true, TimeoutSeconds: 60})
		send(env, 10*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
		start(env, nil)
		require.NoError(t, env.GetWorkflowError())
		require.False(t, *drain.receipt.Drained)
		require.Contains(t, drain.receipt.Note, "not drained: everything was read, but close:orders (running), which is closing windows, "+
			"did not end within 1m0s")
		require.Empty(t, w.emits)
	})
}

func TestARemovalSaysWhyAStepDoesNotSucceedAndGivesItUp(t *testing.T) {
	env := removeEnv(newRuin())
	env.OnActivity(contract.ActivityFenceLanes, anything, anything).Return(nil, errRefusedConnection)
	var soon contract.RemoveStatus
	env.RegisterDelayedCallback(func() { soon = statusOf[contract.RemoveStatus](t, env) }, 5*time.Second)
	env.ExecuteWorkflow(contract.WorkflowRemove, contract.RemoveInput{Version: 1, Pipeline: "orders", Approved: true, GraceSeconds: 60})
	require.Contains(t, soon.Note, "fences every lane; it waits, the last try failed: dial tcp")
	require.NotNil(t, soon.Until)
	var failed *temporal.ApplicationError
	require.ErrorAs(t, env.GetWorkflowError(), &failed)
	require.Contains(t, failed.Message(), "not done within 1h: dial tcp")
	require.Contains(t, failed.Message(), "go on with `millrace rm orders --grace 1m`")
}
