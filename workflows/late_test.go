package workflows

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// A cancellation that comes while a run that is about to continue as new waits for its updates is not lost with the run.
func TestCancelledWhileAboutToContinueAsNew(t *testing.T) {
	t.Run("degrade", func(t *testing.T) {
		s := &levelScript{looks: map[int][]look{0: {moves(time.Second, 1, "normal", "journal")}}}
		env := degradeEnv(s)
		env.OnActivity(contract.ActivityOverrideLevel, anything, anything).After(time.Minute).Return(&report.LevelStatus{}, nil)
		ask[contract.LevelReceipt](env, time.Minute, contract.UpdateHold, "h", contract.LevelRequest{})
		env.RegisterDelayedCallback(func() {
			env.SetContinueAsNewSuggested(true)
			env.SignalWorkflow(contract.SignalLevel, levelSignal(0))
		}, 80*time.Second)
		env.RegisterDelayedCallback(env.CancelWorkflow, 90*time.Second)
		startDegrade(env, 0)
		require.True(t, temporal.IsCanceledError(env.GetWorkflowError()), "%v", env.GetWorkflowError())
		tellsItsEnd(t, *s.told)
	})
	t.Run("recover lanes", func(t *testing.T) {
		h := &hostScript{incident: gapOf()}
		env := recoverEnv(h)
		env.OnActivity(contract.ActivityDecideIncident, anything, anything).After(10*time.Minute).Return(&contract.DecidedIncident{}, nil)
		ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "d",
			contract.DecideRequest{Topic: "orders", Partition: partitionOf(1), Choice: "skip"})
		env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, 80*time.Second)
		env.RegisterDelayedCallback(env.CancelWorkflow, 8*time.Minute) // after a look at owners
		startRecovery(env, contract.RecoverInput{})
		require.True(t, temporal.IsCanceledError(env.GetWorkflowError()), "%v", env.GetWorkflowError())
		tellsItsEnd(t, *h.told)
	})
	t.Run("replay of a journal", func(t *testing.T) {
		d := &disk{chains: []report.WALChain{chainOf(0, "01"), chainOf(1, "02")}}
		d.gone = func() bool { return d.listed == 1 }
		env := replayEnv(d)
		// The segment is settled before its activity learns of the cancellation.
		env.OnActivity(contract.ActivityReplaySegment, anything, anything).After(time.Minute).Return(&contract.ReplaySegmentResult{}, nil)
		env.RegisterDelayedCallback(func() {
			env.SetContinueAsNewSuggested(true)
			env.CancelWorkflow()
		}, contract.HostLookEvery+time.Minute-slowEnding/2)
		startReplay(env, contract.ReplayWALInput{})
		require.True(t, temporal.IsCanceledError(env.GetWorkflowError()), "%v", env.GetWorkflowError())
		tellsItsEnd(t, *d.told)
	})
}

// An update that came before the first signal does not hold a Degrade open for which no signal comes.
func TestDegradeWithoutASignalEndsDespiteAnUpdate(t *testing.T) {
	s := new(levelScript)
	env := degradeEnv(s)
	hold := ask[contract.LevelReceipt](env, time.Second, contract.UpdateHold, "h", contract.LevelRequest{})
	startDegrade(env)
	require.True(t, env.IsWorkflowCompleted())
	require.ErrorContains(t, env.GetWorkflowError(), "degradations are started by the workers")
	require.ErrorContains(t, hold.err, "this degradation is over")
}

// What was decided about a part of the journal is carried out by the next run if the disk was gone meanwhile.
func TestAQuarantineIsRememberedAcrossRuns(t *testing.T) {
	gone := false
	d := &disk{chains: []report.WALChain{chainOf(0, "01"), chainOf(1, "01")}, gone: func() bool { return gone }}
	d.settle = func(ref report.ChainRef, in contract.ReplaySegmentInput) (report.SettledChain, *report.CorruptRange) {
		if len(in.Quarantine) == 0 {
			return report.SettledChain{}, corruptAt(ref)
		}
		return report.SettledChain{Outcome: report.ChainDrained, Commits: 1, Quarantined: 4096}, nil
	}
	env := replayEnv(d)
	env.RegisterDelayedCallback(func() { gone = true }, time.Minute)
	decided := ask[contract.DecisionReceipt](env, 2*time.Minute, contract.UpdateDecide, "q",
		contract.WALDecideRequest{Choice: contract.ChoiceQuarantine})
	env.RegisterDelayedCallback(func() { env.SetContinueAsNewSuggested(true) }, 10*time.Minute)
	startReplay(env, contract.ReplayWALInput{})
	require.NoError(t, decided.err)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	var next contract.ReplayWALInput
	require.NoError(t, decode(again, &next))

	gone = false
	env = replayEnv(d)
	env.SetTestTimeout(5 * time.Second)
	startReplay(env, next)
	result := resultOf[contract.ReplayWALResult](t, env)
	require.Equal(t, contract.OutcomeDrained, result.Outcome, "nobody is asked the same again")
	require.Len(t, result.Decisions, 1)
}

// A lane that was decided about on its own, or was overtaken, while a decision about all lanes was carried to those before it is
// left alone.
func TestLanesAreLookedAtAgainWhenTheirTurnComes(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	env := recoverEnv(h)
	env.OnActivity(contract.ActivityDecideIncident, anything, mockMatch(func(in contract.DecideIncidentInput) bool {
		return in.Partition == 0
	})).After(10 * time.Minute).Return(func(context.Context, contract.DecideIncidentInput) (*contract.DecidedIncident, error) {
		return &contract.DecidedIncident{}, nil
	})
	env.OnActivity(contract.ActivityDecideIncident, anything, anything).Return(
		func(_ context.Context, in contract.DecideIncidentInput) (*contract.DecidedIncident, error) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.decided = append(h.decided, in)
			return &contract.DecidedIncident{}, nil
		})
	batch := batchOf()
	batch.MidRun, batch.Lanes = true, nil
	fallen := &report.RecoveryReport{Ended: epochTime}
	for n := range int32(decidedAtOnce + 2) {
		l := h.lane(1, report.StepResume)
		l.Partition = n
		fallen.Lanes = append(fallen.Lanes, l)
	}
	h.owners = []contract.LaneOwner{{Topic: "orders", Partition: decidedAtOnce + 1, Token: "5:bb", Epoch: 5}}
	all := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "all", contract.DecideRequest{All: true, Choice: "skip"})
	single := ask[contract.DecisionReceipt](env, 2*time.Minute, contract.UpdateDecide, "one",
		contract.DecideRequest{Topic: "orders", Partition: partitionOf(decidedAtOnce), Choice: "skip"})
	startRecovery(env, contract.RecoverInput{Batch: batch, Report: fallen})
	resultOf[contract.RecoverResult](t, env)
	require.NoError(t, all.err)
	told := make(map[int32]int)
	for _, in := range h.decided {
		told[in.Partition]++
	}
	require.Equal(t, 1, told[decidedAtOnce], "decided once")
	require.Zero(t, told[decidedAtOnce+1], "overtaken: nobody is told")
	require.False(t, all.got.Applied)
	require.True(t, single.rejected != nil || single.got.Applied)
	require.Contains(t, all.got.Note, "of 52 lanes")
}

// A step's report that knows of no incident any more, and comes while the lane's decision is carried out, breaks nothing.
func TestAReportOvertakesADecision(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	env := recoverEnv(h)
	env.OnActivity(contract.ActivityRecoverStep, anything, mockMatch(func(in contract.RecoverStepInput) bool {
		return in.Step == report.StepResume
	})).After(2 * time.Minute).Return(func(context.Context, contract.RecoverStepInput) (*report.StepReport, error) {
		l := h.lane(0, report.StepResume)
		l.Partition = 1
		return &report.StepReport{Step: report.StepResume, Lanes: []report.RecoveredLane{h.lane(0, report.StepResume), l}}, nil
	})
	env.OnActivity(contract.ActivityRecoverStep, anything, anything).Return(
		func(_ context.Context, in contract.RecoverStepInput) (*report.StepReport, error) {
			return &report.StepReport{Step: in.Step, Lanes: []report.RecoveredLane{h.lane(0, in.Step), h.lane(1, in.Step)}}, nil
		})
	env.OnActivity(contract.ActivityDecideIncident, anything, anything).After(2*time.Minute).Return(&contract.DecidedIncident{}, nil)
	decided := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "d",
		contract.DecideRequest{Topic: "orders", Partition: partitionOf(1), Choice: "skip"})
	startRecovery(env, contract.RecoverInput{})
	result := resultOf[contract.RecoverResult](t, env)
	require.NoError(t, decided.err)
	require.True(t, decided.got.Applied)
	require.Equal(t, contract.OutcomeRecovered, result.Outcome)
	require.Equal(t, "skip", result.Lanes[1].Incident.Decided)
}
