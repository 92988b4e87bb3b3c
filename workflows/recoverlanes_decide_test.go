package workflows

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func TestIncidentIsDecided(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	env := recoverEnv(h)
	lane1 := func(choice string) contract.DecideRequest {
		return contract.DecideRequest{Topic: "orders", Partition: partitionOf(1), Choice: choice, Reason: "known outage"}
	}
	misspelt := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "a",
		json.RawMessage(`{"topic":"orders","partition":1,"choise":"skip"}`))
	short := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "b",
		json.RawMessage(`{"topic":"orders","choice":"skip"}`))
	stranger := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "c",
		contract.DecideRequest{Topic: "orders", Partition: partitionOf(9), Choice: "skip"})
	healthy := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "d",
		contract.DecideRequest{Topic: "orders", Partition: partitionOf(0), Choice: "skip"})
	unknown := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "e", lane1("rebuild"))
	giveUp := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "f", lane1(report.ChoiceGiveUp))
	env.RegisterDelayedCallback(func() {
		status := statusOf[contract.RecoverStatus](t, env)
		require.Equal(t, contract.StateDeciding, status.State)
		require.Equal(t, report.LaneRunning, status.Lanes[0].State, "the others resumed")
		require.Len(t, status.Lanes[1].Incident.Choices, 2)
	}, 2*time.Minute)
	good := ask[contract.DecisionReceipt](env, 30*time.Minute, contract.UpdateDecide, "g", lane1("skip"))
	startRecovery(env, contract.RecoverInput{})
	result := resultOf[contract.RecoverResult](t, env)

	require.ErrorContains(t, misspelt.rejected, `decide: unknown field "choise"; want only topic, partition, all, choice, reason`)
	require.ErrorContains(t, short.rejected, "topic, partition and choice are needed")
	require.ErrorContains(t, stranger.rejected, "lane orders/9 is not of this recovery; its lanes are orders/0, orders/1")
	require.ErrorContains(t, healthy.rejected, "has no incident")
	require.ErrorContains(t, unknown.rejected,
		`"rebuild" is no choice for gap of lane orders/1; want skip (go on at 70; loses 20 records, reads 0 records again) or wait`)
	require.Error(t, giveUp.rejected, "its host is there")
	require.NoError(t, good.err)
	require.True(t, good.got.Applied)
	require.Equal(t, "gap", good.got.Incident)
	require.Contains(t, good.got.Cost, "loses 20 records")
	require.Equal(t, []contract.DecideIncidentInput{{
		Pipeline: "orders", Batch: 3, Topic: "orders", Partition: 1, Incident: "i1", Choice: "skip", By: "operator, update g",
	}}, h.decided)
	require.Equal(t, contract.OutcomeRecovered, result.Outcome)
	require.Equal(t, 1, result.Totals.Incidents)
	require.EqualValues(t, 70, result.Lanes[1].Offset, "what is known after the decision")
	require.Equal(t, "skip", result.Lanes[1].Incident.Decided)
	require.Len(t, result.Decisions, 1)
	require.Equal(t, []string{"deciding orders/1: gap: 20 offsets were deleted", contract.ChildEnded}, toldOf(*h.told))
}

// A decision about all lanes goes to those that wait and offer it, and says of each what became of it.
func TestAllLanesAreDecided(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	env := recoverEnv(h)
	batch := batchOf()
	batch.MidRun, batch.Lanes = true, nil
	told := &report.RecoveryReport{Ended: epochTime}
	for n := range int32(120) {
		l := h.lane(1, report.StepResume)
		l.Partition = n
		incident := *l.Incident
		incident.ID = fmt.Sprint("i", n)
		switch n {
		case 7: // offers something else
			incident.Kind, incident.Choices = "state-lost", []report.Choice{{Name: "rebuild", Text: "read again", Reread: 5}}
		case 8:
			l.State, l.Incident = report.LaneRunning, nil
		}
		if l.Incident != nil {
			l.Incident = &incident
		}
		told.Lanes = append(told.Lanes, l)
		batch.Lanes = append(batch.Lanes, report.LaneRef{Topic: "orders", Partition: n})
	}
	h.decide = func(in contract.DecideIncidentInput) error {
		if in.Partition == 9 {
			return temporal.NewNonRetryableApplicationError("the lane was revoked", contract.ErrorStale, nil)
		}
		return nil
	}
	both := ask[contract.DecisionReceipt](env, time.Second, contract.UpdateDecide, "a",
		json.RawMessage(`{"all":true,"topic":"orders","choice":"skip"}`))
	nobody := ask[contract.DecisionReceipt](env, time.Second, contract.UpdateDecide, "b",
		json.RawMessage(`{"all":true,"choice":"restart"}`))
	skip := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "c",
		json.RawMessage(`{"all":true,"choice":"skip","reason":"known outage"}`))
	again := ask[contract.DecisionReceipt](env, 2*time.Minute, contract.UpdateDecide, "c", json.RawMessage(`{"all":true,"choice":"skip"}`))
	last := ask[contract.DecisionReceipt](env, 3*time.Minute, contract.UpdateDecide, "d",
		json.RawMessage(`{"all":true,"choice":"rebuild"}`))
	startRecovery(env, contract.RecoverInput{Batch: batch, Report: told})
	result := resultOf[contract.RecoverResult](t, env)

	require.ErrorContains(t, both.rejected, "without topic and partition")
	require.ErrorContains(t, nobody.rejected, `no lane that waits for a decision offers "restart"; gap of lane orders/0 offers skip`)
	require.NoError(t, skip.err)
	require.False(t, skip.got.Applied)
	require.Equal(t, "117 of 119 lanes that waited for a decision", skip.got.Note)
	require.Len(t, skip.got.Lanes, contract.MaxDecisionLanes)
	require.Equal(t, 19, skip.got.More)
	require.Equal(t, []int32{7, 9}, []int32{skip.got.Lanes[0].Partition, skip.got.Lanes[1].Partition},
		"those that did not get it come first")
	require.Contains(t, skip.got.Lanes[0].Note, "state-lost of lane orders/7 offers rebuild")
	require.Contains(t, skip.got.Lanes[1].Note, "the lane was revoked")
	require.True(t, skip.got.Lanes[2].Applied)
	require.Contains(t, skip.got.Lanes[2].Cost, "loses 20 records")
	require.Equal(t, skip.got, again.got, "a repeated request is answered with its receipt")
	require.True(t, last.got.Applied)
	require.Equal(t, "1 of 1 lanes that waited for a decision", last.got.Note)
	require.Len(t, h.decided, 119)
	for _, in := range h.decided {
		require.Equal(t, fmt.Sprint("i", in.Partition), in.Incident)
	}
	require.Equal(t, contract.OutcomeRecovered, result.Outcome)
}

// With the host gone, giving up is a decision for all lanes too.
func TestAllLanesAreGivenUp(t *testing.T) {
	h := &hostScript{gone: func() bool { return true }}
	env := recoverEnv(h)
	given := ask[contract.DecisionReceipt](env, 5*time.Second, contract.UpdateDecide, "a",
		contract.DecideRequest{All: true, Choice: report.ChoiceGiveUp})
	startRecovery(env, contract.RecoverInput{})
	require.True(t, given.got.Applied)
	require.Len(t, given.got.Lanes, 2)
	require.Equal(t, contract.OutcomeGivenUp, resultOf[contract.RecoverResult](t, env).Outcome)
}

// Whoever chooses to wait can choose again.
func TestWaitingIsNoEnd(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	env := recoverEnv(h)
	request := contract.DecideRequest{Topic: "orders", Partition: partitionOf(1), Choice: report.ChoiceWait}
	wait := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "a", request)
	env.RegisterDelayedCallback(func() {
		status := statusOf[contract.RecoverStatus](t, env)
		require.Equal(t, contract.StateDeciding, status.State)
		require.Empty(t, status.Lanes[1].Incident.Decided)
		require.Len(t, status.Receipts, 1)
	}, 2*time.Minute)
	request.Choice = "skip"
	skip := ask[contract.DecisionReceipt](env, 3*time.Minute, contract.UpdateDecide, "b", request)
	startRecovery(env, contract.RecoverInput{})
	result := resultOf[contract.RecoverResult](t, env)
	require.NoError(t, wait.err)
	require.True(t, wait.got.Applied)
	require.NoError(t, skip.err)
	require.Equal(t, "skip", result.Lanes[1].Incident.Decided)
	require.Len(t, result.Decisions, 2)
}

func TestDecisionThatTheHostDoesNotTake(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	answers := []error{nobodyPolls, temporal.NewNonRetryableApplicationError("no such choice now", contract.ErrorRefused, nil),
		temporal.NewNonRetryableApplicationError("the lane was revoked", contract.ErrorStale, nil)}
	h.decide = func(contract.DecideIncidentInput) error { return answers[len(h.decided)-1] }
	env := recoverEnv(h)
	request := contract.DecideRequest{Topic: "orders", Partition: partitionOf(1), Choice: "skip"}
	away := ask[contract.DecisionReceipt](env, 1*time.Minute, contract.UpdateDecide, "a", request)
	refused := ask[contract.DecisionReceipt](env, 2*time.Minute, contract.UpdateDecide, "b", request)
	stale := ask[contract.DecisionReceipt](env, 3*time.Minute, contract.UpdateDecide, "c", request)
	startRecovery(env, contract.RecoverInput{})
	result := resultOf[contract.RecoverResult](t, env)
	require.ErrorContains(t, away.err, "the worker's process does not answer; nothing was done")
	require.ErrorContains(t, refused.err, "no such choice now")
	require.NoError(t, stale.err)
	require.False(t, stale.got.Applied)
	require.Contains(t, stale.got.Note, "the lane was revoked")
	require.Equal(t, report.LaneSuperseded, result.Lanes[1].State)
	require.Equal(t, contract.OutcomeRecovered, result.Outcome, "the other lane runs")
}

// An incident whose lane somebody else has taken needs no decision.
func TestIncidentOfALaneThatMoved(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	h.owners = []contract.LaneOwner{{Topic: "orders", Token: "4:aa", Epoch: 4}, {Topic: "orders", Partition: 1, Token: "5:bb", Epoch: 5}}
	env := recoverEnv(h)
	startRecovery(env, contract.RecoverInput{})
	result := resultOf[contract.RecoverResult](t, env)
	require.Equal(t, report.LaneSuperseded, result.Lanes[1].State)
	require.Contains(t, result.Lanes[1].Note, "epoch 5")
	require.Equal(t, 1, h.looks)
}

// The pipeline of a parked lane is stopped and removed, and no look came while a removal owned the lane. A lane that Redis has
// forgotten under a running pipeline is no such one: it stays parked, and somebody has to decide.
func TestIncidentOfALaneThatWasRemoved(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	h.owners = []contract.LaneOwner{{Topic: "orders", Token: "4:aa", Epoch: 4}, {Topic: "orders", Partition: 1, Token: "4:aa", Epoch: 4}}
	env := recoverEnv(h)
	env.RegisterDelayedCallback(func() { h.owners = []contract.LaneOwner{{Topic: "orders", Partition: 1}} }, 6*time.Minute)
	env.RegisterDelayedCallback(func() {
		require.Equal(t, contract.StateDeciding, statusOf[contract.RecoverStatus](t, env).State)
		h.owners = []contract.LaneOwner{{Topic: "orders", Gone: true}, {Topic: "orders", Partition: 1, Gone: true}}
	}, 21*time.Minute)
	startRecovery(env, contract.RecoverInput{})
	result := resultOf[contract.RecoverResult](t, env)
	require.Equal(t, contract.OutcomeSuperseded, result.Outcome)
	require.Contains(t, result.Lanes[1].Note, "stopped and removed")
	require.InDelta(t, 21, h.looks, 1, "it looks again every minute")
}

// An incident of a lane that ran comes with its report: nothing is left to be run, and it asks at once.
func TestIncidentOfARunningLane(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	env := recoverEnv(h)
	batch := batchOf()
	batch.MidRun, batch.Reason, batch.Lanes = true, "parked while running: gap of 1", batch.Lanes[1:]
	told := &report.RecoveryReport{Ended: epochTime, Lanes: []report.RecoveredLane{h.lane(1, report.StepResume)}}
	env.RegisterDelayedCallback(func() {
		status := statusOf[contract.RecoverStatus](t, env)
		require.Equal(t, contract.StateDeciding, status.State)
		require.Empty(t, status.Step)
		require.Equal(t, "1 of 1 lanes are parked and wait for a decision (update decide)", status.Note)
	}, time.Second)
	good := ask[contract.DecisionReceipt](env, 3*time.Second, contract.UpdateDecide, "a",
		contract.DecideRequest{Topic: "orders", Partition: partitionOf(1), Choice: "skip"})
	startRecovery(env, contract.RecoverInput{Batch: batch, Report: told})
	result := resultOf[contract.RecoverResult](t, env)
	require.True(t, good.got.Applied)
	require.Empty(t, h.steps)
	require.Equal(t, contract.OutcomeRecovered, result.Outcome)
	require.Empty(t, result.Note, "it was not done while Temporal was away")
	require.True(t, result.Ended.After(epochTime), "the time of the decision, not that of the report")
	require.Equal(t, contract.RecoverTotals{Lanes: 1, Running: 1, Incidents: 1, Entries: 10, Bytes: 100, Reread: 5}, result.Totals)
}

// A stop ends what waits for a decision about its lanes: the next start asks again.
func TestIncidentOfALaneWhosePipelineIsStopped(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	h.owners = []contract.LaneOwner{{Topic: "orders", Token: "4:aa", Epoch: 4}, {Topic: "orders", Partition: 1, Token: "4:aa", Epoch: 4}}
	env := recoverEnv(h)
	env.RegisterDelayedCallback(func() {
		h.owners = []contract.LaneOwner{{Topic: "orders", Token: "4:aa", Stopped: true},
			{Topic: "orders", Partition: 1, Token: "4:aa", Stopped: true}}
	}, 150*time.Second)
	began := env.Now()
	startRecovery(env, contract.RecoverInput{})
	result := resultOf[contract.RecoverResult](t, env)
	require.Less(t, env.Now().Sub(began), 150*time.Second+2*contract.IncidentLookEvery)
	require.Equal(t, contract.OutcomeSuperseded, result.Outcome)
	require.Equal(t, "the pipeline was stopped; its next start recovers the lane and asks again if need be", result.Lanes[1].Note)
}

func TestIncidentOfALaneThatIsBeingRemoved(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	h.owners = []contract.LaneOwner{{Topic: "orders", Partition: 1, Token: "removed:run"}}
	env := recoverEnv(h)
	startRecovery(env, contract.RecoverInput{})
	require.Equal(t, "the pipeline is being removed", resultOf[contract.RecoverResult](t, env).Lanes[1].Note)
}

func TestIncidentWithoutAChoiceEndsParked(t *testing.T) {
	h := &hostScript{incident: &report.Incident{ID: "i", Kind: "corrupt-state", From: -1, To: -1}}
	env := recoverEnv(h)
	startRecovery(env, contract.RecoverInput{})
	require.Equal(t, contract.OutcomeParked, resultOf[contract.RecoverResult](t, env).Outcome)
}
