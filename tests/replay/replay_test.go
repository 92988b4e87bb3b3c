package replay

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/interceptor"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/internal/telemetry"
	"millrace/workflows"
)

func histories(t *testing.T) []string {
	paths, err := filepath.Glob("histories/*/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	return paths
}

func read(t *testing.T, path string) *historypb.History {
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	history, err := client.HistoryFromJSON(file, client.HistoryJSONOptions{})
	require.NoError(t, err)
	return history
}

func replay(t *testing.T, history *historypb.History, interceptors ...interceptor.WorkerInterceptor) error {
	replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Interceptors: interceptors})
	require.NoError(t, err)
	workflows.Register(replayer)
	started := history.Events[0].GetWorkflowExecutionStartedEventAttributes()
	return replayer.ReplayWorkflowHistoryWithOptions(sdklog.NewStructuredLogger(slog.New(slog.DiscardHandler)), history,
		worker.ReplayWorkflowHistoryOptions{OriginalExecution: workflow.Execution{
			ID: started.GetWorkflowId(), RunID: started.GetOriginalExecutionRunId(),
		}})
}

func TestHistoriesReplay(t *testing.T) {
	for _, path := range histories(t) {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		t.Run(name, func(t *testing.T) {
			err := replay(t, read(t, path))
			if strings.HasPrefix(name, "must_fail_") {
				require.ErrorContains(t, err, "nondeterministic")
				return
			}
			require.NoError(t, err)
		})
	}
}

// Histories that were written without traces replay with them: a pipeline outlives the decision to trace it. What is replayed is not
// traced again, but for the span of the run, which a replay cannot know the beginning of.
func TestHistoriesReplayWithTraces(t *testing.T) {
	kept := tracetest.NewInMemoryExporter()
	made, err := telemetry.NewTraces(t.Context(), telemetry.Instance{Service: "test"}, kept)
	require.NoError(t, err)
	defer made.Close()
	tracing, err := made.Interceptor()
	require.NoError(t, err)
	for _, path := range histories(t) {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		if !strings.HasPrefix(name, "must_fail_") {
			t.Run(name, func(t *testing.T) { require.NoError(t, replay(t, read(t, path), tracing)) })
		}
	}
	for _, s := range kept.GetSpans() {
		require.NotContains(t, s.Name, "StartActivity")
	}
}

// The histories take every workflow through what it can do; a fixture that stops covering something is noticed here.
func TestHistoriesCoverWhatTheyShould(t *testing.T) {
	types := make(map[string]bool)
	seen := make(map[string]bool)
	for _, path := range histories(t) {
		for _, e := range read(t, path).Events {
			seen[e.EventType.String()] = true
			if a := e.GetWorkflowExecutionStartedEventAttributes(); a != nil {
				types[a.WorkflowType.Name] = true
				if a.ContinuedExecutionRunId != "" {
					seen["continued "+a.WorkflowType.Name] = true
				}
			}
			if a := e.GetActivityTaskScheduledEventAttributes(); a != nil {
				seen["activity "+a.ActivityType.Name] = true
			}
			if a := e.GetWorkflowExecutionUpdateAcceptedEventAttributes(); a != nil {
				seen["update "+a.AcceptedRequest.GetInput().GetName()] = true
			}
		}
	}
	for _, name := range []string{
		contract.WorkflowPipeline, contract.WorkflowReplica, contract.WorkflowCloseWindows, contract.WorkflowCloseWindow,
		contract.WorkflowRecoverLanes, contract.WorkflowDegrade, contract.WorkflowReplayWAL, contract.WorkflowRemove,
		contract.WorkflowReplay, contract.WorkflowCompact,
	} {
		require.True(t, types[name], "no history of workflow %s", name)
	}
	for _, name := range []string{
		contract.ActivityCheckStore, contract.ActivityLocateBegin, contract.ActivityBeginLanes,
		contract.ActivityEnsureTopics, contract.ActivityWriteDesired, contract.ActivityAwaitApplied,
		contract.ActivityEndOffsets, contract.ActivityAwaitDrained, contract.ActivityReconcile, contract.ActivityReleaseReplica,
		contract.ActivityClaim, contract.ActivityRun, contract.ActivityNudge, contract.ActivityCloseDue, contract.ActivityCloseOne,
		contract.ActivityEmit, contract.ActivityRecoverStep, contract.ActivityDecideIncident, contract.ActivityLaneOwners,
		contract.ActivityWatchLevel, contract.ActivityOverrideLevel, contract.ActivityJournalAccounts, contract.ActivityListChains,
		contract.ActivityReplaySegment, contract.ActivitySurveyRemains, contract.ActivityAwaitReleased, contract.ActivityDeleteGroup,
		contract.ActivityFenceLanes, contract.ActivityEndLedger, contract.ActivityDeleteKeys, contract.ActivityDeleteTopics,
		contract.ActivitySweepShadows, contract.ActivityPlanReplay, contract.ActivityReplayRange, contract.ActivitySetReplayRate,
		contract.ActivityShowDiff, contract.ActivityEndShadow, contract.ActivityCarryOut, contract.ActivityPlanCompact, contract.ActivityTakeStock,
		contract.ActivityDeleteSchedule,
	} {
		require.True(t, seen["activity "+name], "no history with activity %s", name)
	}
	for _, name := range []string{
		contract.UpdateFlush, contract.UpdatePause, contract.UpdateResume, contract.UpdateScale, contract.UpdateStop, contract.UpdateDecide,
		contract.UpdateHold, contract.UpdateOpen, contract.UpdateClose, contract.UpdateAuto, contract.UpdateApprove,
		contract.UpdateAwaitRunning, contract.UpdateReject, contract.UpdateSetRate, contract.UpdateShowDiff,
	} {
		require.True(t, seen["update "+name], "no history with update %s", name)
	}
	for _, event := range []enumspb.EventType{
		enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW,
		enumspb.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED, enumspb.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
		enumspb.EVENT_TYPE_ACTIVITY_TASK_FAILED, enumspb.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED, enumspb.EVENT_TYPE_TIMER_STARTED,
		enumspb.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT,
	} {
		require.True(t, seen[event.String()], "no history with a %s event", event)
	}
	for _, name := range []string{contract.WorkflowPipeline, contract.WorkflowDegrade} {
		require.True(t, seen["continued "+name], "no history of a %s that continues another run", name)
	}
}
