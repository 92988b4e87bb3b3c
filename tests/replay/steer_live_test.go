package replay

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"millrace/internal/cli"
	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// TestSteer takes RecoverLanes, Degrade and ReplayWAL through what they can do on Temporal's development server: the workflows and
// activities are the real ones, what they act on is scripted.
func TestSteer(t *testing.T) { steer(t) }

// TestWithoutWorkflowCache does what TestSteer and TestReplays do with a workflow cache of nothing: every workflow task replays from
// the start. The cache is one for all workers of a process, so no other test runs meanwhile.
func TestWithoutWorkflowCache(t *testing.T) {
	worker.SetStickyWorkflowCacheSize(0)
	t.Cleanup(func() { worker.SetStickyWorkflowCacheSize(10_000) })
	t.Run("steer", steer)
	t.Run("replays", replays)
}

func steer(t *testing.T) {
	if testing.Short() {
		t.Skip("runs Temporal's development server")
	}
	t.Parallel() // it waits most of the time
	s := newTemporal(t)
	shared := newProcess("shared")
	t.Cleanup(s.serve(shared, contract.TaskQueue))
	for name, steered := range map[string]func(*stack){
		"RecoverLanes": func(s *stack) { recoverLanes(s, shared) }, "ReplayWAL": replayWAL, "Degrade": degrade,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			steered(s.in(t))
		})
	}
}

func steerBatch(p *process, n int64) report.RecoveryBatch {
	return report.RecoveryBatch{
		Pipeline: "orders", Process: p.name, Worker: p.name, Queue: contract.HostQueue(p.name), Batch: n, Began: time.Now(),
		Reason: "rebalance",
		Lanes:  []report.LaneRef{{Topic: "orders"}, {Topic: "orders", Partition: 1}},
	}
}

func (s *stack) startRecovery(b report.RecoveryBatch, told *report.RecoveryReport) (id string) {
	id = contract.RecoverLanesID(b.Pipeline, b.Process, b.Batch)
	for range 2 { // the second one changes nothing
		_, err := s.client.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{
			ID: id, TaskQueue: contract.TaskQueue, WorkflowRunTimeout: contract.RecoverTimeout,
			WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
			WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		}, contract.WorkflowRecoverLanes, contract.RecoverInput{Version: contract.Version, Batch: b, Report: told})
		require.NoError(s.t, err)
	}
	return id
}

func recoverLanes(s *stack, shared *process) {
	host := newProcess("host-a")
	stop := s.serve(host, contract.HostQueue(host.name))
	host.incident = &report.Incident{ID: "i1", Kind: "gap", From: 50, To: 70, Detail: "20 offsets were deleted",
		Choices: []report.Choice{{Name: "skip", Text: "go on at 70", Lost: 20}}}
	shared.owners = []contract.LaneOwner{{Topic: "orders", Token: "4:aa", Epoch: 4},
		{Topic: "orders", Partition: 1, Token: "4:aa", Epoch: 4}}
	id := s.startRecovery(steerBatch(host, 1), nil)
	s.eventually("it asks", func() bool {
		var status contract.RecoverStatus
		return s.query(id, &status) == nil && status.State == contract.StateDeciding
	})
	one := int32(1)
	var receipt contract.DecisionReceipt
	err := s.ask(id, contract.UpdateDecide, "", contract.DecideRequest{Topic: "orders", Partition: &one, Choice: "rebuild"}, &receipt)
	require.ErrorContains(s.t, err, "want skip (go on at 70; loses 20 records")
	s.mustMillrace(id, "recover", "ls", "orders")
	s.mustMillrace("millrace recover decide "+id+" orders/1 skip", "recover", "show", id)
	code, _, errs := s.millrace("recover", "decide", id, "orders/1", "rebuild")
	require.Equal(s.t, cli.ExitFailed, code)
	require.Contains(s.t, errs, "want skip (go on at 70; loses 20 records")
	s.mustMillrace("skip, applied at", "recover", "decide", id, "orders/1", "skip", "--request-id", "decide-1", "--reason", "test")
	var result contract.RecoverResult
	require.NoError(s.t, s.outcome(id, time.Minute, &result))
	require.Equal(s.t, contract.OutcomeRecovered, result.Outcome)
	require.Equal(s.t, 2, result.Totals.Running)
	s.capture("recoverlanes_decided", id, "")

	done := steerBatch(host, 2)
	told := &report.RecoveryReport{Ended: done.Began.Add(time.Second)}
	for _, step := range report.Steps() {
		told.Steps = append(told.Steps, report.StepReport{Step: step, By: report.ByInline, Began: done.Began, Took: 900})
	}
	told.Lanes = []report.RecoveredLane{host.lane(0, report.StepResume), host.lane(1, report.StepResume)}
	id = s.startRecovery(done, told)
	require.NoError(s.t, s.outcome(id, time.Minute, &result))
	require.Equal(s.t, report.ByInline, result.By)
	require.WithinDuration(s.t, told.Ended, result.Ended, 0)
	s.capture("recoverlanes_inline", id, "")
	stop()

	// Nobody polls the host's queue: it comes back once, and then another worker has the lanes.
	gone := newProcess("host-b")
	id = s.startRecovery(steerBatch(gone, 1), nil)
	s.eventually("the host is missed", func() bool {
		var status contract.RecoverStatus
		return s.query(id, &status) == nil && status.State == contract.StateHostGone
	})
	stop = s.serve(gone, contract.HostQueue(gone.name))
	require.NoError(s.t, s.client.SignalWorkflow(context.Background(), id, "", contract.SignalHostBack, nil))
	require.NoError(s.t, s.outcome(id, time.Minute, &result))
	require.Equal(s.t, contract.OutcomeRecovered, result.Outcome)
	s.capture("recoverlanes_host_back", id, "")
	stop()
	shared.mu.Lock()
	shared.owners = []contract.LaneOwner{{Topic: "orders", Token: "5:bb", Epoch: 5},
		{Topic: "orders", Partition: 1, Token: "6:cc", Epoch: 6}}
	shared.mu.Unlock()
	id = s.startRecovery(steerBatch(newProcess("host-c"), 1), nil)
	s.eventually("the host is missed", func() bool {
		var status contract.RecoverStatus
		return s.query(id, &status) == nil && status.State == contract.StateHostGone
	})
	shared.mu.Lock()
	shared.owners[0].Token, shared.owners[1].Token = "7:dd", "7:ee"
	shared.mu.Unlock()
	require.NoError(s.t, s.client.SignalWorkflow(context.Background(), id, "", contract.SignalHostBack, nil))
	require.NoError(s.t, s.outcome(id, time.Minute, &result))
	require.Equal(s.t, contract.OutcomeSuperseded, result.Outcome)
	s.capture("recoverlanes_superseded", id, "")
}

func replayWAL(s *stack) {
	host := newProcess("host-d")
	live := chainAt(3, "02")
	live.Live = true
	host.hold(chainAt(0, "01"), chainAt(1, "01"), chainAt(2, "02"), live)
	host.corrupt = true
	defer s.serve(host, contract.DiskQueue(host.Disk()))()
	id := contract.ReplayWALID("orders", host.Disk())
	_, err := s.client.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{ID: id, TaskQueue: contract.TaskQueue},
		contract.WorkflowReplayWAL, contract.ReplayWALInput{Pipeline: "orders", Disk: host.Disk(), BytesPerSecond: 1 << 20})
	require.NoError(s.t, err)
	s.eventually("it asks", func() bool {
		var status contract.ReplayWALStatus
		return s.query(id, &status) == nil && status.State == contract.StateDeciding && status.Corrupt.From == 4096
	})
	s.mustMillrace(id, "wal", "replay", "orders", "--disk", host.Disk()) // follows the one that runs
	s.mustMillrace("quarantine, applied at", "wal", "decide", "orders", "quarantine", "--disk", host.Disk(), "--request-id", "decide-2")
	s.eventually("it waits for the live lane", func() bool {
		var status contract.ReplayWALStatus
		return s.query(id, &status) == nil && status.State == contract.StateWaiting && len(status.Live) == 1
	})
	host.hold()
	var result contract.ReplayWALResult
	require.NoError(s.t, s.outcome(id, time.Minute, &result))
	require.Equal(s.t, contract.OutcomeDrained, result.Outcome)
	require.EqualValues(s.t, 3, result.Totals.Drained.Chains)
	require.EqualValues(s.t, 4096, result.Totals.Quarantined.Bytes)
	s.capture("replaywal_quarantine", id, "")
	s.mustMillrace("drained, 0 segments", "wal", "replay", "orders", "--disk", host.Disk(), "--wait")
}

func degrade(s *stack) {
	host := newProcess("host-e")
	host.books = report.JournalAccounts{Spilled: account(9, "0f"), Drained: account(7, "0a"), Superseded: account(2, "05")}
	stopHost := s.serve(host, contract.HostQueue(host.name))
	defer s.serve(host, contract.DiskQueue(host.Disk()))()
	host.move("normal", "journal")
	id := contract.DegradeID("orders", host.name, report.DependencyRedis)
	s.leaveNormal(host, id, 0)
	first := s.currentRun(id)
	for range 8 { // many enough to be continued as new
		s.told(id, host)
		host.move("journal", "throttled")
		s.told(id, host)
		host.move("throttled", "journal")
	}
	s.mustMillrace("journal → throttled", "degrade", "status", "orders")
	s.mustMillrace("hold: applied by "+id, "degrade", "hold", "orders", "--worker", host.name, "--reason", "maintenance",
		"--request-id", "hold-0")
	code, _, errs := s.millrace("degrade", "auto", "orders", "--worker", host.name, "--expect-generation", "0")
	require.Equal(s.t, cli.ExitFailed, code)
	require.Contains(s.t, errs, "expect_generation is 0, and the overrides of redis on host-e have generation 1")
	for _, update := range []string{contract.UpdateHold, contract.UpdateOpen, contract.UpdateClose, contract.UpdateAuto} {
		var receipt contract.LevelReceipt
		require.NoError(s.t, s.ask(id, update, update+"-1", contract.LevelRequest{Reason: "test"}, &receipt), update)
		require.True(s.t, receipt.Applied, "%+v", receipt)
	}
	s.told(id, host)
	host.move("journal", "normal")
	s.told(id, host)
	s.eventually("it is back at normal", func() bool {
		var status contract.DegradeStatus
		return s.query(id, &status) == nil && status.State == contract.StateSettling && status.Proof != nil
	})
	host.move("normal", "journal")
	s.leaveNormal(host, id, host.LevelStatus().Seq-1)
	s.told(id, host)
	host.move("journal", "normal")
	var result contract.DegradeResult
	require.NoError(s.t, s.outcome(id, 2*time.Minute, &result))
	require.Equal(s.t, contract.OutcomeNormal, result.Outcome)
	require.True(s.t, result.Proof.Balanced, result.Proof.Text)
	require.EqualValues(s.t, host.LevelStatus().Seq, result.Changes, "every change is told once")
	require.NotEqual(s.t, first, s.currentRun(id), "it has continued as new")
	s.captureChain("degrade_normal", id, first)

	// The worker dies away from normal: what is in its journal is looked after.
	host.hold(chainAt(0, "01"))
	host.move("normal", "journal")
	s.leaveNormal(host, id, host.LevelStatus().Seq-1)
	s.told(id, host)
	stopHost()
	require.NoError(s.t, s.outcome(id, time.Minute, &result))
	require.Equal(s.t, contract.OutcomeWorkerGone, result.Outcome)
	s.capture("degrade_worker_gone", id, "")
	var replayed contract.ReplayWALResult
	require.NoError(s.t, s.outcome(contract.ReplayWALID("orders", host.Disk()), time.Minute, &replayed))
	require.EqualValues(s.t, 1, replayed.Totals.Drained.Chains)
	s.capture("replaywal_child", contract.ReplayWALID("orders", host.Disk()), "")
}

func account(n int64, checksum string) report.Account {
	return report.Account{Commits: n, Calls: n, Entries: 10 * n, Bytes: 100 * n, Checksum: checksum}
}

// leaveNormal does what a process does when a state machine leaves normal.
func (s *stack) leaveNormal(p *process, id string, after int64) {
	_, err := s.client.SignalWithStartWorkflow(context.Background(), id, contract.SignalLevel, contract.LevelSignal{
		Process: p.name, Queue: contract.HostQueue(p.name), Disk: p.Disk(), After: after, At: time.Now(), Level: report.LevelJournal,
	}, client.StartWorkflowOptions{ID: id, TaskQueue: contract.TaskQueue}, contract.WorkflowDegrade, contract.DegradeInput{
		Version: contract.Version, Pipeline: "orders", Worker: p.name, Dependency: report.DependencyRedis,
	})
	require.NoError(s.t, err)
}

// told waits until the workflow has told every change.
func (s *stack) told(id string, p *process) {
	s.t.Helper()
	s.eventually("every change is told", func() bool {
		var status contract.DegradeStatus
		return s.query(id, &status) == nil && len(status.Machines) > 0 && status.Machines[0].Seq == p.LevelStatus().Seq
	})
}
