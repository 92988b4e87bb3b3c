package workflows

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
)

// placeAnswer collects what became of an update of Replica.
type placeAnswer struct {
	rejected error
	receipt  *contract.PlaceReceipt
}

func tellReplica(t *testing.T, env *testsuite.TestWorkflowEnvironment, after time.Duration, name string, arg any) *placeAnswer {
	a := new(placeAnswer)
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(name, name+after.String(), &testsuite.TestUpdateCallback{
			OnAccept: func() {},
			OnReject: func(err error) { a.rejected = err },
			OnComplete: func(v any, err error) {
				require.NoError(t, err)
				a.receipt, _ = v.(*contract.PlaceReceipt)
			},
		}, arg)
	}, after)
	return a
}

func replicaStatus(t *testing.T, env *testsuite.TestWorkflowEnvironment) (status contract.ReplicaStatus) {
	value, err := env.QueryWorkflow(contract.QueryStatus)
	require.NoError(t, err)
	require.NoError(t, value.Get(&status))
	return status
}

// A replica whose holder is gone is placed anew at once; the attempt that nobody answers is not waited for.
func TestReplicaWhoseHolderIsGone(t *testing.T) {
	env, w, _ := replicaEnv(t) // a stay of an hour on "last"
	other := tellReplica(t, env, time.Minute, contract.UpdateHolderGone, contract.HolderGone{Queue: contract.HostQueue("x"), Worker: "x"})
	gone := contract.HolderGone{Queue: contract.HostQueue("last"), Worker: "last", By: "b", Reason: "silent for 2s"}
	told := tellReplica(t, env, 2*time.Minute, contract.UpdateHolderGone, gone)
	env.RegisterDelayedCallback(func() {
		require.Equal(t, 2, w.called("claim"), "it was placed within moments")
		require.Equal(t, contract.ChildPlaced, replicaStatus(t, env).State)
		env.SignalWorkflow(contract.SignalStop, contract.StopSignal{})
	}, 2*time.Minute+5*time.Second)
	startReplica(env)
	require.NoError(t, env.GetWorkflowError())
	require.ErrorContains(t, other.rejected, "runs on last")
	require.True(t, told.receipt.Taken)
	require.Equal(t, 1, w.called("claim moving=true"))
}

// A hand-over asks the other process first, then lets the hot path go, and begins there without a claim.
func TestReplicaIsHandedOver(t *testing.T) {
	env, w, reports := replicaEnv(t)
	hand := contract.HandOver{From: contract.HostQueue("last"), To: contract.HostQueue("other"), Worker: "other", Reason: "2 here, 0 there"}
	wrong := hand
	wrong.From = contract.HostQueue("x")
	rejected := tellReplica(t, env, time.Minute, contract.UpdateHandOver, wrong)
	taken := tellReplica(t, env, 2*time.Minute, contract.UpdateHandOver, hand)
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(contract.SignalStop, contract.StopSignal{}) }, 2*time.Hour)
	startReplica(env)
	require.NoError(t, env.GetWorkflowError())
	require.ErrorContains(t, rejected.rejected, "runs on last")
	require.True(t, taken.receipt.Taken)
	require.Equal(t, 1, w.called("offer"))
	require.Equal(t, 1, w.called("claim moving=false"))
	status := replicaStatus(t, env)
	require.Equal(t, "handed over to other", status.Placements[0].Ended)
	require.Equal(t, "other", status.Placements[1].Worker)
	require.Equal(t, "other", (*reports)[1].Worker)
}

// A process that cannot run the hot path does not get it, and nothing stops meanwhile.
func TestHandOverThatIsRefused(t *testing.T) {
	for _, refusal := range []error{
		temporal.NewApplicationError("worker other: no WAL", contract.ErrorIncapable),
		temporal.NewTimeoutError(enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START, errors.New("nobody")),
	} {
		env, w, _ := replicaEnv(t)
		w.offerErr = refusal
		told := tellReplica(t, env, time.Minute, contract.UpdateHandOver,
			contract.HandOver{From: contract.HostQueue("last"), To: contract.HostQueue("other"), Worker: "other"})
		env.RegisterDelayedCallback(func() {
			require.False(t, told.receipt.Taken)
			require.Contains(t, told.receipt.Note, "other does not take it: ")
			status := replicaStatus(t, env)
			require.Equal(t, "last", status.Placements[0].Worker)
			require.Empty(t, status.Placements[0].Ended)
			env.SignalWorkflow(contract.SignalStop, contract.StopSignal{})
		}, 10*time.Minute)
		startReplica(env)
		require.NoError(t, env.GetWorkflowError())
		require.Equal(t, 1, w.called("claim"))
	}
}

// A stop in the middle of an offer ends the replica, and the offer with it.
func TestStopDuringAHandOver(t *testing.T) {
	env, w, _ := replicaEnv(t)
	told := tellReplica(t, env, time.Minute, contract.UpdateHandOver,
		contract.HandOver{From: contract.HostQueue("last"), To: contract.HostQueue("other"), Worker: "other"})
	env.RegisterDelayedCallback(func() {
		env.SignalWorkflow(contract.SignalStop, contract.StopSignal{Reason: "scaled"})
	}, time.Minute)
	startReplica(env)
	require.NoError(t, env.GetWorkflowError())
	require.NotNil(t, told.receipt)
	require.Equal(t, 1, w.called("release"))
}

// What no worker can run is said where one looks first, and to the parent, until one can.
func TestReplicaThatNobodyCanRun(t *testing.T) {
	env, w, reports := replicaEnv(t, stay{queue: "a", result: contract.RunResult{Outcome: contract.OutcomePipelineGone}})
	w.refusals = [][]contract.Refusal{
		{{Worker: "w2", Reason: "it has no WAL"}},
		{{Worker: "w2", Reason: "it has no WAL"}, {Worker: "w3", Reason: "unknown field \"quantum\""}},
	}
	startReplica(env)
	require.NoError(t, env.GetWorkflowError())
	var told []string
	for _, r := range *reports {
		told = append(told, r.State+" "+r.Worker+" "+r.Note)
	}
	require.Equal(t, []string{
		"seeking  no worker can run it: w2: it has no WAL",
		"seeking  no worker can run it: w2: it has no WAL; w3: unknown field \"quantum\"",
		"placed a ",
	}, told[:3])
	require.Equal(t, 3, w.called("claim"))
}
