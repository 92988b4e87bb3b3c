package workflows

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// prepare checks the servers, makes the topics, ends what an earlier pipeline left, begins the lanes where the start says, and
// writes the first desired state. Until all checks have passed it changes nothing that an earlier incarnation left.
func (p *pipeline) prepare(ctx workflow.Context) error {
	in := contract.SpecInput{Spec: p.raw, Begin: p.begins}
	if err := p.waits.try(ctx, step{activity: p.control.CheckStore, options: contract.ControlOptions(), wait: contract.Pending{
		For: "Redis and Kafka: see whether the state there fits the spec",
	}}, in, nil); err != nil {
		return err
	}
	var topics contract.Topics
	if err := p.waits.try(ctx, step{activity: p.control.EnsureTopics, options: contract.ControlOptions(), wait: contract.Pending{
		For: "Kafka: find the topics that it reads, make those that it writes",
	}}, in, &topics); err != nil {
		return err
	}
	p.state.Topics, p.state.Warnings = topics.Sources, topics.Warnings
	if err := p.clear(ctx); err != nil {
		return err
	}
	off := false
	change := contract.DesiredChange{
		RequestID: "start:" + workflow.GetInfo(ctx).FirstRunID, Paused: &off, Stopping: &off, Orders: &[]report.LevelOrder{},
	}
	if p.begins != nil {
		if err := p.beginLanes(ctx, in); err != nil {
			return err
		}
		p.state.Begin = p.begins.ID
		change.Begun = &p.state.Begin
	}
	_, err := p.write(ctx, contract.Pending{}, 0, change)
	return err
}

// beginLanes gives every lane its first state, at the place that the start names, in place of what an earlier incarnation left.
// The offsets are found before anything is discarded, and stand in the history: whatever is tried again begins at the same ones.
func (p *pipeline) beginLanes(ctx workflow.Context, in contract.SpecInput) error {
	var begun contract.Begun
	if err := p.waits.try(ctx, step{activity: p.control.LocateBegin, options: contract.ControlOptions(), wait: contract.Pending{
		For: fmt.Sprintf("Kafka: find the offsets of %s", p.begins.From),
	}}, in, &begun); err != nil {
		return err
	}
	p.state.Begun = begun.Lanes
	if begun.Already {
		return nil
	}
	if p.begins.Discard {
		if err := p.discardState(ctx); err != nil {
			return err
		}
	}
	return p.waits.try(ctx, step{activity: p.control.BeginLanes, options: contract.ControlOptions(), wait: contract.Pending{
		For: "Kafka and Redis: begin the lanes",
	}}, contract.BeginLanesInput{Spec: p.raw, ID: p.begins.ID, Discard: p.begins.Discard, Lanes: begun.Lanes}, nil)
}

// discardState ends the incarnation that is there, once nobody holds anything of it. What it has published stays in the result
// topics; its ledger rows are given up and name an edition that has ended.
func (p *pipeline) discardState(ctx workflow.Context) error {
	name := p.spec.Name
	var removing *activities.Removing
	var left contract.Holders
	until := workflow.Now(ctx).Add(contract.ReleasePatience)
	options := contract.AwaitReleasedOptions(contract.ReleasePatience)
	if err := p.waits.try(ctx, step{activity: removing.AwaitReleased, options: options, wait: contract.Pending{
		For:   "workers that hold something of the earlier incarnation to give it up",
		Until: &until, Then: "the start fails with their names",
	}}, contract.AwaitReleasedInput{Pipeline: name, Until: until, Own: true}, &left); err != nil {
		return err
	}
	if !left.Free() {
		return refused("start %s: nothing was discarded, the earlier incarnation is still held after %s: %s. "+
			"Stop or restart those workers, then start it again", name, contract.ReleasePatience, left)
	}
	return dismantling{
		pipeline: name, token: contract.RemovedPrefix + "start:" + p.begins.ID, sources: p.spec.Source.Topics, rows: true, own: true,
		step: func(ctx workflow.Context, name string, activity, input any) error {
			return p.waits.try(ctx, step{activity: activity, options: contract.RemovalOptions(), wait: contract.Pending{
				For: "the earlier incarnation to be discarded: a step that " + removeNotes[name],
			}}, input, nil)
		},
	}.run(ctx)
}

// failed shows why the pipeline fails, where one looks first.
func (p *pipeline) failed(ctx workflow.Context, err error) {
	p.phase, p.note = contract.StateFailed, failureText(err)
	p.showPage(ctx)
}
