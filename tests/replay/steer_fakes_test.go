package replay

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"millrace/activities"
	"millrace/internal/cli"
	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/workflows"
)

// process is a worker process whose hot path, state machine and journal are scripts; workflows, activities and Temporal are real.
type process struct {
	name string // of the process, and of its worker

	mu       sync.Mutex
	incident *report.Incident // of orders/1
	owners   []contract.LaneOwner
	changes  []report.LevelChange
	override report.Override
	news     chan struct{}
	chains   []report.WALChain
	corrupt  bool // orders/1 cannot be read
	books    report.JournalAccounts
}

func newProcess(name string) *process { return &process{name: name, news: make(chan struct{})} }

// RecoverStep implements activities.Recoveries.
func (p *process) RecoverStep(_ context.Context, in contract.RecoverStepInput) (report.StepReport, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := report.StepReport{Step: in.Step, By: report.ByTemporal, Began: time.Now(), Took: 900,
		Sums: report.StepSums{Lanes: 2, Done: 2}}
	for n := range int32(2) {
		r.Lanes = append(r.Lanes, p.lane(n, in.Step))
	}
	return r, nil
}

func (p *process) lane(n int32, step string) report.RecoveredLane {
	l := report.RecoveredLane{
		Topic: "orders", Partition: n, State: report.LaneRecovering, Token: "4:aa", FromEpoch: 3, ToEpoch: 4, Entries: 1000,
		Bytes:  64_000,
		Offset: 50, LogEnd: 80, Reread: 5,
	}
	if step == report.StepResume {
		l.State = report.LaneRunning
	}
	if n == 1 && p.incident != nil && (step == report.StepVerify || step == report.StepResume) {
		l.State, l.Incident = report.LaneParked, p.incident
	}
	return l
}

// Lane implements activities.Recoveries.
func (p *process) Lane(_ string, _ int, _ int64, lane report.LaneRef) (report.RecoveredLane, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lane(lane.Partition, report.StepResume), true
}

// Decide implements activities.Recoveries.
func (p *process) Decide(context.Context, contract.DecideIncidentInput) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.incident = nil
	return nil
}

// Owners implements activities.LaneTokens.
func (p *process) Owners(context.Context, string, []report.LaneRef) ([]contract.LaneOwner, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.owners), nil
}

// Runs implements activities.LaneTokens.
func (p *process) Runs(context.Context, string, int) (bool, error) { return true, nil }

// Level implements activities.Levels.
func (p *process) OrderLevels(contract.OrderLevelsInput) []contract.OrderedLevel { return nil }

func (p *process) Level(string, int, string) (activities.Level, bool) { return p, true }

func (p *process) move(levels ...report.Level) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range levels[1:] {
		p.changes = append(p.changes, report.LevelChange{
			Seq: int64(len(p.changes) + 1), At: time.Now(), From: levels[i], To: levels[i+1], Reason: "scripted", Override: p.override,
			Numbers: []report.LevelNumber{{Name: "error_rate", Value: 0.9}},
		})
	}
	close(p.news)
	p.news = make(chan struct{})
}

// LevelStatus implements activities.Level.
func (p *process) LevelStatus() report.LevelStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := report.LevelStatus{Level: report.LevelNormal, Seq: int64(len(p.changes)), Override: p.override}
	if n := len(p.changes); n > 0 {
		s.Level, s.Since = p.changes[n-1].To, p.changes[n-1].At
	}
	return s
}

// Changes implements activities.Level.
func (p *process) Changes(after int64) []report.LevelChange {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.changes[min(int(after), len(p.changes)):])
}

// Await implements activities.Level.
func (p *process) Await(ctx context.Context, after int64) ([]report.LevelChange, error) {
	for len(p.Changes(after)) == 0 {
		p.mu.Lock()
		news := p.news
		p.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return p.Changes(after), nil
}

// Override implements activities.Level. It is a change of its own.
func (p *process) Override(override report.Override, _, _ string) error {
	level := p.LevelStatus().Level
	p.mu.Lock()
	p.override = override
	p.mu.Unlock()
	p.move(level, level)
	return nil
}

// Disk implements activities.Journal.
func (p *process) Disk() string { return "disk-" + p.name }

// List implements activities.Journal.
func (p *process) List(context.Context, string) ([]report.WALChain, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.chains), nil
}

func (p *process) hold(chains ...report.WALChain) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.chains = chains
}

func chainAt(n int32, segment string) report.WALChain {
	return report.WALChain{
		ChainRef: report.ChainRef{Topic: "orders", Partition: n, Chain: fmt.Sprintf("4:%02d", n)},
		Segment:  segment, First: "1/0", Last: "3/0", From: 10, To: 20, Commits: 3, Bytes: 300,
	}
}

// Settle implements activities.Journal.
func (p *process) Settle(_ context.Context, _ string, ref report.ChainRef, how activities.Settling, progress func(activities.Settled),
) (report.SettledChain, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	progress(activities.Settled{Place: "2/0", Records: 2, Bytes: 200})
	done := report.SettledChain{ChainRef: ref, Outcome: report.ChainDrained, Commits: 3, Calls: 3, Entries: 30, Bytes: 300, From: 10,
		To: 20}
	if ref.Partition == 1 && p.corrupt {
		if !how.Quarantine {
			return done, &activities.CorruptError{Range: report.CorruptRange{Segment: "01", From: 4096, To: 8192, Records: 2,
				Detail: "checksum"}}
		}
		done.Quarantined = 4096
	}
	p.chains = slices.DeleteFunc(p.chains, func(c report.WALChain) bool { return c.ChainRef == ref })
	return done, nil
}

// Accounts implements activities.Journal.
func (p *process) Accounts(string) (report.JournalAccounts, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.books, nil
}

// serve polls the queues of the process until stop.
func (s *stack) serve(p *process, queues ...string) (stop func()) {
	var all []worker.Worker
	for _, queue := range queues {
		w := worker.New(s.client, queue, worker.Options{
			DisableWorkflowWorker: queue != contract.TaskQueue, WorkerStopTimeout: 5 * time.Second, Identity: p.name,
		})
		switch queue {
		case contract.TaskQueue:
			workflows.Register(w)
			w.RegisterActivity(activities.NewOwnership(p, activities.NewWatch(s.client)))
		case contract.HostQueue(p.name):
			w.RegisterActivity(activities.NewRecovery(p, s.client))
			w.RegisterActivity(activities.NewDegrading(p, p, s.client))
		default:
			w.RegisterActivity(activities.NewReplaying(p, p.name, s.client))
		}
		require.NoError(s.t, w.Start())
		all = append(all, w)
	}
	return func() {
		for _, w := range all {
			w.Stop()
		}
	}
}

// ask sends an update to a workflow and waits for its receipt.
func (s *stack) ask(id, name, request string, arg, receipt any) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	handle, err := s.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: name, UpdateID: request, Args: []any{arg}, WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = handle.Get(ctx, receipt)
	}
	return err
}

// millrace runs the command line as a user would.
func (s *stack) millrace(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = cli.Main(context.Background(), append(args, "--temporal", s.temporal), &o, &e)
	return code, o.String(), e.String()
}

// mustMillrace runs it until it succeeds: what is listed may be a moment old.
func (s *stack) mustMillrace(says string, args ...string) {
	s.t.Helper()
	s.eventually("millrace "+strings.Join(args, " "), func() bool {
		code, out, errs := s.millrace(args...)
		if code != 0 || !strings.Contains(out, says) {
			s.t.Logf("millrace %v: exit code %d\n%s%s", args, code, out, errs)
		}
		return code == 0 && strings.Contains(out, says)
	})
}

// outcome waits for the end of a workflow, through all its runs.
func (s *stack) outcome(id string, within time.Duration, result any) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return s.client.GetWorkflow(ctx, id, "").Get(ctx, result)
}
