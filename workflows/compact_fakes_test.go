package workflows

import (
	"context"
	"slices"
	"sync"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

const compactSpec = `{"name":"orders","source":{"topics":["orders"],"format":"json"},
"event":{"key":["shop"],"time":{"field":"at","unit":"ms"}},
"aggregates":[{"name":"n","func":"count"}],"windows":[{"name":"hourly","size":"1h"}],
"rollups":[{"name":"daily","from":"hourly","calendar":"day"}],"archive":{"dir":"/archive"},
"watermark":{"out_of_orderness":"5s"},"allowed_lateness":"30m",
"results":{"kafka":{"topic":"orders.windows"}},"late":{},"dead_letter":{},"replicas":2}`

// mill stands in for what a Compact asks: the pipeline's closer, the ledger, and Temporal about the pipeline.
type mill struct {
	spec     string
	open     bool          // the pipeline's closer
	silent   bool          // which does not answer
	after    time.Duration // which it takes to answer
	rolledUp report.Rollup
	archived []contract.CarriedWindow
	problem  map[string]string          // of a job, by kind
	fail     map[string]func(int) error // of an activity
	stock    contract.Stock

	mu    sync.Mutex
	calls []string
	count map[string]int
	jobs  []contract.CarryOutJob // in the order in which they were asked for
	here  []contract.CarryOutJob // of these, carried out by the workflow itself
	since []time.Time
	told  *[]contract.ChildReport
}

func newMill() *mill {
	return &mill{
		spec: compactSpec, open: true, after: 5 * time.Second,
		rolledUp: report.Rollup{Families: []report.RolledFamily{{Name: "daily", Published: 3, Corrected: 1, Unchanged: 20, Keys: 70}}},
		archived: slices.Repeat([]contract.CarriedWindow{archivedHour}, 24),
		problem:  make(map[string]string), fail: make(map[string]func(int) error), count: make(map[string]int),
		stock: contract.Stock{At: firstNoon, Families: []contract.StockFamily{{Name: "hourly", Windows: 48, Kept: 24, Expired: 24}}},
	}
}

var archivedHour = contract.CarriedWindow{
	WindowRef: report.WindowRef{Window: "hourly", Start: 978307200000}, Outcome: contract.CarriedPublished, Revision: 2, Bytes: 375,
}

var firstNoon = time.Date(2001, 1, 1, 12, 0, 0, 0, time.UTC)

func (m *mill) did(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, name)
	m.count[name]++
	if fail := m.fail[name]; fail != nil {
		return fail(m.count[name])
	}
	return nil
}

// asked notes a job and returns its answer.
func (m *mill) asked(job contract.CarryOutJob) contract.CarriedOut {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jobs = append(m.jobs, job)
	done := contract.CarriedOut{ID: job.ID, Problem: m.problem[job.Kind], Report: new(contract.JobReport)}
	switch {
	case done.Problem != "":
		done.Report = nil
	case job.Kind == contract.JobRollup:
		done.Report.Rollup = &m.rolledUp
	default:
		for _, w := range m.archived {
			done.Report.Add(w)
		}
	}
	return done
}

func compactEnv(m *mill, id string) *testsuite.TestWorkflowEnvironment {
	env := steerEnv(contract.WorkflowCompact, id, Compact)
	register(env, contract.ActivitySearchAttributes, func(context.Context) (*contract.Searchable, error) {
		return &contract.Searchable{Names: []string{contract.SearchPipeline}}, nil
	})
	register(env, contract.ActivityPlanCompact, func(context.Context, contract.CompactRef) (*contract.PlannedCompact, error) {
		return &contract.PlannedCompact{Spec: []byte(m.spec)}, m.did(contract.ActivityPlanCompact)
	})
	register(env, contract.ActivityTakeStock, func(_ context.Context, in contract.TakeStockInput) (*contract.Stock, error) {
		m.since = append(m.since, in.Since)
		return &m.stock, m.did(contract.ActivityTakeStock)
	})
	register(env, contract.ActivityCarryOut, func(_ context.Context, job contract.CarryOutJob) (*contract.CarriedOut, error) {
		done := m.asked(job)
		m.here = append(m.here, job)
		return &done, m.did(contract.ActivityCarryOut)
	})
	env.OnSignalExternalWorkflow(anything, contract.CloseWindowsID("orders"), anything, contract.SignalCarryOut, anything).Maybe().Return(
		func(_, _, _, _ string, arg any) error {
			if !m.open {
				return &temporal.UnknownExternalWorkflowExecutionError{}
			}
			done := m.asked(arg.(contract.CarryOutJob))
			if !m.silent {
				env.RegisterDelayedCallback(func() { env.SignalWorkflow(contract.SignalCarriedOut, done) }, m.after)
			}
			return nil
		})
	m.told = hears(env)
	return env
}

func startCompact(env *testsuite.TestWorkflowEnvironment, in contract.CompactInput) {
	in.Pipeline = "orders"
	env.ExecuteWorkflow(contract.WorkflowCompact, in)
}
