package workflows

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// The look that writes what is owed carries the desired state of its own beginning. What is commanded during it is owed still.
func TestASecondCommandWithoutRedisIsWrittenAsSoonAsTheFirst(t *testing.T) {
	env, w := pipelineEnv(t)
	redisAway(env, w, between(env, time.Minute, 10*time.Minute))
	send(env, 2*time.Minute, contract.UpdatePause, "p", contract.PauseRequest{})
	resume := send(env, 4*time.Minute, contract.UpdateResume, "r", contract.ResumeRequest{})
	var written []contract.DesiredChange
	env.RegisterDelayedCallback(func() { written = w.changes }, 14*time.Minute)
	send(env, 20*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, resume.err)
	require.Contains(t, resume.receipt.Note, "written as soon as Redis answers")
	require.False(t, *written[len(written)-1].Paused, "what was commanded last came to hold")
}

// A pause keeps its reason and its beginning, however often the pipeline continues as new.
func TestAPauseKeepsItsReasonAcrossRuns(t *testing.T) {
	env, _ := pipelineEnv(t)
	send(env, time.Minute, contract.UpdatePause, "p", contract.PauseRequest{Reason: "maintenance"})
	before := statusAt(t, env, 2*time.Minute)
	env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, 3*time.Minute)
	start(env, nil)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var next contract.PipelineInput
	require.NoError(t, decode(again, &next))

	env, w := pipelineEnv(t)
	w.generation = 2
	after := statusAt(t, env, time.Minute)
	send(env, 2*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, next.State)
	require.NoError(t, env.GetWorkflowError())
	require.Equal(t, "maintenance", after.Note)
	require.Equal(t, contract.ConditionPaused, after.Standing.Conditions[0].Kind)
	require.True(t, before.Standing.Conditions[0].Since.Equal(after.Standing.Conditions[0].Since),
		"%s and %s", before.Standing.Conditions[0].Since, after.Standing.Conditions[0].Since)
}

// A command that Redis refuses for good is not shown as if it held.
func TestAPauseThatCannotBeWrittenIsTakenBack(t *testing.T) {
	env, _ := pipelineEnv(t)
	env.OnActivity(contract.ActivityWriteDesired, anything, mockMatch(func(in contract.WriteDesiredInput) bool {
		return in.Change.Paused != nil && *in.Change.Paused
	})).Return(nil, permanent("Redis holds a newer format"))
	env.OnActivity(contract.ActivityWriteDesired, anything, anything).Return(&contract.WrittenDesired{Generation: 1}, nil)
	pause := send(env, time.Minute, contract.UpdatePause, "p", contract.PauseRequest{Reason: "maintenance"})
	after := statusAt(t, env, 2*time.Minute)
	send(env, 3*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())
	require.ErrorContains(t, pause.err, "newer format")
	require.Equal(t, contract.StateRunning, after.State)
	require.Empty(t, after.Note)
	require.Empty(t, after.Standing.Conditions)
}

// A command that is written while another one is owed gets a higher generation, so it must write what is owed, too.
func TestACommandWritesWhatAnEarlierOneOwes(t *testing.T) {
	env, w := pipelineEnv(t)
	env.OnActivity(contract.ActivityReconcile, anything, mockMatch(func(in contract.ReconcileInput) bool { return in.Desired != nil })).
		Return(nil, errRefusedConnection)
	redisAway(env, w, between(env, time.Minute, 10*time.Minute))
	send(env, 2*time.Minute, contract.UpdatePause, "p", contract.PauseRequest{})
	scale := send(env, 11*time.Minute, contract.UpdateScale, "scale", contract.ScaleRequest{Replicas: 3})
	send(env, 20*time.Minute, contract.UpdateStop, "s", contract.StopRequest{})
	start(env, nil)
	require.NoError(t, env.GetWorkflowError())
	require.NoError(t, scale.err)
	written := w.changes[1]
	require.Equal(t, "scale", written.RequestID)
	require.NotNil(t, written.Paused)
	require.True(t, *written.Paused, "the pause is not lost")
	require.NotNil(t, *written.Orders, "nor that no order is in force")
}
