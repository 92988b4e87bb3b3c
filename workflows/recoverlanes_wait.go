package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// withoutHost is what happens when a step was not carried out: lanes that have got another owner are done with; for the rest it
// waits a minute, or until the host is said to be back or the operator has decided, and the step is tried again.
func (r *recovery) withoutHost(ctx workflow.Context, why error) error {
	r.gone = notStarted(why)
	if err := r.lookAtOwners(ctx); err != nil {
		return err
	}
	if r.settled() {
		return nil
	}
	phase, note := contract.StateRecovering, "the last try failed: "+endText(why)
	if r.gone {
		phase, note = contract.StateHostGone,
			"nobody polls the queue of "+r.batch.Worker+"; the lanes recover by themselves where they run, and this goes on when the "+
				"process answers, signal host-back comes, or another worker has the lanes. "+
				"Update decide with choice "+report.ChoiceGiveUp+" ends the wait for a lane"
	}
	r.set(ctx, phase, note)
	r.looks++
	return r.pause(ctx, min(hostLookFirst<<min(r.looks-1, 10), contract.HostLookEvery))
}

// hostLookFirst is how soon after a step that was not carried out the first look comes: lanes of a worker that died have
// another owner within seconds. Each further look takes twice as long, up to contract.HostLookEvery.
const hostLookFirst = 5 * time.Second

// pause waits until the time is up, the host is said to be back, or a decision was made.
func (r *recovery) pause(ctx workflow.Context, most time.Duration) error {
	timer, stop := workflow.WithCancel(ctx)
	defer stop()
	up := false
	workflow.Go(timer, func(ctx workflow.Context) {
		if pause(ctx, most, r.waitsFor()) == nil {
			up = true
		}
	})
	workflow.Go(timer, func(ctx workflow.Context) {
		wake := workflow.NewSelector(ctx)
		wake.AddReceive(r.hostBack, func(c workflow.ReceiveChannel, _ bool) {
			c.Receive(ctx, nil)
			up = true
		})
		wake.AddReceive(ctx.Done(), func(workflow.ReceiveChannel, bool) {})
		wake.Select(ctx)
	})
	r.changed = false
	return workflow.Await(ctx, func() bool { return up || r.changed })
}

// waitsFor is what a pause of now is for: the command that ends it, where there is one.
func (r *recovery) waitsFor() string {
	id := contract.RecoverLanesID(r.batch.Pipeline, r.batch.Process, r.batch.Batch)
	if r.gone {
		return "waits for the process of " + r.batch.Worker + " or another owner; `millrace recover show " + id + "` shows the lanes"
	}
	for i := range r.state.Lanes {
		l := &r.state.Lanes[i]
		if !open(l) {
			continue
		}
		names := make([]string, len(l.Incident.Choices))
		for n, c := range l.Incident.Choices {
			names[n] = c.Name
		}
		more := ""
		if n := r.undecided() - 1; n > 0 {
			more = fmt.Sprintf(" (and %d more lanes)", n)
		}
		return fmt.Sprintf("waits for a decision: millrace recover decide %s %s/%d %s%s", id, l.Topic, l.Partition,
			strings.Join(names, "|"), more)
	}
	return r.note
}

// lookAtOwners finds lanes that another owner has by now, and those whose pipeline was removed. Tokens are compared for equality
// only; a lane whose acquisition was not reported is another's once its owner is not the one found first.
func (r *recovery) lookAtOwners(ctx workflow.Context) error {
	in := contract.LaneOwnersInput{Pipeline: r.batch.Pipeline, Replica: &r.batch.Replica}
	for _, l := range r.state.Lanes {
		if !over(l.State) {
			in.Lanes = append(in.Lanes, report.LaneRef{Topic: l.Topic, Partition: l.Partition})
		}
	}
	var found contract.LaneOwners
	options := contract.ControlOptions()
	options.ScheduleToCloseTimeout = contract.HostLookEvery // Redis may be what is away: the next look will do
	options.Summary = "who owns the lanes?"
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), r.owners.LaneOwners, in).Get(ctx, &found)
	if err != nil {
		r.log.Info("owners not read", "error", err)
		return ctx.Err()
	}
	for _, owner := range found.Lanes {
		l := r.find(owner.Topic, owner.Partition)
		if l == nil || owner.Token == "" && !owner.Gone {
			continue
		}
		only := func(other report.RecoveredLane) bool {
			return other.Topic == l.Topic && other.Partition == l.Partition
		}
		if owner.Gone {
			r.supersede(only, "the pipeline was stopped and removed: Redis does not know the lane any more")
			continue
		}
		if owner.Stopped {
			r.supersede(only, "the pipeline was stopped; its next start recovers the lane and asks again if need be")
			continue
		}
		was := l.Token
		if was == "" {
			was = r.firstOwner(owner)
		}
		if owner.Token != was {
			why := fmt.Sprintf("owned by epoch %d since", owner.Epoch)
			if strings.HasPrefix(owner.Token, contract.RemovedPrefix) {
				why = "the pipeline is being removed"
			}
			r.supersede(only, why)
		}
	}
	return nil
}

func (r *recovery) firstOwner(owner contract.LaneOwner) string {
	for _, first := range r.state.First {
		if first.Topic == owner.Topic && first.Partition == owner.Partition {
			return first.Token
		}
	}
	r.state.First = append(r.state.First, owner)
	return owner.Token
}

// ask waits until every incident is decided or its lane has another owner. The steps of the other lanes are done.
func (r *recovery) ask(ctx workflow.Context) (again bool, err error) {
	for r.undecided() > 0 {
		note := fmt.Sprintf("%d of %d lanes are parked and wait for a decision (update decide)", r.undecided(), len(r.state.Lanes))
		r.set(ctx, contract.StateDeciding, note)
		if err := r.pause(ctx, contract.IncidentLookEvery); err != nil {
			return false, err
		}
		if !r.changed {
			if err := r.lookAtOwners(ctx); err != nil {
				return false, err
			}
		}
		if r.long(ctx) {
			return r.undecided() > 0, nil
		}
	}
	return false, nil
}

func (r *recovery) undecided() (n int) {
	for i := range r.state.Lanes {
		if open(&r.state.Lanes[i]) {
			n++
		}
	}
	return n
}

// open reports whether a lane waits for a decision.
func open(l *report.RecoveredLane) bool {
	return !over(l.State) && l.Incident != nil && l.Incident.Decided == "" && len(l.Incident.Choices) > 0
}

// parked reports whether a lane stays parked: its incident leaves nothing to choose.
func parked(l report.RecoveredLane) bool {
	return !over(l.State) && l.Incident != nil && l.Incident.Decided == ""
}
