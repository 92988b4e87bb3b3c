package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// decidedAtOnce bounds how many lanes of a decision about all lanes are told at a time.
const decidedAtOnce = 50

// admitAll refuses a decision that no lane could be given.
func (r *recovery) admitAll(req contract.DecideRequest) error {
	wanted, others := r.wanting(req.Choice)
	switch {
	case len(wanted) > 0:
		return nil
	case len(others) > 0:
		return refused("decide: no lane that waits for a decision offers %q; %s", req.Choice, others[0].Note)
	}
	return refused("decide: no lane of this recovery waits for a decision")
}

// wanting lists the lanes that wait for a decision and can be given this one, and says why the others of them cannot.
func (r *recovery) wanting(choice string) (wanted []contract.BatchLane, others []contract.LaneDecision) {
	for i := range r.state.Lanes {
		l := &r.state.Lanes[i]
		givesUp := choice == contract.ChoiceGiveUp && r.gone && !over(l.State)
		if !open(l) && !givesUp {
			continue
		}
		other := contract.LaneDecision{Topic: l.Topic, Partition: l.Partition}
		if l.Incident != nil {
			other.Incident = l.Incident.Kind
		}
		offered := givesUp
		if !givesUp {
			_, offered = l.Incident.Choice(choice)
		}
		switch {
		case slices.Contains(r.deciding, laneKey(l)):
			other.Note = "another decision about it is being carried out"
			others = append(others, other)
		case offered:
			wanted = append(wanted, laneKey(l))
		default:
			other.Note = fmt.Sprintf("%s of lane %s/%d offers %s", l.Incident.Kind, l.Topic, l.Partition, choices(l.Incident.Choices))
			others = append(others, other)
		}
	}
	return wanted, others
}

// decideAll carries a decision to every lane that waits for one and offers it.
func (r *recovery) decideAll(ctx workflow.Context, id string, req contract.DecideRequest) (*contract.DecisionReceipt, error) {
	wanted, failed := r.wanting(req.Choice)
	var done []contract.LaneDecision
	for part := range slices.Chunk(wanted, decidedAtOnce) {
		told := make([]contract.LaneDecision, len(part))
		all := workflow.NewWaitGroup(ctx)
		all.Add(len(part))
		for i, lane := range part {
			workflow.Go(ctx, func(ctx workflow.Context) {
				defer all.Done()
				of, err := r.decideLane(ctx, id, lane, req)
				if err != nil {
					of.Note = overtakenText(err)
				}
				told[i] = of
			})
		}
		all.Wait(ctx)
		for _, of := range told {
			if of.Applied {
				done = append(done, of)
			} else {
				failed = append(failed, of)
			}
		}
	}
	receipt := contract.DecisionReceipt{
		RequestID: id, Choice: req.Choice, Reason: req.Reason, Applied: len(failed) == 0, Lanes: slices.Concat(failed, done),
		Note: fmt.Sprintf("%d of %d lanes that waited for a decision", len(done), len(done)+len(failed)),
	}
	receipt.More = max(0, len(receipt.Lanes)-contract.MaxDecisionLanes)
	receipt.Lanes = receipt.Lanes[:len(receipt.Lanes)-receipt.More]
	return r.book(ctx, req, receipt), nil
}

// shortenReceipts leaves the lists of lanes to the latest decisions, so that all receipts fit what a run carries.
func shortenReceipts(receipts []contract.DecisionReceipt) {
	const whole = 4
	for i := range receipts[:max(0, len(receipts)-whole)] {
		receipts[i].More += len(receipts[i].Lanes)
		receipts[i].Lanes = nil
	}
}

// ofLanes says whom a decision was about.
func ofLanes(d contract.DecisionReceipt) string {
	if d.Partition == nil {
		return "all lanes that waited"
	}
	return fmt.Sprintf("%s/%d", d.Topic, *d.Partition)
}
