package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// Degrade records what a worker goes through because of one dependency. The state machines in the process decide alone; this workflow
// watches them change by change, carries the operator's overrides to them, and when all are back at normal proves from the
// journal's books that nothing was lost. It stays open for a while then, so that flapping is one run.
func Degrade(ctx workflow.Context, in contract.DegradeInput) (*contract.DegradeResult, error) {
	d, err := newDegrade(ctx, in)
	if err != nil {
		return nil, err
	}
	return d.run(ctx)
}

type degrade struct {
	in        contract.DegradeInput
	state     contract.DegradeState
	started   time.Time
	work      workflow.Context // of the watches; cancelled at the end of the run
	log       log.Logger
	degrading *activities.Degrading
	signals   workflow.ReceiveChannel
	pipeline  outsider

	phase   string
	note    string
	leaving bool
	asking  int // overrides under way
}

func newDegrade(ctx workflow.Context, in contract.DegradeInput) (*degrade, error) {
	d := &degrade{
		in: in, started: workflow.Now(ctx), log: workflow.GetLogger(ctx), phase: contract.StateDegraded,
		signals:  workflow.GetSignalChannel(ctx, contract.SignalLevel),
		pipeline: outsider{parent: parent{id: contract.PipelineID(in.Pipeline)}, told: in.State != nil},
	}
	if want := contract.DegradeID(in.Pipeline, in.Worker, in.Dependency); workflow.GetInfo(ctx).WorkflowExecution.ID != want {
		return nil, invalid(contract.ErrorInvalidInput, "workflow id is %q; the input makes it %q; degradations are started by the workers",
			workflow.GetInfo(ctx).WorkflowExecution.ID, want)
	}
	if in.State != nil {
		d.state = *in.State
	}
	if err := workflow.SetQueryHandlerWithOptions(ctx, contract.QueryStatus, d.status,
		workflow.QueryHandlerOptions{Description: "levels, their timeline, overrides and the journal's books"}); err != nil {
		return nil, err
	}
	return d, d.setUpdates(ctx)
}

// patience is how long a run waits for the signal that it was started with. Without one somebody started it by hand.
const patience = time.Minute

func (d *degrade) run(ctx workflow.Context) (*contract.DegradeResult, error) {
	work, cancel := workflow.WithCancel(ctx)
	defer cancel()
	d.work = work
	for i := range d.state.Machines {
		d.watch(i)
	}
	workflow.Go(work, d.listen)
	d.show(ctx)
	lasting, _ := workflow.NewDisconnectedContext(ctx)
	for {
		outcome, err := d.follow(ctx)
		note := ""
		if err == nil {
			note = d.explain(lasting, outcome)
		}
		d.leaving = outcome != contract.OutcomeRenew
		if waiting := handlersFinished(lasting); waiting != nil {
			return nil, waiting
		}
		if outcome == contract.OutcomeRenew {
			err = cancelledLate(ctx)
		}
		switch {
		case err != nil:
			d.pipeline.tellOver(lasting, err.Error())
			return nil, err
		case outcome == contract.OutcomeRenew:
			for d.receive() {
			}
			return nil, d.next(ctx)
		case d.calm():
			d.set(ctx, contract.StateDone, note)
			d.pipeline.tellOver(lasting, outcome)
			return d.result(ctx, outcome), nil
		}
		d.leaving = false // a state machine has left normal in the last moment
	}
}

// follow waits until the degradation is over. Outcome renew means to continue as new.
func (d *degrade) follow(ctx workflow.Context) (outcome string, err error) {
	for {
		if err := d.first(ctx); err != nil {
			return "", err
		}
		if err := workflow.Await(ctx, func() bool { return d.calm() || runIsLong(ctx, d.started) }); err != nil {
			return "", err
		}
		if !d.calm() {
			return contract.OutcomeRenew, nil
		}
		if d.allEnded() {
			return d.endOutcome(), nil
		}
		over, err := d.linger(ctx)
		if err != nil || over {
			return d.endOutcome(), err
		}
	}
}

// first waits for the first state machine to follow.
func (d *degrade) first(ctx workflow.Context) error {
	if len(d.state.Machines) > 0 {
		return nil
	}
	came, err := awaitFor(ctx, patience, "waits for the signal that says which state machine to follow",
		func() bool { return len(d.state.Machines) > 0 })
	if err == nil && !came {
		err = invalid(contract.ErrorInvalidInput, "no signal %s came with the start; degradations are started by the workers",
			contract.SignalLevel)
	}
	return err
}

// calm reports whether every state machine is at normal, left to itself, or no longer followed.
func (d *degrade) calm() bool {
	return len(d.state.Machines) > 0 && d.asking == 0 && !slices.ContainsFunc(d.state.Machines, func(m contract.DegradedMachine) bool {
		return m.Ended == "" && (m.Level != report.LevelNormal || m.Override != "")
	})
}

func (d *degrade) allEnded() bool {
	return !slices.ContainsFunc(d.state.Machines, func(m contract.DegradedMachine) bool { return m.Ended == "" })
}

// endOutcome is normal unless a state machine was lost sight of away from normal.
func (d *degrade) endOutcome() string {
	for _, m := range d.state.Machines {
		if m.Ended != "" && m.Level != report.LevelNormal {
			return m.Ended
		}
	}
	return contract.OutcomeNormal
}

// linger stays open at normal. over is false when something happened meanwhile.
func (d *degrade) linger(ctx workflow.Context) (over bool, err error) {
	d.set(ctx, contract.StateSettling, "back at normal; open for "+contract.DegradeLinger.String()+" in case it was not for good")
	d.prove(ctx)
	changes := d.state.Changes
	came, err := awaitFor(ctx, contract.DegradeLinger, "back at normal; stays open in case it is not for good", func() bool {
		return !d.calm() || d.state.Changes != changes
	})
	if err != nil {
		return false, err
	}
	if !came && d.state.Proof != nil && !d.state.Proof.Balanced && !d.allEnded() {
		d.prove(ctx)
	}
	if settle(ctx) != nil {
		return false, ctx.Err()
	}
	if came || !d.calm() || d.state.Changes != changes {
		d.set(ctx, contract.StateDegraded, "")
		return false, nil
	}
	return true, nil
}

// changeNoBooks: results are not asked for a journal's books, as they were in v0.2.
const changeNoBooks = "no-books-of-results"

// prove asks the processes for their journals' books; those of several processes are added up. Nothing of a dependency other than
// Redis goes into a journal.
func (d *degrade) prove(ctx workflow.Context) {
	if d.in.Dependency != report.DependencyRedis && workflow.GetVersion(ctx, changeNoBooks, workflow.DefaultVersion, 1) == 1 {
		return
	}
	var books []report.JournalAccounts
	var missing string
	asked := make(map[string]bool)
	for _, m := range d.state.Machines {
		if m.Ended != "" || asked[m.Queue] {
			continue
		}
		asked[m.Queue] = true
		options := contract.DecideOptions(m.Queue)
		options.Summary = "books of the journal"
		var got report.JournalAccounts
		err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), d.degrading.JournalAccounts,
			contract.JournalAccountsInput{Pipeline: d.in.Pipeline}).Get(ctx, &got)
		if err != nil {
			missing = endText(err)
			continue
		}
		books = append(books, got)
	}
	if proof, ok := balance(books); ok {
		proof.At = workflow.Now(ctx)
		d.state.Proof = proof
	}
	if missing != "" {
		d.note = "the journal's books could not be read: " + missing
	}
	d.show(ctx)
}

// balance adds books up and reports whether spilled = drained + superseded. ok is false when no process has a journal.
func balance(all []report.JournalAccounts) (*contract.JournalProof, bool) {
	p := new(contract.JournalProof)
	for _, b := range all {
		if !b.Journal {
			continue
		}
		p.Journal = true
		if p.Disk == "" {
			p.Disk = b.Disk
		}
		p.Spilled, p.Drained = p.Spilled.Plus(b.Spilled), p.Drained.Plus(b.Drained)
		p.Superseded, p.Pending = p.Superseded.Plus(b.Superseded), p.Pending.Plus(b.Pending)
	}
	done := p.Drained.Plus(p.Superseded)
	p.Balanced = p.Pending.Calls == 0 && p.Pending.Commits == 0 && p.Spilled.Same(done)
	switch {
	case p.Balanced:
		p.Text = fmt.Sprintf("spilled %s = drained %s + superseded %s; checksum %s", p.Spilled, p.Drained,
			p.Superseded, p.Spilled.Checksum)
	case p.Spilled.Same(done.Plus(p.Pending)):
		p.Text = fmt.Sprintf("%s are still in the journal; the rest balances", p.Pending)
	default:
		p.Text = fmt.Sprintf("spilled %s (%s), drained %s, superseded %s, pending %s (%s together): they do not balance",
			p.Spilled, p.Spilled.Checksum, p.Drained, p.Superseded, p.Pending,
			done.Plus(p.Pending).Checksum)
	}
	return p, p.Journal
}

func (d *degrade) next(ctx workflow.Context) error {
	d.state.Runs++
	state := d.state
	return workflow.NewContinueAsNewError(ctx, Degrade, contract.DegradeInput{
		Version: contract.Version, Pipeline: d.in.Pipeline, Worker: d.in.Worker, Dependency: d.in.Dependency, State: &state,
	})
}

// explain says how it ended where that is not at normal, and starts what takes care of a journal that was left behind.
func (d *degrade) explain(ctx workflow.Context, outcome string) string {
	switch outcome {
	case contract.OutcomeWorkerGone:
		return "the worker's process does not answer. " + d.lost(ctx)
	case contract.OutcomeMoved:
		return "the hot path left the process. " + d.lost(ctx)
	}
	return ""
}

func (d *degrade) result(ctx workflow.Context, outcome string) *contract.DegradeResult {
	ended := workflow.Now(ctx)
	for i := range d.state.Machines {
		lasted(&d.state.Machines[i], ended)
	}
	return &contract.DegradeResult{
		Pipeline: d.in.Pipeline, Worker: d.in.Worker, Dependency: d.in.Dependency, Outcome: outcome, Note: d.note,
		Began: d.state.Began, Ended: ended, Changes: d.state.Changes, Timeline: d.state.Timeline, Machines: d.state.Machines,
		Proof: d.state.Proof, Overrides: d.state.Receipts,
	}
}

// lost says what the last levels were and who takes over what they left.
func (d *degrade) lost(ctx workflow.Context) string {
	text := ""
	for _, m := range d.state.Machines {
		if m.Ended == "" || m.Level == report.LevelNormal {
			continue
		}
		text += fmt.Sprintf("Replica %d was last at %s, since %s. ", m.Replica, m.Level, stamp(m.Since))
		if m.Disk == "" || m.Ended != contract.OutcomeWorkerGone {
			continue
		}
		id := contract.ReplayWALID(d.in.Pipeline, m.Disk)
		text += fmt.Sprintf("What its journal holds is on disk %s: lanes that come back there settle their own (RecoverLanes), workflow "+
			"%s the rest. ", m.Disk, id)
		options := contract.ChildOptions(id, "settles what worker "+d.in.Worker+" left in its journal")
		options.TypedSearchAttributes = inherited(ctx)
		err := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, options), ReplayWAL, contract.ReplayWALInput{
			Version: contract.Version, Pipeline: d.in.Pipeline, Disk: m.Disk, Host: d.in.Worker,
		}).GetChildWorkflowExecution().Get(ctx, nil)
		if err != nil && !temporal.IsWorkflowExecutionAlreadyStartedError(err) {
			d.log.Warn("replay of the journal not started", "workflow", id, "error", err)
			text += "It could not be started: " + err.Error() + ". "
		}
	}
	return text + "Lanes that others take over read again from their last commit in Redis."
}
