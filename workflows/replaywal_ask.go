package workflows

import (
	"fmt"
	"slices"
	"strings"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// ask waits for the operator's decision about what cannot be read.
func (r *replay) ask(ctx workflow.Context, corrupt *report.CorruptRange) error {
	r.corrupt, r.choice = corrupt, ""
	r.set(ctx, contract.StateDeciding, "a part of the journal cannot be read: update decide with choice quarantine or abort")
	if err := r.awaitChoice(ctx); err != nil {
		return err
	}
	if r.choice == contract.ChoiceQuarantine {
		r.corrupt = nil
	}
	return nil
}

// changeAskTimer: while it asks, a timer says what for.
const changeAskTimer = "a-timer-says-what-is-asked"

func (r *replay) awaitChoice(ctx workflow.Context) error {
	decided := func() bool { return r.choice != "" }
	if workflow.GetVersion(ctx, changeAskTimer, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return workflow.Await(ctx, decided)
	}
	what := fmt.Sprintf("waits for a decision: millrace wal decide %s %s|%s --disk %s",
		r.in.Pipeline, contract.ChoiceQuarantine, contract.ChoiceAbort, r.in.Disk)
	for !decided() {
		if _, err := awaitFor(ctx, contract.RunLimit, what, decided); err != nil {
			return err
		}
	}
	return nil
}

func (r *replay) admit(ctx workflow.Context, req contract.WALDecideRequest) error {
	if err := req.Validate(); err != nil {
		return err
	}
	if past, ok := r.receipt(workflow.GetCurrentUpdateInfo(ctx).ID); ok {
		return past.Past().Repeats(contract.UpdateDecide, contract.Fingerprint(req))
	}
	if r.leaving || r.phase != contract.StateDeciding || r.choice != "" {
		return refused("decide: nothing is to be decided; the replay is %s", r.phase)
	}
	return nil
}

func (r *replay) receipt(id string) (contract.DecisionReceipt, bool) {
	i := slices.IndexFunc(r.state.Receipts, func(d contract.DecisionReceipt) bool { return d.RequestID == id })
	if i < 0 {
		return contract.DecisionReceipt{}, false
	}
	return r.state.Receipts[i], true
}

func (r *replay) decide(ctx workflow.Context, req contract.WALDecideRequest) (*contract.DecisionReceipt, error) {
	id := workflow.GetCurrentUpdateInfo(ctx).ID
	if past, ok := r.receipt(id); ok {
		past.Repeated = true
		return &past, nil
	}
	if r.corrupt == nil || r.choice != "" {
		return nil, refused("decide: it is decided already")
	}
	partition := r.corrupt.Partition
	receipt := contract.DecisionReceipt{
		RequestID: id, Topic: r.corrupt.Topic, Partition: &partition, Incident: "corrupt: " + rangeText(r.corrupt), Choice: req.Choice,
		Reason: req.Reason, At: workflow.Now(ctx), Applied: true, Input: contract.Fingerprint(req),
	}
	if req.Choice == contract.ChoiceQuarantine {
		receipt.Cost = fmt.Sprintf("%s of the chain are set aside", rangeSize(r.corrupt))
	}
	r.state.Receipts = append(r.state.Receipts, receipt)
	r.state.Receipts = r.state.Receipts[max(0, len(r.state.Receipts)-contract.MaxReceipts):]
	r.choice = req.Choice
	return &receipt, nil
}

func rangeText(c *report.CorruptRange) string {
	return fmt.Sprintf("segment %s, bytes %d to %d, chain %s of lane %s/%d: %s",
		c.Segment, c.From, c.To, c.Chain, c.Topic, c.Partition, c.Detail)
}

func rangeSize(c *report.CorruptRange) string {
	if c.Records < 0 {
		return fmt.Sprintf("%d bytes and an unknown number of commits", c.To-c.From)
	}
	return fmt.Sprintf("%d bytes, at most %d commits,", c.To-c.From, c.Records)
}

func (r *replay) status() (*contract.ReplayWALStatus, error) {
	return &contract.ReplayWALStatus{
		Pipeline: r.in.Pipeline, Disk: r.in.Disk, Host: r.state.Host, State: r.phase, Note: r.note, Done: r.state.Segments,
		Segments: r.segments, Live: r.live, Totals: r.totals(), Corrupt: r.corrupt, Receipts: r.state.Receipts,
	}, nil
}

func (r *replay) set(ctx workflow.Context, phase, note string) {
	r.phase, r.note = phase, note
	r.show(ctx)
	r.pipeline.tellState(ctx, phase == contract.StateDeciding || phase == contract.StateHostGone, phase, note, contract.ChildWaits{})
}

// shownSegments bounds the rows of current details.
const shownSegments = 60

func (r *replay) show(ctx workflow.Context) {
	var b strings.Builder
	fmt.Fprintf(&b, "The journal of **%s** on disk `%s` (%s) is **%s** %s\n\n", r.in.Pipeline, r.in.Disk, r.host(), r.phase, r.note)
	if c := r.corrupt; c != nil {
		fmt.Fprintf(&b, "**Cannot be read:** %s\n\n| choice | does | loses |\n|---|---|---|\n", rangeText(c))
		fmt.Fprintf(&b, "| `%s` | sets the range aside and settles the rest | %s |\n", contract.ChoiceQuarantine, rangeSize(c))
		fmt.Fprintf(&b, "| `%s` | leaves the journal as it is and ends | nothing yet |\n\n", contract.ChoiceAbort)
	}
	t := r.totals()
	b.WriteString("| | chains | commits | entries | bytes |\n|---|---|---|---|---|\n")
	for _, row := range []struct {
		name string
		sum  contract.ReplayTotal
	}{{"drained", t.Drained}, {"superseded", t.Superseded}, {"kept", t.Kept}, {"quarantined", t.Quarantined}} {
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d |\n", row.name, row.sum.Chains, row.sum.Commits, row.sum.Entries, row.sum.Bytes)
	}
	fmt.Fprintf(&b, "\n%d segments done\n", r.state.Segments)
	if len(r.segments) > 0 {
		b.WriteString("\n| segment | state | chains | settled | commits | bytes |\n|---|---|---|---|---|---|\n")
	}
	for _, s := range r.segments[:min(shownSegments, len(r.segments))] {
		fmt.Fprintf(&b, "| `%s` | %s | %d | %d | %d | %d |\n", s.Segment, s.State, s.Chains, s.Settled, s.Commits, s.Bytes)
	}
	for _, c := range r.live[:min(shownSegments, len(r.live))] {
		fmt.Fprintf(&b, "\nlive: lane %s/%d drains %d commits itself", c.Topic, c.Partition, c.Commits)
	}
	for _, d := range r.state.Receipts {
		fmt.Fprintf(&b, "\n%s `%s` at %s %s: %s", d.Choice, d.RequestID, stamp(d.At), d.Reason, d.Incident)
	}
	workflow.SetCurrentDetails(ctx, b.String())
}
