package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func (d *degrade) setUpdates(ctx workflow.Context) error {
	for _, u := range []struct {
		name        string
		override    report.Override
		description string
	}{
		{contract.UpdateHold, report.OverrideHold, "stay at the level of now until auto"},
		{contract.UpdateOpen, report.OverrideOpen, "treat the dependency as away until auto"},
		{contract.UpdateClose, report.OverrideClose, "treat the dependency as well until auto"},
		{contract.UpdateAuto, report.OverrideNone, "let the state machine decide again"},
	} {
		handler := func(ctx workflow.Context, r contract.LevelRequest) (*contract.LevelReceipt, error) {
			return d.override(ctx, u.name, u.override, r)
		}
		validator := func(ctx workflow.Context, r contract.LevelRequest) error { return d.admit(ctx, u.name, r) }
		if err := handleUpdates(ctx, []handledUpdate{{u.name, u.description, handler, validator}}); err != nil {
			return err
		}
	}
	return nil
}

// admit decides whether an override enters the history. A repeated request always does: it is answered with its receipt.
func (d *degrade) admit(ctx workflow.Context, update string, r contract.LevelRequest) error {
	if err := r.Validate(update); err != nil {
		return err
	}
	if past, ok := d.receipt(workflow.GetCurrentUpdateInfo(ctx).ID); ok {
		return past.Past().Repeats(update, contract.Fingerprint(r))
	}
	if d.leaving {
		return refused("%s: this degradation is over", update)
	}
	if len(d.state.Machines) > 0 && d.allEnded() {
		return refused("%s: the worker's process does not answer", update)
	}
	return d.unchanged(update, r)
}

// unchanged refuses an override whose sender does not know which was set or lifted last.
func (d *degrade) unchanged(update string, r contract.LevelRequest) error {
	if r.ExpectGeneration == nil || *r.ExpectGeneration == d.state.Generation {
		return nil
	}
	last := ""
	if n := len(d.state.Receipts); n > 0 {
		past := d.state.Receipts[n-1]
		last = fmt.Sprintf(" (the last update here: %s, request %q at %s %s)", past.Update, past.RequestID, stamp(past.At), past.Reason)
	}
	return refused("%s: expect_generation is %d, and the overrides of %s on %s have generation %d%s; look with "+
		"`millrace degrade status %s`, then expect %d or leave it out", update, *r.ExpectGeneration, d.in.Dependency, d.in.Worker,
		d.state.Generation, last, d.in.Pipeline, d.state.Generation)
}

func (d *degrade) receipt(id string) (contract.LevelReceipt, bool) {
	for _, past := range d.state.Receipts {
		if past.RequestID == id {
			return past, true
		}
	}
	return contract.LevelReceipt{}, false
}

// changeAwaitsFirst: an override that came before the first signal waits no longer for it than the run does.
const changeAwaitsFirst = "an-override-waits-for-a-signal-as-long-as-the-run"

// awaitFirst waits until there is a state machine to follow, or none will come any more.
func (d *degrade) awaitFirst(ctx workflow.Context) error {
	met := func() bool { return len(d.state.Machines) > 0 }
	if met() || workflow.GetVersion(ctx, changeAwaitsFirst, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return workflow.Await(ctx, met)
	}
	return workflow.Await(ctx, func() bool { return met() || d.leaving })
}

// override carries an override to every state machine that is followed, side by side.
func (d *degrade) override(ctx workflow.Context, update string, override report.Override, req contract.LevelRequest,
) (*contract.LevelReceipt, error) {
	id := workflow.GetCurrentUpdateInfo(ctx).ID
	if past, ok := d.receipt(id); ok {
		past.Repeated = true
		return &past, nil
	}
	d.asking++
	defer func() { d.asking-- }()
	if err := d.awaitFirst(ctx); err != nil {
		return nil, err
	}
	if len(d.state.Machines) == 0 {
		return nil, refused("%s: this degradation is over", update)
	}
	// Another override may have been carried out since this one was admitted.
	if err := d.unchanged(update, req); err != nil {
		return nil, err
	}
	d.state.Generation++
	receipt := contract.LevelReceipt{RequestID: id, Update: update, Reason: req.Reason, Applied: true, Input: contract.Fingerprint(req)}
	receipt.Generation = d.state.Generation
	var answers []workflow.Future
	var asked []int
	for i, m := range d.state.Machines {
		if m.Ended != "" {
			continue
		}
		options := contract.DecideOptions(m.Queue)
		options.Summary = summary(update + " " + req.Reason)
		asked = append(asked, i)
		answers = append(answers, workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), d.degrading.OverrideLevel,
			contract.OverrideLevelInput{
				Pipeline: d.in.Pipeline, Replica: m.Replica, Dependency: d.in.Dependency, Override: override,
				By: "operator, update " + id, Reason: req.Reason,
			}))
	}
	var failure error
	for n, answer := range answers {
		m := &d.state.Machines[asked[n]]
		got := contract.MachineLevel{Replica: m.Replica}
		if err := answer.Get(ctx, &got.Status); err != nil {
			receipt.Applied, got.Problem, failure = false, endText(err), err
		} else {
			m.Override = override
		}
		receipt.Machines = append(receipt.Machines, got)
	}
	if len(answers) == 0 {
		return nil, refused("%s: no state machine is followed any more", update)
	}
	if failure != nil && len(answers) == 1 {
		return nil, refusedByHost(update, failure)
	}
	receipt.At = workflow.Now(ctx)
	d.state.Receipts = append(d.state.Receipts, receipt)
	d.state.Receipts = d.state.Receipts[max(0, len(d.state.Receipts)-contract.MaxReceipts):]
	d.show(ctx)
	return &receipt, nil
}
