package workflows

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// past stands in for shadows and the pipeline's closer: what a Replay finds when it reads again, and who carries its jobs out.
type past struct {
	plan    contract.ReplayPlan
	summary contract.ReplaySummary
	dead    []string // ids of dead replays
	fail    map[string]func(n int) error
	open    bool // the pipeline's closer
	silent  bool // which does not answer
	answer  contract.CarriedOut
	search  contract.Searchable

	mu    sync.Mutex
	calls []string
	count map[string]int
	plans []contract.PlanReplayInput
	reads []contract.ReplayRangeInput
	rates []int64
	jobs  []contract.CarryOutJob // in the order in which they were asked for
	told  *[]contract.ChildReport
}

var firstDay = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)

func newPast() *past {
	return &past{
		plan: contract.ReplayPlan{Windows: 3, Records: 1000, RedisBytes: 1 << 20, Seconds: 10, Lanes: []contract.ReplayLane{{
			Topic: "orders", End: 1000,
		}}},
		summary: contract.ReplaySummary{Windows: 3, Equal: 3},
		fail:    make(map[string]func(n int) error), count: make(map[string]int), open: true,
		answer: contract.CarriedOut{Report: &contract.JobReport{Counts: []contract.JobCount{{
			Outcome: contract.CarriedPublished, Windows: 2,
		}}}},
	}
}

// differs makes the replay find a window that differs.
func (p *past) differs() *past {
	p.summary = contract.ReplaySummary{
		Windows: 3, Equal: 2, Differ: 1, Changed: 4, Checksum: "c0ffee",
		Differences: []contract.WindowDifference{{
			WindowRef: report.WindowRef{Window: "hourly", Start: firstDay.UnixMilli()}, Revision: 2, Changed: 4, OldEvents: 9, NewEvents: 10,
			Wrong: []string{contract.PlaceView},
		}},
	}
	return p
}

func (p *past) did(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, name)
	p.count[name]++
	if fail := p.fail[name]; fail != nil {
		return fail(p.count[name])
	}
	return nil
}

// steps are the activities in the order in which they were carried out.
func (p *past) steps() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.calls...)
}

func pastEnv(p *past) *testsuite.TestWorkflowEnvironment {
	env := steerEnv(contract.WorkflowReplay, contract.ReplayID("orders", "fix-1"), Replay)
	register(env, contract.ActivitySearchAttributes, func(context.Context) (*contract.Searchable, error) { return &p.search, nil })
	register(env, contract.ActivitySweepShadows, func(context.Context, contract.ReplayRef) (*contract.SweptShadows, error) {
		return &contract.SweptShadows{IDs: p.dead}, p.did(contract.ActivitySweepShadows)
	})
	register(env, contract.ActivityPlanReplay, func(_ context.Context, in contract.PlanReplayInput) (*contract.PlannedReplay, error) {
		p.plans = append(p.plans, in)
		planned := &contract.PlannedReplay{Plan: p.plan, Own: []byte(specJSON), Spec: []byte(specJSON)}
		if len(in.Spec) > 0 {
			planned.Spec = in.Spec
		}
		return planned, p.did(contract.ActivityPlanReplay)
	})
	register(env, contract.ActivityReplayRange, func(_ context.Context, in contract.ReplayRangeInput) (*contract.ReplaySummary, error) {
		p.reads = append(p.reads, in)
		return &p.summary, p.did(contract.ActivityReplayRange)
	})
	register(env, contract.ActivitySetReplayRate, func(_ context.Context, in contract.SetReplayRateInput) error {
		p.rates = append(p.rates, in.RecordsPerSecond)
		return p.did(contract.ActivitySetReplayRate)
	})
	register(env, contract.ActivityShowDiff, func(_ context.Context, in contract.ShowDiffInput) (*contract.DiffPage, error) {
		return &contract.DiffPage{WindowRef: in.Window, Page: in.Page, Pages: 1, Rows: []contract.DiffRow{{
			Key: json.RawMessage(`{"shop":"a"}`), Old: json.RawMessage(`{"n":1}`), New: json.RawMessage(`{"n":2}`),
		}}}, p.did(contract.ActivityShowDiff)
	})
	register(env, contract.ActivityEndShadow, func(context.Context, contract.ReplayRef) (*contract.Removed, error) {
		return &contract.Removed{Count: 7}, p.did(contract.ActivityEndShadow)
	})
	register(env, contract.ActivityCarryOut, func(_ context.Context, job contract.CarryOutJob) (*contract.CarriedOut, error) {
		done := p.asked(job)
		return &done, p.did(contract.ActivityCarryOut)
	})
	env.OnSignalExternalWorkflow(anything, contract.CloseWindowsID("orders"), anything, contract.SignalCarryOut, anything).Maybe().Return(
		func(_, _, _, _ string, arg any) error {
			if !p.open {
				return &temporal.UnknownExternalWorkflowExecutionError{}
			}
			done := p.asked(arg.(contract.CarryOutJob))
			if !p.silent {
				env.RegisterDelayedCallback(func() { env.SignalWorkflow(contract.SignalCarriedOut, done) }, 5*time.Second)
			}
			return nil
		})
	p.told = hears(env)
	return env
}

// asked notes a job and returns its answer.
func (p *past) asked(job contract.CarryOutJob) contract.CarriedOut {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.jobs = append(p.jobs, job)
	done := p.answer
	done.ID = job.ID
	return done
}

func startPast(env *testsuite.TestWorkflowEnvironment, in contract.ReplayInput) {
	in.Pipeline = "orders"
	if !in.Yesterday {
		in.From, in.To = firstDay, firstDay.Add(24*time.Hour)
	}
	env.ExecuteWorkflow(contract.WorkflowReplay, in)
}
