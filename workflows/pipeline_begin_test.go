package workflows

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// awaited is what became of an await-running.
type awaited struct {
	rejected error
	running  *contract.Running
	err      error
	at       time.Time
}

func await(env *testsuite.TestWorkflowEnvironment, after time.Duration, arg any) *awaited {
	a := new(awaited)
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(contract.UpdateAwaitRunning, "await", &testsuite.TestUpdateCallback{
			OnAccept: func() {},
			OnReject: func(err error) { a.rejected = err },
			OnComplete: func(v any, err error) {
				a.err, a.at = err, env.Now()
				a.running, _ = v.(*contract.Running)
			},
		}, arg)
	}, after)
	return a
}

// place makes the replicas report that they are placed.
func place(env *testsuite.TestWorkflowEnvironment, w *world, after time.Duration) {
	env.RegisterDelayedCallback(func() {
		for n := range 2 {
			id := contract.ReplicaID("orders", n)
			env.SignalWorkflow(contract.SignalReport, contract.ChildReport{ID: id, FirstRun: w.runs[id], State: contract.ChildPlaced,
				Worker: "w"})
		}
	}, after)
}

func TestAwaitRunningAnswersWithTheFirstReceipt(t *testing.T) {
	env, w := pipelineEnv(t)
	got := await(env, 0, contract.AwaitRunningRequest{})
	place(env, w, 5*time.Second)
	send(env, time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, got.err)
	require.Equal(t, contract.StateRunning, got.running.State)
	require.Equal(t, lanes, got.running.Lanes)
	require.EqualValues(t, 1, got.running.Generation)
	require.Len(t, got.running.Replicas, 2)
	require.Equal(t, "w", got.running.Replicas[1].Worker)
	require.Equal(t, 1, w.called("applied 1"))
	require.Len(t, w.changes, 2, "it commands nothing")
}

func TestAwaitRunningSaysWhyNot(t *testing.T) {
	t.Run("the start fails", func(t *testing.T) {
		env, w := pipelineEnv(t)
		w.storeErr = permanent("4 of 4 lanes hold the state of another spec")
		got := await(env, 0, contract.AwaitRunningRequest{})
		start(env, nil)
		require.ErrorContains(t, env.GetWorkflowError(), "of another spec")
		if got.rejected == nil {
			require.ErrorContains(t, got.err, "pipeline orders does not run: 4 of 4 lanes hold the state of another spec")
		}
		require.Zero(t, w.called("open "))
	})
	t.Run("Redis is away", func(t *testing.T) {
		env, w := pipelineEnv(t)
		w.storeErr = errRefusedConnection
		env.OnSignalExternalWorkflow(anything, anything, anything, contract.SignalStop, anything).Return(errors.New("not open"))
		got := await(env, time.Second, contract.AwaitRunningRequest{TimeoutSeconds: 30})
		env.RegisterDelayedCallback(env.CancelWorkflow, time.Minute)
		start(env, nil)
		require.ErrorContains(t, got.err,
			"does not run after 30s: it waits for Redis and Kafka: see whether the state there fits the spec since")
		require.ErrorContains(t, got.err, errRefusedConnection.Error())
	})
	t.Run("no worker takes a hot path", func(t *testing.T) {
		env, _ := pipelineEnv(t)
		began := env.Now()
		got := await(env, time.Second, contract.AwaitRunningRequest{TimeoutSeconds: 30})
		send(env, 5*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
		start(env, nil)
		require.NoError(t, env.GetWorkflowError(), "it goes on")
		require.ErrorContains(t, got.err,
			"does not run after 30s: replica:orders:0 is running; replica:orders:1 is running; it goes on trying")
		require.WithinDuration(t, began.Add(31*time.Second), got.at, 2*time.Second)
	})
	t.Run("no lane is read", func(t *testing.T) {
		env, w := pipelineEnv(t)
		w.missing = []report.LaneMissing{{Topic: "orders", Offset: -1, Reason: "parked: gap"},
			{Topic: "orders", Partition: 1, Offset: -1, Reason: "parked: gap"}}
		got := await(env, time.Second, contract.AwaitRunningRequest{})
		place(env, w, 2*time.Second)
		send(env, 5*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
		start(env, nil)
		require.ErrorContains(t, got.err, ": lanes orders/0, orders/1: parked: gap; it goes on trying")
	})
	t.Run("lanes are parked until somebody decides", func(t *testing.T) {
		env, w := pipelineEnv(t)
		w.missing = []report.LaneMissing{{Topic: "orders", Offset: -1, Reason: "parked: state-lost", Asks: true}}
		w.missing = append(w.missing, report.LaneMissing{Topic: "orders", Partition: 1, Offset: -1, Reason: "no worker has acquired it"})
		got := await(env, time.Second, contract.AwaitRunningRequest{})
		place(env, w, 2*time.Second)
		send(env, 5*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
		start(env, nil)
		require.ErrorContains(t, got.err, "pipeline orders does not run: 1 of 2 lanes are parked until somebody decides, "+
			"see `millrace recover ls orders`: lane orders/0: parked: state-lost")
		require.NotContains(t, got.err.Error(), "it goes on trying")
		require.True(t, w.untilOneAsks, "nobody waits for what a decision has to come before")
	})
	t.Run("it is stopped meanwhile", func(t *testing.T) {
		env, _ := pipelineEnv(t)
		got := await(env, time.Second, contract.AwaitRunningRequest{})
		stop := send(env, 10*time.Second, contract.UpdateStop, "s", contract.StopRequest{})
		start(env, nil)
		require.NoError(t, env.GetWorkflowError())
		require.NoError(t, stop.err)
		require.ErrorContains(t, got.err, "being stopped")
	})
	t.Run("unknown field", func(t *testing.T) {
		env, _ := pipelineEnv(t)
		got := await(env, time.Second, json.RawMessage(`{"timeout":3}`))
		send(env, time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
		start(env, nil)
		require.ErrorContains(t, got.rejected, `unknown field "timeout"; want only timeout_seconds`)
	})
}

// A pipeline that fails says why where one looks first.
func TestAFailedStartShowsWhy(t *testing.T) {
	env, w := pipelineEnv(t)
	w.storeErr = permanent("Redis evicts keys")
	start(env, nil)
	var status contract.PipelineStatus
	answer, err := env.QueryWorkflow(contract.QueryStatus)
	require.NoError(t, err)
	require.NoError(t, answer.Get(&status))
	require.Equal(t, contract.StateFailed, status.State)
	require.Equal(t, "Redis evicts keys", status.Note)
}

// registerRemoving records what a discard does, and answers who holds what.
func (w *world) registerRemoving(env *testsuite.TestWorkflowEnvironment, holders contract.Holders) {
	register(env, contract.ActivityAwaitReleased, func(_ context.Context, in contract.AwaitReleasedInput) (*contract.Holders, error) {
		w.call("released own=%t", in.Own)
		return &holders, nil
	})
	done := &contract.Removed{Count: 1}
	register(env, contract.ActivityDeleteGroup, func(_ context.Context, in contract.RemoveTarget) (*contract.Removed, error) {
		w.call("group own=%t", in.Own)
		return done, nil
	})
	register(env, contract.ActivityFenceLanes, func(_ context.Context, in contract.FenceLanesInput) (*contract.Removed, error) {
		w.call("fence %s %v own=%t", in.Token[:14], in.Sources, in.Own)
		return done, nil
	})
	register(env, contract.ActivityEndLedger, func(_ context.Context, in contract.EndLedgerInput) (*contract.Removed, error) {
		w.call("ledger rows=%t own=%t", in.Rows, in.Own)
		return done, nil
	})
	register(env, contract.ActivityDeleteKeys, func(_ context.Context, in contract.DeleteKeysInput) (*contract.Removed, error) {
		w.call("keys metas=%t own=%t", in.Metas, in.Own)
		return done, nil
	})
}

func TestDiscardBeginsAnewInOneOrder(t *testing.T) {
	env, w := pipelineEnv(t)
	w.registerRemoving(env, contract.Holders{})
	send(env, time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	env.ExecuteWorkflow(contract.WorkflowPipeline, json.RawMessage(`{"spec":`+specJSON+`,"from":"latest","discard_state":true}`))
	require.NoError(t, env.GetWorkflowError())
	var order []string
	for _, c := range w.calls {
		if !strings.HasPrefix(c, "reconcile") {
			order = append(order, c)
		}
	}
	require.Equal(t, []string{
		"locate latest", "released own=true", "group own=true", "fence removed:start: [orders] own=true", "ledger rows=true own=true",
		"keys metas=false own=true", "begin [{orders 0 7 }] true",
	}, order[:7])
	require.Contains(t, order[7], "open ", "the children come last")
	require.NotNil(t, w.changes[0].Begun)
	require.Nil(t, w.changes[1].Begun)
}

func TestABeginThatWasDoneIsNotDoneAgain(t *testing.T) {
	env, w := pipelineEnv(t)
	w.already = true
	w.registerRemoving(env, contract.Holders{})
	send(env, time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	env.ExecuteWorkflow(contract.WorkflowPipeline, json.RawMessage(`{"spec":`+specJSON+`,"from":{"orders":{"0":7}},"discard_state":true}`))
	require.NoError(t, env.GetWorkflowError())
	require.Zero(t, w.called("begin")+w.called("fence")+w.called("keys"))
	require.Equal(t, 1, w.called("locate orders/0=7"))
}

func TestDiscardWaitsForThoseWhoHoldSomething(t *testing.T) {
	env, w := pipelineEnv(t)
	w.registerRemoving(env, contract.Holders{Leases: []contract.LeaseHolder{{Replica: 2, Worker: "w9"}}})
	env.ExecuteWorkflow(contract.WorkflowPipeline, json.RawMessage(`{"spec":`+specJSON+`,"from":"earliest","discard_state":true}`))
	var app *temporal.ApplicationError
	require.ErrorAs(t, env.GetWorkflowError(), &app)
	require.Contains(t, app.Message(), "nothing was discarded")
	require.Contains(t, app.Message(), "worker w9 holds replica 2")
	require.Zero(t, w.called("group")+w.called("fence")+w.called("begin"))
}

func TestBeginInputIsRefused(t *testing.T) {
	for input, want := range map[string]string{
		`"discard_state":true`:                  "discard_state is true and from is missing",
		`"from":"yesterday"`:                    `from is "yesterday"; want "earliest", "latest", a time such as`,
		`"from":{"orders":{"x":1}}`:             "want \"earliest\"",
		`"discard_state":"yes","from":"latest"`: "discard_state is \"yes\"; want true or false",
		`"from":"latest","discard_stat":true`:   `unknown field "discard_stat"`,
	} {
		env, w := pipelineEnv(t)
		env.ExecuteWorkflow(contract.WorkflowPipeline, json.RawMessage(`{"spec":`+specJSON+`,`+input+`}`))
		require.ErrorContains(t, env.GetWorkflowError(), want, input)
		require.Empty(t, w.calls)
	}
}
