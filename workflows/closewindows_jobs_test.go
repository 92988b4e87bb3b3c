package workflows

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// carriers is the other end of a closer's jobs: workers that carry them out, and workflows that hear of it.
type carriers struct {
	mu    sync.Mutex // the environment delivers signals side by side
	began []contract.CarryOutJob
	heard []string // "<workflow> <job> <outcome>"
}

// jobEnv is a closer with workers that answer jobs after a minute each, as does says.
func jobEnv(t *testing.T, does func(contract.CarryOutJob) (*contract.CarriedOut, error)) (*testsuite.TestWorkflowEnvironment, *carriers) {
	env, _, _ := closerEnv(t)
	c := &carriers{}
	register(env, contract.ActivityCarryOut, func(context.Context, contract.CarryOutJob) (*contract.CarriedOut, error) {
		return nil, errors.New("mocked")
	})
	env.OnActivity(contract.ActivityCarryOut, anything, anything).After(time.Minute).Return(
		func(_ context.Context, job contract.CarryOutJob) (*contract.CarriedOut, error) {
			c.mu.Lock()
			c.began = append(c.began, job)
			c.mu.Unlock()
			return does(job)
		})
	env.OnSignalExternalWorkflow(anything, anything, anything, contract.SignalCarriedOut, anything).Maybe().Return(
		func(_, id, _, _ string, arg any) error {
			done := arg.(contract.CarriedOut)
			c.mu.Lock()
			defer c.mu.Unlock()
			said := done.Problem
			if said == "" {
				said = done.Report.String()
			}
			c.heard = append(c.heard, fmt.Sprintf("%s %s: %s", id, done.ID, said))
			if strings.HasSuffix(id, "gone") {
				return errors.New("not open")
			}
			return nil
		})
	return env, c
}

func jobOf(n int) contract.CarryOutJob {
	id := fmt.Sprintf("replay:orders:%d", n)
	return contract.CarryOutJob{ID: id + "/corrections", Kind: contract.JobCorrections, Pipeline: "orders", ReplyTo: id,
		Spec: []byte(`{"of":"the replay"}`), Body: []byte(`{}`), Report: booked(9)}
}

func booked(n int) *contract.JobReport {
	r := &contract.JobReport{}
	for range n {
		r.Add(contract.CarriedWindow{Outcome: contract.CarriedPublished})
	}
	return r
}

func carriesOut(job contract.CarryOutJob) (*contract.CarriedOut, error) {
	return &contract.CarriedOut{ID: job.ID, Report: booked(2)}, nil
}

// asks signals jobs to the closer at a time.
func asks(env *testsuite.TestWorkflowEnvironment, at time.Duration, jobs ...contract.CarryOutJob) {
	env.RegisterDelayedCallback(func() {
		for _, job := range jobs {
			env.SignalWorkflow(contract.SignalCarryOut, job)
		}
	}, at)
}

func stopsAt(env *testsuite.TestWorkflowEnvironment, at time.Duration) {
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(contract.SignalStop, contract.StopSignal{Reason: "stopped"}) }, at)
}

func TestJobsAreCarriedOutBesideClosing(t *testing.T) {
	env, c := jobEnv(t, carriesOut)
	var inputs []contract.CloseDueInput
	dues(env, &inputs, closedDue(1), closedDue(2), closedDue(3), closedDue(4))
	asks(env, 10*time.Second, jobOf(1), jobOf(2), jobOf(1))
	env.RegisterDelayedCallback(func() {
		value, err := env.QueryWorkflow(contract.QueryStatus)
		require.NoError(t, err)
		var status contract.CloseWindowsStatus
		require.NoError(t, value.Get(&status))
		require.Equal(t, []string{jobOf(1).ID, jobOf(2).ID}, status.Jobs)
	}, 30*time.Second)
	asks(env, 5*time.Minute, jobOf(1)) // it has not heard
	stopsAt(env, 6*time.Minute)
	startCloser(env)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []string{
		"replay:orders:1 replay:orders:1/corrections: 2 published", "replay:orders:2 replay:orders:2/corrections: 2 published",
		"replay:orders:1 replay:orders:1/corrections: 2 published",
	}, c.heard)
	require.Len(t, c.began, 2, "one after the other, each once")
	require.JSONEq(t, specJSON, string(c.began[0].Spec), "the closer's own spec")
	require.Nil(t, c.began[0].Report)
	require.Len(t, inputs, 4, "closing goes on")
}

func TestJobsThatCannotBeCarriedOut(t *testing.T) {
	env, c := jobEnv(t, func(job contract.CarryOutJob) (*contract.CarriedOut, error) {
		if job.ReplyTo == "replay:orders:1" {
			return nil, permanent("no such topic")
		}
		return &contract.CarriedOut{ID: job.ID, Problem: "refused"}, nil
	})
	var inputs []contract.CloseDueInput
	dues(env, &inputs)
	large := jobOf(3)
	large.Body = []byte(`"` + strings.Repeat("x", contract.MaxJobBody) + `"`)
	gone := jobOf(4)
	gone.ReplyTo = "replay:orders:gone"
	nobody := jobOf(5)
	nobody.ReplyTo = ""
	asks(env, time.Second, large, jobOf(1), jobOf(2), gone, nobody)
	stopsAt(env, 10*time.Minute)
	startCloser(env)
	require.NoError(t, env.GetWorkflowError())
	require.Len(t, c.heard, 4)
	require.Contains(t, c.heard[0], "replay:orders:3/corrections: what it is to do takes 65538 bytes, at most 65536 travel")
	require.Contains(t, c.heard[1], "replay:orders:1/corrections: permanent: no such topic")
	require.Contains(t, c.heard[2], "replay:orders:2/corrections: refused")
	require.Contains(t, c.heard[3], "replay:orders:gone replay:orders:4/corrections: refused")
	require.Len(t, c.began, 4)
}

// A run that continues as new calls off what is under way and hands over what was done of it, what waits, and the latest answers.
func TestJobsOutliveARun(t *testing.T) {
	env, c := jobEnv(t, carriesOut)
	var inputs []contract.CloseDueInput
	dues(env, &inputs, closedDue(1), closedDue(2), closedDue(3), closedDue(4), closedDue(5), closedDue(6), closedDue(7))
	asks(env, time.Second, jobOf(1), jobOf(2), jobOf(3), jobOf(4), jobOf(5))
	env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, 4*time.Minute+30*time.Second)
	startCloser(env)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var next contract.CloseWindowsInput
	require.NoError(t, decode(again, &next))
	require.Len(t, next.Answers, contract.MaxJobAnswers)
	require.Len(t, c.heard, 4)
	require.Equal(t, jobOf(4).ID, next.Answers[2].ID)
	require.Len(t, next.Jobs, 1)
	require.Equal(t, jobOf(5).ID, next.Jobs[0].ID)
	require.Nil(t, next.Jobs[0].Spec)

	// The next run goes on with what was done.
	next.Jobs[0].Report = booked(7)
	env, c = jobEnv(t, func(job contract.CarryOutJob) (*contract.CarriedOut, error) {
		return &contract.CarriedOut{ID: job.ID, Report: booked(job.Report.Booked() + 1)}, nil
	})
	inputs = nil
	dues(env, &inputs)
	asks(env, 5*time.Minute, jobOf(4)) // of the run before
	stopsAt(env, 10*time.Minute)
	env.ExecuteWorkflow(contract.WorkflowCloseWindows, next)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, []string{
		"replay:orders:5 replay:orders:5/corrections: 8 published", "replay:orders:4 replay:orders:4/corrections: 2 published",
	}, c.heard)
}

// A job that a stop calls off is not answered: whoever asked carries it out once the closer is gone.
func TestAStopCallsJobsOff(t *testing.T) {
	for _, how := range []string{"stop", "cancel", "the pipeline is gone"} {
		t.Run(how, func(t *testing.T) {
			env, c := jobEnv(t, func(job contract.CarryOutJob) (*contract.CarriedOut, error) {
				return &contract.CarriedOut{ID: job.ID, Report: booked(1), Unfinished: true}, nil
			})
			var inputs []contract.CloseDueInput
			switch how {
			case "stop":
				stopsAt(env, 30*time.Second)
			case "cancel":
				env.RegisterDelayedCallback(env.CancelWorkflow, 30*time.Second)
			}
			if how == "the pipeline is gone" {
				dues(env, &inputs, goneDue)
			} else {
				dues(env, &inputs)
			}
			asks(env, 10*time.Second, jobOf(1))
			startCloser(env)
			require.True(t, env.IsWorkflowCompleted())
			require.Empty(t, c.heard)
		})
	}
}

// Only so many jobs wait; whoever was left out asks again.
func TestJobsThatWaitAreBounded(t *testing.T) {
	env, c := jobEnv(t, carriesOut)
	var inputs []contract.CloseDueInput
	dues(env, &inputs)
	var all []contract.CarryOutJob
	for n := range contract.MaxJobs + 3 {
		all = append(all, jobOf(n))
	}
	asks(env, time.Second, all...)
	asks(env, time.Hour, all...)
	stopsAt(env, 3*time.Hour)
	startCloser(env)
	require.NoError(t, env.GetWorkflowError())
	require.GreaterOrEqual(t, len(c.began), len(all))
	var ids []string
	for _, job := range c.began[:contract.MaxJobs] {
		ids = append(ids, job.ID)
	}
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(ids))), contract.MaxJobs)
	for _, job := range all {
		require.True(t, slices.ContainsFunc(c.heard, func(text string) bool { return strings.Contains(text, " "+job.ID+": ") }), job.ID)
	}
}
