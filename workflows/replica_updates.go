package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// What workers tell a Replica comes as updates, not as signals: a run that was begun by an earlier version, and is carried on by a
// worker of one, refuses them without a trace in its history, and so replays everywhere.
func (r *replica) setUpdates(ctx workflow.Context) error {
	if err := workflow.SetUpdateHandlerWithOptions(ctx, contract.UpdateHolderGone, r.holderGone, workflow.UpdateHandlerOptions{
		Validator: func(_ workflow.Context, in contract.HolderGone) error {
			return r.runsOn(contract.UpdateHolderGone, in.Queue)
		},
		Description: "the process that runs the hot path is gone: place it anew",
	}); err != nil {
		return err
	}
	return workflow.SetUpdateHandlerWithOptions(ctx, contract.UpdateHandOver, r.handOver, workflow.UpdateHandlerOptions{
		Validator: func(_ workflow.Context, in contract.HandOver) error {
			switch {
			case in.To == "" || in.To == in.From:
				return refused("hand-over: to is %q; want the host queue of another process than from", in.To)
			case r.offering || r.moving != nil:
				return refused("hand-over: another one is under way")
			}
			return r.runsOn(contract.UpdateHandOver, in.From)
		},
		Description: "move the hot path to another process that can run it",
	})
}

// runsOn refuses what is about a process where the hot path does not run.
func (r *replica) runsOn(update, queue string) error {
	if r.state != contract.ChildPlaced || r.leaving != "" || r.stopper.asked {
		return refused("%s: the hot path is not placed now, it is %s", update, r.state)
	}
	if last := r.in.Placements[len(r.in.Placements)-1]; last.Queue != queue {
		return refused("%s: the hot path runs on %s (%s), not on queue %q", update, last.Worker, last.Queue, queue)
	}
	return nil
}

// holderGone gives the attempt up without waiting for it.
func (r *replica) holderGone(_ workflow.Context, in contract.HolderGone) (*contract.PlaceReceipt, error) {
	r.leaving = contract.Cut(fmt.Sprintf("the process is gone, says %s: %s", in.By, in.Reason))
	return &contract.PlaceReceipt{Taken: true}, nil
}

// handOver asks the other process first. The hot path runs on meanwhile, and stays where it is when the answer is no.
func (r *replica) handOver(ctx workflow.Context, in contract.HandOver) (*contract.PlaceReceipt, error) {
	r.offering = true
	defer func() { r.offering = false }()
	options := contract.OfferOptions(in.To)
	options.Summary = summary(fmt.Sprintf("would %s take hot path %d of %s? %s", in.Worker, r.in.Replica, r.in.Pipeline, in.Reason))
	var place contract.Claimed
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), r.placement.Claim, contract.ClaimInput{
		Pipeline: r.in.Pipeline, Replica: r.in.Replica, Spec: r.in.Spec, Offer: true,
	}).Get(ctx, &place)
	if err != nil {
		return &contract.PlaceReceipt{Note: contract.Cut(in.Worker + " does not take it: " + endText(err))}, nil
	}
	if err := r.runsOn(contract.UpdateHandOver, in.From); err != nil {
		return &contract.PlaceReceipt{Note: contract.Cut(err.Error())}, nil
	}
	r.moving = &place
	return &contract.PlaceReceipt{Taken: true}, nil
}
