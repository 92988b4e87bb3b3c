package activities

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// fakeStocks counts one window of each family.
type fakeStocks struct {
	asked []time.Time
	err   error
}

func (f *fakeStocks) Stock(_ context.Context, s *spec.Spec, at, since time.Time, progress func(int64)) (contract.Stock, error) {
	f.asked = append(f.asked, since)
	progress(7)
	stock := contract.Stock{At: at}
	for _, family := range s.Families() {
		stock.Families = append(stock.Families, contract.StockFamily{Name: family, Windows: 1})
	}
	return stock, f.err
}

func compactingEnv(f *fakeStocks, specs fakeSpecs, hub *fakeTemporal) (*testsuite.TestActivityEnvironment, *Compacting) {
	a := NewCompacting(f, specs, hub, hub)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(a)
	return env, a
}

func TestPlanCompact(t *testing.T) {
	none := map[string]bool{contract.RemoveID("orders"): true}
	away := errors.New("Temporal is away")
	for name, c := range map[string]struct {
		specs  fakeSpecs
		closed map[string]bool
		away   error
		says   string
	}{
		"known":   {specs: fakeSpecs{own: orders(t)}, closed: none},
		"unknown": {closed: none, says: "compact orders: Temporal knows no pipeline of that name, or has forgotten it: start it"},
		"removed": {specs: fakeSpecs{own: orders(t), removed: true}, closed: none,
			says: "the pipeline was removed; delete the schedule"},
		"is being removed": {specs: fakeSpecs{own: orders(t)}, says: "the pipeline is being removed by workflow remove:orders"},
		"nobody knows":     {specs: fakeSpecs{own: orders(t)}, away: away, says: away.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			env, a := compactingEnv(&fakeStocks{}, c.specs, &fakeTemporal{closed: c.closed, away: c.away})
			value, err := env.ExecuteActivity(a.PlanCompact, contract.CompactRef{Pipeline: "orders"})
			if c.says != "" {
				require.ErrorContains(t, err, c.says)
				var app *temporal.ApplicationError
				require.ErrorAs(t, err, &app)
				require.Equal(t, c.away == nil, app.NonRetryable())
				return
			}
			require.NoError(t, err)
			var planned contract.PlannedCompact
			require.NoError(t, value.Get(&planned))
			s, err := spec.Parse("spec", planned.Spec)
			require.NoError(t, err)
			require.Equal(t, orders(t).Version(), s.Version())
		})
	}
}

func TestTakeStock(t *testing.T) {
	f, at := &fakeStocks{}, time.Date(2001, 1, 1, 12, 0, 0, 0, time.UTC)
	env, a := compactingEnv(f, fakeSpecs{}, &fakeTemporal{})
	in := contract.TakeStockInput{Pipeline: "orders", Spec: []byte(specJSON), At: at, Since: at.Add(-time.Hour)}
	value, err := env.ExecuteActivity(a.TakeStock, in)
	require.NoError(t, err)
	var stock contract.Stock
	require.NoError(t, value.Get(&stock))
	require.Equal(t, at, stock.At)
	require.NotEmpty(t, stock.Families)
	require.Equal(t, []time.Time{in.Since}, f.asked)

	f.err = errors.New("Kafka does not answer")
	_, err = env.ExecuteActivity(a.TakeStock, in)
	require.ErrorContains(t, err, f.err.Error())
	in.Spec = []byte(`{"name":"orders"}`)
	_, err = env.ExecuteActivity(a.TakeStock, in)
	require.ErrorContains(t, err, "spec")
}

func TestDeleteSchedule(t *testing.T) {
	f := &fakeRemains{schedule: fakeSchedule{exists: true, running: []string{"compact:orders", "compact:orders-2026-01-01T03:00:00Z"}}}
	env, a, hub := removingEnv(t, f, fakeSpecs{})
	remove := func() (contract.Removed, error) {
		value, err := env.ExecuteActivity(a.DeleteSchedule, contract.RemoveTarget{Pipeline: "orders"})
		var done contract.Removed
		if err == nil {
			err = value.Get(&done)
		}
		return done, err
	}
	done, err := remove()
	require.NoError(t, err)
	require.EqualValues(t, 1, done.Count)
	require.False(t, f.schedule.exists)
	require.Equal(t, []string{"compact:orders", "compact:orders-2026-01-01T03:00:00Z"}, f.schedule.cancelled,
		"and it waited until they had ended")
	require.Empty(t, f.schedule.running)

	done, err = remove()
	require.NoError(t, err)
	require.Zero(t, done.Count, "there was none any more")

	hub.closed["pipeline:orders"] = false
	f.schedule.exists = true
	_, err = remove()
	require.ErrorContains(t, err, "workflow pipeline:orders is open")
	require.True(t, f.schedule.exists, "a pipeline that was started again keeps it")
}
