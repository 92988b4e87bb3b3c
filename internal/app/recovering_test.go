package app

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

var began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func lost() *lane.Incident {
	return &lane.Incident{
		ID: "state-lost:7:x", Kind: lane.IncidentStateLost, From: 0, To: 90, Detail: "Redis holds no state",
		Choices: []lane.Choice{{Name: lane.ChoiceRebuild, Text: "read again", Reread: 60}, {Name: lane.ChoiceWait, Text: "stay parked"}},
	}
}

func TestBatchAsTheControlPlaneSeesIt(t *testing.T) {
	e := &engines{process: "p1", worker: "worker-a"}
	told := engine.BatchReport{
		Batch:  engine.Batch{ID: 4, Pipeline: "orders", Replica: 2, Opened: began},
		Closed: began.Add(time.Second), Cut: 7,
		Steps: []engine.StepReport{
			{Step: lane.StepAcquire, By: lane.ByTemporal, Lanes: 3, Done: 3, Started: began, Ms: 1.5, Slowest: "orders/events/1",
				Most: 1.25},
			{Step: lane.StepVerify, By: lane.ByInline, Lanes: 3, Done: 1, Parked: 1, Gone: 1, Entries: 5, Bytes: 6, Reread: 7, Commits: 8,
				Started: began},
		},
		Rows: []engine.LaneReport{
			{
				Lane: "orders/events/1", Token: "7:y", Outcome: lane.OutcomeResumed, From: 6, To: 7, Entries: 11, Bytes: 12,
				Start: 30, LogStart: 1, LogEnd: 99,
				Reread: 9, Steps: map[string]float64{lane.StepVerify: 0.5, lane.StepAcquire: 1.25},
				Journal: &report.SettledChain{
					ChainRef: report.ChainRef{Topic: "events", Partition: 1, Chain: "6:w"}, Outcome: report.ChainDrained,
					Commits: 2, Calls: 3, Entries: 4, Bytes: 5, From: 20, To: 30,
				},
			},
			{Lane: "orders/events/2", Token: "7:x", Outcome: lane.OutcomeParked, Start: -1, Error: "incident state-lost", Incident: lost()},
			{Lane: "orders/events/3", Outcome: lane.OutcomeGone, Error: "fenced"},
			{Lane: "orders/events/4"},
		},
	}
	storm := &engine.Storm{Active: true, Since: began, Changes: 9, DelayMs: 40,
		Timeline: []engine.Change{{At: began, Lanes: 3, DelayMs: 20}}}
	got := e.reported(told, storm)
	require.Equal(t, report.RecoveryBatch{
		Pipeline: "orders", Replica: 2, Process: "p1", Worker: "worker-a", Queue: "millrace:p:p1", Batch: 4, Began: began, More: 7,
		Lanes: []report.LaneRef{{Topic: "events", Partition: 1}, {Topic: "events", Partition: 2}, {Topic: "events", Partition: 3},
			{Topic: "events", Partition: 4}},
		Storm: &report.Storm{Since: began, Changes: 9, Delay: 40, Timeline: []report.StormEvent{{At: began, Lanes: 3, Delay: 20}}},
	}, got.Batch)
	require.Equal(t, began.Add(time.Second), got.Ended)
	require.Equal(t, report.StepReport{
		Step: report.StepVerify, By: report.ByInline, Began: began,
		Sums: report.StepSums{Lanes: 3, Done: 1, Parked: 1, Gone: 1, Entries: 5, Bytes: 6, Reread: 7, Drained: 8},
	}, got.Steps[1])
	require.EqualValues(t, 1500, got.Steps[0].Took)
	require.EqualValues(t, 1250, got.Steps[0].Most)

	resumed := got.Lanes[0]
	require.Equal(t, report.LaneRunning, resumed.State)
	require.Equal(t, []report.StepTime{
		{Step: report.StepAcquire, By: report.ByTemporal, Began: began, Took: 1250},
		{Step: report.StepVerify, By: report.ByInline, Began: began, Took: 500},
	}, resumed.Steps, "in the order of the steps")
	require.Equal(t, &report.SettledChain{
		ChainRef: report.ChainRef{Topic: "events", Partition: 1, Chain: "6:w"}, Outcome: report.ChainDrained,
		Commits: 2, Calls: 3, Entries: 4, Bytes: 5,
		From: 20, To: 30,
	}, resumed.Journal)

	parked := got.Lanes[1]
	require.Equal(t, report.LaneParked, parked.State)
	require.Empty(t, parked.Note, "the incident says it")
	require.Equal(t, &report.Incident{
		ID: "state-lost:7:x", Kind: "state-lost", From: 0, To: 90, Detail: "Redis holds no state",
		Choices: []report.Choice{{Name: "rebuild", Text: "read again", Reread: 60}, {Name: "wait", Text: "stay parked"}},
	}, parked.Incident)
	require.Equal(t, report.LaneSuperseded, got.Lanes[2].State)
	require.Equal(t, "fenced", got.Lanes[2].Note)
	require.Equal(t, report.LaneRecovering, got.Lanes[3].State)

	storm.Active = false
	require.Nil(t, e.announced(told.Batch, storm).Storm, "a storm that is over is no news")
}

// Lanes that parked while they ran have taken no step in this batch, and say why they are in it.
func TestMidRunBatchAsTheControlPlaneSeesIt(t *testing.T) {
	e := &engines{process: "p1", worker: "worker-a"}
	gap := lost()
	gap.Kind = lane.IncidentGap
	got := e.reported(engine.BatchReport{
		Batch: engine.Batch{ID: 5, Pipeline: "orders", Opened: began, MidRun: true}, Closed: began, Count: 3, Parked: 3, By: lane.ByInline,
		Steps: []engine.StepReport{{Step: lane.StepAcquire, By: lane.ByInline, Lanes: 3, Parked: 3}},
		Rows: []engine.LaneReport{
			{Lane: "orders/events/1", Token: "7:x", Outcome: lane.OutcomeParked, From: 7, To: 7, Committed: 30, Start: 30, LogStart: -1,
				LogEnd: 99, Incident: lost()},
			{Lane: "orders/events/2", Token: "7:y", Outcome: lane.OutcomeParked, Incident: gap},
			{Lane: "orders/events/3", Token: "7:z", Outcome: lane.OutcomeParked, Incident: gap},
		},
	}, nil)
	require.True(t, got.Batch.MidRun)
	require.Equal(t, "parked while running: gap of 2, state-lost of 1", got.Batch.Reason)
	require.Empty(t, got.Steps)
	require.Equal(t, report.RecoveredLane{
		Topic: "events", Partition: 1, State: report.LaneParked, Token: "7:x", FromEpoch: 7, ToEpoch: 7, Offset: 30,
		LogStart: -1, LogEnd: 99,
		Incident: laneIncident(lost()),
	}, got.Lanes[0])
	require.Equal(t, "3 lanes of orders on worker-a: parked while running: gap of 2, state-lost of 1", recoverySummary(got.Batch, &got))
}

// A lane of a batch that is long over is shown as it is now.
func TestPresentLane(t *testing.T) {
	batch := report.RecoveredLane{Topic: "events", Partition: 2, State: report.LaneParked, Offset: -1, ToEpoch: 7,
		Incident: laneIncident(lost())}
	decision := lane.Decision{Incident: "state-lost:7:x", Choice: lane.ChoiceRebuild, Start: -1}
	carried := decision
	carried.Start = 30
	void := decision
	void.Void = "the log was trimmed"
	tests := []struct {
		name    string
		now     lane.Status
		want    report.RecoveredLane
		decided string
		waits   bool
	}{
		{"parked still", lane.Status{State: lane.StateParked}, batch, "", false},
		{"decided, not carried out", lane.Status{State: lane.StateParked, Decisions: []lane.Decision{decision}}, batch, "rebuild", true},
		{"restoring", lane.Status{State: lane.StateRestoring, Decisions: []lane.Decision{carried}},
			report.RecoveredLane{State: report.LaneParked, Offset: -1, ToEpoch: 7, Reread: 60}, "rebuild", true},
		{"goes on", lane.Status{State: lane.StateRunning, Committed: 30, Owner: "8:q", Decisions: []lane.Decision{carried}},
			report.RecoveredLane{State: report.LaneRunning, Offset: 30, ToEpoch: 8, Reread: 60}, "rebuild", false},
		{"paused by the operator", lane.Status{State: lane.StatePaused, Committed: 30, Owner: "8:q", Decisions: []lane.Decision{carried}},
			report.RecoveredLane{State: report.LaneRunning, Offset: 30, ToEpoch: 8, Reread: 60}, "rebuild", false},
		{"cannot be done", lane.Status{State: lane.StateParked, Decisions: []lane.Decision{void}},
			report.RecoveredLane{State: report.LaneParked, Offset: -1, ToEpoch: 7, Note: "the log was trimmed"}, "rebuild", false},
		{"chosen to wait", lane.Status{State: lane.StateParked,
			Decisions: []lane.Decision{{Incident: "state-lost:7:x", Choice: lane.ChoiceWait, Start: -1}}}, batch, "", true},
		{"decided about another incident", lane.Status{State: lane.StateParked,
			Decisions: []lane.Decision{{Incident: "gap:1", Choice: "skip"}}}, batch, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.now.Topic, tt.now.Partition = "events", 2
			lanes := []lane.Status{{Topic: "events", Partition: 1, State: lane.StateRunning}, tt.now}
			got := present(batch, lanes)
			require.Equal(t, tt.decided, got.Incident.Decided)
			require.Empty(t, batch.Incident.Decided, "the batch's report is not changed")
			require.Equal(t, tt.want.State, got.State)
			require.Equal(t, tt.want.Offset, got.Offset)
			require.Equal(t, tt.want.ToEpoch, got.ToEpoch)
			require.Equal(t, tt.want.Reread, got.Reread)
			require.Equal(t, tt.want.Note, got.Note)
			in := contract.DecideIncidentInput{Topic: "events", Partition: 2, Incident: "state-lost:7:x", Choice: lane.ChoiceRebuild}
			require.Equal(t, tt.waits, !decided(lanes, in))
			in.Choice = lane.ChoiceWait
			require.True(t, decided(lanes, in), "there is nothing to wait for")
		})
	}
	gone := contract.DecideIncidentInput{Topic: "events", Partition: 9, Choice: lane.ChoiceRebuild}
	require.True(t, decided(nil, gone))
	require.Equal(t, batch, present(batch, nil))
	quietLane := report.RecoveredLane{Topic: "events", Partition: 1, State: report.LaneRunning, Offset: 5}
	require.Equal(t, quietLane, present(quietLane, []lane.Status{{Topic: "events", Partition: 1, State: lane.StateRunning, Committed: 99}}))
}

func TestDecisionIsAwaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks, start := 0, time.Now()
		awaitDecided(t.Context(), func() bool { looks++; return looks == 5 })
		require.Equal(t, 4*decidedEvery, time.Since(start))
		start = time.Now()
		awaitDecided(t.Context(), func() bool { return false })
		require.Equal(t, decidedMost, time.Since(start), "a lane that takes its time holds no answer up for ever")
	})
}

func TestStaleErrors(t *testing.T) {
	for _, err := range []error{
		engine.ErrNoBatch, engine.ErrNoLane, lane.ErrStaleStep, lane.ErrNotParked, lane.ErrOtherIncident, lane.ErrDecided,
		lane.ErrUnknownChoice, store.ErrFenced,
	} {
		got := stale("orders", fmt.Errorf("decide: %w", err))
		require.ErrorIs(t, got, activities.ErrStale)
		require.ErrorIs(t, got, err)
	}
	other := errors.New("redis is away")
	require.Equal(t, other, stale("orders", other))
	require.NoError(t, stale("orders", nil))
	_, err := (&engines{}).find("orders", 0)
	require.ErrorIs(t, err, activities.ErrStale)
}

func TestLaneOf(t *testing.T) {
	require.Equal(t, report.LaneRef{Topic: "events", Partition: 12}, laneOf("orders/events/12"))
	require.Equal(t, report.LaneRef{}, laneOf("orders"))
}
