package workflows

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// hostScript is a process that recovers lanes orders/0 and orders/1.
type hostScript struct {
	mu       sync.Mutex
	steps    []contract.RecoverStepInput
	gone     func() bool // nobody polls its queue
	fail     func(step string) error
	incident *contract.LaneIncident // of orders/1, from step verify on
	decided  []contract.DecideIncidentInput
	decide   func(contract.DecideIncidentInput) error
	owners   []contract.LaneOwner
	looks    int
	told     *[]contract.ChildReport // what the pipeline heard
}

func gapOf() *contract.LaneIncident {
	return &contract.LaneIncident{ID: "i1", Kind: "gap", From: 50, To: 70, Detail: "20 offsets were deleted", Choices: []contract.IncidentChoice{
		{Name: "skip", Text: "go on at 70", Lost: 20}, {Name: "wait", Text: "stay parked", Reread: 0},
	}}
}

func (h *hostScript) lane(partition int32, step string) contract.RecoveredLane {
	l := contract.RecoveredLane{
		Topic: "orders", Partition: partition, State: contract.LaneRecovering, Token: "4:aa", FromEpoch: 3, ToEpoch: 4, Entries: 10, Bytes: 100,
		Offset: 50, LogStart: 0, LogEnd: 80, Reread: 5,
	}
	if step == contract.StepResume {
		l.State = contract.LaneRunning
	}
	if partition == 1 && h.incident != nil && (step == contract.StepVerify || step == contract.StepResume) {
		incident := *h.incident
		l.State, l.Incident = contract.LaneParked, &incident
	}
	return l
}

func batchOf() contract.RecoveryBatch {
	return contract.RecoveryBatch{
		Pipeline: "orders", Process: "p1", Worker: "worker-a", Queue: contract.HostQueue("p1"), Batch: 3, Began: epochTime, Reason: "rebalance",
		Lanes: []contract.BatchLane{{Topic: "orders"}, {Topic: "orders", Partition: 1}},
		Storm: &contract.Storm{Since: epochTime, Changes: 7, Delay: 500, Timeline: []contract.StormEvent{{At: epochTime, Lanes: 2, Delay: 500}}},
	}
}

func recoverEnv(h *hostScript) *testsuite.TestWorkflowEnvironment {
	env := steerEnv(contract.WorkflowRecoverLanes, contract.RecoverLanesID("orders", "p1", 3), RecoverLanes)
	register(env, contract.ActivityRecoverStep, func(_ context.Context, in contract.RecoverStepInput) (*contract.StepReport, error) {
		h.steps = append(h.steps, in)
		if h.gone != nil && h.gone() {
			return nil, nobodyPolls
		}
		if h.fail != nil {
			if err := h.fail(in.Step); err != nil {
				return nil, err
			}
		}
		return &contract.StepReport{Step: in.Step, By: contract.ByTemporal, Began: epochTime, Took: 1500,
			Lanes: []contract.RecoveredLane{h.lane(0, in.Step), h.lane(1, in.Step)}}, nil
	})
	register(env, contract.ActivityDecideIncident, func(_ context.Context, in contract.DecideIncidentInput) (*contract.DecidedIncident, error) {
		h.mu.Lock() // lanes that are decided together are told side by side
		defer h.mu.Unlock()
		h.decided = append(h.decided, in)
		if h.decide != nil {
			if err := h.decide(in); err != nil {
				return nil, err
			}
		}
		l := h.lane(in.Partition, contract.StepAcquire)
		l.State, l.Offset = contract.LaneRunning, 70
		return &contract.DecidedIncident{Lane: &l}, nil
	})
	register(env, contract.ActivityLaneOwners, func(context.Context, contract.LaneOwnersInput) (*contract.LaneOwners, error) {
		h.looks++
		return &contract.LaneOwners{Lanes: h.owners}, nil
	})
	h.told = hears(env)
	return env
}

func startRecovery(env *testsuite.TestWorkflowEnvironment, in contract.RecoverInput) {
	in.Version = contract.Version
	if in.Batch.Pipeline == "" {
		in.Batch = batchOf()
	}
	env.ExecuteWorkflow(contract.WorkflowRecoverLanes, in)
}

func partitionOf(n int32) *int32 { return &n }

func TestRecoveryRunsEveryStepOnceForAllLanes(t *testing.T) {
	h := new(hostScript)
	env := recoverEnv(h)
	startRecovery(env, contract.RecoverInput{})
	result := resultOf[contract.RecoverResult](t, env)
	require.Equal(t, contract.OutcomeRecovered, result.Outcome)
	require.Equal(t, contract.RecoverTotals{Lanes: 2, Running: 2, Entries: 20, Bytes: 200, Reread: 10}, result.Totals)
	require.Equal(t, contract.ByTemporal, result.By)
	require.NotNil(t, result.Storm)
	var steps []string
	for _, s := range h.steps {
		require.EqualValues(t, 3, s.Batch)
		steps = append(steps, s.Step)
	}
	require.Equal(t, contract.RecoverySteps(), steps, "one activity a step, not one a lane")
	require.Zero(t, h.looks)
}

func TestRecoveryThatWasDoneWithoutTemporal(t *testing.T) {
	h := new(hostScript)
	env := recoverEnv(h)
	ended := epochTime.Add(3 * time.Second)
	report := &contract.RecoveryReport{Ended: ended, Lanes: []contract.RecoveredLane{h.lane(0, contract.StepResume), h.lane(1, contract.StepResume)}}
	for _, step := range contract.RecoverySteps() {
		report.Steps = append(report.Steps, contract.StepReport{Step: step, By: contract.ByInline, Began: epochTime, Took: 200})
	}
	startRecovery(env, contract.RecoverInput{Report: report})
	result := resultOf[contract.RecoverResult](t, env)
	require.Empty(t, h.steps, "no activity runs for what is done")
	require.Equal(t, contract.ByInline, result.By)
	require.True(t, result.Began.Equal(epochTime))
	require.True(t, result.Ended.Equal(ended), "the real time, not that of the record")
	require.Contains(t, result.Note, "while Temporal was away")
	require.Equal(t, 2, result.Totals.Running)
}

func TestIncidentIsDecided(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	env := recoverEnv(h)
	lane1 := func(choice string) contract.DecideRequest {
		return contract.DecideRequest{Topic: "orders", Partition: partitionOf(1), Choice: choice, Reason: "known outage"}
	}
	misspelt := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "a", json.RawMessage(`{"topic":"orders","partition":1,"choise":"skip"}`))
	short := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "b", json.RawMessage(`{"topic":"orders","choice":"skip"}`))
	stranger := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "c",
		contract.DecideRequest{Topic: "orders", Partition: partitionOf(9), Choice: "skip"})
	healthy := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "d",
		contract.DecideRequest{Topic: "orders", Partition: partitionOf(0), Choice: "skip"})
	unknown := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "e", lane1("rebuild"))
	giveUp := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "f", lane1(contract.ChoiceGiveUp))
	env.RegisterDelayedCallback(func() {
		status := statusOf[contract.RecoverStatus](t, env)
		require.Equal(t, contract.StateDeciding, status.State)
		require.Equal(t, contract.LaneRunning, status.Lanes[0].State, "the others resumed")
		require.Len(t, status.Lanes[1].Incident.Choices, 2)
	}, 2*time.Minute)
	good := ask[contract.DecisionReceipt](env, 30*time.Minute, contract.UpdateDecide, "g", lane1("skip"))
	startRecovery(env, contract.RecoverInput{})
	result := resultOf[contract.RecoverResult](t, env)

	require.ErrorContains(t, misspelt.rejected, `decide: unknown field "choise"; want only topic, partition, all, choice, reason`)
	require.ErrorContains(t, short.rejected, "topic, partition and choice are needed")
	require.ErrorContains(t, stranger.rejected, "lane orders/9 is not of this recovery; its lanes are orders/0, orders/1")
	require.ErrorContains(t, healthy.rejected, "has no incident")
	require.ErrorContains(t, unknown.rejected, `"rebuild" is no choice for gap of lane orders/1; want skip (go on at 70; loses 20 records, reads 0 records again) or wait`)
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

func TestRecoveryThatNobodyHasToKnowOfTellsNothing(t *testing.T) {
	h := &hostScript{}
	env := recoverEnv(h)
	startRecovery(env, contract.RecoverInput{})
	require.NoError(t, env.GetWorkflowError())
	require.Empty(t, *h.told)
}

// A decision about all lanes goes to those that wait and offer it, and says of each what became of it.
func TestAllLanesAreDecided(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	env := recoverEnv(h)
	batch := batchOf()
	batch.MidRun, batch.Lanes = true, nil
	report := &contract.RecoveryReport{Ended: epochTime}
	for n := range int32(120) {
		l := h.lane(1, contract.StepResume)
		l.Partition = n
		incident := *l.Incident
		incident.ID = fmt.Sprint("i", n)
		switch n {
		case 7: // offers something else
			incident.Kind, incident.Choices = "state-lost", []contract.IncidentChoice{{Name: "rebuild", Text: "read again", Reread: 5}}
		case 8:
			l.State, l.Incident = contract.LaneRunning, nil
		}
		if l.Incident != nil {
			l.Incident = &incident
		}
		report.Lanes = append(report.Lanes, l)
		batch.Lanes = append(batch.Lanes, contract.BatchLane{Topic: "orders", Partition: n})
	}
	h.decide = func(in contract.DecideIncidentInput) error {
		if in.Partition == 9 {
			return temporal.NewNonRetryableApplicationError("the lane was revoked", contract.ErrorStale, nil)
		}
		return nil
	}
	both := ask[contract.DecisionReceipt](env, time.Second, contract.UpdateDecide, "a", json.RawMessage(`{"all":true,"topic":"orders","choice":"skip"}`))
	nobody := ask[contract.DecisionReceipt](env, time.Second, contract.UpdateDecide, "b", json.RawMessage(`{"all":true,"choice":"restart"}`))
	skip := ask[contract.DecisionReceipt](env, time.Minute, contract.UpdateDecide, "c",
		json.RawMessage(`{"all":true,"choice":"skip","reason":"known outage"}`))
	again := ask[contract.DecisionReceipt](env, 2*time.Minute, contract.UpdateDecide, "c", json.RawMessage(`{"all":true,"choice":"skip"}`))
	last := ask[contract.DecisionReceipt](env, 3*time.Minute, contract.UpdateDecide, "d", json.RawMessage(`{"all":true,"choice":"rebuild"}`))
	startRecovery(env, contract.RecoverInput{Batch: batch, Report: report})
	result := resultOf[contract.RecoverResult](t, env)

	require.ErrorContains(t, both.rejected, "without topic and partition")
	require.ErrorContains(t, nobody.rejected, `no lane that waits for a decision offers "restart"; gap of lane orders/0 offers skip`)
	require.NoError(t, skip.err)
	require.False(t, skip.got.Applied)
	require.Equal(t, "117 of 119 lanes that waited for a decision", skip.got.Note)
	require.Len(t, skip.got.Lanes, contract.MaxDecisionLanes)
	require.Equal(t, 19, skip.got.More)
	require.Equal(t, []int32{7, 9}, []int32{skip.got.Lanes[0].Partition, skip.got.Lanes[1].Partition}, "those that did not get it come first")
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
	given := ask[contract.DecisionReceipt](env, 5*time.Second, contract.UpdateDecide, "a", contract.DecideRequest{All: true, Choice: contract.ChoiceGiveUp})
	startRecovery(env, contract.RecoverInput{})
	require.True(t, given.got.Applied)
	require.Len(t, given.got.Lanes, 2)
	require.Equal(t, contract.OutcomeGivenUp, resultOf[contract.RecoverResult](t, env).Outcome)
}

// Whoever chooses to wait can choose again.
func TestWaitingIsNoEnd(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	env := recoverEnv(h)
	request := contract.DecideRequest{Topic: "orders", Partition: partitionOf(1), Choice: contract.ChoiceWait}
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
	require.Equal(t, contract.LaneSuperseded, result.Lanes[1].State)
	require.Equal(t, contract.OutcomeRecovered, result.Outcome, "the other lane runs")
}

// An incident whose lane somebody else has taken needs no decision.
func TestIncidentOfALaneThatMoved(t *testing.T) {
	h := &hostScript{incident: gapOf()}
	h.owners = []contract.LaneOwner{{Topic: "orders", Token: "4:aa", Epoch: 4}, {Topic: "orders", Partition: 1, Token: "5:bb", Epoch: 5}}
	env := recoverEnv(h)
	startRecovery(env, contract.RecoverInput{})
	result := resultOf[contract.RecoverResult](t, env)
	require.Equal(t, contract.LaneSuperseded, result.Lanes[1].State)
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
	report := &contract.RecoveryReport{Ended: epochTime, Lanes: []contract.RecoveredLane{h.lane(1, contract.StepResume)}}
	env.RegisterDelayedCallback(func() {
		status := statusOf[contract.RecoverStatus](t, env)
		require.Equal(t, contract.StateDeciding, status.State)
		require.Empty(t, status.Step)
		require.Equal(t, "1 of 1 lanes are parked and wait for a decision (update decide)", status.Note)
	}, time.Second)
	good := ask[contract.DecisionReceipt](env, 3*time.Second, contract.UpdateDecide, "a",
		contract.DecideRequest{Topic: "orders", Partition: partitionOf(1), Choice: "skip"})
	startRecovery(env, contract.RecoverInput{Batch: batch, Report: report})
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
		h.owners = []contract.LaneOwner{{Topic: "orders", Token: "4:aa", Stopped: true}, {Topic: "orders", Partition: 1, Token: "4:aa", Stopped: true}}
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
	h := &hostScript{incident: &contract.LaneIncident{ID: "i", Kind: "corrupt-state", From: -1, To: -1}}
	env := recoverEnv(h)
	startRecovery(env, contract.RecoverInput{})
	require.Equal(t, contract.OutcomeParked, resultOf[contract.RecoverResult](t, env).Outcome)
}

func TestHostGone(t *testing.T) {
	t.Run("lanes have other owners", func(t *testing.T) {
		h := &hostScript{owners: []contract.LaneOwner{{Topic: "orders", Token: "5:bb", Epoch: 5}, {Topic: "orders", Partition: 1, Token: "6:cc", Epoch: 6}}}
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
				contract.DecideRequest{Topic: "orders", Partition: partitionOf(n), Choice: contract.ChoiceGiveUp, Reason: "host burnt"})
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
		if step == contract.StepRestore {
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
		if step == contract.StepRestore && failures < 4 {
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
