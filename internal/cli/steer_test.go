package cli

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func TestDrawRecovery(t *testing.T) {
	s := contract.RecoverStatus{
		Batch: report.RecoveryBatch{Pipeline: "p", Worker: "w", Storm: &report.Storm{Since: noon, Changes: 7, Delay: 500}},
		State: contract.StateDeciding, Note: "1 of 2 lanes are parked", Totals: contract.RecoverTotals{Lanes: 2, Running: 1,
			Entries: 10, Reread: 5},
		Steps: []report.StepReport{{Step: "restore", By: "inline", Began: noon, Took: 1500, Slowest: "in/1", Sums: report.StepSums{Done: 2}}},
		Lanes: []report.RecoveredLane{
			{Topic: "in", State: report.LaneRunning, FromEpoch: 3, ToEpoch: 4, Entries: 10},
			{Topic: "in", Partition: 1, State: report.LaneParked, Incident: &report.Incident{Kind: "gap", Detail: "20 offsets were deleted",
				Choices: []report.Choice{{Name: "skip", Text: "go on at 70", Lost: 20}}}},
		},
	}
	var b bytes.Buffer
	require.NoError(t, drawRecoveryStatus(&b, "recover:p:x:1", s))
	for _, text := range []string{
		"recovery of p on w: deciding (1 of 2 lanes are parked)", "2 lanes, 1 running, 10 entries, 0 bytes, 5 records read again",
		"restore  inline  2026-01-01T12:00:00Z  1.5ms  in/1", "3→4", "INCIDENT gap of in/1: 20 offsets were deleted",
		"skip (go on at 70; loses 20 records, reads 0 records again)\n    millrace recover decide recover:p:x:1 in/1 skip",
		"rebalance storm: 7 changes of assignment since 2026-01-01T12:00:00Z",
	} {
		require.Contains(t, b.String(), text)
	}
}

func TestDecisions(t *testing.T) {
	got, err := decision("a/b/12", "skip", "why")
	require.NoError(t, err, "a topic may hold a slash as far as this command knows")
	require.Equal(t, "a/b", got.Topic)
	require.EqualValues(t, 12, *got.Partition)

	one := int32(1)
	for _, c := range []struct {
		receipt contract.DecisionReceipt
		says    string
		code    int
	}{
		{contract.DecisionReceipt{Incident: "gap", Topic: "in", Partition: &one, Choice: "skip", Applied: true, At: noon, RequestID: "r"},
			"decided gap of in/1: skip, applied at 2026-01-01T12:00:00Z (request r)\n", ExitOK},
		{contract.DecisionReceipt{Incident: "gap", Topic: "in", Partition: &one, Choice: "skip", At: noon, Note: "the lane was revoked"},
			"NOT APPLIED", ExitIncomplete},
	} {
		var out bytes.Buffer
		require.Equal(t, c.code, Code((&shell{out: &out}).decided(c.receipt)))
		require.Contains(t, out.String(), c.says)
	}
}

func TestDrawDegrade(t *testing.T) {
	s := contract.DegradeStatus{
		Pipeline: "p", Worker: "w", Dependency: "redis", State: contract.StateDegraded, Began: noon, Changes: 1,
		Machines: []contract.DegradedMachine{{Replica: 2, Level: "journal", Since: noon, Highest: "paused", Override: "hold",
			Times: []contract.LevelTime{{Level: "paused", Took: 1500}}}},
		Timeline: []report.LevelChange{{At: noon, Replica: 2, From: "normal", To: "journal", Reason: "commit errors",
			Numbers: []report.LevelNumber{{Name: "error_rate", Value: 0.9}}}},
		Proof: &contract.JournalProof{Balanced: true, Text: "spilled 9 commits"},
	}
	var b bytes.Buffer
	require.NoError(t, drawDegrade(&b, listed{WorkflowID: "degrade:p:w:redis"}, s))
	for _, text := range []string{"redis of p on w: degraded\n",
		"workflow degrade:p:w:redis, since 2026-01-01T12:00:00Z, 1 change", "paused 1.5s", "normal → journal",
		"error_rate 0.9", "the journal balances: spilled 9 commits"} {
		require.Contains(t, b.String(), text)
	}
}

func TestLevelReceipts(t *testing.T) {
	r := contract.LevelReceipt{Update: "hold", RequestID: "r", Machines: []contract.MachineLevel{
		{Replica: 0, Status: report.LevelStatus{Level: "journal", Override: "hold"}}, {Replica: 1, Problem: "nobody polls the host queue"}}}
	var b bytes.Buffer
	require.NoError(t, drawLevelReceipt(&b, "degrade:p:w:redis", r))
	require.Contains(t, b.String(), "hold: NOT APPLIED everywhere by degrade:p:w:redis (request r)\n  replica 0: level journal, "+
		"override hold\n  replica 1: nobody polls")
	require.Equal(t, ExitIncomplete, Code(notTaken(r)))
	r.Applied, r.Machines = true, r.Machines[:1]
	require.NoError(t, notTaken(r))
}

func TestDrawReplayed(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, drawReplayed(&b, contract.ReplayWALResult{Pipeline: "p", Disk: "d", Outcome: contract.OutcomeDrained, Segments: 2,
		Totals: contract.ReplayTotals{Drained: contract.ReplayTotal{Chains: 3, Commits: 7, Entries: 90, Bytes: 900}}}))
	require.Contains(t, b.String(), "p's WAL on disk d: drained, 2 segments\n")
	require.Contains(t, b.String(), "drained           3        7       90    900")
}
