package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func (p *pipeline) admitAwaitRunning(_ workflow.Context, r contract.AwaitRunningRequest) error {
	if err := r.Validate(); err != nil {
		return err
	}
	return p.open(contract.UpdateAwaitRunning)
}

// awaitRunning waits until every hot path has a place and every lane has committed under the desired state. It says what the
// pipeline still waits for when that takes too long, or when lanes are parked until somebody decides. It commands nothing.
func (p *pipeline) awaitRunning(ctx workflow.Context, req contract.AwaitRunningRequest) (*contract.Running, error) {
	until := workflow.Now(ctx).Add(req.Timeout())
	over := func() bool { return p.leaving || p.finished != nil }
	placed := func() bool { return p.ready && len(p.unplaced()) == 0 }
	_, err := awaitFor(ctx, req.Timeout(), "waits until every hot path has a place", func() bool { return over() || placed() })
	if err != nil {
		return nil, err
	}
	if over() {
		return nil, p.ended()
	}
	running := &contract.Running{Pipeline: p.spec.Name, Begun: p.state.Begun, Warnings: p.state.Warnings}
	if placed() {
		work, cancel := workflow.WithCancel(ctx)
		answered := false
		workflow.Go(ctx, func(ctx workflow.Context) {
			if workflow.Await(ctx, func() bool { return answered || over() }) == nil {
				cancel()
			}
		})
		err := p.awaitLanes(work, running, max(1, int(until.Sub(workflow.Now(ctx)).Seconds())))
		answered = true
		if over() {
			return nil, p.ended()
		}
		if err != nil {
			return nil, err
		}
	}
	if asking := running.Asking(); len(running.Lanes) == 0 && len(asking) > 0 {
		return nil, refused("pipeline %s does not run: %d of %d lanes are parked until somebody decides, see `millrace recover ls %s`: %s",
			p.spec.Name, len(asking), len(running.Missing), p.spec.Name, contract.MissingText(asking))
	}
	if len(running.Lanes) == 0 {
		return nil, refused("pipeline %s does not run after %s: %s; it goes on trying",
			p.spec.Name, req.Timeout(), p.waitsFor(running.Missing))
	}
	running.State, running.At, running.Generation = p.phase, workflow.Now(ctx), p.state.Generation
	for _, c := range p.replicas {
		running.Replicas = append(running.Replicas, c.state)
	}
	return running, nil
}

func (p *pipeline) awaitLanes(ctx workflow.Context, running *contract.Running, seconds int) error {
	var applied contract.Applied
	options := contract.AwaitOptions(time.Duration(seconds) * time.Second)
	options.Summary = "waits until every lane has committed"
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), p.control.AwaitApplied, contract.AwaitAppliedInput{
		Spec: p.raw, Generation: p.state.Generation, DeadlineSeconds: seconds, Replicas: p.state.Replicas, UntilOneAsks: true,
	}).Get(ctx, &applied)
	running.Lanes, running.Missing = applied.Lanes, applied.Missing
	if err != nil && ctx.Err() == nil {
		return refused("pipeline %s: its lanes could not be read: %s", p.spec.Name, failureText(err))
	}
	return err
}

// ended says why a pipeline that was waited for runs no more.
func (p *pipeline) ended() error {
	if p.phase == contract.StateFailed {
		return refused("pipeline %s does not run: %s", p.spec.Name, p.note)
	}
	return refused("%s: the pipeline is being stopped", contract.UpdateAwaitRunning)
}

// unplaced are the hot paths without a place.
func (p *pipeline) unplaced() (list []*child) {
	for _, c := range p.replicas {
		if c.state.State != contract.ChildPlaced {
			list = append(list, c)
		}
	}
	return list
}

// waitsFor says what a pipeline that does not run waits for.
func (p *pipeline) waitsFor(missing []report.LaneMissing) string {
	var parts []string
	for _, wait := range p.waits.now() {
		parts = append(parts, "it "+wait.String())
	}
	for _, c := range p.unplaced() {
		part := fmt.Sprintf("%s is %s", c.state.ID, c.state.State)
		if c.state.Note != "" {
			part += ": " + c.state.Note
		}
		parts = append(parts, part)
	}
	if len(missing) > 0 {
		parts = append(parts, contract.MissingText(missing))
	}
	return strings.Join(parts, "; ")
}
