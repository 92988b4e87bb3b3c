package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// child is a workflow that the pipeline wants to be open.
type child struct {
	state    contract.ChildState
	wanted   bool
	ended    bool
	firstRun string // of the chain that runs now; empty when it was adopted
	options  workflow.ChildWorkflowOptions
	workflow any
	input    any
}

func (p *pipeline) newCloser() *child {
	id := contract.CloseWindowsID(p.spec.Name)
	return &child{
		state: p.carried(id), wanted: true,
		options:  contract.ChildOptions(id, fmt.Sprintf("Closes the windows of %s", p.spec.Name)),
		workflow: CloseWindows,
		input:    contract.CloseWindowsInput{Version: contract.Version, Pipeline: p.spec.Name, Spec: p.raw},
	}
}

func (p *pipeline) newReplica(n int) *child {
	id := contract.ReplicaID(p.spec.Name, n)
	options := contract.ChildOptions(id, fmt.Sprintf("Hot path %d of %s", n, p.spec.Name))
	options.WorkflowTaskTimeout = contract.ReplicaTaskTimeout
	return &child{
		state: p.carried(id), wanted: true,
		options:  options,
		workflow: Replica,
		input:    contract.ReplicaInput{Version: contract.Version, Pipeline: p.spec.Name, Replica: n, Spec: p.raw},
	}
}

// carried is what the run before knew of a child, if there was one.
func (p *pipeline) carried(id string) contract.ChildState {
	for _, c := range p.state.Children {
		if c.ID == id && c.State != contract.ChildEnded {
			return c
		}
	}
	return contract.ChildState{ID: id, State: contract.ChildStarting}
}

// Pauses between starts of a child that keeps ending.
const (
	restartFirst = time.Second
	restartMost  = time.Minute
	restartCalm  = 10 * time.Minute // a child that lived this long starts again at once
)

// supervise keeps one child open as long as it is wanted.
func (p *pipeline) supervise(ctx workflow.Context, c *child) {
	for after := restartFirst; c.wanted; {
		p.launch(ctx, c)
		began := workflow.Now(ctx)
		if workflow.Await(ctx, func() bool { return c.ended || !c.wanted }) != nil || !c.wanted {
			return
		}
		p.show(ctx)
		if workflow.Now(ctx).Sub(began) > restartCalm {
			after = restartFirst
			continue
		}
		what := fmt.Sprintf("starts %s again: %s", c.state.ID, c.state.Note)
		if _, err := awaitFor(ctx, after, what, func() bool { return !c.wanted }); err != nil {
			return
		}
		after = min(2*after, restartMost)
	}
}

// launch starts the child or adopts the one that is open already.
func (p *pipeline) launch(ctx workflow.Context, c *child) {
	p.starting++
	defer func() { p.starting-- }()
	c.ended = false
	c.state.Starts++
	if c.state.State == contract.ChildEnded {
		c.set(ctx, contract.ChildStarting, "", "")
	}
	c.options.TypedSearchAttributes = p.search.Of(p.spec.Name)
	future := workflow.ExecuteChildWorkflow(workflow.WithChildOptions(ctx, c.options), c.workflow, c.input)
	var run workflow.Execution
	err := future.GetChildWorkflowExecution().Get(ctx, &run)
	switch {
	case temporal.IsWorkflowExecutionAlreadyStartedError(err):
		c.firstRun = ""
		c.running(ctx, "adopted")
	case err != nil:
		c.ended = true
		c.set(ctx, contract.ChildEnded, "", fmt.Sprintf("could not be started: %v", err))
	default:
		c.firstRun = run.RunID
		c.running(ctx, "")
		workflow.Go(ctx, func(ctx workflow.Context) {
			err := future.Get(ctx, nil)
			if c.firstRun == run.RunID && !c.ended {
				c.end(ctx, fmt.Sprintf("closed: %v", errText(err)))
			}
		})
	}
}

func errText(err error) string {
	if err == nil {
		return "completed"
	}
	return err.Error()
}

// set notes a state. Since says since when the child is in it, whatever it has reported meanwhile.
func (c *child) set(ctx workflow.Context, state, worker, note string) {
	if c.state.State != state || c.state.Worker != worker || c.state.Since.IsZero() {
		c.state.Since = workflow.Now(ctx)
	}
	c.state.State, c.state.Worker, c.state.Note = state, worker, note
	c.state.ChildWaits = contract.ChildWaits{}
}

// running notes a start, unless the child has reported more than that already.
func (c *child) running(ctx workflow.Context, note string) {
	if c.state.State == contract.ChildStarting {
		c.set(ctx, contract.ChildRunning, "", note)
	}
}

func (c *child) end(ctx workflow.Context, note string) {
	c.ended = true
	c.set(ctx, contract.ChildEnded, "", note)
}

func (p *pipeline) children() []*child { return append([]*child{p.closer}, p.replicas...) }

// all is the children and, while it is being cleared, what an earlier pipeline left.
func (p *pipeline) all() []*child { return append(p.children(), p.leftovers...) }

func (p *pipeline) childStates() []contract.ChildState {
	var states []contract.ChildState
	for _, c := range p.children() {
		states = append(states, c.state)
	}
	return states
}

// listen takes what children report.
func (p *pipeline) listen(ctx workflow.Context) {
	for {
		var report contract.ChildReport
		p.reports.Receive(ctx, &report)
		p.take(ctx, report)
	}
}

func (p *pipeline) take(ctx workflow.Context, report contract.ChildReport) {
	p.signals++
	if contract.Attached(p.spec.Name, report.ID) {
		p.attach(ctx, report)
		p.show(ctx)
		return
	}
	for _, c := range p.all() {
		if c.state.ID != report.ID || (c.firstRun != "" && report.FirstRun != c.firstRun) {
			continue
		}
		if report.State == contract.ChildEnded {
			c.end(ctx, report.Note)
		} else {
			c.set(ctx, report.State, report.Worker, report.Note)
			c.state.ChildWaits = report.ChildWaits
		}
		p.show(ctx)
	}
}

// attach remembers what a workflow beside the children waits for, until it says that it is over.
func (p *pipeline) attach(ctx workflow.Context, report contract.ChildReport) {
	i := slices.IndexFunc(p.state.Attached, func(c contract.ChildState) bool { return c.ID == report.ID })
	if report.State == contract.ChildEnded {
		p.detach(report.ID)
		return
	}
	state := contract.ChildState{
		ID: report.ID, State: report.State, Note: report.Note, Since: workflow.Now(ctx), ChildWaits: report.ChildWaits,
	}
	switch {
	case i < 0 && len(p.state.Attached) < contract.MaxAttached:
		p.state.Attached = append(p.state.Attached, state)
	case i >= 0:
		if p.state.Attached[i].State == state.State {
			state.Since = p.state.Attached[i].Since
		}
		p.state.Attached[i] = state
	}
}

func (p *pipeline) detach(ids ...string) {
	p.state.Attached = slices.DeleteFunc(p.state.Attached, func(c contract.ChildState) bool { return slices.Contains(ids, c.ID) })
}

// stopLook is how often a stop looks for children that ended without a word.
const stopLook = 20 * time.Second

// stopChildren asks children to end and waits until they have. It returns the ids of those that did not in time; they end by
// themselves when the pipeline's workflow is closed.
func (p *pipeline) stopChildren(ctx workflow.Context, list []*child, patience time.Duration, wait contract.Pending, reason string,
) (left []string) {
	for _, c := range list {
		c.wanted = false
	}
	pending := func() []*child {
		return slices.DeleteFunc(slices.Clone(list), func(c *child) bool { return c.ended })
	}
	until := workflow.Now(ctx).Add(patience)
	wait.Until = &until
	entry := p.waits.begin(ctx, wait, func() string { return childrenText(pending()) + " to end" })
	defer func() { p.waits.end(ctx, entry) }()
	if workflow.Await(ctx, func() bool { return p.starting == 0 }) != nil {
		return nil
	}
	asked := make([]workflow.Future, len(list))
	for i, c := range list {
		asked[i] = workflow.SignalExternalWorkflow(ctx, c.state.ID, "", contract.SignalStop, contract.StopSignal{Reason: reason})
	}
	for i, c := range list {
		if err := asked[i].Get(ctx, nil); err != nil && ctx.Err() == nil {
			c.end(ctx, "was closed already")
		}
	}
	for until = workflow.Now(ctx).Add(patience); workflow.Now(ctx).Before(until); {
		most := min(stopLook, until.Sub(workflow.Now(ctx)))
		done, err := awaitFor(ctx, most, "waits for "+childrenText(pending())+" to end", func() bool { return len(pending()) == 0 })
		if done || err != nil {
			break
		}
		in := contract.ReconcileInput{Pipeline: p.spec.Name}
		for _, c := range pending() {
			in.Children = append(in.Children, c.state.ID)
		}
		options := contract.ControlOptions()
		options.ScheduleToCloseTimeout = stopLook
		options.Summary = "which children have ended?"
		var found contract.Reconciled
		act := workflow.WithActivityOptions(ctx, options)
		if workflow.ExecuteActivity(act, p.control.Reconcile, in).Get(ctx, &found) == nil {
			p.markClosed(ctx, found.Closed)
		}
	}
	for _, c := range pending() {
		left = append(left, c.state.ID)
	}
	return left
}

// childrenText names children, the first few of them, and what is known of each.
func childrenText(list []*child) string {
	const shown = 3
	var parts []string
	for _, c := range list[:min(shown, len(list))] {
		text := c.state.ID + " (" + c.state.State
		if c.state.Worker != "" {
			text += " on " + c.state.Worker
		}
		if c.state.Note != "" {
			text += ": " + c.state.Note
		}
		parts = append(parts, text+")")
	}
	if more := len(list) - shown; more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(parts, ", ")
}

// clearAhead is how many replicas beyond the wanted ones are looked for at a time.
const clearAhead = 16

// clear ends children that an earlier pipeline of this name left open when it was terminated: they follow its spec, not ours.
func (p *pipeline) clear(ctx workflow.Context) error {
	left := []*child{p.newCloser()}
	for n := 0; ; {
		for limit := max(n, p.state.Replicas) + clearAhead; n < limit; n++ {
			left = append(left, p.newReplica(n))
		}
		in := contract.ReconcileInput{Pipeline: p.spec.Name}
		for _, c := range left {
			in.Children = append(in.Children, c.state.ID)
		}
		var found contract.Reconciled
		if err := p.waits.try(ctx, step{activity: p.control.Reconcile, options: contract.ControlOptions(), wait: contract.Pending{
			For: "Temporal: see what an earlier pipeline of this name left open",
		}}, in, &found); err != nil {
			return err
		}
		last := left[len(left)-1].state.ID
		left = slices.DeleteFunc(left, func(c *child) bool { return slices.Contains(found.Closed, c.state.ID) })
		if slices.Contains(found.Closed, last) {
			break
		}
	}
	if len(left) == 0 {
		return nil
	}
	p.note = fmt.Sprintf("ending %d children of an earlier pipeline", len(left))
	p.show(ctx)
	p.leftovers = left
	still := p.stopChildren(ctx, left, contract.ChildStopTimeout, contract.Pending{
		Then: "the start is refused, with their names",
	}, "a new pipeline of this name begins")
	p.leftovers, p.note = nil, ""
	if len(still) > 0 && ctx.Err() == nil {
		return refused("an earlier pipeline of this name left %q, which did not end within %s; see why, or terminate them, and start again",
			still, contract.ChildStopTimeout)
	}
	return ctx.Err()
}
