package workflows

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// stay is one scripted answer of Claim and Run.
type stay struct {
	queue  string
	result contract.RunResult
	err    error
}

// replicaEnv runs Replica over scripted stays of a second each; without any it stays for an hour.
func replicaEnv(t *testing.T, stays ...stay) (*testsuite.TestWorkflowEnvironment, *world, *[]contract.ChildReport) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: contract.ReplicaID("orders", 0), TaskQueue: contract.TaskQueue})
	env.SetTestTimeout(20 * time.Second)
	likeAServer(env)
	env.RegisterWorkflowWithOptions(Replica, workflow.RegisterOptions{Name: contract.WorkflowReplica})
	w := new(world)
	w.registerControl(env)
	at := 0
	register(env, contract.ActivityClaim, func(_ context.Context, in contract.ClaimInput) (*contract.Claimed, error) {
		if in.Offer {
			w.call("offer")
			return &contract.Claimed{Worker: "other", Queue: contract.HostQueue("other")}, w.offerErr
		}
		w.call("claim moving=%t", in.Moving)
		require.NotEmpty(t, in.Spec, "a worker that cannot run it is to refuse")
		if len(w.refusals) > 0 {
			defer func() { w.refusals = w.refusals[1:] }()
			return &contract.Claimed{Refused: w.refusals[0]}, nil
		}
		if at == len(stays) {
			return &contract.Claimed{Worker: "last", Queue: contract.HostQueue("last")}, nil
		}
		return &contract.Claimed{Worker: stays[at].queue, Queue: contract.HostQueue(stays[at].queue)}, nil
	})
	register(env, contract.ActivityRun, func(context.Context, contract.RunInput) (*contract.RunResult, error) {
		return nil, errors.New("mocked")
	})
	lasts := time.Second
	if len(stays) == 0 {
		lasts = time.Hour
	}
	run := func(_ context.Context, in contract.RunInput) (*contract.RunResult, error) {
		w.call("run %d", in.RenewSeconds)
		if at == len(stays) {
			return &contract.RunResult{Outcome: contract.OutcomeStopped}, nil
		}
		s := stays[at]
		at++
		return &s.result, s.err
	}
	env.OnActivity(contract.ActivityRun, anything, anything).After(lasts).Return(run)
	return env, w, hears(env)
}

func startReplica(env *testsuite.TestWorkflowEnvironment) contract.ReplicaInput {
	in := contract.ReplicaInput{Version: contract.Version, Pipeline: "orders", Spec: []byte(specJSON)}
	env.ExecuteWorkflow(contract.WorkflowReplica, in)
	return in
}

func TestReplicaIsPlacedAnew(t *testing.T) {
	heartbeat := temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_HEARTBEAT, nil)
	nobody := temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, nil)
	moved := temporal.NewApplicationErrorWithOptions("the worker stops", contract.ErrorMoved,
		temporal.ApplicationErrorOptions{NextRetryDelay: time.Millisecond})
	env, w, reports := replicaEnv(t,
		stay{queue: "a", err: heartbeat}, stay{queue: "a", err: nobody}, stay{queue: "b", err: moved}, stay{queue: "c"},
		stay{queue: "d", result: contract.RunResult{Outcome: contract.OutcomePipelineGone}})
	startReplica(env)
	require.NoError(t, env.GetWorkflowError())
	var result contract.ReplicaResult
	require.NoError(t, env.GetWorkflowResult(&result))
	require.Equal(t, contract.OutcomePipelineGone, result.Outcome)
	require.Equal(t, 3, result.Moves, "a to b, b to c, c to d; twice on a is one placement")
	require.Equal(t, 5, w.called("run"), "one attempt per claim")
	require.Equal(t, 1, w.called("claim moving=false"))
	require.Equal(t, 4, w.called("claim moving=true"))
	require.Equal(t, 1, w.called("release 0"))

	value, err := env.QueryWorkflow(contract.QueryStatus)
	require.NoError(t, err)
	var status contract.ReplicaStatus
	require.NoError(t, value.Get(&status))
	var ends []string
	for _, p := range status.Placements {
		ends = append(ends, p.Worker+": "+p.Ended)
	}
	require.Equal(t, []string{"a: nobody polls the host queue", "b: moved: the worker stops", "c:", "d: pipeline-gone"},
		[]string{ends[0], ends[1], "c:", ends[3]})
	var states []string
	for _, r := range *reports {
		states = append(states, r.State+" "+r.Worker)
	}
	require.Equal(t, []string{"placed a", "seeking ", "placed a", "seeking ", "placed b", "placed c", "placed d", "ended "}, states,
		"a report when something changed")
}

func TestReplicaStops(t *testing.T) {
	t.Run("signal", func(t *testing.T) {
		env, w, reports := replicaEnv(t)
		env.RegisterDelayedCallback(func() { env.SignalWorkflow(contract.SignalStop, contract.StopSignal{Reason: "scaled to 0"}) },
			time.Minute)
		startReplica(env)
		require.NoError(t, env.GetWorkflowError())
		var result contract.ReplicaResult
		require.NoError(t, env.GetWorkflowResult(&result))
		require.Equal(t, contract.ReplicaResult{Outcome: contract.OutcomeStopped, Reason: "scaled to 0"}, result)
		require.Equal(t, 1, w.called("release 0"))
		last := (*reports)[len(*reports)-1]
		require.Equal(t, contract.ChildEnded, last.State)
		require.Equal(t, "scaled to 0", last.Note)
	})
	t.Run("cancel", func(t *testing.T) {
		env, w, reports := replicaEnv(t)
		env.RegisterDelayedCallback(env.CancelWorkflow, time.Minute)
		startReplica(env)
		require.True(t, temporal.IsCanceledError(env.GetWorkflowError()))
		require.Equal(t, 1, w.called("release 0"), "on a disconnected context")
		require.Equal(t, contract.ChildEnded, (*reports)[len(*reports)-1].State)
	})
}

// While nobody takes the hot path, for example because Redis is away, the pipeline does not believe it where it was.
func TestReplicaTellsThatItSeeks(t *testing.T) {
	moved := temporal.NewApplicationError("the worker stops", contract.ErrorMoved)
	env, _, reports := replicaEnv(t, stay{queue: "a", err: moved}, stay{queue: "b", err: moved}, stay{queue: "c"})
	claims := 0
	env.OnActivity(contract.ActivityClaim, anything, mockMatch(func(contract.ClaimInput) bool { claims++; return claims > 2 })).Once().
		After(time.Minute).Return(&contract.Claimed{Worker: "c", Queue: contract.HostQueue("c")}, nil)
	quick := func(worker string) {
		env.OnActivity(contract.ActivityClaim, anything, anything).Once().
			Return(&contract.Claimed{Worker: worker, Queue: contract.HostQueue(worker)}, nil)
	}
	quick("a")
	quick("b")
	env.OnActivity(contract.ActivityClaim, anything, anything).After(never).Return(nil, errors.New("given up"))
	env.RegisterDelayedCallback(func() {
		last := (*reports)[len(*reports)-1]
		require.Equal(t, contract.ChildSeeking, last.State)
		require.Contains(t, last.Note, "no worker has taken it yet; it was on b: moved: the worker stops")
		require.Equal(t, last.Note, statusOf[contract.ReplicaStatus](t, env).Note)
	}, 30*time.Second)
	env.RegisterDelayedCallback(env.CancelWorkflow, 10*time.Minute)
	startReplica(env)
	var states []string
	for _, r := range *reports {
		states = append(states, r.State+" "+r.Worker)
	}
	require.Equal(t, []string{"placed a", "placed b", "seeking ", "placed c"}, states[:4], "a claim that is answered at once is not told")
}

func TestReplicaBacksOffWhenStaysKeepFailing(t *testing.T) {
	var stays []stay
	for range 12 {
		stays = append(stays, stay{queue: "a", err: temporal.NewApplicationError("no broker", contract.ErrorEngineFailed)})
	}
	env, w, _ := replicaEnv(t, append(stays, stay{queue: "a", result: contract.RunResult{Outcome: contract.OutcomePipelineGone}})...)
	begin := env.Now()
	startReplica(env)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 13, w.called("run"))
	passed := env.Now().Sub(begin)
	require.Greater(t, passed, 3*time.Minute, "1, 2, 4, 8, 16, 30, 30 ... seconds between them")
	require.Less(t, passed, 6*time.Minute)
}

func TestReplicaContinuesAsNewBetweenStays(t *testing.T) {
	env, w, reports := replicaEnv(t, stay{queue: "a", result: contract.RunResult{Outcome: contract.OutcomeRenew}})
	startReplica(env)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var next contract.ReplicaInput
	require.NoError(t, decode(again, &next))
	require.Equal(t, "a", next.Placements[0].Worker)
	require.Zero(t, w.called("release"), "the hot path runs on")
	require.Len(t, *reports, 1)
}

// A stop signal that comes with the very task that continues as new is not lost.
func TestStopAtTheLastMoment(t *testing.T) {
	env, w, _ := replicaEnv(t, stay{queue: "a"}, stay{queue: "a"})
	env.RegisterDelayedCallback(func() {
		env.SignalWorkflowSkippingWorkflowTask(contract.SignalStop, contract.StopSignal{Reason: "drain"})
	}, 500*time.Millisecond)
	env.SetOnActivityCompletedListener(func(info *activity.Info, _ converter.EncodedValue, _ error) {
		env.SetContinueAsNewSuggested(info.ActivityType.Name == contract.ActivityRun)
	})
	startReplica(env)
	require.NoError(t, env.GetWorkflowError(), "it ends instead of continuing")
	var result contract.ReplicaResult
	require.NoError(t, env.GetWorkflowResult(&result))
	require.Equal(t, "drain", result.Reason)
	require.Equal(t, 1, w.called("release"))
}
