package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// Remove deletes everything that a stopped pipeline has left. It shows what that is and asks, waits
// until nobody holds anything of the pipeline, and then takes it away in an order in which a worker
// that was frozen all the while finds itself fenced: first the group, then the lanes, the closers
// and the keys, and after a grace the fenced metas. A Remove that was cancelled leaves the lanes
// fenced; the next one goes on.
func Remove(ctx workflow.Context, in contract.RemoveInput) (*contract.RemoveResult, error) {
	r, err := newRemoval(ctx, in)
	if err != nil {
		return nil, err
	}
	result, err := r.run(ctx)
	r.leaving = true
	lasting, _ := workflow.NewDisconnectedContext(ctx)
	if waiting := handlersFinished(lasting); waiting != nil {
		return nil, waiting
	}
	return result, err
}

type removal struct {
	in       contract.RemoveInput
	began    time.Time
	removing *activities.Removing

	phase    string
	note     string
	until    *time.Time
	remains  *contract.Remains
	steps    []contract.RemoveStep
	approval *contract.ApproveReceipt
	leaving  bool
	waits    waits
	plain    bool // steps are tried as histories of v0.3 hold it
}

func newRemoval(ctx workflow.Context, in contract.RemoveInput) (*removal, error) {
	r := &removal{in: in, began: workflow.Now(ctx), phase: contract.StateSurveying}
	r.waits.show = r.show
	if err := in.Validate(); err != nil {
		return nil, invalid(contract.ErrorInvalidInput, "%v", err)
	}
	if id := workflow.GetInfo(ctx).WorkflowExecution.ID; id != contract.RemoveID(in.Pipeline) {
		return nil, invalid(contract.ErrorInvalidInput, "workflow id is %q; the input makes it %q", id, contract.RemoveID(in.Pipeline))
	}
	if err := checkSpecOf(in.Pipeline, in.Spec); err != nil {
		return nil, err
	}
	if err := workflow.SetQueryHandlerWithOptions(ctx, contract.QueryStatus, r.status,
		workflow.QueryHandlerOptions{Description: "what is left of the pipeline, what was deleted, and what it waits for"}); err != nil {
		return nil, err
	}
	return r, workflow.SetUpdateHandlerWithOptions(ctx, contract.UpdateApprove, r.approve, workflow.UpdateHandlerOptions{
		Validator: r.admit, Description: "delete what the status shows",
	})
}

// changeRemoveTries: a removal says why a step does not succeed, and gives it up after contract.RemovePatience.
const changeRemoveTries = "a-removal-says-what-it-waits-for"

func (r *removal) run(ctx workflow.Context) (*contract.RemoveResult, error) {
	r.show(ctx)
	r.plain = workflow.GetVersion(ctx, changeRemoveTries, workflow.DefaultVersion, 1) == workflow.DefaultVersion
	var remains contract.Remains
	if err := r.try(ctx, "Redis and Kafka: look for what the pipeline has left", contract.SurveyPatience, contract.SurveyOptions(),
		r.removing.SurveyRemains, contract.RemoveTarget{Pipeline: r.in.Pipeline, Topics: r.in.Topics, Spec: r.in.Spec},
		&remains); err != nil {
		return nil, err
	}
	r.remains = &remains
	switch {
	case len(remains.Holders.Workflows) > 0 && !r.in.DryRun:
		return nil, r.running(remains.Holders)
	case len(remains.Holders.Workflows) == 0 && remains.None():
		return r.result(ctx, contract.OutcomeNothing, r.nothing()), nil
	case r.in.DryRun:
		return r.result(ctx, contract.OutcomeDryRun, "nothing was deleted"), nil
	}
	if approved, err := r.ask(ctx); err != nil || !approved {
		return r.result(ctx, contract.OutcomeNotApproved, "nobody approved it; nothing was deleted"), err
	}
	if err := r.release(ctx); err != nil {
		return nil, err
	}
	if err := r.remove(ctx); err != nil {
		return nil, err
	}
	return r.result(ctx, contract.OutcomeRemoved, r.journals()), nil
}

// nothing says what was looked for in vain.
func (r *removal) nothing() string {
	note := fmt.Sprintf("nothing of pipeline %s is here: no key in Redis, no consumer group %s", r.in.Pipeline, r.remains.Group)
	if id := r.remains.Schedule; id != "" {
		note = fmt.Sprintf("schedule %s is there, delete it with `millrace compact unschedule %s`; %s", id, r.in.Pipeline, note)
	}
	if len(r.remains.Topics) == 0 {
		return note + ", no topic of its own; either it never ran here, or it was removed"
	}
	stays := make([]string, len(r.remains.Topics))
	for i, t := range r.remains.Topics {
		stays[i] = fmt.Sprintf("%s (%s)", t.Topic, t.Why)
	}
	return note + "; topics that stay: " + strings.Join(stays, ", ")
}

// ask waits for an approval, unless there is one.
func (r *removal) ask(ctx workflow.Context) (approved bool, err error) {
	if r.in.Approved {
		return true, nil
	}
	until := workflow.Now(ctx).Add(contract.ApprovalPatience)
	r.set(ctx, contract.StateAsking,
		fmt.Sprintf("waits for an approval: %s, or temporal workflow update execute --workflow-id %s --name %s",
			r.in.Command(), contract.RemoveID(r.in.Pipeline), contract.UpdateApprove), &until)
	return workflow.AwaitWithOptions(ctx, workflow.AwaitOptions{
		Timeout:      contract.ApprovalPatience,
		TimerOptions: workflow.TimerOptions{Summary: summary("waits for an approval: " + r.in.Command())},
	}, func() bool { return r.approval != nil })
}

// release waits until nobody holds anything of the pipeline, and fails with their names when that takes too long.
func (r *removal) release(ctx workflow.Context) error {
	until := workflow.Now(ctx).Add(contract.ReleasePatience)
	note := "makes sure that nobody holds anything of the pipeline"
	if h := r.remains.Holders; !h.Free() {
		note = "waits until nobody holds anything of the pipeline: " + h.String()
	}
	r.set(ctx, contract.StateReleasing, note, &until)
	options := contract.AwaitReleasedOptions(contract.ReleasePatience)
	options.Summary = "waits until nobody holds anything of " + r.in.Pipeline
	var left contract.Holders
	if err := r.try(ctx, note, contract.ReleasePatience+time.Minute, options, r.removing.AwaitReleased,
		contract.AwaitReleasedInput{Pipeline: r.in.Pipeline, Until: until}, &left); err != nil {
		return err
	}
	switch {
	case len(left.Workflows) > 0:
		return r.running(left)
	case !left.Free():
		return invalid(contract.ErrorRefused, "remove %s: still held after %s: %s. Stop or restart those workers, then remove it again",
			r.in.Pipeline, contract.ReleasePatience, left)
	}
	return nil
}

func (r *removal) running(h contract.Holders) error {
	if id, isReplay := strings.CutPrefix(h.Workflows[0], contract.ReplayPrefix(r.in.Pipeline)); isReplay {
		return invalid(contract.ErrorRefused, "remove %s: %s; wait for its end, or end it with `millrace replay cancel %s %s`", r.in.Pipeline, h,
			r.in.Pipeline, id)
	}
	return invalid(contract.ErrorRefused, "remove %s: %s; stop it first with `millrace stop %s`", r.in.Pipeline, h, r.in.Pipeline)
}

// changeRemoveSchedule: a removal deletes the schedule that compacts the pipeline, before anything else.
const changeRemoveSchedule = "a-removal-deletes-the-schedule"

// remove carries out the steps in their order.
func (r *removal) remove(ctx workflow.Context) error {
	token := contract.RemovedPrefix + workflow.GetInfo(ctx).OriginalRunID
	name := r.in.Pipeline
	var doomed []string
	ledger := false
	for _, t := range r.remains.Topics {
		if r.in.Topics && t.Delete {
			doomed = append(doomed, t.Topic)
			ledger = ledger || t.Role == contract.RoleLedger
		}
	}
	if workflow.GetVersion(ctx, changeRemoveSchedule, workflow.DefaultVersion, 1) == 1 {
		if err := r.step(ctx, contract.RemoveSchedule, r.removing.DeleteSchedule, contract.RemoveTarget{Pipeline: name}); err != nil {
			return err
		}
	}
	if err := (dismantling{pipeline: name, token: token, sources: r.remains.Sources, rows: !ledger, step: r.step}).run(ctx); err != nil {
		return err
	}
	until := workflow.Now(ctx).Add(r.in.Grace())
	r.set(ctx, contract.StateGrace,
		"keeps the lanes fenced for workers that may be frozen; all that is left in Redis is a key for each lane that says so", &until)
	if err := workflow.NewTimerWithOptions(ctx, r.in.Grace(), workflow.TimerOptions{
		Summary: summary("keeps the lanes of " + r.in.Pipeline + " fenced for workers that may be frozen"),
	}).Get(ctx, nil); err != nil {
		return err
	}
	// A worker that thawed and knew no better may have made the group again.
	if err := r.release(ctx); err != nil {
		return err
	}
	if err := r.step(ctx, contract.RemoveGroup, r.removing.DeleteGroup, contract.RemoveTarget{Pipeline: name}); err != nil {
		return err
	}
	if len(doomed) > 0 {
		in := contract.DeleteTopicsInput{Pipeline: name, Topics: doomed}
		if err := r.step(ctx, contract.RemoveTopics, r.removing.DeleteTopics, in); err != nil {
			return err
		}
	}
	return r.step(ctx, contract.RemoveMetas, r.removing.DeleteKeys, contract.DeleteKeysInput{Pipeline: name, Metas: true, Token: token})
}

var removeNotes = map[string]string{
	contract.RemoveSchedule: "deletes the schedule that compacts the pipeline, and ends its runs",
	contract.RemoveGroup:    "deletes the consumer group",
	contract.RemoveFence:    "fences every lane",
	contract.RemoveLedger:   "fences the closers and ends the incarnation in the ledger",
	contract.RemoveKeys:     "deletes all keys but those that fence the lanes",
	contract.RemoveTopics:   "deletes the topics",
	contract.RemoveMetas:    "deletes the keys that fence the lanes, and looks for anything left",
}

// try carries an activity out, and fails with a way on when it does not succeed for as long as patience.
func (r *removal) try(ctx workflow.Context, what string, patience time.Duration, options workflow.ActivityOptions, activity, in, out any,
) error {
	err := r.waits.try(ctx, step{
		activity: activity, options: options, patience: patience, once: r.plain, wait: contract.Pending{For: what},
	}, in, out)
	if err == nil || ctx.Err() != nil || isFinal(err) || r.plain {
		return err
	}
	return invalid(contract.ErrorRefused, "remove %s: %s: not done within %s: %s. See to that, then go on with `%s`",
		r.in.Pipeline, what, spec.Duration(patience), failureText(err), r.in.Command())
}

func (r *removal) step(ctx workflow.Context, step string, activity, input any) error {
	r.set(ctx, contract.StateRemoving, removeNotes[step], nil)
	options := contract.RemovalOptions()
	options.Summary = removeNotes[step]
	var done contract.Removed
	if err := r.try(ctx, removeNotes[step], contract.RemovePatience, options, activity, input, &done); err != nil {
		return err
	}
	r.steps = append(r.steps, contract.RemoveStep{Step: step, Count: done.Count, Ended: workflow.Now(ctx)})
	r.show(ctx)
	return nil
}

// journals says what no Remove can reach.
func (r *removal) journals() string {
	return "journals of the pipeline on workers' disks are out of reach; none of it will be applied, " +
		"since no lane has their owners any more"
}

func (r *removal) result(ctx workflow.Context, outcome, note string) *contract.RemoveResult {
	r.set(ctx, contract.StateDone, note, nil)
	return &contract.RemoveResult{
		Pipeline: r.in.Pipeline, Outcome: outcome, Note: note, Began: r.began, Ended: workflow.Now(ctx), Remains: *r.remains,
		Steps: r.steps,
	}
}
