package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// reset resets a workflow to its last workflow task, as an operator does after a fix, and returns the new run.
func (s *stack) reset(id string) string {
	s.t.Helper()
	run := s.currentRun(id)
	var at int64
	history := s.client.GetWorkflowHistory(context.Background(), id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for history.HasNext() {
		event, err := history.Next()
		require.NoError(s.t, err)
		if event.EventType == enumspb.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			at = event.EventId
		}
	}
	answer, err := s.client.ResetWorkflowExecution(context.Background(), &workflowservice.ResetWorkflowExecutionRequest{
		Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: id, RunId: run}, Reason: "test",
		WorkflowTaskFinishEventId: at, RequestId: uuid.NewString(),
		ResetReapplyExcludeTypes: []enumspb.ResetReapplyExcludeType{enumspb.RESET_REAPPLY_EXCLUDE_TYPE_UPDATE},
	})
	require.NoError(s.t, err)
	return answer.RunId
}

// ends takes a workflow that begin brings into a state out of it: cancelled, terminated, and reset and then cancelled. A spin would be
// a workflow that does not end.
func (s *stack) ends(id func(n int) string, state string, begin func(n int)) {
	s.t.Helper()
	inState := func(id string) {
		s.t.Helper()
		s.eventually(id+" is "+state, func() bool {
			var status struct {
				State string `json:"state"`
			}
			return s.query(id, &status) == nil && status.State == state
		})
	}
	ctx := context.Background()
	for n, how := range []string{"cancel", "terminate", "reset"} {
		id := id(n)
		began := time.Now()
		begin(n)
		inState(id)
		switch how {
		case "terminate":
			require.NoError(s.t, s.client.TerminateWorkflow(ctx, id, "", "test"))
			s.closes(id, enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED)
		case "reset":
			s.reset(id)
			inState(id)
			fallthrough
		case "cancel":
			require.NoError(s.t, s.client.CancelWorkflow(ctx, id, ""))
			s.closes(id, enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED)
		}
		s.t.Logf("%s of %s in state %q: %s", how, id, state, time.Since(began).Round(100*time.Millisecond))
	}
}

// TestCancelTerminateResetSteering takes the workflows that a worker or an operator starts out of the states in which they wait.
func TestCancelTerminateResetSteering(t *testing.T) {
	if testing.Short() {
		t.Skip("runs Temporal's development server")
	}
	t.Parallel() // it waits most of the time
	s := newTemporal(t)
	shared := newProcess("shared")
	shared.owners = []contract.LaneOwner{{Topic: "orders", Token: "4:aa", Epoch: 4},
		{Topic: "orders", Partition: 1, Token: "4:aa", Epoch: 4}}
	defer s.serve(shared, contract.TaskQueue)()
	host := newProcess("host-x")
	defer s.serve(host, contract.HostQueue(host.name), contract.DiskQueue(host.Disk()))()
	host.incident = &report.Incident{ID: "i1", Kind: "gap", From: 50, To: 70, Detail: "20 offsets were deleted",
		Choices: []report.Choice{{Name: "skip", Text: "go on at 70", Lost: 20}}}
	gone := newProcess("host-y")

	batch := func(p *process, n int) report.RecoveryBatch { return steerBatch(p, int64(10+n)) }
	recoveryID := func(p *process) func(int) string {
		return func(n int) string { return contract.RecoverLanesID("orders", p.name, int64(10+n)) }
	}
	s.ends(recoveryID(host), contract.StateDeciding, func(n int) { s.startRecovery(batch(host, n), nil) })
	s.ends(recoveryID(gone), contract.StateHostGone, func(n int) { s.startRecovery(batch(gone, n), nil) })

	host.move("normal", "journal")
	degradeID := contract.DegradeID("orders", host.name, report.DependencyRedis)
	s.ends(func(int) string { return degradeID }, contract.StateDegraded, func(int) { s.leaveNormal(host, degradeID, 0) })

	host.hold(chainAt(1, "01")) // which is the corrupt one
	host.corrupt = true
	replayID := contract.ReplayWALID("orders", host.Disk())
	startReplay := func(disk string) {
		_, err := s.client.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{
			ID: contract.ReplayWALID("orders", disk), TaskQueue: contract.TaskQueue,
		}, contract.WorkflowReplayWAL, contract.ReplayWALInput{Pipeline: "orders", Disk: disk})
		require.NoError(t, err)
	}
	s.ends(func(int) string { return replayID }, contract.StateDeciding, func(int) { startReplay(host.Disk()) })
	s.ends(func(int) string { return contract.ReplayWALID("orders", "nowhere") }, contract.StateHostGone,
		func(int) { startReplay("nowhere") })
}

// TestCancelTerminateResetPipeline takes a pipeline, its children and what it leaves out of their states, over the real hot path.
func TestCancelTerminateResetPipeline(t *testing.T) {
	if testing.Short() {
		t.Skip("runs Temporal's development server")
	}
	t.Parallel() // it waits most of the time
	s, input := newOrders(t)
	s.startWorkers("worker-a")
	id, closer := contract.PipelineID("orders"), contract.CloseWindowsID("orders")
	children := []string{contract.ReplicaID("orders", 0), contract.ReplicaID("orders", 1), closer}
	s.endsWithPromotedWindows(input)

	require.NoError(t, s.startPipeline(id, input))
	s.placed("orders", 2)
	// A child that is terminated, cancelled or reset is there again, in a run of its own. A pipeline that has continued as new
	// does not hear of a child's termination and finds it with its next look, in ten minutes at most: not waited for here.
	for _, how := range []string{"terminate", "cancel", "reset"} {
		for _, child := range children {
			if how == "terminate" && s.status("orders").Runs > 0 {
				continue
			}
			before := s.currentRun(child)
			switch how {
			case "cancel":
				require.NoError(t, s.client.CancelWorkflow(context.Background(), child, ""))
			case "terminate":
				require.NoError(t, s.client.TerminateWorkflow(context.Background(), child, "", "test"))
			case "reset":
				s.reset(child)
			}
			s.eventually(fmt.Sprintf("%s after %s", child, how), func() bool { return s.currentRun(child) != before && s.isOpen(child) })
			s.placed("orders", 2)
		}
	}
	s.reset(id)
	s.placed("orders", 2)
	s.feed("orders", hours(1006, 1007)...)
	s.eventually("the hot paths go on", func() bool { return s.offsets("orders", 4) == 64 })
	require.True(t, s.mustUpdate(contract.UpdatePause, "pause-1", "orders", contract.PauseRequest{}).Applied)
	s.reset(id)
	s.eventually("it is paused or runs, as it was before the update that was not applied again", func() bool {
		return s.status("orders").State == contract.StateRunning || s.status("orders").State == contract.StatePaused
	})
	require.NoError(t, s.client.CancelWorkflow(context.Background(), id, ""))
	s.closes(id, enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED)
	for _, child := range children {
		s.eventually(child+" follows", func() bool { return !s.isOpen(child) })
	}

	// Terminated: nobody is told, and they find out.
	require.NoError(t, s.startPipeline(id, input))
	s.placed("orders", 2)
	require.NoError(t, s.client.TerminateWorkflow(context.Background(), id, "", "test"))
	for _, child := range children {
		require.True(t, assert.Eventually(t, func() bool { return !s.isOpen(child) }, 3*contract.OpenCheckEvery, time.Second, "%s follows",
			child))
	}

	removal := func(int) {
		_, err := s.client.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{
			ID: contract.RemoveID("orders"), TaskQueue: contract.TaskQueue,
		}, contract.WorkflowRemove, contract.RemoveInput{Version: 1, Pipeline: "orders", GraceSeconds: 1})
		require.NoError(t, err)
	}
	s.ends(func(int) string { return contract.RemoveID("orders") }, contract.StateAsking, removal)
}

// endsWithPromotedWindows takes a closer with a window in a workflow of its own, and that workflow, out of what they do.
func (s *stack) endsWithPromotedWindows(input json.RawMessage) {
	closer := contract.CloseWindowsID("orders")
	ref := report.WindowRef{Window: "hourly", Start: 990 * hour}
	window := contract.CloseWindowID("orders", ref)
	start := func(id, kind string, in any) {
		_, err := s.client.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{ID: id, TaskQueue: contract.TaskQueue}, kind,
			in)
		require.NoError(s.t, err)
	}
	s.ends(func(int) string { return closer }, contract.ChildClosing, func(int) {
		start(closer, contract.WorkflowCloseWindows, contract.CloseWindowsInput{
			Version: 1, Pipeline: "orders", Spec: input, Promoted: []report.FailedWindow{{WindowRef: ref, Problem: "test"}},
		})
		// The window's own workflow waits for lanes that are not there, and so stays as long as it is let.
		if d, err := s.client.DescribeWorkflowExecution(context.Background(), window, ""); err != nil ||
			d.WorkflowExecutionInfo.Status != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			start(window, contract.WorkflowCloseWindow, contract.CloseWindowInput{
				Version: 1, Pipeline: "orders", Spec: input, Window: ref, Problem: "test",
			})
		}
	})
	s.eventually("the window's workflow follows", func() bool { return !s.isOpen(window) })
}
