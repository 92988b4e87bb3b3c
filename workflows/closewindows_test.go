package workflows

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func closerEnv(t *testing.T) (*testsuite.TestWorkflowEnvironment, *world, *[]contract.ChildReport) {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: contract.CloseWindowsID("orders"), TaskQueue: contract.TaskQueue})
	env.SetTestTimeout(20 * time.Second)
	env.SetDetachedChildWait(false)
	w := &world{generation: 1}
	w.registerControl(env)
	likeAServer(env)
	env.RegisterWorkflowWithOptions(CloseWindows, workflow.RegisterOptions{Name: contract.WorkflowCloseWindows})
	env.RegisterWorkflowWithOptions(CloseWindow, workflow.RegisterOptions{Name: contract.WorkflowCloseWindow})
	register(env, contract.ActivityCloseDue, func(context.Context, contract.CloseDueInput) (*contract.CloseDueResult, error) {
		return nil, errors.New("mocked")
	})
	register(env, contract.ActivityCloseOne, func(context.Context, contract.CloseOneInput) (*contract.CloseOneResult, error) {
		return nil, errors.New("mocked")
	})
	return env, w, hears(env)
}

// dues scripts CloseDue; each answer takes a minute. After the last one CloseDue waits until it is cancelled.
func dues(env *testsuite.TestWorkflowEnvironment, inputs *[]contract.CloseDueInput, answers ...func() (*contract.CloseDueResult, error)) {
	for _, answer := range answers {
		env.OnActivity(contract.ActivityCloseDue, anything, anything).Once().After(time.Minute).Return(
			func(_ context.Context, in contract.CloseDueInput) (*contract.CloseDueResult, error) {
				*inputs = append(*inputs, in)
				return answer()
			})
	}
	env.OnActivity(contract.ActivityCloseDue, anything, anything).After(11 * time.Hour).Return(
		func(_ context.Context, in contract.CloseDueInput) (*contract.CloseDueResult, error) {
			*inputs = append(*inputs, in)
			return &contract.CloseDueResult{Outcome: contract.OutcomeStopped}, nil
		})
}

func closedDue(starts ...int64) func() (*contract.CloseDueResult, error) {
	return func() (*contract.CloseDueResult, error) {
		r := &contract.CloseDueResult{Outcome: contract.OutcomeClosed, Count: len(starts)}
		for _, s := range starts {
			r.Closed = append(r.Closed, report.ClosedWindow{WindowRef: ref(s), Revision: 1, Reason: "watermark", Keys: 2, Events: 3})
		}
		return r, nil
	}
}

func failingDue(starts ...int64) func() (*contract.CloseDueResult, error) {
	return func() (*contract.CloseDueResult, error) {
		r := &contract.CloseDueResult{Outcome: contract.OutcomeFailing}
		for _, s := range starts {
			r.Failed = append(r.Failed, report.FailedWindow{WindowRef: ref(s), Problem: "checksum"})
		}
		return r, nil
	}
}

func goneDue() (*contract.CloseDueResult, error) {
	return &contract.CloseDueResult{Outcome: contract.OutcomePipelineGone}, nil
}

func ref(start int64) report.WindowRef {
	return report.WindowRef{Window: "minutely", Start: start * 60_000}
}

func startCloser(env *testsuite.TestWorkflowEnvironment, promoted ...report.FailedWindow) {
	env.ExecuteWorkflow(contract.WorkflowCloseWindows, contract.CloseWindowsInput{
		Version: contract.Version, Pipeline: "orders", Spec: []byte(specJSON), Promoted: promoted,
	})
}

func TestCloserLoops(t *testing.T) {
	env, _, reports := closerEnv(t)
	var inputs []contract.CloseDueInput
	kept := &report.Kept{Rows: 350, Results: 120, Oldest: 7, Backlog: 3, Floor: 9}
	counted := func() (*contract.CloseDueResult, error) {
		r, err := closedDue(1, 2)()
		r.Kept = kept
		return r, err
	}
	dues(env, &inputs, counted, closedDue(3), goneDue)
	startCloser(env)
	require.NoError(t, env.GetWorkflowError())
	var result contract.CloseWindowsResult
	require.NoError(t, env.GetWorkflowResult(&result))
	require.Equal(t, contract.OutcomePipelineGone, result.Outcome)
	require.EqualValues(t, 3, result.Closed)
	require.Len(t, inputs, 3)
	value, err := env.QueryWorkflow(contract.QueryStatus)
	require.NoError(t, err)
	var status contract.CloseWindowsStatus
	require.NoError(t, value.Get(&status))
	require.Equal(t, ref(3), status.Last.WindowRef)
	require.Equal(t, kept, status.Kept, "as of the last CloseDue that counted")
	require.Len(t, *reports, 2, "closing once, ended once")
}

func TestCloserStopsOnSignalAndCancel(t *testing.T) {
	for _, how := range []string{"signal", "cancel"} {
		t.Run(how, func(t *testing.T) {
			env, _, reports := closerEnv(t)
			var inputs []contract.CloseDueInput
			dues(env, &inputs, closedDue(1))
			env.RegisterDelayedCallback(func() {
				if how == "cancel" {
					env.CancelWorkflow()
					return
				}
				env.SignalWorkflow(contract.SignalStop, contract.StopSignal{Reason: "drain"})
			}, 10*time.Minute)
			startCloser(env)
			if how == "cancel" {
				require.True(t, temporal.IsCanceledError(env.GetWorkflowError()))
			} else {
				require.NoError(t, env.GetWorkflowError())
			}
			require.Equal(t, contract.ChildEnded, (*reports)[len(*reports)-1].State)
		})
	}
}

// A timer made on a cancelled context is ready at once, so a loop that waits for one of them must not go on after it.
func TestCloserWithAPromotedWindowEnds(t *testing.T) {
	for _, how := range []string{"signal", "cancel"} {
		t.Run(how, func(t *testing.T) {
			env, _, reports := closerEnv(t)
			var inputs []contract.CloseDueInput
			dues(env, &inputs)
			stopped := 0
			window := contract.CloseWindowID("orders", ref(7))
			env.OnSignalExternalWorkflow(anything, window, anything, contract.SignalStop, anything).Return(
				func(_, _, _, _ string, _ any) error { stopped++; return nil })
			env.RegisterDelayedCallback(func() {
				if how == "cancel" {
					env.CancelWorkflow()
					return
				}
				env.SignalWorkflow(contract.SignalStop, contract.StopSignal{Reason: "drain"})
			}, 15*time.Minute)
			startCloser(env, report.FailedWindow{WindowRef: ref(7), Problem: "checksum"})
			err := env.GetWorkflowError()
			require.Equal(t, how == "cancel", temporal.IsCanceledError(err), "%v", err)
			require.Equal(t, how == "signal", err == nil, "%v", err)
			require.Equal(t, 1, stopped, "the window's own workflow follows")
			require.Equal(t, contract.ChildEnded, (*reports)[len(*reports)-1].State)
		})
	}
}

func TestFailingWindowIsPromotedAndComesBack(t *testing.T) {
	env, _, reports := closerEnv(t)
	var inputs []contract.CloseDueInput
	closed := &contract.CloseOneResult{Published: true, Closed: report.ClosedWindow{WindowRef: ref(7), Revision: 1}}
	env.OnActivity(contract.ActivityCloseOne, anything, anything).Return(closed, nil).After(5 * time.Minute)
	dues(env, &inputs, failingDue(7), closedDue(8))
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(contract.SignalStop, contract.StopSignal{}) }, 30*time.Minute)
	startCloser(env)
	require.NoError(t, env.GetWorkflowError())
	require.Empty(t, inputs[0].Skip)
	require.Equal(t, []report.WindowRef{ref(7)}, inputs[1].Skip)
	value, err := env.QueryWorkflow(contract.QueryStatus)
	require.NoError(t, err)
	var status contract.CloseWindowsStatus
	require.NoError(t, value.Get(&status))
	require.Empty(t, status.Promoted, "closed by its own workflow, so the closer looks after it again")
	told := toldOf(*reports)
	require.Contains(t, told[1], "closing minutely 1970-01-01T00:07:00Z: ", "the pipeline knows which window has a workflow, and why")
	require.Equal(t, []string{"closing", "ended"}, told[2:], "and when it is over")
	wait := (*reports)[1].Waits[0]
	require.Equal(t, contract.CloseWindowID("orders", ref(7)), wait.ID)
	require.False(t, wait.Since.IsZero(), "the window is blocked since then, not since the closer began")
}

// What blocks a window stands before everything else in the summaries: Temporal's UI shows no more than their beginning.
func TestSummaryOfABlockedWindow(t *testing.T) {
	long := "incident row-too-large: a record has 2060 bytes, topic orders.windows takes 488: " + strings.Repeat("k", 300)
	text := summary(blockedText(ref(7), long))
	require.True(t, strings.HasPrefix(text,
		"minutely 1970-01-01T00:07:00Z is blocked: row-too-large: a record has 2060 bytes, topic orders.windows takes 488"), text)
	require.True(t, strings.HasSuffix(text, "k..."), "it says that there is more: %s", text)
	require.LessOrEqual(t, len(text), maxSummary)
}

func TestCloserIsBlockedByAHundredFailures(t *testing.T) {
	env, w, reports := closerEnv(t)
	env.OnActivity(contract.ActivityCloseOne, anything, anything).Return(nil, permanent("no topic")).After(100 * time.Hour)
	var inputs []contract.CloseDueInput
	var starts []int64
	for n := range int64(contract.MaxPromoted + 20) {
		starts = append(starts, n)
	}
	dues(env, &inputs, failingDue(starts...))
	env.RegisterDelayedCallback(func() {
		require.Len(t, inputs, 1, "no further look while blocked")
		last := (*reports)[len(*reports)-1]
		require.Equal(t, contract.ChildBlocked, last.State)
		w.closed = []string{contract.CloseWindowID("orders", ref(0))} // an operator terminated one
	}, 5*time.Minute)
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(contract.SignalStop, contract.StopSignal{}) }, 20*time.Minute)
	startCloser(env)
	require.NoError(t, env.GetWorkflowError())
	require.Len(t, inputs, 1, "mocked activities answer when they end")
	require.Equal(t, contract.ChildClosing, (*reports)[len(*reports)-2].State, "it went on once one was gone")
}

// However long it is blocked, its history stays short.
func TestABlockedCloserContinuesAsNew(t *testing.T) {
	env, _, _ := closerEnv(t)
	var promoted []report.FailedWindow
	for n := range int64(contract.MaxPromoted) {
		promoted = append(promoted, report.FailedWindow{WindowRef: ref(n), Problem: "checksum"})
	}
	env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, 15*time.Minute)
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(contract.SignalStop, contract.StopSignal{}) }, time.Hour)
	startCloser(env, promoted...)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var next contract.CloseWindowsInput
	require.NoError(t, decode(again, &next))
	require.Len(t, next.Promoted, contract.MaxPromoted)
}

// A pipeline that adopted its closer learns from its closer alone that the closer has failed.
func TestACloserThatFailsTellsThePipeline(t *testing.T) {
	env, _, reports := closerEnv(t)
	var inputs []contract.CloseDueInput
	dues(env, &inputs, failingDue(7))
	env.OnWorkflow(contract.WorkflowCloseWindow, anything, anything).Return(nil, testsuite.ErrMockStartChildWorkflowFailed)
	startCloser(env)
	require.Error(t, env.GetWorkflowError())
	last := (*reports)[len(*reports)-1]
	require.Equal(t, contract.ChildEnded, last.State)
	require.NotEmpty(t, last.Note)
}

func TestCloserWaitsAfterAPermanentFailure(t *testing.T) {
	env, _, reports := closerEnv(t)
	var inputs []contract.CloseDueInput
	broken := func() (*contract.CloseDueResult, error) { return nil, permanent("ledger of another format") }
	dues(env, &inputs, broken, goneDue)
	startCloser(env)
	require.NoError(t, env.GetWorkflowError())
	var states []string
	for _, r := range *reports {
		states = append(states, fmt.Sprintf("%s %s", r.State, r.Note))
	}
	require.Equal(t, "blocked permanent: ledger of another format", states[1])
}

func TestCloserContinuesAsNewWithItsPromotedWindows(t *testing.T) {
	env, _, _ := closerEnv(t)
	var inputs []contract.CloseDueInput
	env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, 30*time.Second)
	dues(env, &inputs, closedDue(1))
	startCloser(env, report.FailedWindow{WindowRef: ref(0), Problem: "checksum"})
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var next contract.CloseWindowsInput
	require.NoError(t, decode(again, &next))
	require.EqualValues(t, 1, next.Closed)
	require.Len(t, next.Promoted, 1)
}

func TestCloseWindowEndsWithItsPipeline(t *testing.T) {
	env, _, _ := closerEnv(t)
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: contract.CloseWindowID("orders", ref(1)), TaskQueue: contract.TaskQueue})
	env.OnActivity(contract.ActivityCloseOne, anything, anything).Return(&contract.CloseOneResult{Gone: true}, nil)
	env.OnSignalExternalWorkflow(anything, contract.CloseWindowsID("orders"), anything, contract.SignalReport, anything).
		Return(errors.New("not open"))
	env.ExecuteWorkflow(contract.WorkflowCloseWindow, contract.CloseWindowInput{Pipeline: "orders", Spec: []byte(specJSON), Window: ref(1)})
	require.NoError(t, env.GetWorkflowError())
	var one contract.CloseWindowResult
	require.NoError(t, env.GetWorkflowResult(&one))
	require.Equal(t, contract.OutcomePipelineGone, one.Outcome)
	require.Nil(t, one.Closed)
}

func TestCloseWindowStops(t *testing.T) {
	env, _, _ := closerEnv(t)
	env.SetStartWorkflowOptions(client.StartWorkflowOptions{ID: contract.CloseWindowID("orders", ref(1)), TaskQueue: contract.TaskQueue})
	env.OnActivity(contract.ActivityCloseOne, anything, anything).Return(&contract.CloseOneResult{}, nil).After(time.Hour)
	env.OnSignalExternalWorkflow(anything, contract.CloseWindowsID("orders"), anything, contract.SignalReport, anything).Return(nil)
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(contract.SignalStop, contract.StopSignal{Reason: "stopped"}) }, time.Minute)
	env.ExecuteWorkflow(contract.WorkflowCloseWindow, contract.CloseWindowInput{Pipeline: "orders", Spec: []byte(specJSON), Window: ref(1),
		Problem: "x"})
	require.NoError(t, env.GetWorkflowError())
	var one contract.CloseWindowResult
	require.NoError(t, env.GetWorkflowResult(&one))
	require.Equal(t, contract.OutcomeStopped, one.Outcome)
}
