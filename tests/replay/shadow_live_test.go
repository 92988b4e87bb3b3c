package replay

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"

	"millrace/activities"
	"millrace/internal/cli"
	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
	"millrace/workflows"
)

// shadowed stands in for what reads ranges again and for who carries jobs out. It is itself the specs that Temporal knows.
type shadowed struct {
	spec *spec.Spec

	mu      sync.Mutex
	summary contract.ReplaySummary
	hold    chan struct{} // a read waits until it is closed; nil: it does not
	rate    int64
	ended   []string
	refuse  error // a plan is refused with it
}

func (f *shadowed) Spec(context.Context, string) (*spec.Spec, error)           { return f.spec, nil }
func (f *shadowed) Others(context.Context, string) ([]activities.Other, error) { return nil, nil }
func (f *shadowed) Removed(context.Context, string) (bool, error)              { return false, nil }
func (f *shadowed) IDs(context.Context, string) ([]string, error)              { return []string{"dead"}, nil }
func (f *shadowed) SetRate(_ context.Context, _ contract.ReplayRef, r int64) error {
	return f.change(func() { f.rate = r })
}

func (f *shadowed) change(fn func()) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn()
	return nil
}

// Plan implements activities.Shadows.
func (f *shadowed) Plan(context.Context, *spec.Spec, *spec.Spec, contract.ReplayAsk) (contract.ReplayPlan, error) {
	return contract.ReplayPlan{Windows: 2, Records: 1000, RedisBytes: 1 << 20, Seconds: 9}, f.refuse
}

// Read implements activities.Shadows.
func (f *shadowed) Read(ctx context.Context, _, _ *spec.Spec, _ contract.ReplayAsk, progress func(contract.ReplayProgress),
) (contract.ReplaySummary, error) {
	progress(contract.ReplayProgress{Read: 420, Records: 1000, Rate: 100, Windows: 2, Done: 1})
	f.mu.Lock()
	hold, summary := f.hold, f.summary
	f.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return summary, ctx.Err()
		}
	}
	return summary, nil
}

// Diff implements activities.Shadows.
func (f *shadowed) Diff(_ context.Context, _ *spec.Spec, in contract.ShowDiffInput) (contract.DiffPage, error) {
	return contract.DiffPage{WindowRef: in.Window, Pages: 1, Rows: []contract.DiffRow{{
		Key: json.RawMessage(`{"shop":"a"}`), Old: json.RawMessage(`{"n":1}`), New: json.RawMessage(`{"n":2}`),
	}}}, nil
}

// End implements activities.Shadows.
func (f *shadowed) End(_ context.Context, of contract.ReplayRef, progress func(int64)) error {
	progress(3)
	return f.change(func() { f.ended = append(f.ended, of.ID) })
}

// carryOut is the activity of the pipeline's closer.
func (f *shadowed) carryOut(_ context.Context, job contract.CarryOutJob) (*contract.CarriedOut, error) {
	done := &contract.CarriedOut{ID: job.ID, Report: new(contract.JobReport)}
	outcome := contract.CarriedPublished
	if job.Kind == contract.JobCertify {
		outcome = contract.CarriedCertified
	}
	done.Report.Add(contract.CarriedWindow{WindowRef: midnight, Outcome: outcome, Revision: 2})
	return done, nil
}

// closeDue finds nothing to close for a while.
func (f *shadowed) closeDue(ctx context.Context, _ contract.CloseDueInput) (*contract.CloseDueResult, error) {
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	return &contract.CloseDueResult{Outcome: contract.OutcomeIdle}, nil
}

// midnight is the window that differs.
var midnight = report.WindowRef{Window: "minutely", Start: 978307200000}

// serveShadows polls the shared queue until stop.
func (s *stack) serveShadows(f *shadowed) (stop func()) {
	w := worker.New(s.client, contract.TaskQueue, worker.Options{WorkerStopTimeout: 5 * time.Second, Identity: "shared"})
	workflows.Register(w)
	w.RegisterActivity(activities.NewShadowing(f, f, activities.NewWatch(s.client), s.client, "shared", s.client))
	search := activities.NewSearch(s.client.OperatorService, client.DefaultNamespace)
	w.RegisterActivityWithOptions(search.SearchAttributes, activity.RegisterOptions{Name: contract.ActivitySearchAttributes})
	w.RegisterActivityWithOptions(f.carryOut, activity.RegisterOptions{Name: contract.ActivityCarryOut})
	w.RegisterActivityWithOptions(f.closeDue, activity.RegisterOptions{Name: contract.ActivityCloseDue})
	require.NoError(s.t, w.Start())
	return w.Stop
}

func (s *stack) startReplay(id string, in contract.ReplayInput) string {
	s.t.Helper()
	in.Pipeline, in.From, in.To = "orders", time.UnixMilli(midnight.Start).UTC(), time.UnixMilli(midnight.Start).UTC().Add(time.Hour)
	run, err := s.client.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{
		ID: contract.ReplayID("orders", id), TaskQueue: contract.TaskQueue,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
	}, contract.WorkflowReplay, in)
	require.NoError(s.t, err)
	return run.GetID()
}

// comesTo waits until a replay is in a state.
func (s *stack) comesTo(id, state string) (status contract.ReplayStatus) {
	s.t.Helper()
	s.eventually(id+" is "+state, func() bool { return s.query(id, &status) == nil && status.State == state })
	return status
}

// TestReplays takes Replay through what it can do on Temporal's development server: workflow and activities are the real ones, what
// they act on is scripted.
func TestReplays(t *testing.T) { replays(t) }

func replays(t *testing.T) {
	if testing.Short() {
		t.Skip("runs Temporal's development server")
	}
	t.Parallel() // it waits most of the time
	s := newTemporal(t)
	own, err := spec.Parse("orders.yaml", []byte(ordersYAML))
	require.NoError(t, err)
	f := &shadowed{spec: own, summary: contract.ReplaySummary{Windows: 2, Equal: 2, Checksum: "none"}}
	defer s.serveShadows(f)()

	closer, err := s.client.ExecuteWorkflow(context.Background(), client.StartWorkflowOptions{
		ID: contract.CloseWindowsID("orders"), TaskQueue: contract.TaskQueue,
	}, contract.WorkflowCloseWindows, contract.CloseWindowsInput{Version: contract.Version, Pipeline: "orders", Spec: json.RawMessage(`{}`)})
	require.NoError(t, err)
	id := s.startReplay("recount-1", contract.ReplayInput{Recount: true})
	var result contract.ReplayResult
	require.NoError(t, s.outcome(id, time.Minute, &result))
	require.Equal(t, contract.OutcomeCertified, result.Outcome)
	require.Equal(t, 1, result.Certified.Count(contract.CarriedCertified))
	s.capture("replay_certified", id, "")
	require.NoError(t, s.client.SignalWorkflow(context.Background(), closer.GetID(), "", contract.SignalStop, contract.StopSignal{}))
	require.NoError(t, closer.Get(context.Background(), nil)) // from here on replays carry their jobs out themselves
	s.capture("closewindows_carries_out", closer.GetID(), "")

	f.mu.Lock()
	f.hold = make(chan struct{})
	f.summary = contract.ReplaySummary{Windows: 2, Equal: 1, Differ: 1, Changed: 1, Checksum: "c0ffee", Differences: []contract.WindowDifference{{
		WindowRef: midnight, Revision: 1, Changed: 1, OldKeys: 1, NewKeys: 1, OldEvents: 1, NewEvents: 2,
	}}}
	f.mu.Unlock()
	id = s.startReplay("fix-1", contract.ReplayInput{Lateness: contract.LatenessNone})
	s.comesTo(id, contract.StateReading)
	s.mustMillrace("42 % read, 420 of 1000 records", "replay", "show", "orders", "fix-1")
	s.eventually("the workflow knows of the progress", func() bool {
		var status contract.ReplayStatus
		return s.query(id, &status) == nil && status.Progress != nil && status.Progress.Percent() == 42
	})
	s.mustMillrace("it reads 70 records a second at the most", "replay", "rate", "orders", "fix-1", "70")
	close(f.hold)
	status := s.comesTo(id, contract.StateAsking)
	require.Equal(t, "1 of 2 windows differ: 0 keys added, 1 changed, 0 removed", status.Note)
	s.mustMillrace("replay approve orders fix-1 c0ffee", "replay", "show", "orders", "fix-1")
	s.mustMillrace("fix-1", "replay", "ls", "orders")
	var page contract.DiffPage
	require.NoError(t, s.ask(id, contract.UpdateShowDiff, "", contract.ShowDiffRequest{
		Window: midnight.Window, Start: time.UnixMilli(midnight.Start).UTC(),
	}, &page))
	require.Len(t, page.Rows, 1)
	code, _, errs := s.millrace("replay", "approve", "orders", "fix-1", "decaf")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, errs, `checksum is "decaf", and that of the diff is "c0ffee"`)
	s.mustMillrace("published: 1 published", "replay", "approve", "orders", "fix-1", "c0ffee", "--reason", "test")
	require.NoError(t, s.outcome(id, time.Minute, &result))
	require.Equal(t, contract.OutcomeCarriedOut, result.Outcome)
	s.capture("replay_approved", id, "")

	id = s.startReplay("fix-2", contract.ReplayInput{})
	s.comesTo(id, contract.StateAsking)
	s.mustMillrace("rejected: nothing was published: a wrong spec", "replay", "reject", "orders", "fix-2", "--reason", "a wrong spec")
	s.capture("replay_rejected", id, "")

	f.mu.Lock()
	f.hold = make(chan struct{})
	f.mu.Unlock()
	id = s.startReplay("fix-3", contract.ReplayInput{})
	s.comesTo(id, contract.StateReading)
	s.mustMillrace("is cancelled; its shadow is deleted", "replay", "cancel", "orders", "fix-3")
	s.capture("replay_cancelled", id, "")
	f.mu.Lock()
	require.Equal(t, []string{"dead", "recount-1", "dead", "fix-1", "dead", "fix-2", "dead", "fix-3"}, f.ended)
	f.refuse = temporal.NewNonRetryableApplicationError("the log of orders/0 begins at 500", contract.ErrorRefused, nil)
	f.mu.Unlock()

	id = s.startReplay("fix-4", contract.ReplayInput{DryRun: true})
	require.ErrorContains(t, s.outcome(id, time.Minute, &result), "the log of orders/0 begins at 500")
	code, _, errs = s.millrace("replay", "show", "orders", "fix-4", "--follow")
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, errs, "the log of orders/0 begins at 500")
}
