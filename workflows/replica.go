package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/activities"
	"millrace/internal/contract"
)

// Replica keeps one hot path on some worker: it asks where it should run, attaches to it there and, when the attempt is
// lost, asks again. It ends on a stop signal, on cancellation, and when the pipeline's workflow is closed.
func Replica(ctx workflow.Context, in contract.ReplicaInput) (*contract.ReplicaResult, error) {
	r := &replica{
		in: in, started: workflow.Now(ctx), state: contract.ChildSeeking,
		parent: parent{id: contract.PipelineID(in.Pipeline)},
	}
	if err := r.setup(ctx); err != nil {
		return nil, err
	}
	return r.run(ctx)
}

type replica struct {
	in        contract.ReplicaInput
	started   time.Time
	parent    parent
	stopper   stopper
	hosting   *activities.Hosting
	placement *activities.Placement
	control   *activities.Control

	state    string
	note     string
	failures int                // stays in a row that were short and ended in an error
	refused  []contract.Refusal // by the last claim
	leaving  string             // why the attempt is given up, once holder-gone was taken
	moving   *contract.Claimed  // where to go, once hand-over was taken
	offering bool               // a process is being asked whether it would take the hot path
}

func (r *replica) setup(ctx workflow.Context) error {
	if err := r.setUpdates(ctx); err != nil {
		return err
	}
	return workflow.SetQueryHandlerWithOptions(ctx, contract.QueryStatus, func() (*contract.ReplicaStatus, error) {
		return &contract.ReplicaStatus{
			Pipeline: r.in.Pipeline, Replica: r.in.Replica, State: r.state, Note: r.note,
			Moves: r.in.Moves, Placements: r.in.Placements,
		}, nil
	}, workflow.QueryHandlerOptions{Description: "where the hot path runs and where it has been"})
}

// ending says how the loop of stays ended.
type ending int

const (
	endStopped ending = iota
	endGone
	endContinue
)

func (r *replica) run(ctx workflow.Context) (*contract.ReplicaResult, error) {
	work, cancel := workflow.WithCancel(ctx)
	r.stopper.watch(ctx, cancel)
	end := r.stays(work)
	lasting, _ := workflow.NewDisconnectedContext(ctx)
	if err := handlersFinished(lasting); err != nil {
		return nil, err
	}
	if end == endContinue && r.stopper.mayContinue(ctx) {
		next := r.in
		next.Version = contract.Version
		return nil, workflow.NewContinueAsNewError(ctx, Replica, next)
	}
	result := &contract.ReplicaResult{Outcome: contract.OutcomeStopped, Reason: r.stopper.reason, Moves: r.in.Moves}
	if end == endGone {
		result.Outcome, result.Reason = contract.OutcomePipelineGone, "the pipeline's workflow is closed"
	}
	if err := r.release(lasting); err != nil {
		result.Reason = strings.TrimSpace(result.Reason + " (its place in the consumer group is given up by timeout: " + err.Error() + ")")
	}
	r.state, r.note = contract.ChildEnded, ""
	r.show(lasting)
	r.parent.tellEnd(lasting, result.Reason)
	return result, ctx.Err()
}

// releaseTimeout bounds the clean-up after the hot path: Kafka being away must not keep a stopped replica open.
const releaseTimeout = time.Minute

func (r *replica) release(ctx workflow.Context) error {
	options := contract.ControlOptions()
	options.ScheduleToCloseTimeout = releaseTimeout
	options.Summary = "leave the consumer group, give the lease up"
	r.note = "leaves the consumer group in Kafka and gives its lease in Redis up, until " + stamp(workflow.Now(ctx).Add(releaseTimeout)) +
		" at the longest"
	r.show(ctx)
	return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), r.control.ReleaseReplica,
		contract.ReplicaRef{Pipeline: r.in.Pipeline, Replica: r.in.Replica}).Get(ctx, nil)
}

// stays is the loop: claim a place, stay there as long as it lasts, and again.
func (r *replica) stays(ctx workflow.Context) ending {
	var next *contract.Claimed // the place that a hand-over has found
	for {
		if ctx.Err() != nil {
			return endStopped
		}
		if runIsLong(ctx, r.started) {
			return endContinue
		}
		place, err := r.place(ctx, next)
		next = nil
		switch {
		case err != nil && ctx.Err() == nil:
			r.failed(ctx, "no place found: "+err.Error(), 0)
			continue
		case err != nil:
			continue
		case len(place.Refused) > 0:
			r.incapable(ctx, place.Refused)
			continue
		}
		r.settle(ctx, place)
		began := workflow.Now(ctx)
		result, err := r.stay(ctx, place)
		switch {
		case r.leaving != "" && ctx.Err() == nil:
			r.leave(ctx, r.leaving)
		case r.moving != nil && ctx.Err() == nil:
			next = r.moving
			r.leave(ctx, "handed over to "+next.Worker)
		case ctx.Err() != nil:
			r.leave(ctx, "stopped")
			return endStopped
		case err == nil && result.Outcome == contract.OutcomePipelineGone:
			r.leave(ctx, result.Outcome)
			return endGone
		case err == nil && result.Outcome == contract.OutcomeRenew:
			r.leave(ctx, result.Outcome)
			return endContinue
		case err == nil:
			r.leave(ctx, result.Outcome+" "+result.Reason)
		default:
			r.leave(ctx, endText(err))
			if !isType(err, contract.ErrorMoved, contract.ErrorDetached) {
				r.failed(ctx, endText(err), workflow.Now(ctx).Sub(began))
			}
		}
	}
}

// place returns where to stay: the place that is known already, or one that a claim finds.
func (r *replica) place(ctx workflow.Context, known *contract.Claimed) (place contract.Claimed, err error) {
	if known != nil {
		return *known, nil
	}
	r.state = contract.ChildSeeking
	r.show(ctx)
	options := contract.ClaimOptions()
	options.Summary = fmt.Sprintf("looks for a worker for hot path %d of %s", r.in.Replica, r.in.Pipeline)
	claim := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), r.placement.Claim, contract.ClaimInput{
		Pipeline: r.in.Pipeline, Replica: r.in.Replica, Moving: len(r.in.Placements) > 0, Spec: r.in.Spec, Refused: r.refused,
	})
	if workflow.GetVersion(ctx, changeTellsSeeking, workflow.DefaultVersion, 1) == 1 {
		r.tellSeeking(ctx, claim)
	}
	err = claim.Get(ctx, &place)
	return place, err
}

// changeTellsSeeking: the parent is told of a claim that is not answered soon.
const changeTellsSeeking = "replica-tells-that-it-seeks"

// claimSoon is how long a claim may take before the parent is told that the hot path has no place.
const claimSoon = 3 * time.Second

func (r *replica) tellSeeking(ctx workflow.Context, claim workflow.Future) {
	soon, err := awaitFor(ctx, claimSoon, "before it says that no worker takes the hot path", claim.IsReady)
	if soon || err != nil {
		return
	}
	if r.note == "" {
		r.note = "no worker has taken it yet"
		if n := len(r.in.Placements); n > 0 {
			last := r.in.Placements[n-1]
			r.note = contract.Cut(fmt.Sprintf("%s; it was on %s: %s", r.note, last.Worker, last.Ended))
		}
	}
	r.show(ctx)
	r.parent.tell(ctx, contract.ChildSeeking, "", r.note)
}

// incapable says that no worker can run the spec, and why. The next claim returns when one can, or says something else.
func (r *replica) incapable(ctx workflow.Context, refused []contract.Refusal) {
	r.refused, r.state = refused, contract.ChildSeeking
	var parts []string
	for _, w := range refused {
		parts = append(parts, w.Worker+": "+w.Reason)
	}
	r.note = contract.Cut("no worker can run it: " + strings.Join(parts, "; "))
	r.show(ctx)
	r.parent.tell(ctx, contract.ChildSeeking, "", r.note)
}

// stay attaches to the hot path at a place until the attempt ends or, before that, it is to be placed elsewhere.
func (r *replica) stay(ctx workflow.Context, place contract.Claimed) (result contract.RunResult, err error) {
	r.leaving, r.moving, r.refused = "", nil, nil
	options := contract.RunOptions(place.Queue)
	options.Summary = fmt.Sprintf("hot path %d of %s on %s", r.in.Replica, r.in.Pipeline, place.Worker)
	attempt, cancel := workflow.WithCancel(ctx)
	defer cancel()
	running := workflow.ExecuteActivity(workflow.WithActivityOptions(attempt, options), r.hosting.Run, contract.RunInput{
		Pipeline: r.in.Pipeline, Replica: r.in.Replica, Spec: r.in.Spec,
		RenewSeconds: int64((contract.RunLimit - workflow.Now(ctx).Sub(r.started)).Seconds()) + 1,
	})
	if workflow.Await(ctx, func() bool { return running.IsReady() || r.leaving != "" || r.moving != nil }) == nil && !running.IsReady() {
		cancel()
		// A process that is gone answers no more; one that hands over commits and releases first.
		if workflow.Await(ctx, func() bool { return running.IsReady() || r.leaving != "" }) == nil && !running.IsReady() {
			return result, nil
		}
	}
	if ctx.Err() != nil && !running.IsReady() {
		r.note = "stops: the hot path on " + place.Worker + " commits and releases its lanes"
		r.show(ctx)
	}
	err = running.Get(ctx, &result)
	return result, err
}

// settle records the place; a stay on the same worker as before is the same placement.
func (r *replica) settle(ctx workflow.Context, place contract.Claimed) {
	r.state, r.note = contract.ChildPlaced, ""
	n := len(r.in.Placements)
	if n > 0 && r.in.Placements[n-1].Queue == place.Queue {
		r.in.Placements[n-1].Ended = ""
	} else {
		if n > 0 {
			r.in.Moves++
		}
		r.in.Placements = append(r.in.Placements, contract.Placement{
			Worker: place.Worker, Queue: place.Queue, Since: workflow.Now(ctx),
		})
		r.in.Placements = r.in.Placements[max(0, len(r.in.Placements)-contract.MaxPlacements):]
	}
	r.show(ctx)
	r.parent.tellWaits(ctx, contract.ChildPlaced, place.Worker, "", contract.ChildWaits{Queue: place.Queue})
}

func (r *replica) leave(ctx workflow.Context, why string) {
	if n := len(r.in.Placements); n > 0 {
		r.in.Placements[n-1].Ended = strings.TrimSpace(why)
	}
	r.show(ctx)
}

const (
	shortStay = time.Minute
	pauseMost = 30 * time.Second
)

// changeTellsFailures is the version from which the parent is told of stays that failed, too.
const changeTellsFailures = "replica-tells-failures"

// failed waits before the next claim when stays keep failing quickly; the first failure costs nothing.
func (r *replica) failed(ctx workflow.Context, why string, stayed time.Duration) {
	r.state, r.note = contract.ChildSeeking, contract.Cut(why)
	if workflow.GetVersion(ctx, changeTellsFailures, workflow.DefaultVersion, 1) == 1 {
		r.parent.tell(ctx, contract.ChildSeeking, "", r.note)
	}
	if stayed >= shortStay {
		r.failures = 0
	}
	if r.failures++; r.failures > 1 {
		r.show(ctx)
		// Cancelled, the loop of stays ends.
		_ = pause(ctx, min(time.Second<<min(r.failures-2, 10), pauseMost), "looks for a place again: "+r.note)
	}
}

func (r *replica) show(ctx workflow.Context) {
	var b strings.Builder
	fmt.Fprintf(&b, "Hot path %d of **%s** is **%s** %s\n\n| worker | since | ended |\n|---|---|---|\n",
		r.in.Replica, r.in.Pipeline, r.state, r.note)
	for _, p := range r.in.Placements {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", p.Worker, stamp(p.Since), p.Ended)
	}
	workflow.SetCurrentDetails(ctx, b.String())
}
