package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

const ordersYAML = `
name: orders
source: {topics: [orders], format: json}
event:
  key: [shop]
  time: {field: at, unit: ms}
aggregates:
  orders:  {func: count}
  revenue: {func: sum, field: cents, type: int}
windows:
  - {name: hourly, size: 1h}
watermark: {out_of_orderness: 5s, idle_timeout: 1s}
allowed_lateness: 0s
results: {kafka: {topic: orders.windows}}
replicas: 2
`

const hour = 3_600_000 // ms

func order(at int64, shop string) string {
	return fmt.Sprintf(`{"at":%d,"shop":%q,"cents":100}`, at, shop)
}

// hours makes orders, a few in each hour from first to last.
func hours(first, last int64) (lines []string) {
	for h := first; h <= last; h++ {
		for i := range int64(8) {
			lines = append(lines, order(h*hour+i*60_000, fmt.Sprintf("shop-%d", i%3)))
		}
	}
	return lines
}

func (s *stack) startPipeline(id string, input json.RawMessage) error {
	_, err := s.client.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{
		ID: id, TaskQueue: contract.TaskQueue, StaticSummary: "orders by the hour",
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowExecutionErrorWhenAlreadyStarted: true,
	}, contract.WorkflowPipeline, input)
	return err
}

// TestLive takes a pipeline through its life over the real hot path: started, flushed, paused, scaled, moved between workers,
// continued as new, drained; then started once more and cancelled.
func TestLive(t *testing.T) { live(t, false) }

// The same with a workflow cache of nothing: every workflow task replays from the start.
func TestLiveWithoutWorkflowCache(t *testing.T) { live(t, true) }

func live(t *testing.T, noCache bool) {
	if testing.Short() {
		t.Skip("runs Temporal's development server")
	}
	t.Parallel() // it waits most of the time
	s, input := newOrders(t)
	s.noCache = noCache
	s.startWorkers("worker-a", "worker-b")
	id := contract.PipelineID("orders")

	require.NoError(t, s.startPipeline(id, input))
	var already *serviceerror.WorkflowExecutionAlreadyStarted
	require.ErrorAs(t, s.startPipeline(id, input), &already, "a second start is refused")
	first := s.currentRun(id)
	s.placed("orders", 2)
	firstReplica, firstCloser := s.currentRun(contract.ReplicaID("orders", 0)), s.currentRun(contract.CloseWindowsID("orders"))

	s.eventually("windows close by their watermark", func() bool {
		var closer contract.CloseWindowsStatus
		return s.query(contract.CloseWindowsID("orders"), &closer) == nil && closer.Closed >= 5
	})

	flush := s.mustUpdate(contract.UpdateFlush, "flush-1", "orders", contract.FlushRequest{Reason: "test"})
	require.True(t, flush.Applied, "%+v", flush)
	require.Len(t, flush.Lanes, 4)
	require.Equal(t, 1, flush.Emitted.Published, "the hour that is still open")
	require.EqualValues(t, 8, flush.Emitted.Events)

	for name, wrong := range map[string]any{
		contract.UpdateFlush: json.RawMessage(`{"raeson":"x"}`), contract.UpdateScale: contract.ScaleRequest{Replicas: 1000},
		contract.UpdateStop: json.RawMessage(`{"drain":"yes"}`),
	} {
		_, err := s.update(name, "", "orders", wrong)
		require.Error(t, err, name)
	}

	pause := s.mustUpdate(contract.UpdatePause, "pause-1", "orders", contract.PauseRequest{})
	require.True(t, pause.Applied, "%+v", pause)
	s.feed("orders", hours(1006, 1007)...)
	_, err := s.update(contract.UpdateStop, "", "orders", contract.StopRequest{Drain: true})
	require.ErrorContains(t, err, "resume it first")
	still := s.mustUpdate(contract.UpdateFlush, "flush-2", "orders", contract.FlushRequest{})
	require.Equal(t, flush.Lanes[0].Offset, still.Lanes[0].Offset, "nothing is read while paused")
	require.True(t, s.mustUpdate(contract.UpdateResume, "resume-1", "orders", contract.ResumeRequest{}).Applied)

	out := s.mustUpdate(contract.UpdateScale, "scale-3", "orders", contract.ScaleRequest{Replicas: 3})
	require.Equal(t, []string{"replica:orders:2"}, out.Started)
	s.placed("orders", 3)
	in := s.mustUpdate(contract.UpdateScale, "scale-1", "orders", contract.ScaleRequest{Replicas: 1})
	require.Equal(t, []string{"replica:orders:1", "replica:orders:2"}, in.Stopped)
	require.True(t, in.Applied, "%+v", in)
	s.capture("replica_scaled_in", contract.ReplicaID("orders", 1), "")

	// The worker that has the replica goes away; the other one takes over.
	holder := s.placed("orders", 1)[0]
	s.stopWorker(holder)
	s.eventually("the replica has moved", func() bool {
		workers := s.workersOf("orders")
		return len(workers) == 1 && workers[0] != holder
	})
	s.startWorker(holder)

	s.eventually("the pipeline continues as new", func() bool {
		s.mustUpdate(contract.UpdateFlush, "", "orders", contract.FlushRequest{})
		return s.status("orders").Runs > 0
	})
	again := s.mustUpdate(contract.UpdateFlush, "flush-1", "orders", contract.FlushRequest{Reason: "test"})
	require.Equal(t, flush.Generation, again.Generation, "an update id is answered with its receipt also in a later run")
	require.True(t, flush.At.Equal(again.At))
	_, err = s.update(contract.UpdateFlush, "pause-1", "orders", contract.FlushRequest{})
	require.ErrorContains(t, err, "was used for pause")

	s.feed("orders", hours(1008, 1010)...)
	drain := s.mustUpdate(contract.UpdateStop, "drain-1", "orders", contract.StopRequest{Drain: true})
	require.True(t, drain.Drained != nil && *drain.Drained, "%+v", drain)
	require.GreaterOrEqual(t, drain.Emitted.Published, 1)
	require.True(t, drain.Applied, "%+v", drain)
	var result contract.PipelineResult
	require.NoError(t, s.client.GetWorkflow(context.Background(), id, "").Get(context.Background(), &result))
	require.Equal(t, contract.PipelineResult{Pipeline: "orders", Outcome: contract.OutcomeStopped, Drained: true, By: "drain-1"}, result)
	for _, child := range []string{contract.ReplicaID("orders", 0), contract.CloseWindowsID("orders")} {
		s.eventually(child+" is closed", func() bool { return !s.isOpen(child) })
	}
	s.captureChain("pipeline_commands_and_drain", id, first)
	s.captureChain("replica_moved", contract.ReplicaID("orders", 0), firstReplica)
	s.captureChain("closewindows", contract.CloseWindowsID("orders"), firstCloser)

	s.closeOneWindow(input)
	s.cancelPipeline(id, input)
	s.discardState(id)
	s.remove()
}

// closeOneWindow runs the workflow of a window that was promoted.
func (s *stack) closeOneWindow(input json.RawMessage) {
	ref := report.WindowRef{Window: "hourly", Start: 1000 * hour}
	id := contract.CloseWindowID("orders", ref)
	run, err := s.client.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{ID: id, TaskQueue: contract.TaskQueue},
		contract.WorkflowCloseWindow, contract.CloseWindowInput{Version: 1, Pipeline: "orders", Spec: input, Window: ref, Problem: "test"})
	require.NoError(s.t, err)
	var closed contract.CloseWindowResult
	require.NoError(s.t, run.Get(context.Background(), &closed))
	require.Equal(s.t, 1, closed.Closed.Revision, "closing again changes nothing")
	s.capture("closewindow", id, "")
}

// cancelPipeline starts the pipeline once more, over a child that an earlier one left, and cancels it.
func (s *stack) cancelPipeline(id string, input json.RawMessage) {
	ctx := context.Background()
	closer, err := s.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: contract.CloseWindowsID("orders"),
		TaskQueue: contract.TaskQueue},
		contract.WorkflowCloseWindows, contract.CloseWindowsInput{Version: 1, Pipeline: "orders", Spec: input,
			Promoted: []report.FailedWindow{{WindowRef: report.WindowRef{Window: "hourly", Start: 1000 * hour}, Problem: "test"}}})
	require.NoError(s.t, err)
	require.NoError(s.t, s.startPipeline(id, input), "a closed pipeline may be started again")
	s.placed("orders", 2)
	require.NotEqual(s.t, closer.GetRunID(), s.currentRun(contract.CloseWindowsID("orders")), "what was left is ended first")
	s.capture("closewindows_left", contract.CloseWindowsID("orders"), closer.GetRunID())
	require.NoError(s.t, s.client.CancelWorkflow(ctx, id, ""))
	err = s.client.GetWorkflow(ctx, id, "").Get(ctx, nil)
	require.ErrorContains(s.t, err, "canceled")
	for _, child := range []string{contract.ReplicaID("orders", 0), contract.ReplicaID("orders", 1), contract.CloseWindowsID("orders")} {
		s.eventually(child+" is closed", func() bool { return !s.isOpen(child) })
	}
	s.capture("pipeline_cancelled", id, "")
}

// discardState starts the pipeline with another spec: refused, and then in place of the incarnation that is there.
func (s *stack) discardState(id string) {
	ctx := context.Background()
	changed, err := spec.Parse("orders.yaml", []byte(strings.Replace(ordersYAML, "func: sum", "func: max", 1)))
	require.NoError(s.t, err)
	text, err := changed.JSON()
	require.NoError(s.t, err)
	require.NoError(s.t, s.startPipeline(id, text))
	err = s.client.GetWorkflow(ctx, id, "").Get(ctx, nil)
	require.ErrorContains(s.t, err, "4 of 4 lanes of pipeline orders hold the state of another spec")
	s.capture("pipeline_refused", id, "")

	offsets := make([]contract.LaneStart, 4)
	for n := range offsets {
		offsets[n] = contract.LaneStart{Topic: "orders", Partition: int32(n), Offset: int64(10 + n)}
	}
	anew, err := json.Marshal(contract.PipelineInput{Spec: text, From: &contract.From{Offsets: offsets}, DiscardState: true})
	require.NoError(s.t, err)
	require.NoError(s.t, s.startPipeline(id, anew))
	handle, err := s.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: contract.UpdateAwaitRunning, UpdateID: "await-1", Args: []any{contract.AwaitRunningRequest{}},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	require.NoError(s.t, err)
	var running contract.Running
	require.NoError(s.t, handle.Get(ctx, &running))
	require.Len(s.t, running.Lanes, 4)
	for n, lane := range running.Begun {
		require.EqualValues(s.t, 10+n, lane.Offset)
		require.GreaterOrEqual(s.t, running.Lanes[n].Offset, lane.Offset)
	}
	stop := s.mustUpdate(contract.UpdateStop, "drain-2", "orders", contract.StopRequest{Drain: true})
	require.True(s.t, stop.Drained != nil && *stop.Drained, "%+v", stop)
	require.EqualValues(s.t, 11*8-(10+11+12+13), s.counted("orders"), "the new incarnation counts from where it began")
	s.eventually("the pipeline has ended", func() bool { return !s.isOpen(id) })
	s.capture("pipeline_discards_state", id, "")
}

// remove takes away what the pipeline has left: a first time only looked at, then cancelled where it asks, then approved.
func (s *stack) remove() {
	ctx := context.Background()
	id := contract.RemoveID("orders")
	start := func(in contract.RemoveInput) client.WorkflowRun {
		in.Version, in.Pipeline, in.Topics, in.GraceSeconds = 1, "orders", true, 1
		run, err := s.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: id, TaskQueue: contract.TaskQueue},
			contract.WorkflowRemove, in)
		require.NoError(s.t, err)
		return run
	}
	asks := func() {
		s.eventually("the removal asks", func() bool {
			var status contract.RemoveStatus
			return s.query(id, &status) == nil && status.State == contract.StateAsking
		})
	}
	var result contract.RemoveResult
	require.NoError(s.t, start(contract.RemoveInput{DryRun: true}).Get(ctx, &result))
	require.Equal(s.t, contract.OutcomeDryRun, result.Outcome)
	require.NotEmpty(s.t, result.Remains.Keys)
	s.capture("remove_dry_run", id, "")

	run := start(contract.RemoveInput{})
	asks()
	require.NoError(s.t, s.client.CancelWorkflow(ctx, id, ""))
	require.ErrorContains(s.t, run.Get(ctx, nil), "canceled")
	s.capture("remove_cancelled", id, "")

	run = start(contract.RemoveInput{})
	asks()
	handle, err := s.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: contract.UpdateApprove, UpdateID: "approve-1", Args: []any{contract.ApproveRequest{Reason: "test"}},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	require.NoError(s.t, err)
	var receipt contract.ApproveReceipt
	require.NoError(s.t, handle.Get(ctx, &receipt))
	require.NoError(s.t, run.Get(ctx, &result))
	require.Equal(s.t, contract.OutcomeRemoved, result.Outcome)
	s.capture("remove_approved", id, "")

	var after contract.RemoveResult
	require.NoError(s.t, start(contract.RemoveInput{DryRun: true}).Get(ctx, &after))
	require.Empty(s.t, after.Remains.Keys)
	require.Empty(s.t, after.Remains.Topics)
	require.Equal(s.t, contract.OutcomeNothing, after.Outcome)
	s.capture("remove_nothing", id, "")
}

// Temporal hangs for longer than every heartbeat timeout: no hot path stops, events go on being committed, and when Temporal is back
// every replica is attached again where it was.
func TestTemporalAway(t *testing.T) {
	if testing.Short() {
		t.Skip("runs Temporal's development server")
	}
	t.Parallel() // it waits most of the time
	s, input := newOrders(t)
	s.startWorkers("worker-a", "worker-b")
	require.NoError(t, s.startPipeline(contract.PipelineID("orders"), input))
	before := s.placed("orders", 2)
	var held string // who had the lanes at the last look
	var since time.Time
	s.eventually("the lanes have had the same owners for two seconds", func() bool {
		flushed := s.mustUpdate(contract.UpdateFlush, "", "orders", contract.FlushRequest{})
		if now := fmt.Sprint(owners(flushed)); !flushed.Applied || now != held {
			held, since = now, time.Now()
			return false
		}
		return time.Since(since) >= 2*time.Second
	})
	settled := s.mustUpdate(contract.UpdateFlush, "", "orders", contract.FlushRequest{})

	require.NoError(t, s.server.Signal(syscall.SIGSTOP))
	s.feed("orders", hours(1006, 1010)...)
	away := time.Now()
	s.eventually("everything is committed, and Temporal has been away for longer than every heartbeat may", func() bool {
		return s.offsets("orders", 4) == 11*8 && time.Since(away) >= 2*contract.BeatTimeout
	})
	require.NoError(t, s.server.Signal(syscall.SIGCONT))

	s.eventually("the pipeline answers", func() bool {
		receipt, err := s.update(contract.UpdateFlush, "", "orders", contract.FlushRequest{})
		return err == nil && receipt.Applied && fmt.Sprint(owners(receipt)) == fmt.Sprint(owners(settled))
	})
	s.eventually("the replicas are attached where they were", func() bool {
		return fmt.Sprint(s.workersOf("orders")) == fmt.Sprint(before) && s.attached("orders", 2)
	})
	var replica contract.ReplicaStatus
	for n := range 2 {
		require.NoError(t, s.query(contract.ReplicaID("orders", n), &replica))
		require.Zero(t, replica.Moves, "nothing moves when Temporal returns: %+v", replica)
	}
	s.mustUpdate(contract.UpdateStop, "", "orders", contract.StopRequest{})
}

func owners(r contract.Receipt) (tokens []string) {
	for _, l := range r.Lanes {
		tokens = append(tokens, l.Owner)
	}
	return tokens
}
