package workflows

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// The first line of the Pipeline page follows what children, recoveries and degradations report, and forgets it when it is over.
func TestFirstLineFollowsWhatIsReported(t *testing.T) {
	env, w := pipelineEnv(t)
	env.OnSignalExternalWorkflow(anything, contract.PipelineID("orders"), anything, contract.SignalReport, anything).Maybe().Return(nil)
	recovery := contract.RecoverLanesID("orders", "p1", 3)
	degradation := contract.DegradeID("orders", "worker-a", report.DependencyRedis)
	lines := make(map[time.Duration]string)
	var conditions []contract.Condition
	tell := func(after time.Duration, r contract.ChildReport) {
		env.RegisterDelayedCallback(func() {
			r.FirstRun = w.runs[r.ID]
			env.SignalWorkflow(contract.SignalReport, r)
		}, after)
		env.RegisterDelayedCallback(func() {
			standing := statusOf[contract.PipelineStatus](t, env).Standing
			lines[after] = standing.Line
			conditions = append(conditions, standing.Conditions...)
		}, after+time.Second)
	}
	tell(time.Minute, contract.ChildReport{ID: degradation, State: string(report.LevelJournal), Note: "3 of 3 probes failed"})
	tell(2*time.Minute, contract.ChildReport{ID: recovery, State: contract.StateDeciding, ChildWaits: contract.ChildWaits{
		Waits: []contract.Wait{{For: "orders/0", Why: "gap: 20 offsets were deleted"},
			{For: "orders/1", Why: "gap: 7 offsets were deleted"}},
	}})
	second := contract.RecoverLanesID("orders", "p2", 1)
	tell(140*time.Second, contract.ChildReport{ID: second, State: contract.StateDeciding, ChildWaits: contract.ChildWaits{
		Waits: []contract.Wait{{For: "orders/1", Why: "gap: 7 offsets were deleted"}},
	}})
	tell(150*time.Second, contract.ChildReport{ID: recovery, State: contract.StateDeciding, ChildWaits: contract.ChildWaits{
		Waits: []contract.Wait{{For: "orders/0", Why: "gap: 20 offsets were deleted"}},
	}})
	tell(160*time.Second, contract.ChildReport{ID: second, State: contract.ChildEnded})
	tell(3*time.Minute, contract.ChildReport{ID: recovery, State: contract.ChildEnded})
	tell(4*time.Minute, contract.ChildReport{ID: degradation, State: contract.ChildEnded})
	tell(5*time.Minute, contract.ChildReport{ID: "replica:orders:1", State: contract.ChildSeeking, Note: "worker-2 has no WAL"})
	tell(6*time.Minute, contract.ChildReport{ID: "replica:orders:1", State: contract.ChildPlaced, Worker: "worker-1"})
	tell(7*time.Minute, contract.ChildReport{ID: "close:orders", State: contract.ChildClosing, ChildWaits: contract.ChildWaits{
		Waits: []contract.Wait{{For: "minutely 1970-01-01T00:00:00Z", Why: "record too large"}},
	}})
	tell(8*time.Minute, contract.ChildReport{ID: "replica:payments:1", State: contract.ChildSeeking, Note: "somebody else's"})
	env.RegisterDelayedCallback(env.CancelWorkflow, 9*time.Minute)
	start(env, nil)

	require.Contains(t, lines[time.Minute], "degraded (redis on worker-a: journal: 3 of 3 probes failed since ")
	require.Equal(t, "stalled: 2 of 2 lanes parked, decide with `millrace recover decide "+recovery+" --all CHOICE`; and 1 more",
		lines[2*time.Minute])
	require.Equal(t, "stalled: 2 of 2 lanes parked, 2 recoveries ask, see `millrace recover ls orders`; and 1 more", lines[150*time.Second])
	require.Equal(t, "stalled: 1 of 2 lanes parked, decide with `millrace recover decide "+recovery+" --all CHOICE`; and 1 more",
		lines[160*time.Second])
	require.Contains(t, lines[3*time.Minute], "degraded (redis on worker-a")
	require.Equal(t, "running", lines[4*time.Minute])
	require.Equal(t, "seeking: replica:orders:1: worker-2 has no WAL", lines[5*time.Minute])
	require.Equal(t, "running", lines[6*time.Minute])
	require.Equal(t, "closing blocked: window minutely 1970-01-01T00:00:00Z: record too large", lines[7*time.Minute])
	require.Equal(t, lines[7*time.Minute], lines[8*time.Minute], "reports of other pipelines' children change nothing")
	for _, c := range conditions {
		require.False(t, c.Since.IsZero(), c.Kind)
	}
}

// What waits for somebody goes along when the pipeline continues as new, and reconciling forgets what ended without a word.
func TestAttachedAreBounded(t *testing.T) {
	env, _ := pipelineEnv(t)
	env.OnSignalExternalWorkflow(anything, contract.PipelineID("orders"), anything, contract.SignalReport, anything).Maybe().Return(nil)
	env.RegisterDelayedCallback(func() {
		for n := range contract.MaxAttached + 10 {
			env.SignalWorkflow(contract.SignalReport, contract.ChildReport{ID: contract.RecoverLanesID("orders", "p1", int64(n)),
				State: contract.StateDeciding})
		}
	}, time.Minute)
	env.RegisterDelayedCallback(func() {
		require.Len(t, statusOf[contract.PipelineStatus](t, env).Attached, contract.MaxAttached)
	}, 2*time.Minute)
	env.RegisterDelayedCallback(env.CancelWorkflow, 3*time.Minute)
	start(env, nil)
}
