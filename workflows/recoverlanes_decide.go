package workflows

import (
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// admit decides whether a decision enters the history. A repeated request always does: it is answered with its receipt.
func (r *recovery) admit(ctx workflow.Context, req contract.DecideRequest) error {
	if err := req.Validate(); err != nil {
		return err
	}
	if past, ok := r.receipt(workflow.GetCurrentUpdateInfo(ctx).ID); ok {
		return past.Past().Repeats(contract.UpdateDecide, contract.Fingerprint(req))
	}
	if r.leaving {
		return refused("decide: this recovery is done")
	}
	if req.All {
		return r.admitAll(req)
	}
	l := r.find(req.Topic, *req.Partition)
	if l == nil {
		return refused("decide: lane %s/%d is not of this recovery; its lanes are %s", req.Topic, *req.Partition, r.laneNames())
	}
	if slices.Contains(r.deciding, laneKey(l)) {
		return refused("decide: a decision about lane %s/%d is being carried out", req.Topic, *req.Partition)
	}
	if over(l.State) {
		return refused("decide: lane %s/%d is %s: %s", req.Topic, *req.Partition, l.State, l.Note)
	}
	if req.Choice == report.ChoiceGiveUp && r.gone {
		return nil
	}
	if l.Incident == nil {
		return refused("decide: lane %s/%d has no incident; nothing is to be decided", req.Topic, *req.Partition)
	}
	if l.Incident.Decided != "" {
		return refused("decide: %s of lane %s/%d is decided already: %s", l.Incident.Kind, req.Topic, *req.Partition, l.Incident.Decided)
	}
	if _, ok := l.Incident.Choice(req.Choice); !ok {
		return refused("decide: %q is no choice for %s of lane %s/%d; want %s", req.Choice, l.Incident.Kind, req.Topic, *req.Partition,
			choices(l.Incident.Choices))
	}
	return nil
}

func choices(all []report.Choice) string {
	var parts []string
	for _, c := range all {
		parts = append(parts, c.String())
	}
	if len(parts) == 0 {
		return "none: it goes on by itself once the cause is gone"
	}
	return strings.Join(parts, " or ")
}

func (r *recovery) laneNames() string {
	const shown = 16
	var names []string
	for _, l := range r.state.Lanes[:min(shown, len(r.state.Lanes))] {
		names = append(names, fmt.Sprintf("%s/%d", l.Topic, l.Partition))
	}
	if more := len(r.state.Lanes) - shown; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(names, ", ")
}

func laneKey(l *report.RecoveredLane) report.LaneRef {
	return report.LaneRef{Topic: l.Topic, Partition: l.Partition}
}

func (r *recovery) receipt(id string) (contract.DecisionReceipt, bool) {
	for _, past := range r.state.Receipts {
		if past.RequestID == id {
			return past, true
		}
	}
	return contract.DecisionReceipt{}, false
}

// decide carries a decision to the lane.
func (r *recovery) decide(ctx workflow.Context, req contract.DecideRequest) (*contract.DecisionReceipt, error) {
	id := workflow.GetCurrentUpdateInfo(ctx).ID
	if past, ok := r.receipt(id); ok {
		past.Repeated = true
		return &past, nil
	}
	if req.All {
		return r.decideAll(ctx, id, req)
	}
	receipt := contract.DecisionReceipt{
		RequestID: id, Topic: req.Topic, Partition: req.Partition, Choice: req.Choice, Reason: req.Reason,
	}
	of, err := r.decideLane(ctx, id, report.LaneRef{Topic: req.Topic, Partition: *req.Partition}, req)
	if err != nil {
		return nil, err
	}
	receipt.Incident, receipt.Cost, receipt.Applied, receipt.Note = of.Incident, of.Cost, of.Applied, of.Note
	return r.book(ctx, req, receipt), nil
}

// decideLane carries a decision to one lane, and notes what became of the lane. An error says that nothing was done.
func (r *recovery) decideLane(ctx workflow.Context, id string, key report.LaneRef, req contract.DecideRequest) (
	of contract.LaneDecision, err error) {
	of = contract.LaneDecision{Topic: key.Topic, Partition: key.Partition}
	l := r.find(key.Topic, key.Partition)
	r.deciding = append(r.deciding, key)
	defer func() {
		r.deciding = slices.DeleteFunc(r.deciding, func(other report.LaneRef) bool { return other == key })
	}()
	if req.Choice == report.ChoiceGiveUp && r.gone {
		l.State, l.Note = report.LaneGivenUp, "the operator waits for its host no longer: "+req.Reason
		of.Applied = true
		return of, nil
	}
	incident := *l.Incident // a step's report may take it away meanwhile
	choice, _ := incident.Choice(req.Choice)
	of.Incident, of.Cost = incident.Kind, choice.String()
	var decided contract.DecidedIncident
	options := contract.DecideOptions(r.batch.Queue)
	options.Summary = fmt.Sprintf("%s %s/%d: %s", incident.Kind, l.Topic, l.Partition, req.Choice)
	err = workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), r.recovery.DecideIncident, contract.DecideIncidentInput{
		Pipeline: r.batch.Pipeline, Replica: r.batch.Replica, Batch: r.batch.Batch, Topic: l.Topic, Partition: l.Partition,
		Incident: incident.ID, Choice: req.Choice, By: "operator, update " + id,
	}).Get(ctx, &decided)
	l = r.find(key.Topic, key.Partition) // the list may have grown meanwhile
	switch {
	case err == nil:
		waits := l.Incident != nil // as far as the reports say
		if decided.Lane != nil {
			*l = *decided.Lane
		}
		switch {
		case req.Choice != report.ChoiceWait:
			incident.Decided, l.Incident = req.Choice, &incident
		case waits: // the lane stays parked, and can still be decided about
			l.Incident = &incident
		}
		of.Applied = true
		l.Note = fmt.Sprintf("%s: %s", incident.Kind, req.Choice)
		return of, nil
	case isType(err, contract.ErrorStale):
		l.State, l.Note = report.LaneSuperseded, overtakenText(err)
		of.Note = "not carried out: " + overtakenText(err)
		return of, nil
	}
	return of, refusedByHost(contract.UpdateDecide, err)
}

func (r *recovery) book(ctx workflow.Context, req contract.DecideRequest, receipt contract.DecisionReceipt) *contract.DecisionReceipt {
	receipt.At, receipt.Input = workflow.Now(ctx), contract.Fingerprint(req)
	r.state.Receipts = append(r.state.Receipts, receipt)
	r.state.Receipts = r.state.Receipts[max(0, len(r.state.Receipts)-contract.MaxReceipts):]
	shortenReceipts(r.state.Receipts)
	r.changed = true
	r.show(ctx)
	return &receipt
}
