package activities

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// fakeShadows stand in for what reads ranges again.
type fakeShadows struct {
	ids   []string
	ended []string
	fail  error
	plan  contract.ReplayPlan
	own   *spec.Spec
	with  *spec.Spec
	read  func(ctx context.Context, progress func(contract.ReplayProgress)) (contract.ReplaySummary, error)
	rate  int64
}

func (f *fakeShadows) IDs(context.Context, string) ([]string, error) { return f.ids, nil }

func (f *fakeShadows) Plan(_ context.Context, own, with *spec.Spec, _ contract.ReplayAsk) (contract.ReplayPlan, error) {
	f.own, f.with = own, with
	return f.plan, f.fail
}

func (f *fakeShadows) Read(ctx context.Context, own, with *spec.Spec, _ contract.ReplayAsk, progress func(contract.ReplayProgress),
) (contract.ReplaySummary, error) {
	f.own, f.with = own, with
	return f.read(ctx, progress)
}

func (f *fakeShadows) SetRate(_ context.Context, _ contract.ReplayRef, rate int64) error {
	f.rate = rate
	return f.fail
}

func (f *fakeShadows) Diff(_ context.Context, _ *spec.Spec, in contract.ShowDiffInput) (contract.DiffPage, error) {
	return contract.DiffPage{WindowRef: in.Window, Page: in.Page, Pages: 1}, f.fail
}

func (f *fakeShadows) End(_ context.Context, of contract.ReplayRef, progress func(int64)) error {
	f.ended = append(f.ended, of.ID)
	progress(3)
	return f.fail
}

// fakeSignals notes what workflows are told.
type fakeSignals struct {
	mu   sync.Mutex
	told []contract.ReplayProgress
	fail error
}

func (f *fakeSignals) SignalWorkflow(_ context.Context, _, _, _ string, arg any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	f.told = append(f.told, *arg.(*contract.ReplayProgress))
	return nil
}

// shadowingEnv runs the activities of Replay against fakes. No removal is open.
func shadowingEnv(f *fakeShadows, own *spec.Spec) (*testsuite.TestActivityEnvironment, *Shadowing, *fakeTemporal, *fakeSignals) {
	hub, signals := &fakeTemporal{closed: map[string]bool{"remove:orders": true}}, new(fakeSignals)
	a := NewShadowing(f, fakeSpecs{own: own}, hub, signals, "worker-1", hub)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(a)
	return env, a, hub, signals
}

func errorOf(t *testing.T, err error) *temporal.ApplicationError {
	t.Helper()
	var app *temporal.ApplicationError
	require.ErrorAs(t, err, &app)
	return app
}

func TestSweepShadowsEndsThoseWhoseWorkflowsAreClosed(t *testing.T) {
	f := &fakeShadows{ids: []string{"dead", "open", "fix-1"}}
	env, a, hub, _ := shadowingEnv(f, orders(t))
	hub.setClosed("replay:orders:dead")
	value, err := env.ExecuteActivity(a.SweepShadows, contract.ReplayRef{Pipeline: "orders", ID: "fix-1"})
	require.NoError(t, err)
	var swept contract.SweptShadows
	require.NoError(t, value.Get(&swept))
	require.Equal(t, []string{"dead", "fix-1"}, swept.IDs, "what stands under the id of the one that asks is of an earlier workflow")
	require.Equal(t, swept.IDs, f.ended)
}

func TestPlanReplay(t *testing.T) {
	f := &fakeShadows{plan: contract.ReplayPlan{Windows: 3, Why: make([]contract.LeftWindow, 90), Lanes: make([]contract.ReplayLane, 120)}}
	env, a, hub, _ := shadowingEnv(f, orders(t))
	in := contract.PlanReplayInput{Ask: contract.ReplayAsk{ReplayRef: contract.ReplayRef{Pipeline: "orders", ID: "fix-1"}}}
	value, err := env.ExecuteActivity(a.PlanReplay, in)
	require.NoError(t, err)
	var planned contract.PlannedReplay
	require.NoError(t, value.Get(&planned))
	require.Same(t, f.own, f.with, "without a spec of its own it counts with the pipeline's")
	require.JSONEq(t, string(planned.Own), string(planned.Spec))
	require.Len(t, planned.Plan.Why, contract.MaxLeftWindows)
	require.Len(t, planned.Plan.Lanes, contract.MaxReplayLanes)
	require.Equal(t, 20, planned.Plan.More)

	f.fail = fmt.Errorf("%w: the log of orders/0 begins at 500", ErrRefused)
	_, err = env.ExecuteActivity(a.PlanReplay, in)
	app := errorOf(t, err)
	require.Equal(t, contract.ErrorRefused, app.Type())
	require.True(t, app.NonRetryable())
	require.Equal(t, "the log of orders/0 begins at 500", app.Message())

	delete(hub.closed, "remove:orders")
	_, err = env.ExecuteActivity(a.PlanReplay, in)
	require.Contains(t, errorOf(t, err).Message(), "workflow remove:orders is open")

	env, a, _, _ = shadowingEnv(f, nil)
	_, err = env.ExecuteActivity(a.PlanReplay, in)
	require.Contains(t, errorOf(t, err).Message(), "Temporal knows no spec of pipeline orders")
}

// Each whole percent is told to the workflow, at most one in some seconds; what cannot be delivered is told with the next.
func TestReplayRangeTellsItsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := &fakeSignals{fail: errors.New("Temporal is away")}
		f := &fakeShadows{read: func(_ context.Context, progress func(contract.ReplayProgress)) (contract.ReplaySummary, error) {
			for read := range int64(1000) {
				if read == 100 {
					signals.mu.Lock()
					signals.fail = nil
					signals.mu.Unlock()
				}
				at := contract.ReplayProgress{Read: read, Records: 1000}
				if read > 500 {
					at.Waits, at.Read = fmt.Sprintf("lane %d lags", read%2), 500
				}
				progress(at)
				<-time.After(400 * time.Millisecond)
			}
			return contract.ReplaySummary{Windows: 3, Differ: 60, Differences: make([]contract.WindowDifference, 60)}, nil
		}}
		hub := &fakeTemporal{closed: map[string]bool{}}
		a := NewShadowing(f, fakeSpecs{}, hub, signals, "worker-1", hub)
		var suite testsuite.WorkflowTestSuite
		env := suite.NewTestActivityEnvironment()
		env.RegisterActivity(a)
		value, err := env.ExecuteActivity(a.ReplayRange, contract.ReplayRangeInput{Own: []byte(specJSON), Spec: []byte(specJSON)})
		require.NoError(t, err)
		var summary contract.ReplaySummary
		require.NoError(t, value.Get(&summary))
		require.Len(t, summary.Differences, contract.MaxDifferences)
		require.Equal(t, 10, summary.More)
		require.InDelta(t, 32, len(signals.told), 2, "a whole percent each, and what it waits for at most every ten minutes")
		require.GreaterOrEqual(t, signals.told[0].Read, int64(100))
		require.Equal(t, "worker-1", signals.told[0].Worker)
		seen := make(map[int]bool)
		for _, at := range signals.told[:len(signals.told)-1] {
			require.False(t, seen[at.Percent()], "%d %% twice", at.Percent())
			seen[at.Percent()] = true
		}
	})
}

func TestReplayRangeThatIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeShadows{read: func(ctx context.Context, _ func(contract.ReplayProgress)) (contract.ReplaySummary, error) {
			<-ctx.Done()
			return contract.ReplaySummary{}, ctx.Err()
		}}
		env, a, hub, _ := shadowingEnv(f, nil)
		time.AfterFunc(time.Second, func() { hub.set(temporal.NewCanceledError()) })
		_, err := env.ExecuteActivity(a.ReplayRange, contract.ReplayRangeInput{Own: []byte(specJSON), Spec: []byte(specJSON)})
		var cancelled *temporal.CanceledError
		require.ErrorAs(t, err, &cancelled)
	})
}

func TestShadowAnswers(t *testing.T) {
	f := new(fakeShadows)
	env, a, _, _ := shadowingEnv(f, nil)
	_, err := env.ExecuteActivity(a.SetReplayRate, contract.SetReplayRateInput{RecordsPerSecond: 70})
	require.NoError(t, err)
	require.EqualValues(t, 70, f.rate)
	value, err := env.ExecuteActivity(a.EndShadow, contract.ReplayRef{Pipeline: "orders", ID: "fix-1"})
	require.NoError(t, err)
	var removed contract.Removed
	require.NoError(t, value.Get(&removed))
	require.EqualValues(t, 3, removed.Count)

	f.fail = fmt.Errorf("%w: no such window", ErrRefused)
	_, err = env.ExecuteActivity(a.ShowDiff, contract.ShowDiffInput{Spec: []byte(specJSON)})
	require.Equal(t, "no such window", errorOf(t, err).Message())
}
