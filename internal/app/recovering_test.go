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

func lost() *report.Incident {
	return &report.Incident{
		ID: "state-lost:7:x", Kind: report.IncidentStateLost, From: 0, To: 90, Detail: "Redis holds no state",
		Choices: []report.Choice{{Name: report.ChoiceRebuild, Text: "read again", Reread: 60}, {Name: report.ChoiceWait, Text: "stay parked"}},
	}
}

func TestABatchSaysWhereItsProcessIs(t *testing.T) {
	e := &engines{process: "p1", worker: "worker-a"}
	want := report.RecoveryBatch{
		Pipeline: "orders", Replica: 2, Process: "p1", Worker: "worker-a", Queue: "millrace:p:p1", Batch: 4, Began: began,
		Lanes: []report.LaneRef{{Topic: "events", Partition: 1}},
	}
	told := want
	told.Process, told.Worker, told.Queue = "", "", ""
	require.Equal(t, want, e.addressed(told))
	want.MidRun, want.Reason = true, "parked while running: gap of 2, state-lost of 1"
	require.Equal(t, "1 lanes of orders on worker-a: parked while running: gap of 2, state-lost of 1",
		recoverySummary(want, &report.RecoveryReport{}))
}

// How a lane came back that was decided about is told with what it was decided about.
func TestALaneThatCameBackInALaterBatch(t *testing.T) {
	parked := report.RecoveredLane{Topic: "events", Partition: 2, State: report.LaneRunning, Offset: 30, Reread: 60, Incident: lost()}
	back := report.RecoveredLane{Topic: "events", Partition: 2, State: report.LaneRunning, Token: "8:q", ToEpoch: 8, Entries: 5, Offset: 31}
	got := recoveredLater(parked, back, "recover:orders:p1:9")
	require.Equal(t, lost(), got.Incident)
	require.EqualValues(t, []int64{30, 60, 8, 5}, []int64{got.Offset, got.Reread, got.ToEpoch, got.Entries})
	require.Equal(t, "recovered by recover:orders:p1:9", got.Note)
}

// A lane of a batch that is long over is shown as it is now.
func TestPresentLane(t *testing.T) {
	batch := report.RecoveredLane{Topic: "events", Partition: 2, State: report.LaneParked, Offset: -1, ToEpoch: 7,
		Incident: lost()}
	decision := report.Decision{Incident: "state-lost:7:x", Choice: report.ChoiceRebuild, Start: -1}
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
		{"decided, not carried out", lane.Status{State: lane.StateParked, Decisions: []report.Decision{decision}}, batch, "rebuild", true},
		{"restoring", lane.Status{State: lane.StateRestoring, Decisions: []report.Decision{carried}},
			report.RecoveredLane{State: report.LaneParked, Offset: -1, ToEpoch: 7, Reread: 60}, "rebuild", true},
		{"goes on", lane.Status{State: lane.StateRunning, Committed: 30, Owner: "8:q", Decisions: []report.Decision{carried}},
			report.RecoveredLane{State: report.LaneRunning, Offset: 30, ToEpoch: 8, Reread: 60}, "rebuild", false},
		{"paused by the operator", lane.Status{State: lane.StatePaused, Committed: 30, Owner: "8:q", Decisions: []report.Decision{carried}},
			report.RecoveredLane{State: report.LaneRunning, Offset: 30, ToEpoch: 8, Reread: 60}, "rebuild", false},
		{"cannot be done", lane.Status{State: lane.StateParked, Decisions: []report.Decision{void}},
			report.RecoveredLane{State: report.LaneParked, Offset: -1, ToEpoch: 7, Note: "the log was trimmed"}, "rebuild", false},
		{"chosen to wait", lane.Status{State: lane.StateParked,
			Decisions: []report.Decision{{Incident: "state-lost:7:x", Choice: report.ChoiceWait, Start: -1}}}, batch, "", true},
		{"decided about another incident", lane.Status{State: lane.StateParked,
			Decisions: []report.Decision{{Incident: "gap:1", Choice: "skip"}}}, batch, "", false},
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
			in := contract.DecideIncidentInput{Topic: "events", Partition: 2, Incident: "state-lost:7:x", Choice: report.ChoiceRebuild}
			require.Equal(t, tt.waits, !decided(lanes, in))
			in.Choice = report.ChoiceWait
			require.True(t, decided(lanes, in), "there is nothing to wait for")
		})
	}
	gone := contract.DecideIncidentInput{Topic: "events", Partition: 9, Choice: report.ChoiceRebuild}
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
