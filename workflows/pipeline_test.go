package workflows

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func TestPipelineRunsAndStops(t *testing.T) {
	env, w := pipelineEnv(t)
	stop := send(env, time.Minute, contract.UpdateStop, "s", contract.StopRequest{Reason: "end of day"})
	var status contract.PipelineStatus
	env.RegisterDelayedCallback(func() {
		value, err := env.QueryWorkflow(contract.QueryStatus)
		require.NoError(t, err)
		require.NoError(t, value.Get(&status))
	}, 30*time.Second)
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())

	require.Equal(t, contract.StateRunning, status.State)
	require.Equal(t, []contract.TopicInfo{{Topic: "orders", Partitions: 2}}, status.Topics)
	require.Equal(t, []string{"minutely 1m"}, status.Windows)
	require.Len(t, status.Children, 3)
	for _, c := range status.Children {
		require.Equal(t, contract.ChildRunning, c.State, c.ID)
	}
	require.NoError(t, stop.err)
	require.True(t, stop.receipt.Applied)
	require.Equal(t, "end of day", stop.receipt.Reason)
	require.Equal(t, []string{"close:orders", "replica:orders:0", "replica:orders:1"}, stop.receipt.Stopped)
	require.Nil(t, stop.receipt.Drained)
	require.Equal(t, 3, w.called("stop "))
	require.Empty(t, w.emits, "without drain nothing is emitted")

	require.Len(t, w.changes, 2)
	require.False(t, *w.changes[0].Paused)
	require.False(t, *w.changes[0].Stopping, "what an earlier life of the pipeline left is undone")
	require.True(t, *w.changes[1].Stopping)

	var result contract.PipelineResult
	require.NoError(t, env.GetWorkflowResult(&result))
	require.Equal(t, contract.PipelineResult{Pipeline: "orders", Outcome: contract.OutcomeStopped, By: "s"}, result)
}

// Children that a terminated pipeline left follow its spec, so they are ended before ours start.
func TestPipelineEndsWhatAnEarlierOneLeft(t *testing.T) {
	env, w := pipelineEnv(t)
	for _, id := range []string{"close:orders", "replica:orders:0", "replica:orders:17", "replica:orders:18"} {
		w.left = append(w.left, id)
		hear := func(string, string, string, string, any) error {
			w.call("told %s", id)
			env.SignalWorkflow(contract.SignalReport, contract.ChildReport{ID: id, FirstRun: "old", State: contract.ChildEnded})
			return nil
		}
		env.OnSignalExternalWorkflow(anything, id, "", contract.SignalStop, anything).Once().Return(hear)
	}
	env.OnSignalExternalWorkflow(anything, contract.PipelineID("orders"), anything, contract.SignalReport, anything).Maybe().Return(nil)
	env.RegisterDelayedCallback(env.CancelWorkflow, time.Minute)
	start(env, nil)
	require.Equal(t, 4, w.called("told"))
	require.Equal(t, 2, w.called("reconcile"), "it looks further while there is something")
	require.Equal(t, 3, w.called("open"), "then ours start")
}

func TestPipelineDoesNotStartOverWhatDoesNotEnd(t *testing.T) {
	env, w := pipelineEnv(t)
	w.left = []string{"replica:orders:1"}
	env.OnSignalExternalWorkflow(anything, "replica:orders:1", "", contract.SignalStop, anything).Return(nil)
	start(env, nil)
	var app *temporal.ApplicationError
	require.ErrorAs(t, env.GetWorkflowError(), &app)
	require.Equal(t, contract.ErrorRefused, app.Type())
	require.ErrorContains(t, app, `"replica:orders:1"`)
	require.Empty(t, w.changes)
}

func TestPipelineRefusesInput(t *testing.T) {
	tests := []struct {
		name, id, input string
		kind, want      string
	}{
		{"unknown field in the spec", "pipeline:orders", `{"name":"orders","windws":[]}`, contract.ErrorInvalidSpec, "windws"},
		{"unknown field beside the spec", "pipeline:orders", `{"spec":` + specJSON + `,"replcas":3}`, contract.ErrorInvalidInput,
			`"replcas"`},
		{"another workflow id", "orders", specJSON, contract.ErrorInvalidInput, `so it must be "pipeline:orders"`},
		{"nothing", "pipeline:orders", `{}`, contract.ErrorInvalidSpec, "name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env, w := pipelineEnv(t)
			env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: tt.id, TaskQueue: contract.TaskQueue})
			env.ExecuteWorkflow(contract.WorkflowPipeline, json.RawMessage(tt.input))
			var app *temporal.ApplicationError
			require.ErrorAs(t, env.GetWorkflowError(), &app)
			require.Equal(t, tt.kind, app.Type())
			require.True(t, app.NonRetryable())
			require.ErrorContains(t, app, tt.want)
			require.Empty(t, w.changes, "nothing is touched")
		})
	}
}

func TestPipelineFailsWhenServersCanNeverServe(t *testing.T) {
	env, w := pipelineEnv(t)
	w.topicsErr = permanent("topic orders.windows has another cleanup policy")
	early := send(env, 0, contract.UpdateFlush, "early", contract.FlushRequest{})
	start(env, nil)
	require.ErrorContains(t, env.GetWorkflowError(), "cleanup policy")
	require.True(t, early.rejected != nil || early.err != nil || !early.accepted, "nobody waits for ever")
	require.Zero(t, w.called("open "))
}

func TestUpdatesAnswerWithReceipts(t *testing.T) {
	env, w := pipelineEnv(t)
	w.queues = []string{"millrace:p:a", "millrace:p:b"}
	flush := send(env, 1*time.Minute, contract.UpdateFlush, "f", contract.FlushRequest{Reason: "look"})
	pause := send(env, 2*time.Minute, contract.UpdatePause, "p", contract.PauseRequest{})
	again := send(env, 3*time.Minute, contract.UpdatePause, "p2", contract.PauseRequest{})
	drain := send(env, 4*time.Minute, contract.UpdateStop, "d", contract.StopRequest{Drain: true})
	resume := send(env, 5*time.Minute, contract.UpdateResume, "r", contract.ResumeRequest{})
	send(env, 20*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())

	require.NoError(t, flush.err)
	require.Equal(t, "f", flush.receipt.RequestID)
	require.True(t, flush.receipt.Applied)
	require.Equal(t, lanes, flush.receipt.Lanes)
	require.Equal(t, 2, flush.receipt.Emitted.Published)
	require.Equal(t, contract.ReasonFlush, w.emits[0].Reason)
	require.Equal(t, "f", *w.changes[1].CommitNow)
	require.Nil(t, w.changes[1].Paused, "a flush under way must not undo a pause")

	require.True(t, *w.changes[2].Paused)
	require.Equal(t, "it was paused already", again.receipt.Note)
	require.ErrorContains(t, drain.rejected, "resume it first")
	require.False(t, *w.changes[4].Paused)
	require.Less(t, pause.receipt.Generation, resume.receipt.Generation)
	require.Equal(t, 8, w.called("nudge"), "two queues, four applied updates")
}

func TestReceiptNamesMissingLanes(t *testing.T) {
	env, w := pipelineEnv(t)
	w.missing = []report.LaneMissing{{Topic: "orders", Partition: 1, Offset: 3, Reason: "no worker has acquired it"}}
	pause := send(env, time.Minute, contract.UpdatePause, "p", contract.PauseRequest{})
	send(env, 20*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, nil)
	require.NoError(t, pause.err)
	require.False(t, pause.receipt.Applied)
	require.Equal(t, w.missing, pause.receipt.Missing)
}

func TestUnknownFieldsAreRefusedByName(t *testing.T) {
	env, w := pipelineEnv(t)
	sent := map[string]*answer{}
	for i, name := range []string{contract.UpdateFlush, contract.UpdatePause, contract.UpdateResume, contract.UpdateScale,
		contract.UpdateStop} {
		sent[name] = send(env, time.Duration(i+1)*time.Minute, name, name, json.RawMessage(`{"replicas":2,"drian":true}`))
	}
	wrong := send(env, 8*time.Minute, contract.UpdateStop, "w", json.RawMessage(`{"drain":"yes"}`))
	send(env, 9*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())
	for name, a := range sent {
		require.ErrorContains(t, a.rejected, "drian", name)
		require.False(t, a.accepted, name)
	}
	require.False(t, wrong.accepted)
	require.Len(t, w.changes, 2, "only the start and the stop were written")
}

func TestScale(t *testing.T) {
	env, w := pipelineEnv(t)
	out := send(env, 1*time.Minute, contract.UpdateScale, "o", contract.ScaleRequest{Replicas: 4})
	in := send(env, 5*time.Minute, contract.UpdateScale, "i", contract.ScaleRequest{Replicas: 1})
	stop := send(env, 20*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []string{"replica:orders:2", "replica:orders:3"}, out.receipt.Started)
	require.Equal(t, 4, out.receipt.Replicas)
	require.Equal(t, []string{"replica:orders:1", "replica:orders:2", "replica:orders:3"}, in.receipt.Stopped)
	require.Equal(t, 1, in.receipt.Replicas)
	require.Equal(t, []string{"close:orders", "replica:orders:0"}, stop.receipt.Stopped)
	require.Equal(t, 5, w.called("stop "), "each ended once")
}

func TestDrain(t *testing.T) {
	env, w := pipelineEnv(t)
	stop := send(env, time.Minute, contract.UpdateStop, "s", contract.StopRequest{Drain: true, TimeoutSeconds: 90})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, stop.err)
	require.True(t, *stop.receipt.Drained)
	require.True(t, stop.receipt.Applied)
	require.Equal(t, 1, w.called("drained 90"))
	require.Equal(t, contract.ReasonDrain, w.emits[0].Reason)
	require.Len(t, w.emits[0].Ends, 2)
	require.Equal(t, "stop close:orders: drain by update s", w.calls[len(w.calls)-3], "the closer ends before the drain publishes")
	var result contract.PipelineResult
	require.NoError(t, env.GetWorkflowResult(&result))
	require.True(t, result.Drained)
}

func TestNotDrainedGoesOn(t *testing.T) {
	tests := []struct {
		name string
		set  func(*world)
		want string
	}{
		{"a lane does not move", func(w *world) {
			w.undrained = []report.LaneMissing{{Topic: "orders", Partition: 1, Offset: 3, Want: 80, Reason: "parked: gap"}}
		}, "not drained: lane orders/1: parked: gap; the pipeline goes on"},
		{"publishing fails", func(w *world) { w.emitErr = permanent("topic orders.windows is gone") }, "topic orders.windows is gone"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env, w := pipelineEnv(t)
			tt.set(w)
			drain := send(env, 1*time.Minute, contract.UpdateStop, "d", contract.StopRequest{Drain: true})
			pause := send(env, 30*time.Minute, contract.UpdatePause, "p", contract.PauseRequest{})
			var state contract.PipelineStatus
			env.RegisterDelayedCallback(func() {
				value, err := env.QueryWorkflow(contract.QueryStatus)
				require.NoError(t, err)
				require.NoError(t, value.Get(&state))
			}, 20*time.Minute)
			send(env, 40*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
			start(env, nil)
			require.NoError(t, env.GetWorkflowError())
			require.False(t, *drain.receipt.Drained)
			require.Contains(t, drain.receipt.Note, tt.want)
			require.True(t, pause.receipt.Applied)
			require.Equal(t, contract.StateRunning, state.State)
			require.Equal(t, contract.ChildRunning, state.Children[0].State, "the closer is open")
		})
	}
}

func TestStopGivesUpFlushes(t *testing.T) {
	env, w := pipelineEnv(t)
	env.OnActivity(contract.ActivityEmit, anything, anything).After(time.Hour).Return(&report.Emitted{}, nil)
	flush := send(env, 1*time.Minute, contract.UpdateFlush, "f", contract.FlushRequest{})
	stop := send(env, 2*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	late := send(env, 2*time.Minute, contract.UpdatePause, "late", contract.PauseRequest{})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, stop.err)
	require.ErrorContains(t, flush.err, "being stopped")
	require.True(t, late.rejected != nil || late.err != nil, "too late")
	require.Equal(t, 3, w.called("stop "))
}

func TestCancelStopsWithoutDrain(t *testing.T) {
	env, w := pipelineEnv(t)
	flush := send(env, time.Minute, contract.UpdateFlush, "f", contract.FlushRequest{})
	env.OnActivity(contract.ActivityEmit, anything, anything).After(time.Hour).Return(&report.Emitted{}, nil)
	env.RegisterDelayedCallback(env.CancelWorkflow, 2*time.Minute)
	start(env, nil)
	require.True(t, temporal.IsCanceledError(env.GetWorkflowError()))
	require.Equal(t, 3, w.called("stop "))
	require.True(t, *w.changes[len(w.changes)-1].Stopping)
	require.Error(t, flush.err)
}

func TestContinueAsNewKeepsReceiptsAndAnswersRepeats(t *testing.T) {
	env, w := pipelineEnv(t)
	pause := send(env, time.Minute, contract.UpdatePause, "p", contract.PauseRequest{})
	env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, 5*time.Minute)
	start(env, nil)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	require.Equal(t, contract.WorkflowPipeline, again.WorkflowType.Name)
	var next contract.PipelineInput
	require.NoError(t, decode(again, &next))
	require.Equal(t, contract.Version, next.Version)
	require.True(t, next.State.Paused)
	require.Equal(t, 1, next.State.Runs)
	require.Len(t, next.State.Receipts, 1)
	require.Zero(t, w.called("stop "), "children are left alone")

	env, w = pipelineEnv(t)
	w.generation = next.State.Generation
	repeat := send(env, time.Minute, contract.UpdatePause, "p", contract.PauseRequest{})
	other := send(env, 2*time.Minute, contract.UpdateFlush, "p", contract.FlushRequest{})
	resume := send(env, 3*time.Minute, contract.UpdateResume, "r", contract.ResumeRequest{})
	send(env, 20*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, next.State)
	require.NoError(t, env.GetWorkflowError())
	// The environment rejects a known id of its own accord only within a run; this one is known from the run before.
	require.NoError(t, repeat.err)
	require.Equal(t, pause.receipt.Generation, repeat.receipt.Generation)
	require.True(t, pause.receipt.At.Equal(repeat.receipt.At))
	require.True(t, other.rejected != nil || other.done, "the environment answers ids of this run itself")
	require.Greater(t, resume.receipt.Generation, pause.receipt.Generation)
	require.Len(t, w.changes, 2, "the repeat wrote nothing, and neither did the new run's start")
}

// A report that comes with the very task that continues as new is not lost.
func TestReportAtTheLastMoment(t *testing.T) {
	env, w := pipelineEnv(t)
	env.RegisterDelayedCallback(func() {
		told := func(n int) contract.ChildReport {
			id := contract.ReplicaID("orders", n)
			return contract.ChildReport{ID: id, FirstRun: w.runs[id], State: contract.ChildPlaced, Worker: "w"}
		}
		env.SignalWorkflowSkippingWorkflowTask(contract.SignalReport, told(0))
		env.SignalWorkflowSkippingWorkflowTask(contract.SignalReport, told(1))
	}, time.Minute)
	env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, time.Minute+time.Millisecond)
	start(env, &contract.PipelineState{Replicas: 2, Generation: 1, Children: []contract.ChildState{
		{ID: "replica:orders:0", State: contract.ChildPlaced, Worker: "v"}, {ID: "replica:orders:1", State: contract.ChildEnded,
			Worker: "v"},
	}})
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var next contract.PipelineInput
	require.NoError(t, decode(again, &next))
	for _, c := range next.State.Children[1:] {
		require.Equal(t, "w", c.Worker, "%+v", c)
	}
}

func TestUpdateIdOfAnotherUpdateIsRefused(t *testing.T) {
	env, _ := pipelineEnv(t)
	state := &contract.PipelineState{Replicas: 1, Generation: 4, Receipts: []contract.Receipt{{RequestID: "x", Update: contract.UpdatePause,
		Generation: 3}}}
	wrong := send(env, time.Minute, contract.UpdateFlush, "x", contract.FlushRequest{})
	send(env, 2*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, state)
	require.ErrorContains(t, wrong.rejected, `request id "x" was used for pause`)
}

func TestContinueAsNewWaitsForHandlers(t *testing.T) {
	env, _ := pipelineEnv(t)
	env.OnActivity(contract.ActivityEmit, anything, anything).After(10*time.Minute).Return(&report.Emitted{}, nil)
	flush := send(env, time.Minute, contract.UpdateFlush, "f", contract.FlushRequest{})
	env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, 2*time.Minute)
	meanwhile := send(env, 3*time.Minute, contract.UpdatePause, "m", contract.PauseRequest{})
	start(env, nil)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	require.NoError(t, flush.err)
	require.NoError(t, meanwhile.err)
	var next contract.PipelineInput
	require.NoError(t, decode(again, &next))
	require.Len(t, next.State.Receipts, 2)
}

func TestContinueAsNewAfterManySignalsOrThirtyDays(t *testing.T) {
	t.Run("signals", func(t *testing.T) {
		env, _ := pipelineEnv(t)
		left := contract.MaxSignalsPerRun + 1 // sent a hundred at a time: the environment's queue is short
		var more func()
		more = func() {
			for range min(100, left) {
				env.SignalWorkflow(contract.SignalReport, contract.ChildReport{ID: "replica:orders:0", State: contract.ChildPlaced})
				left--
			}
			if left > 0 {
				env.RegisterDelayedCallback(more, time.Second)
			}
		}
		env.RegisterDelayedCallback(more, time.Second)
		start(env, nil)
		var again *workflow.ContinueAsNewError
		require.ErrorAs(t, env.GetWorkflowError(), &again)
	})
	t.Run("time", func(t *testing.T) {
		env, w := pipelineEnv(t)
		begin := env.Now()
		start(env, nil)
		var again *workflow.ContinueAsNewError
		require.ErrorAs(t, env.GetWorkflowError(), &again)
		require.InDelta(t, contract.RunLimit.Hours(), env.Now().Sub(begin).Hours(), 1)
		require.Greater(t, w.called("reconcile"), 4000)
	})
}

func TestChildThatEndedWithoutAWordIsStartedAgain(t *testing.T) {
	env, w := pipelineEnv(t)
	env.RegisterDelayedCallback(func() { w.closed = []string{"replica:orders:1"} }, time.Minute)
	env.RegisterDelayedCallback(func() { w.closed = nil }, 11*time.Minute)
	var status contract.PipelineStatus
	env.RegisterDelayedCallback(func() {
		value, err := env.QueryWorkflow(contract.QueryStatus)
		require.NoError(t, err)
		require.NoError(t, value.Get(&status))
	}, 25*time.Minute)
	send(env, 30*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, 1, status.Children[1].Starts)
	require.Equal(t, 2, status.Children[2].Starts)
	require.Equal(t, "adopted", status.Children[2].Note, "in fact it was open, which is found out by starting it")
}

func decode(err *workflow.ContinueAsNewError, into any) error {
	payloads := err.Input.GetPayloads()
	if len(payloads) != 1 {
		return errors.New("want one argument")
	}
	return json.Unmarshal(payloads[0].GetData(), into)
}
