package workflows

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func TestRecoveryRunsEveryStepOnceForAllLanes(t *testing.T) {
	h := new(hostScript)
	env := recoverEnv(h)
	startRecovery(env, contract.RecoverInput{})
	result := resultOf[contract.RecoverResult](t, env)
	require.Equal(t, contract.OutcomeRecovered, result.Outcome)
	require.Equal(t, contract.RecoverTotals{Lanes: 2, Running: 2, Entries: 20, Bytes: 200, Reread: 10}, result.Totals)
	require.Equal(t, report.ByTemporal, result.By)
	require.NotNil(t, result.Storm)
	var steps []string
	for _, s := range h.steps {
		require.EqualValues(t, 3, s.Batch)
		steps = append(steps, s.Step)
	}
	require.Equal(t, report.Steps(), steps, "one activity a step, not one a lane")
	require.Zero(t, h.looks)
}

func TestRecoveryThatWasDoneWithoutTemporal(t *testing.T) {
	h := new(hostScript)
	env := recoverEnv(h)
	ended := epochTime.Add(3 * time.Second)
	told := &report.RecoveryReport{Ended: ended, Lanes: []report.RecoveredLane{h.lane(0, report.StepResume),
		h.lane(1, report.StepResume)}}
	for _, step := range report.Steps() {
		told.Steps = append(told.Steps, report.StepReport{Step: step, By: report.ByInline, Began: epochTime, Took: 200})
	}
	startRecovery(env, contract.RecoverInput{Report: told})
	result := resultOf[contract.RecoverResult](t, env)
	require.Empty(t, h.steps, "no activity runs for what is done")
	require.Equal(t, report.ByInline, result.By)
	require.True(t, result.Began.Equal(epochTime))
	require.True(t, result.Ended.Equal(ended), "the real time, not that of the record")
	require.Contains(t, result.Note, "while Temporal was away")
	require.Equal(t, 2, result.Totals.Running)
}

func TestRecoveryThatNobodyHasToKnowOfTellsNothing(t *testing.T) {
	h := &hostScript{}
	env := recoverEnv(h)
	startRecovery(env, contract.RecoverInput{})
	require.NoError(t, env.GetWorkflowError())
	require.Empty(t, *h.told)
}

func TestHostGone(t *testing.T) {
	t.Run("lanes have other owners", func(t *testing.T) {
		h := &hostScript{owners: []contract.LaneOwner{{Topic: "orders", Token: "5:bb", Epoch: 5},
			{Topic: "orders", Partition: 1, Token: "6:cc", Epoch: 6}}}
		h.gone = func() bool { return len(h.steps) > 2 }
		env := recoverEnv(h)
		startRecovery(env, contract.RecoverInput{})
		result := resultOf[contract.RecoverResult](t, env)
		require.Equal(t, contract.OutcomeSuperseded, result.Outcome)
		require.Equal(t, 2, result.Totals.Superseded)
	})
	t.Run("the same owners are no reason", func(t *testing.T) {
		h := &hostScript{owners: []contract.LaneOwner{{Topic: "orders", Token: "4:aa"}, {Topic: "orders", Partition: 1, Token: "4:aa"}}}
		back := false
		h.gone = func() bool { return len(h.steps) > 2 && !back }
		env := recoverEnv(h)
		env.RegisterDelayedCallback(func() {
			status := statusOf[contract.RecoverStatus](t, env)
			require.Equal(t, contract.StateHostGone, status.State)
			require.Contains(t, status.Note, "nobody polls the queue of worker-a")
			back = true
		}, 10*time.Minute)
		startRecovery(env, contract.RecoverInput{})
		require.Equal(t, contract.OutcomeRecovered, resultOf[contract.RecoverResult](t, env).Outcome)
		require.InDelta(t, 13, h.looks, 2, "it looks again after seconds, then every minute")
	})
	t.Run("never acquired, then owned by another", func(t *testing.T) {
		h := &hostScript{gone: func() bool { return true }}
		h.owners = []contract.LaneOwner{{Topic: "orders", Token: "3:zz"}, {Topic: "orders", Partition: 1}}
		env := recoverEnv(h)
		env.RegisterDelayedCallback(func() {
			require.False(t, env.IsWorkflowCompleted(), "the owner before this batch is no newer one")
			h.owners = []contract.LaneOwner{{Topic: "orders", Token: "4:yy"}, {Topic: "orders", Partition: 1, Token: "1:xx"}}
		}, 5*time.Minute)
		env.RegisterDelayedCallback(func() {
			h.owners = []contract.LaneOwner{{Topic: "orders", Partition: 1, Token: "2:ww"}}
		}, 8*time.Minute)
		startRecovery(env, contract.RecoverInput{})
		require.Equal(t, contract.OutcomeSuperseded, resultOf[contract.RecoverResult](t, env).Outcome)
	})
	t.Run("signal host-back", func(t *testing.T) {
		h := new(hostScript)
		back := false
		h.gone = func() bool { return !back }
		env := recoverEnv(h)
		began := env.Now()
		var took time.Duration
		env.RegisterDelayedCallback(func() {
			back = true
			env.SignalWorkflow(contract.SignalHostBack, nil)
		}, 20*time.Second)
		startRecovery(env, contract.RecoverInput{})
		took = env.Now().Sub(began)
		require.Equal(t, contract.OutcomeRecovered, resultOf[contract.RecoverResult](t, env).Outcome)
		require.Less(t, took, contract.HostLookEvery)
	})
	t.Run("the operator gives up", func(t *testing.T) {
		h := &hostScript{gone: func() bool { return true }}
		env := recoverEnv(h)
		for n := range int32(2) {
			ask[contract.DecisionReceipt](env, time.Duration(n+1)*5*time.Second, contract.UpdateDecide, string('a'+n),
				contract.DecideRequest{Topic: "orders", Partition: partitionOf(n), Choice: report.ChoiceGiveUp, Reason: "host burnt"})
		}
		startRecovery(env, contract.RecoverInput{})
		result := resultOf[contract.RecoverResult](t, env)
		require.Equal(t, contract.OutcomeGivenUp, result.Outcome)
		require.Len(t, result.Decisions, 2)
		require.Empty(t, h.decided, "the lane is not touched")
	})
}

func TestStaleBatchIsSuperseded(t *testing.T) {
	h := new(hostScript)
	h.fail = func(step string) error {
		if step == report.StepRestore {
			return temporal.NewNonRetryableApplicationError("fenced", contract.ErrorStale, nil)
		}
		return nil
	}
	env := recoverEnv(h)
	startRecovery(env, contract.RecoverInput{})
	result := resultOf[contract.RecoverResult](t, env)
	require.Equal(t, contract.OutcomeSuperseded, result.Outcome)
	require.Len(t, h.steps, 3, "fenced is final")
}

func TestStepThatFailsIsTriedAgainLater(t *testing.T) {
	h := new(hostScript)
	failures := 0
	h.fail = func(step string) error {
		if step == report.StepRestore && failures < 4 {
			failures++
			return errors.New("redis is loading")
		}
		return nil
	}
	env := recoverEnv(h)
	startRecovery(env, contract.RecoverInput{})
	require.Equal(t, contract.OutcomeRecovered, resultOf[contract.RecoverResult](t, env).Outcome)
	require.Len(t, h.steps, 5+4, "three attempts, a pause, and again")
}

func TestRecoveryThatWaitsContinuesAsNew(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	env := recoverEnv(h)
	startRecovery(env, contract.RecoverInput{})
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again, "before the run's timeout")
	var next contract.RecoverInput
	require.NoError(t, decode(again, &next))
	require.Equal(t, 5, next.State.Done)
	require.Equal(t, 1, next.State.Runs)

	env = recoverEnv(h)
	good := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "a",
		contract.DecideRequest{Topic: "orders", Partition: partitionOf(1), Choice: "skip"})
	startRecovery(env, next)
	require.Equal(t, contract.OutcomeRecovered, resultOf[contract.RecoverResult](t, env).Outcome)
	require.True(t, good.got.Applied)
	require.Len(t, h.steps, 5, "steps are not run again")
}

func TestRecoveryRefusesAnotherID(t *testing.T) {
	env := recoverEnv(new(hostScript))
	batch := batchOf()
	batch.Batch = 4
	startRecovery(env, contract.RecoverInput{Batch: batch})
	require.ErrorContains(t, env.GetWorkflowError(), "recoveries are started by the workers")
}
