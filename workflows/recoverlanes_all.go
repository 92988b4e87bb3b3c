package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
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
func (r *recovery) wanting(choice string) (wanted []report.LaneRef, others []contract.LaneDecision) {
	for i := range r.state.Lanes {
		l := &r.state.Lanes[i]
		if !open(l) && !r.canGiveUp(l, choice) {
			continue
		}
		if note := r.unwilling(l, choice); note != "" {
			others = append(others, passedOver(l, note))
		} else {
			wanted = append(wanted, laneKey(l))
		}
	}
	return wanted, others
}

// canGiveUp reports whether the choice ends the wait for a lane whose process does not answer.
func (r *recovery) canGiveUp(l *report.RecoveredLane, choice string) bool {
	return choice == report.ChoiceGiveUp && r.gone && !over(l.State)
}

// unwilling says why a lane cannot be given a choice now; it is empty if it can.
func (r *recovery) unwilling(l *report.RecoveredLane, choice string) string {
	if slices.Contains(r.deciding, laneKey(l)) {
		return "another decision about it is being carried out"
	}
	if r.canGiveUp(l, choice) {
		return ""
	}
	if !open(l) {
		return "it waits for a decision no longer"
	}
	if _, offered := l.Incident.Choice(choice); !offered {
		return fmt.Sprintf("%s of lane %s/%d offers %s", l.Incident.Kind, l.Topic, l.Partition, choices(l.Incident.Choices))
	}
	return ""
}

// passedOver is what a decision about all lanes says of one that it was not carried to.
func passedOver(l *report.RecoveredLane, note string) contract.LaneDecision {
	of := contract.LaneDecision{Topic: l.Topic, Partition: l.Partition, Note: note}
	if l.Incident != nil {
		of.Incident = l.Incident.Kind
	}
	return of
}

// changeInTurn: a decision about all lanes passes over those that, when their turn comes, wait for it no longer.
const changeInTurn = "a-decision-about-all-lanes-passes-over-those-decided-meanwhile"

// decideInTurn carries a decision about all lanes to one of them.
func (r *recovery) decideInTurn(ctx workflow.Context, id string, lane report.LaneRef, req contract.DecideRequest,
) contract.LaneDecision {
	l := r.find(lane.Topic, lane.Partition)
	if note := r.unwilling(l, req.Choice); note != "" && workflow.GetVersion(ctx, changeInTurn, workflow.DefaultVersion, 1) == 1 {
		return passedOver(l, note)
	}
	of, err := r.decideLane(ctx, id, lane, req)
	if err != nil {
		of.Note = overtakenText(err)
	}
	return of
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
				told[i] = r.decideInTurn(ctx, id, lane, req)
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
