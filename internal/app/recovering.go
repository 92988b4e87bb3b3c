package app

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

var _ activities.Recoveries = (*engines)(nil)

// RecoverStep implements activities.Recoveries.
func (e *engines) RecoverStep(ctx context.Context, in contract.RecoverStepInput) (report.StepReport, error) {
	hot, err := e.find(in.Pipeline, in.Replica)
	if err != nil {
		return report.StepReport{}, err
	}
	step, err := hot.RecoverStep(ctx, in.Batch, in.Step)
	if err != nil {
		return report.StepReport{}, stale(in.Pipeline, err)
	}
	return step, nil
}

// Lane implements activities.Recoveries.
func (e *engines) Lane(pipeline string, replica int, batch int64, of report.LaneRef) (report.RecoveredLane, bool) {
	hot, err := e.find(pipeline, replica)
	if err != nil {
		return report.RecoveredLane{}, false
	}
	told, ok := hot.Batch(batch)
	if !ok {
		return report.RecoveredLane{}, false
	}
	i := slices.IndexFunc(told.Lanes, func(l report.RecoveredLane) bool { return l.Lane() == of })
	if i < 0 {
		return report.RecoveredLane{}, false
	}
	l := present(told.Lanes[i], hot.Engine.Status().Lanes)
	if l.Incident != nil && l.State == report.LaneRunning {
		if later, back, found := hot.Later(batch, of); found {
			l = recoveredLater(l, back, contract.RecoverLanesID(pipeline, e.process, later))
		}
	}
	return l, true
}

// recoveredLater adds how a lane came back that was decided about: its acquisition is in a later batch, whose workflow is by.
func recoveredLater(l, back report.RecoveredLane, by string) report.RecoveredLane {
	back.Incident, back.State, back.Offset, back.Reread = l.Incident, l.State, l.Offset, max(l.Reread, back.Reread)
	back.Note = "recovered by " + by
	return back
}

// present is what the lane is now: it may have been decided about since its batch ended.
func present(l report.RecoveredLane, lanes []lane.Status) report.RecoveredLane {
	if l.Incident == nil {
		return l
	}
	now := statusOf(lanes, l.Topic, l.Partition)
	if now == nil {
		return l
	}
	inc := *l.Incident
	l.Incident = &inc
	if d := decisionOf(now, inc.ID); d != nil {
		if l.Note = d.Void; d.Choice != report.ChoiceWait {
			inc.Decided = d.Choice
		}
		if c, ok := inc.Choice(d.Choice); ok && d.Start >= 0 {
			l.Reread = max(l.Reread, c.Reread)
		}
	}
	if reads(now) {
		l.State, l.Offset, l.ToEpoch = report.LaneRunning, now.Committed, now.Owner.Epoch()
	}
	return l
}

func statusOf(lanes []lane.Status, topic string, partition int32) *lane.Status {
	for i := range lanes {
		if lanes[i].Topic == topic && lanes[i].Partition == partition {
			return &lanes[i]
		}
	}
	return nil
}

// decisionOf is the latest decision about an incident.
func decisionOf(l *lane.Status, incident string) *report.Decision {
	for i := len(l.Decisions) - 1; i >= 0; i-- {
		if l.Decisions[i].Incident == incident {
			return &l.Decisions[i]
		}
	}
	return nil
}

// reads reports whether a lane has its state and goes on with it.
func reads(l *lane.Status) bool {
	return l.State == lane.StateRunning || l.State == lane.StateBlocked || l.State == lane.StatePaused
}

// Times of waiting for a lane that goes on as decided. It does so in its own time; the wait is for the sake of the receipt.
const (
	decidedEvery = 50 * time.Millisecond
	decidedMost  = 10 * time.Second
)

// Decide implements activities.Recoveries. It returns when the lane has carried the decision out, or at least has taken it.
func (e *engines) Decide(ctx context.Context, in contract.DecideIncidentInput) error {
	hot, err := e.find(in.Pipeline, in.Replica)
	if err != nil {
		return err
	}
	name := in.Topic + "/" + strconv.Itoa(int(in.Partition))
	if err := hot.Decide(ctx, name, in.Incident, in.Choice, in.By); err != nil {
		return stale(in.Pipeline, err)
	}
	awaitDecided(ctx, func() bool { return decided(hot.Engine.Status().Lanes, in) })
	return nil
}

func awaitDecided(ctx context.Context, done func() bool) {
	ctx, cancel := context.WithTimeout(ctx, decidedMost)
	defer cancel()
	tick := time.NewTicker(decidedEvery)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// decided reports whether a decision leaves nothing more to wait for: the lane goes on, stays parked as was chosen, has found that
// it cannot be done, or is gone.
func decided(lanes []lane.Status, in contract.DecideIncidentInput) bool {
	now := statusOf(lanes, in.Topic, in.Partition)
	if now == nil || in.Choice == report.ChoiceWait || reads(now) {
		return true
	}
	d := decisionOf(now, in.Incident)
	return d == nil || d.Void != ""
}

func (e *engines) find(pipeline string, number int) (*hot, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h, ok := e.running[replica{pipeline, number}]
	if !ok || ended(h.Engine) {
		return nil, activities.Stale(nil, "replica %d of %s does not run on this worker any more: it was moved, stopped, or its "+
			"worker began anew; "+
			"`millrace recover ls %s` lists what waits for a decision now", number, pipeline, pipeline)
	}
	return h, nil
}

// overtaken says of errors which mean that something else is current by now what became of what was asked about.
var overtaken = []struct {
	err  error
	text string
}{
	{engine.ErrNoBatch, "this worker does not know the recovery any more: it is over, or its worker began anew"},
	{engine.ErrNoLane, "the lane does not run on this worker any more: another one has it, or it was stopped"},
	{lane.ErrStaleStep, "the lane is being acquired anew"},
	{store.ErrFenced, "another worker has taken the lane"},
	{lane.ErrNotParked, ""},
	{lane.ErrOtherIncident, ""},
	{lane.ErrDecided, ""},
	{lane.ErrUnknownChoice, ""},
}

// stale marks errors that say that something else is current by now, with what can be done.
func stale(pipeline string, err error) error {
	for _, o := range overtaken {
		if !errors.Is(err, o.err) {
			continue
		}
		text := o.text
		if text == "" {
			text = err.Error() // it says what the lane is, or what was decided
		}
		return activities.Stale(err, "%s; `millrace recover ls %s` lists what waits for a decision now", text, pipeline)
	}
	return err
}

// addressed says where a batch of lanes can be reached: in which process, on which queue.
func (e *engines) addressed(b report.RecoveryBatch) report.RecoveryBatch {
	b.Process, b.Worker, b.Queue = e.process, e.worker, contract.HostQueue(e.process)
	return b
}

// sorted returns the running hot paths in order.
func (e *engines) sorted() []*hot {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []*hot
	for key, h := range e.running {
		if ended(h.Engine) {
			delete(e.running, key)
			continue
		}
		all = append(all, h)
	}
	slices.SortFunc(all, func(a, b *hot) int { return strings.Compare(a.name(), b.name()) })
	return all
}
