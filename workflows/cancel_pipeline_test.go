package workflows

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func pipelineSituations() []situation {
	// stopped counts the children that were told.
	in := func(children int, prepare preparing, state *contract.PipelineState) beginning {
		return func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env, w := pipelineEnv(t)
			if prepare != nil {
				prepare(env, w)
			}
			env.OnSignalExternalWorkflow(anything, anything, anything, contract.SignalStop, anything).Return(errors.New("not open"))
			return env, func() { start(env, state) }, func(t *testing.T) {
				require.GreaterOrEqual(t, w.called("stop "), children, "the children follow")
			}
		}
	}
	update := func(name string, arg any) preparing {
		return func(env *testsuite.TestWorkflowEnvironment, _ *world) { send(env, time.Minute, name, name, arg) }
	}
	with := func(activity string, then preparing) preparing {
		return func(env *testsuite.TestWorkflowEnvironment, w *world) {
			busy(env, activity)
			if then != nil {
				then(env, w)
			}
		}
	}
	discard := func(activity string) beginning {
		return func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env, w := pipelineEnv(t)
			w.registerRemoving(env, contract.Holders{})
			busy(env, activity)
			env.OnSignalExternalWorkflow(anything, anything, anything, contract.SignalStop, anything).Return(errors.New("not open"))
			run := func() {
				env.ExecuteWorkflow(contract.WorkflowPipeline, contract.PipelineInput{
					Spec: []byte(specJSON), From: &contract.From{Place: contract.FromLatest}, DiscardState: true,
				})
			}
			return env, run, func(t *testing.T) { require.Zero(t, w.called("open "), "no child is started") }
		}
	}
	drain := update(contract.UpdateStop, contract.StopRequest{Drain: true})
	carried := &contract.PipelineState{Replicas: 2, Generation: 1}
	at := 90 * time.Second
	return []situation{
		{state: contract.StateStarting, name: "checks the store", at: at, begin: in(0, with(contract.ActivityCheckStore, nil), nil)},
		{state: contract.StateStarting, name: "makes topics", at: at, begin: in(0, with(contract.ActivityEnsureTopics, nil), nil)},
		{state: contract.StateStarting, name: "looks for leftovers", at: at, begin: in(0, with(contract.ActivityReconcile, nil), nil)},
		{state: contract.StateStarting, name: "writes desired state", at: at, begin: in(0, with(contract.ActivityWriteDesired, nil), nil)},
		{state: contract.StateStarting, name: "ends leftovers", at: at, begin: in(1,
			func(env *testsuite.TestWorkflowEnvironment, w *world) {
				w.left = []string{contract.ReplicaID("orders", 0)}
				busySignals(env, contract.ReplicaID("orders", 0), w)
			}, nil)},
		{state: contract.StateStarting, name: "finds offsets", at: at, begin: discard(contract.ActivityLocateBegin)},
		{state: contract.StateStarting, name: "waits for workers to let go", at: at, begin: discard(contract.ActivityAwaitReleased)},
		{state: contract.StateStarting, name: "discards", at: at, begin: discard(contract.ActivityFenceLanes)},
		{state: contract.StateStarting, name: "begins lanes", at: at, begin: discard(contract.ActivityBeginLanes)},
		{state: contract.StateFailed, ended: true, fails: true, begin: in(0, func(_ *testsuite.TestWorkflowEnvironment, w *world) {
			w.storeErr = permanent("Redis evicts keys")
		}, nil)},
		{state: contract.StateRunning, at: at, begin: in(3, nil, nil)},
		{state: contract.StateRunning, name: "is waited for", at: at, begin: in(3, func(env *testsuite.TestWorkflowEnvironment, _ *world) {
			await(env, time.Minute, contract.AwaitRunningRequest{TimeoutSeconds: 3600})
		}, nil)},
		{state: contract.StateRunning, name: "looks at children", at: 10*time.Minute + time.Second,
			begin: in(3, with(contract.ActivityReconcile, nil), carried)},
		{state: contract.StateRunning, name: "a command waits for Redis", at: at,
			begin: in(3, with(contract.ActivityWriteDesired, update(contract.UpdateScale, contract.ScaleRequest{Replicas: 2})), carried)},
		{state: contract.StateRunning, name: "a command waits for lanes", at: at,
			begin: in(3, with(contract.ActivityAwaitApplied, update(contract.UpdateFlush, contract.FlushRequest{})), nil)},
		{state: contract.StateRunning, name: "a flush publishes", at: at,
			begin: in(3, with(contract.ActivityEmit, update(contract.UpdateFlush, contract.FlushRequest{})), nil)},
		{state: contract.StateRunning, name: "a command waits for another", at: at, begin: in(3,
			with(contract.ActivityAwaitApplied, func(env *testsuite.TestWorkflowEnvironment, w *world) {
				update(contract.UpdateScale, contract.ScaleRequest{Replicas: 2})(env, w)
				update(contract.UpdatePause, contract.PauseRequest{})(env, w)
			}), nil)},
		{state: contract.StateRunning, name: "about to continue as new", at: at, begin: in(3,
			with(contract.ActivityEmit, func(env *testsuite.TestWorkflowEnvironment, w *world) {
				update(contract.UpdateFlush, contract.FlushRequest{})(env, w)
				env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, 61*time.Second)
			}), nil)},
		{state: contract.StatePaused, at: at, begin: in(3, update(contract.UpdatePause, contract.PauseRequest{}), nil)},
		{state: contract.StatePaused, name: "waits for Redis", at: at,
			begin: in(3, with(contract.ActivityWriteDesired, update(contract.UpdatePause, contract.PauseRequest{})), carried)},
		{state: contract.StateDraining, name: "waits for lanes", at: at, begin: in(3, with(contract.ActivityAwaitDrained, drain), nil)},
		{state: contract.StateDraining, name: "publishes", at: at, begin: in(3, with(contract.ActivityEmit, drain), nil)},
		{state: contract.StateDraining, name: "waits for the closer", at: at,
			begin: in(3, func(env *testsuite.TestWorkflowEnvironment, w *world) {
				w.deaf = contract.CloseWindowsID("orders")
				drain(env, w)
			}, nil)},
		{state: contract.StateStopping, name: "waits for children", at: at,
			begin: in(3, func(env *testsuite.TestWorkflowEnvironment, w *world) {
				w.deaf = contract.ReplicaID("orders", 0)
				update(contract.UpdateStop, contract.StopRequest{})(env, w)
			}, nil)},
		{state: contract.StateStopping, name: "waits for Redis", at: time.Minute + time.Second,
			begin: in(3, with(contract.ActivityWriteDesired, update(contract.UpdateStop, contract.StopRequest{})), carried)},
		{state: contract.StateStopped, ended: true, begin: in(3, update(contract.UpdateStop, contract.StopRequest{}), nil)},
	}
}

// busySignals lets a leftover hear the stop and end neither then nor later.
func busySignals(env *testsuite.TestWorkflowEnvironment, id string, w *world) {
	env.OnSignalExternalWorkflow(anything, id, anything, contract.SignalStop, anything).Return(
		func(_, _, _, _ string, _ any) error { w.call("stop %s", id); return nil })
}

func replicaSituations() []situation {
	in := func(prepare preparing, stays ...stay) beginning {
		return func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env, w, reports := replicaEnv(t, stays...)
			if prepare != nil {
				prepare(env, w)
			}
			return env, func() { startReplica(env) }, func(t *testing.T) {
				require.Equal(t, contract.ChildEnded, (*reports)[len(*reports)-1].State, "the parent is told")
				require.Equal(t, 1, w.called("release"), "the place in the group is given up")
				require.Empty(t, statusOf[contract.ReplicaStatus](t, env).Note)
			}
		}
	}
	failing := make([]stay, 12)
	for i := range failing {
		failing[i] = stay{queue: "a", err: errors.New("no broker")}
	}
	gone := stay{queue: "a", result: contract.RunResult{Outcome: contract.OutcomePipelineGone}}
	return []situation{
		{state: contract.ChildSeeking, name: "claims", at: time.Minute,
			begin: in(func(env *testsuite.TestWorkflowEnvironment, _ *world) { busy(env, contract.ActivityClaim) })},
		{state: contract.ChildSeeking, name: "between failures", at: time.Minute, begin: in(nil, failing...)},
		{state: contract.ChildPlaced, at: time.Minute, begin: in(nil)},
		{state: contract.ChildEnded, ended: true, begin: in(nil, gone)},
	}
}

// preparingDues scripts what CloseDue answers.
type preparingDues func(env *testsuite.TestWorkflowEnvironment, inputs *[]contract.CloseDueInput)

func closerSituations() []situation {
	in := func(prepare preparingDues, promoted int) beginning {
		return func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
			env, _, reports := closerEnv(t)
			var inputs []contract.CloseDueInput
			told := 0
			var windows []report.FailedWindow
			for n := range int64(promoted) {
				windows = append(windows, report.FailedWindow{WindowRef: ref(n), Problem: "checksum"})
				window := contract.CloseWindowID("orders", ref(n))
				env.OnSignalExternalWorkflow(anything, window, anything, contract.SignalStop, anything).Return(
					func(_, _, _, _ string, _ any) error { told++; return nil })
			}
			prepare(env, &inputs)
			return env, func() { startCloser(env, windows...) }, func(t *testing.T) {
				require.Equal(t, contract.ChildEnded, (*reports)[len(*reports)-1].State, "the parent is told")
				require.Equal(t, promoted, told, "windows with a workflow of their own follow")
			}
		}
	}
	script := func(answers ...func() (*contract.CloseDueResult, error)) preparingDues {
		return func(env *testsuite.TestWorkflowEnvironment, inputs *[]contract.CloseDueInput) {
			dues(env, inputs, answers...)
		}
	}
	broken := func() (*contract.CloseDueResult, error) { return nil, permanent("ledger of another format") }
	looking := func(env *testsuite.TestWorkflowEnvironment, inputs *[]contract.CloseDueInput) {
		busy(env, contract.ActivityReconcile)
		dues(env, inputs)
	}
	return []situation{
		{state: contract.ChildClosing, at: 5 * time.Minute, begin: in(script(closedDue(1)), 0)},
		{state: contract.ChildClosing, name: "with promoted windows", at: 5 * time.Minute, begin: in(script(), 2)},
		{state: contract.ChildClosing, name: "looks at promoted windows", at: 5 * time.Minute, begin: in(looking, 2)},
		{state: contract.ChildBlocked, name: "by a permanent failure", at: 90 * time.Second, begin: in(script(broken), 0)},
		{state: contract.ChildBlocked, name: "by many windows", at: 5 * time.Minute, begin: in(script(), contract.MaxPromoted)},
		{state: contract.ChildEnded, ended: true, begin: in(script(goneDue), 0)},
	}
}

func windowSituations() []situation {
	closes := func(t *testing.T) (*testsuite.TestWorkflowEnvironment, func(), func(t *testing.T)) {
		env, _, _ := closerEnv(t)
		env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: contract.CloseWindowID("orders", ref(1)),
			TaskQueue: contract.TaskQueue})
		busy(env, contract.ActivityCloseOne)
		told := 0
		env.OnSignalExternalWorkflow(anything, contract.CloseWindowsID("orders"), anything, contract.SignalReport, anything).Return(
			func(_, _, _, _ string, _ any) error { told++; return nil })
		return env, func() {
			env.ExecuteWorkflow(contract.WorkflowCloseWindow, contract.CloseWindowInput{
				Pipeline: "orders", Spec: []byte(specJSON), Window: ref(1), Problem: "x",
			})
		}, func(t *testing.T) { require.Equal(t, 1, told, "the closer is told") }
	}
	return []situation{{name: "closes", at: time.Minute, begin: closes}}
}
