package app

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	out := stepReport(&step)
	if batch, ok := hot.Batch(in.Batch); ok {
		out.Lanes, out.More = recoveredLanes(&batch), batch.Cut
	}
	return out, nil
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
	for _, l := range recoveredLanes(&told) {
		if l.Topic == of.Topic && l.Partition == of.Partition {
			l = present(l, hot.Engine.Status().Lanes)
			if l.Incident != nil && l.State == report.LaneRunning {
				name := store.LaneID{Pipeline: pipeline, Topic: l.Topic, Partition: l.Partition}.String()
				if later, row, found := hot.Later(batch, name); found {
					l = e.recoveredLater(l, &later, &row)
				}
			}
			return l, true
		}
	}
	return report.RecoveredLane{}, false
}

// recoveredLater adds how a lane came back that was decided about: its acquisition is in a later batch.
func (e *engines) recoveredLater(l report.RecoveredLane, later *engine.BatchReport, row *engine.LaneReport) report.RecoveredLane {
	back := recoveredLane(row, later.Steps)
	back.Incident, back.State, back.Offset, back.Reread = l.Incident, l.State, l.Offset, max(l.Reread, back.Reread)
	back.Note = "recovered by " + contract.RecoverLanesID(later.Pipeline, e.process, later.ID)
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
		if l.Note = d.Void; d.Choice != lane.ChoiceWait {
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
func decisionOf(l *lane.Status, incident string) *lane.Decision {
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
	if now == nil || in.Choice == lane.ChoiceWait || reads(now) {
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

// announced is a batch that begins, as the control plane hears of it.
func (e *engines) announced(b engine.Batch, storm *engine.Storm) report.RecoveryBatch {
	out := report.RecoveryBatch{
		Pipeline: b.Pipeline, Replica: b.Replica, Process: e.process, Worker: e.worker, Queue: contract.HostQueue(e.process),
		Batch: b.ID, Began: b.Opened, MidRun: b.MidRun,
	}
	for _, name := range b.Lanes {
		out.Lanes = append(out.Lanes, laneOf(name))
	}
	if storm != nil && storm.Active {
		out.Storm = &report.Storm{Since: storm.Since, Changes: storm.Changes, Delay: storm.DelayMs}
		for _, c := range storm.Timeline {
			out.Storm.Timeline = append(out.Storm.Timeline, report.StormEvent{At: c.At, Lanes: c.Lanes, Delay: c.DelayMs})
		}
	}
	return out
}

// reported is a batch that is done.
func (e *engines) reported(r engine.BatchReport, storm *engine.Storm) report.RecoveryReport {
	out := report.RecoveryReport{Batch: e.announced(r.Batch, storm), Ended: r.Closed, Lanes: recoveredLanes(&r), More: r.Cut}
	for i := range r.Steps {
		if !r.MidRun { // its lanes took them in the batch that they were acquired in
			out.Steps = append(out.Steps, stepReport(&r.Steps[i]))
		}
	}
	if r.MidRun {
		out.Batch.Reason = midRunReason(r.Rows)
	}
	out.Batch.Lanes = nil
	for _, l := range out.Lanes {
		out.Batch.Lanes = append(out.Batch.Lanes, report.LaneRef{Topic: l.Topic, Partition: l.Partition})
	}
	out.Batch.More = r.Cut
	return out
}

// midRunReason says what happened to lanes that parked while they ran: how many of each kind.
func midRunReason(rows []engine.LaneReport) string {
	kinds := make(map[string]int)
	for i := range rows {
		kinds[rows[i].Incident.Kind]++
	}
	parts := make([]string, 0, len(kinds))
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		parts = append(parts, fmt.Sprintf("%s of %d", kind, kinds[kind]))
	}
	return "parked while running: " + strings.Join(parts, ", ")
}

func stepReport(s *engine.StepReport) report.StepReport {
	return report.StepReport{
		Step: s.Step, By: s.By, Began: s.Started, Took: micros(s.Ms), Slowest: s.Slowest, Most: micros(s.Most),
		Sums: report.StepSums{
			Lanes: s.Lanes, Done: s.Done, Parked: s.Parked, Gone: s.Gone, Entries: s.Entries, Bytes: s.Bytes, Reread: s.Reread,
			Drained: s.Commits,
		},
	}
}

func micros(ms float64) int64 { return int64(ms * float64(time.Millisecond/time.Microsecond)) }

func recoveredLanes(r *engine.BatchReport) []report.RecoveredLane {
	lanes := make([]report.RecoveredLane, 0, len(r.Rows))
	for i := range r.Rows {
		lanes = append(lanes, recoveredLane(&r.Rows[i], r.Steps))
	}
	return lanes
}

// laneStates says what an outcome of an acquisition is to the control plane; none yet is recovering.
var laneStates = map[string]string{
	"":                  report.LaneRecovering,
	lane.OutcomeResumed: report.LaneRunning,
	lane.OutcomeParked:  report.LaneParked,
	lane.OutcomeGone:    report.LaneSuperseded,
}

func recoveredLane(row *engine.LaneReport, steps []engine.StepReport) report.RecoveredLane {
	named := laneOf(row.Lane)
	out := report.RecoveredLane{
		Topic: named.Topic, Partition: named.Partition, State: laneStates[row.Outcome], Token: string(row.Token), FromEpoch: row.From,
		ToEpoch: row.To, Entries: row.Entries, Bytes: row.Bytes, Offset: row.Start, LogStart: row.LogStart, LogEnd: row.LogEnd,
		Reread: row.Reread, Note: row.Error,
	}
	for i := range steps {
		if ms, ok := row.Steps[steps[i].Step]; ok {
			out.Steps = append(out.Steps, report.StepTime{Step: steps[i].Step, By: steps[i].By, Began: steps[i].Started,
				Took: micros(ms)})
		}
	}
	if row.Journal != nil {
		out.Journal = row.Journal
	}
	if row.Incident != nil {
		out.Note = ""
		out.Incident = laneIncident(row.Incident)
		if row.Decision != nil && row.Decision.Incident == row.Incident.ID {
			out.Incident.Decided = row.Decision.Choice
		}
	}
	return out
}

func laneIncident(inc *lane.Incident) *report.Incident {
	out := &report.Incident{ID: inc.ID, Kind: inc.Kind, From: inc.From, To: inc.To, Detail: inc.Detail}
	for _, c := range inc.Choices {
		out.Choices = append(out.Choices, report.Choice{Name: c.Name, Text: c.Text, Lost: c.Lost, Reread: c.Reread})
	}
	return out
}

// laneOf reads pipeline/topic/partition; none of the names has a slash.
func laneOf(name string) report.LaneRef {
	parts := strings.Split(name, "/")
	out := report.LaneRef{}
	if n := len(parts); n >= 2 {
		number, _ := strconv.ParseInt(parts[n-1], 10, 32) // it was printed from one
		out.Topic, out.Partition = parts[n-2], int32(number)
	}
	return out
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
