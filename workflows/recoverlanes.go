package workflows

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"millrace/activities"
	"millrace/internal/contract"
)

// RecoverLanes takes a batch of lanes through the steps of a recovery on the process that was given them, and asks the operator
// about those that cannot go on by themselves. It never holds a lane up: what it does not come to in time the hot path does,
// and a batch that was done while Temporal was away comes with its report, which is recorded as it is. So does a batch of lanes
// that parked while they ran: all that is left to do for them is to ask.
func RecoverLanes(ctx workflow.Context, in contract.RecoverInput) (*contract.RecoverResult, error) {
	r, err := newRecovery(ctx, in)
	if err != nil {
		return nil, err
	}
	return r.run(ctx)
}

type recovery struct {
	batch    contract.RecoveryBatch
	in       contract.RecoverInput
	state    contract.RecoverState
	started  time.Time
	ended    time.Time // of a batch that came with its report
	log      log.Logger
	recovery *activities.Recovery
	owners   *activities.Ownership
	hostBack workflow.ReceiveChannel
	pipeline outsider

	phase    string
	note     string
	gone     bool // the host's queue is not polled
	looks    int  // after steps that were not carried out, in a row
	changed  bool // a decision was made
	leaving  bool
	deciding []contract.BatchLane // decisions under way
}

func newRecovery(ctx workflow.Context, in contract.RecoverInput) (*recovery, error) {
	r := &recovery{
		batch: in.Batch, in: in, started: workflow.Now(ctx), log: workflow.GetLogger(ctx), phase: contract.StateRecovering,
		hostBack: workflow.GetSignalChannel(ctx, contract.SignalHostBack),
		pipeline: outsider{parent: parent{id: contract.PipelineID(in.Batch.Pipeline)}, told: in.State != nil},
	}
	if want := contract.RecoverLanesID(in.Batch.Pipeline, in.Batch.Process, in.Batch.Batch); workflow.GetInfo(ctx).WorkflowExecution.ID != want {
		return nil, invalid(contract.ErrorInvalidInput, "workflow id is %q; the batch makes it %q; recoveries are started by the workers",
			workflow.GetInfo(ctx).WorkflowExecution.ID, want)
	}
	if in.State != nil {
		r.state = *in.State
	} else {
		for _, l := range in.Batch.Lanes {
			r.state.Lanes = append(r.state.Lanes, contract.RecoveredLane{
				Topic: l.Topic, Partition: l.Partition, State: contract.LaneRecovering, Offset: -1,
			})
		}
	}
	if in.Report != nil {
		r.ended = in.Report.Ended
		if in.State == nil {
			r.state.Done, r.state.Steps = len(contract.RecoverySteps()), in.Report.Steps
			r.state.Lanes = in.Report.Lanes
		}
	}
	if err := workflow.SetQueryHandlerWithOptions(ctx, contract.QueryStatus, r.status,
		workflow.QueryHandlerOptions{Description: "lanes, steps, and incidents with their choices"}); err != nil {
		return nil, err
	}
	return r, workflow.SetUpdateHandlerWithOptions(ctx, contract.UpdateDecide, r.decide, workflow.UpdateHandlerOptions{
		Validator: r.admit, Description: "choose what happens to a lane with an incident",
	})
}

func (r *recovery) run(ctx workflow.Context) (*contract.RecoverResult, error) {
	r.show(ctx)
	again, err := r.recover(ctx)
	if again && !r.settled() {
		return nil, r.next(ctx)
	}
	r.leaving = true
	lasting, _ := workflow.NewDisconnectedContext(ctx)
	if err := handlersFinished(lasting); err != nil {
		return nil, err
	}
	if err != nil {
		r.pipeline.tellOver(lasting, err.Error())
		return nil, err
	}
	result := r.result(ctx)
	r.phase, r.note = contract.StateDone, result.Note
	r.show(ctx)
	r.pipeline.tellOver(lasting, result.Outcome)
	return result, nil
}

// handlersFinished waits until every update that has come is answered.
func handlersFinished(ctx workflow.Context) error {
	for first := true; first || !workflow.AllHandlersFinished(ctx); first = false {
		if err := workflow.Await(ctx, func() bool { return workflow.AllHandlersFinished(ctx) }); err != nil {
			return err
		}
		if err := settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// recover carries out the steps that are left and then waits for decisions. again is true when the run should be continued as new.
func (r *recovery) recover(ctx workflow.Context) (again bool, err error) {
	steps := contract.RecoverySteps()
	for r.state.Done < len(steps) && !r.settled() {
		report, err := r.step(ctx, steps[r.state.Done])
		switch {
		case ctx.Err() != nil:
			return false, ctx.Err()
		case err == nil:
			r.take(report)
			r.set(ctx, contract.StateRecovering, "")
		case isType(err, contract.ErrorStale):
			r.supersede(func(contract.RecoveredLane) bool { return true }, overtakenText(err))
		default:
			if err := r.withoutHost(ctx, err); err != nil {
				return false, err
			}
			if r.long(ctx) {
				return true, nil
			}
		}
	}
	return r.ask(ctx)
}

func (r *recovery) step(ctx workflow.Context, step string) (report contract.StepReport, err error) {
	options := contract.RecoverStepOptions(r.batch.Queue)
	options.Summary = fmt.Sprintf("%s %s", step, lanesOf(r.batch))
	err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), r.recovery.RecoverStep, contract.RecoverStepInput{
		Pipeline: r.batch.Pipeline, Replica: r.batch.Replica, Batch: r.batch.Batch, Step: step,
	}).Get(ctx, &report)
	return report, err
}

func lanesOf(b contract.RecoveryBatch) string {
	n := len(b.Lanes) + b.More
	if n == 1 {
		return fmt.Sprintf("%s/%d of %s", b.Lanes[0].Topic, b.Lanes[0].Partition, b.Pipeline)
	}
	return fmt.Sprintf("%d lanes of %s", n, b.Pipeline)
}

// take books a step. Decisions that were made meanwhile stand: the report may be older.
func (r *recovery) take(report contract.StepReport) {
	r.gone, r.looks = false, 0
	for _, l := range report.Lanes {
		at := r.find(l.Topic, l.Partition)
		if at == nil {
			r.state.Lanes = append(r.state.Lanes, l)
			continue
		}
		if over(at.State) {
			continue
		}
		if at.Incident != nil && at.Incident.Decided != "" && l.Incident != nil && l.Incident.ID == at.Incident.ID {
			l.Incident.Decided = at.Incident.Decided
		}
		*at = l
	}
	report.Lanes = nil
	r.state.Steps = append(r.state.Steps, report)
	r.state.Done++
}

func (r *recovery) find(topic string, partition int32) *contract.RecoveredLane {
	for i := range r.state.Lanes {
		if l := &r.state.Lanes[i]; l.Topic == topic && l.Partition == partition {
			return l
		}
	}
	return nil
}

// over tells whether nothing more is to be done for a lane in this state by this recovery.
func over(state string) bool {
	return state == contract.LaneSuperseded || state == contract.LaneGivenUp
}

// settled tells whether no lane needs this recovery any more.
func (r *recovery) settled() bool {
	return !slices.ContainsFunc(r.state.Lanes, func(l contract.RecoveredLane) bool { return !over(l.State) })
}

func (r *recovery) supersede(which func(contract.RecoveredLane) bool, why string) {
	for i := range r.state.Lanes {
		if l := &r.state.Lanes[i]; !over(l.State) && which(*l) {
			l.State, l.Note = contract.LaneSuperseded, contract.Cut(why)
		}
	}
}

// withoutHost is what happens when a step was not carried out: lanes that have got another owner are done with; for the rest it
// waits a minute, or until the host is said to be back or the operator has decided, and the step is tried again.
func (r *recovery) withoutHost(ctx workflow.Context, why error) error {
	r.gone = notStarted(why)
	if err := r.lookAtOwners(ctx); err != nil {
		return err
	}
	if r.settled() {
		return nil
	}
	phase, note := contract.StateRecovering, "the last try failed: "+endText(why)
	if r.gone {
		phase, note = contract.StateHostGone, "nobody polls the queue of "+r.batch.Worker+"; the lanes recover by themselves where they run, and this goes on when the "+
			"process answers, signal host-back comes, or another worker has the lanes. Update decide with choice "+contract.ChoiceGiveUp+
			" ends the wait for a lane"
	}
	r.set(ctx, phase, note)
	r.looks++
	return r.pause(ctx, min(hostLookFirst<<min(r.looks-1, 10), contract.HostLookEvery))
}

// hostLookFirst is how soon after a step that was not carried out the first look comes: lanes of a worker that died have
// another owner within seconds. Each further look takes twice as long, up to contract.HostLookEvery.
const hostLookFirst = 5 * time.Second

// pause waits until the time is up, the host is said to be back, or a decision was made.
func (r *recovery) pause(ctx workflow.Context, most time.Duration) error {
	timer, stop := workflow.WithCancel(ctx)
	defer stop()
	up := false
	workflow.Go(timer, func(ctx workflow.Context) {
		if pause(ctx, most, r.waitsFor()) == nil {
			up = true
		}
	})
	workflow.Go(timer, func(ctx workflow.Context) {
		wake := workflow.NewSelector(ctx)
		wake.AddReceive(r.hostBack, func(c workflow.ReceiveChannel, _ bool) {
			c.Receive(ctx, nil)
			up = true
		})
		wake.AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) {})
		wake.Select(ctx)
	})
	r.changed = false
	return workflow.Await(ctx, func() bool { return up || r.changed })
}

// waitsFor is what a pause of now is for: the command that ends it, where there is one.
func (r *recovery) waitsFor() string {
	id := contract.RecoverLanesID(r.batch.Pipeline, r.batch.Process, r.batch.Batch)
	if r.gone {
		return "waits for the process of " + r.batch.Worker + " or another owner; `millrace recover show " + id + "` shows the lanes"
	}
	for i := range r.state.Lanes {
		l := &r.state.Lanes[i]
		if !open(l) {
			continue
		}
		names := make([]string, len(l.Incident.Choices))
		for n, c := range l.Incident.Choices {
			names[n] = c.Name
		}
		more := ""
		if n := r.undecided() - 1; n > 0 {
			more = fmt.Sprintf(" (and %d more lanes)", n)
		}
		return fmt.Sprintf("waits for a decision: millrace recover decide %s %s/%d %s%s", id, l.Topic, l.Partition, strings.Join(names, "|"), more)
	}
	return r.note
}

// lookAtOwners finds lanes that another owner has by now, and those whose pipeline was removed. Tokens are compared for equality
// only; a lane whose acquisition was not reported is another's once its owner is not the one found first.
func (r *recovery) lookAtOwners(ctx workflow.Context) error {
	in := contract.LaneOwnersInput{Pipeline: r.batch.Pipeline, Replica: &r.batch.Replica}
	for _, l := range r.state.Lanes {
		if !over(l.State) {
			in.Lanes = append(in.Lanes, contract.BatchLane{Topic: l.Topic, Partition: l.Partition})
		}
	}
	var found contract.LaneOwners
	options := contract.ControlOptions()
	options.ScheduleToCloseTimeout = contract.HostLookEvery // Redis may be what is away: the next look will do
	options.Summary = "who owns the lanes?"
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), r.owners.LaneOwners, in).Get(ctx, &found)
	if err != nil {
		r.log.Info("owners not read", "error", err)
		return ctx.Err()
	}
	for _, owner := range found.Lanes {
		l := r.find(owner.Topic, owner.Partition)
		if l == nil || owner.Token == "" && !owner.Gone {
			continue
		}
		only := func(other contract.RecoveredLane) bool {
			return other.Topic == l.Topic && other.Partition == l.Partition
		}
		if owner.Gone {
			r.supersede(only, "the pipeline was stopped and removed: Redis does not know the lane any more")
			continue
		}
		if owner.Stopped {
			r.supersede(only, "the pipeline was stopped; its next start recovers the lane and asks again if need be")
			continue
		}
		was := l.Token
		if was == "" {
			was = r.firstOwner(owner)
		}
		if owner.Token != was {
			why := fmt.Sprintf("owned by epoch %d since", owner.Epoch)
			if strings.HasPrefix(owner.Token, contract.RemovedPrefix) {
				why = "the pipeline is being removed"
			}
			r.supersede(only, why)
		}
	}
	return nil
}

func (r *recovery) firstOwner(owner contract.LaneOwner) string {
	for _, first := range r.state.First {
		if first.Topic == owner.Topic && first.Partition == owner.Partition {
			return first.Token
		}
	}
	r.state.First = append(r.state.First, owner)
	return owner.Token
}

// ask waits until every incident is decided or its lane has another owner. The steps of the other lanes are done.
func (r *recovery) ask(ctx workflow.Context) (again bool, err error) {
	for r.undecided() > 0 {
		note := fmt.Sprintf("%d of %d lanes are parked and wait for a decision (update decide)", r.undecided(), len(r.state.Lanes))
		r.set(ctx, contract.StateDeciding, note)
		if err := r.pause(ctx, contract.IncidentLookEvery); err != nil {
			return false, err
		}
		if !r.changed {
			if err := r.lookAtOwners(ctx); err != nil {
				return false, err
			}
		}
		if r.long(ctx) {
			return r.undecided() > 0, nil
		}
	}
	return false, nil
}

func (r *recovery) undecided() (n int) {
	for i := range r.state.Lanes {
		if open(&r.state.Lanes[i]) {
			n++
		}
	}
	return n
}

// open tells whether a lane waits for a decision.
func open(l *contract.RecoveredLane) bool {
	return !over(l.State) && l.Incident != nil && l.Incident.Decided == "" && len(l.Incident.Choices) > 0
}

// parked tells whether a lane stays parked: its incident leaves nothing to choose.
func parked(l contract.RecoveredLane) bool {
	return !over(l.State) && l.Incident != nil && l.Incident.Decided == ""
}

// long tells whether this run should be continued as new: the timeout is for work, not for waiting.
func (r *recovery) long(ctx workflow.Context) bool {
	return runIsLong(ctx, r.started) || workflow.Now(ctx).Sub(r.started) > contract.RecoverRunLimit
}

func (r *recovery) next(ctx workflow.Context) error {
	if err := handlersFinished(ctx); err != nil {
		return err
	}
	state := r.state
	state.Runs++
	next := contract.RecoverInput{Version: contract.Version, Batch: r.batch, State: &state}
	if r.in.Report != nil {
		next.Report = &contract.RecoveryReport{Ended: r.ended}
	}
	return workflow.NewContinueAsNewError(ctx, RecoverLanes, next)
}

// notStarted tells whether an activity failed because nobody polled its queue.
func notStarted(err error) bool {
	kind, ok := timeoutKind(err)
	return ok && kind == enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START
}

func (r *recovery) result(ctx workflow.Context) *contract.RecoverResult {
	lanes, _ := contract.BoundLanes(r.state.Lanes)
	result := &contract.RecoverResult{
		Pipeline: r.batch.Pipeline, Replica: r.batch.Replica, Worker: r.batch.Worker, Batch: r.batch.Batch, Outcome: contract.OutcomeRecovered,
		By: r.by(), Began: r.batch.Began, Ended: workflow.Now(ctx), Steps: r.state.Steps, Totals: r.totals(), Lanes: lanes,
		Decisions: r.state.Receipts, Storm: r.batch.Storm,
	}
	if r.in.Report != nil && !r.batch.MidRun && len(r.state.Receipts) == 0 {
		result.Ended = r.ended
		result.Note = "done by the hot path while Temporal was away; recorded at " + stamp(workflow.Now(ctx))
	}
	givenUp := slices.ContainsFunc(r.state.Lanes, func(l contract.RecoveredLane) bool { return l.State == contract.LaneGivenUp })
	switch {
	case r.settled() && givenUp:
		result.Outcome = contract.OutcomeGivenUp
	case r.settled():
		result.Outcome = contract.OutcomeSuperseded
	case slices.ContainsFunc(r.state.Lanes, parked):
		result.Outcome, result.Note = contract.OutcomeParked, "lanes are parked by what no choice mends; they go on when the cause is gone"
	}
	return result
}

func (r *recovery) by() string {
	by := ""
	for _, s := range r.state.Steps {
		switch {
		case by == "":
			by = s.By
		case by != s.By:
			return contract.ByMixed
		}
	}
	return by
}

func (r *recovery) totals() (t contract.RecoverTotals) {
	for _, l := range r.state.Lanes {
		t.Lanes++
		switch l.State {
		case contract.LaneRunning:
			t.Running++
		case contract.LaneSuperseded:
			t.Superseded++
		}
		if l.Incident != nil {
			t.Incidents++
		}
		t.Entries += l.Entries
		t.Bytes += l.Bytes
		t.Reread += l.Reread
		if l.Journal != nil && l.Journal.Outcome == contract.ChainDrained {
			t.Drained += l.Journal.Commits
		}
	}
	t.Lanes += r.batch.More
	for _, s := range r.state.Steps { // their sums are over all lanes, also those that the list has no room for
		t.Running = max(t.Running, running(s))
		t.Entries, t.Bytes = max(t.Entries, s.Sums.Entries), max(t.Bytes, s.Sums.Bytes)
		t.Reread, t.Drained = max(t.Reread, s.Sums.Reread), max(t.Drained, s.Sums.Drained)
	}
	return t
}

func running(s contract.StepReport) int {
	if s.Step != contract.StepResume {
		return 0
	}
	return s.Sums.Done
}

// overtakenText is what a host says of something that is not current any more.
func overtakenText(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return app.Message()
	}
	return endText(err)
}

func refusedByHost(update string, err error) error {
	if notStarted(err) {
		return refused("%s: the worker's process does not answer; nothing was done", update)
	}
	return temporal.NewNonRetryableApplicationError(update+": "+endText(err), contract.ErrorRefused, nil)
}
