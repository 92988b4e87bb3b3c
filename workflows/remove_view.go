package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

func (r *removal) admit(ctx workflow.Context, req contract.ApproveRequest) error {
	if err := req.Validate(); err != nil {
		return err
	}
	if r.approval != nil && r.approval.RequestID == workflow.GetCurrentUpdateInfo(ctx).ID {
		return r.approval.Past().Repeats(contract.UpdateApprove, contract.Fingerprint(req))
	}
	if r.leaving || r.phase != contract.StateAsking || r.approval != nil {
		return refused("approve: nothing waits for an approval; the removal is %s", r.phase)
	}
	return nil
}

func (r *removal) approve(ctx workflow.Context, req contract.ApproveRequest) (*contract.ApproveReceipt, error) {
	id := workflow.GetCurrentUpdateInfo(ctx).ID
	switch {
	case r.approval == nil:
		r.approval = &contract.ApproveReceipt{
			RequestID: id, At: workflow.Now(ctx), Reason: req.Reason, Input: contract.Fingerprint(req),
		}
		return r.approval, nil
	case r.approval.RequestID != id:
		return nil, refused("approve: it is approved already")
	}
	past := *r.approval
	past.Repeated = true
	return &past, nil
}

func (r *removal) status() (*contract.RemoveStatus, error) {
	note, until := r.standing()
	return &contract.RemoveStatus{
		Pipeline: r.in.Pipeline, State: r.phase, Input: &r.in, Note: note, Until: until, Remains: r.remains, Steps: r.steps,
	}, nil
}

// standing is what it does or waits for, with the latest failure, and until when.
func (r *removal) standing() (note string, until *time.Time) {
	note, until = r.note, r.until
	for _, w := range r.waits.list {
		if w.Why == "" {
			continue
		}
		if note == "" {
			note = w.For
		}
		note += "; it waits, the last try failed: " + w.Why
		if until == nil {
			until = w.Until
		}
	}
	return note, until
}

func (r *removal) set(ctx workflow.Context, phase, note string, until *time.Time) {
	r.phase, r.note, r.until = phase, note, until
	r.show(ctx)
}

func (r *removal) show(ctx workflow.Context) {
	var b strings.Builder
	note, until := r.standing()
	fmt.Fprintf(&b, "The removal of **%s** is **%s**: %s", r.in.Pipeline, r.phase, note)
	if until != nil {
		fmt.Fprintf(&b, ", until %s%s", stamp(*until), contract.AtTheLongest(r.phase))
	}
	b.WriteString("\n\n")
	if left := r.remains; left != nil {
		fmt.Fprintf(&b, "%d lanes, group `%s`", left.Lanes, left.Group)
		if left.Fenced > 0 {
			fmt.Fprintf(&b, "; an earlier removal has fenced %d of the lanes and not finished, which this one does", left.Fenced)
		}
		if left.Schedule != "" {
			fmt.Fprintf(&b, "; schedule `%s` goes first", left.Schedule)
		}
		b.WriteString("\n\n| keys | number | bytes |\n|---|---|---|\n")
		for _, k := range left.Keys {
			fmt.Fprintf(&b, "| %s | %d | %d |\n", k.Kind, k.Keys, k.Bytes)
		}
		b.WriteString("\n| topic | role | |\n|---|---|---|\n")
		for _, t := range left.Topics {
			fate := "stays: " + t.Why
			if t.Delete {
				fate = "**will be deleted**"
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", t.Topic, t.Role, fate)
		}
		for _, note := range left.Notes {
			fmt.Fprintf(&b, "\n%s\n", note)
		}
	}
	for _, s := range r.steps {
		fmt.Fprintf(&b, "\n%s %s: %d", stamp(s.Ended), removeNotes[s.Step], s.Count)
	}
	workflow.SetCurrentDetails(ctx, b.String())
}
