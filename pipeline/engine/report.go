package engine

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"millrace/pipeline/lane"
	"millrace/pipeline/report"
)

// Bounds of reports, so that they fit the control plane whatever the number of lanes.
const (
	maxRows    = 200 // lanes of a batch up to which all are in its report
	slowRows   = 100 // beyond: the slowest
	maxTrouble = 100 // and those in trouble
	maxDetail  = 300 // bytes of an error
)

// step sums up one step.
func (b *batch) step(name string) report.StepReport {
	i := slices.Index(report.Steps(), name)
	b.r.mu.Lock()
	switch {
	case b.MidRun: // its lanes have taken all steps in the batch that they were acquired in
		defer b.r.mu.Unlock()
		n := len(b.parked)
		if b.final != nil {
			n = len(b.final.Lanes) + b.final.More
		}
		return report.StepReport{Step: name, By: report.ByInline, Sums: report.StepSums{Lanes: n, Parked: n}}
	case b.final != nil:
		defer b.r.mu.Unlock()
		return b.final.Steps[i]
	}
	out := report.StepReport{Step: name, By: b.by[name], Sums: report.StepSums{Lanes: len(b.lanes)}}
	lanes := b.lanes
	b.r.mu.Unlock()
	var end time.Time
	for _, a := range lanes {
		steps, state := a.Results()
		s := &steps[i]
		addSums(&out.Sums, s, state)
		if s.Tries > 0 {
			if out.Began.IsZero() || s.Began.Before(out.Began) {
				out.Began = s.Began
			}
			if last := s.Began.Add(time.Duration(s.Took) * time.Microsecond); last.After(end) {
				end = last
			}
		}
		if out.Slowest == "" || s.Took > out.Most {
			out.Slowest, out.Most = a.Lane().String(), s.Took
		}
	}
	if !out.Began.IsZero() {
		out.Took = end.Sub(out.Began).Microseconds()
	}
	return out
}

// addSums adds a lane's step to the sums of its batch. state is what the lane's acquisition came to.
func addSums(sums *report.StepSums, s *lane.StepResult, state string) {
	if s.Done && s.Error == "" {
		sums.Done++
	}
	if !s.Done || s.Incident != nil {
		switch state {
		case report.LaneParked:
			sums.Parked++
		case report.LaneSuperseded:
			sums.Gone++
		}
	}
	sums.Entries += s.Entries
	sums.Bytes += s.Bytes
	sums.Reread += s.Reread
	if s.Journal != nil {
		sums.Drained += s.Journal.Commits
	}
}

// stepWithLanes is a step with where the lanes of the batch stand.
func (b *batch) stepWithLanes(name string) report.StepReport {
	out, all := b.step(name), b.describe()
	out.Lanes, out.More = all.Lanes, all.More
	return out
}

// describe returns everything recorded. Sums are exact; of more than 200 lanes only the slowest and those in trouble are listed.
func (b *batch) describe() report.RecoveryReport {
	b.r.mu.Lock()
	if b.final != nil {
		defer b.r.mu.Unlock()
		return *b.final
	}
	out := report.RecoveryReport{Batch: b.RecoveryBatch, Ended: b.closed, Lanes: make([]report.RecoveredLane, 0, len(b.lanes)+len(b.parked))}
	lanes := b.lanes
	for i := range b.parked {
		out.Lanes = append(out.Lanes, describeParked(&b.parked[i]))
	}
	b.r.mu.Unlock()
	out.Batch.Storm = b.r.storm()
	if b.MidRun { // its lanes took their steps in the batch that they were acquired in
		out.Batch.Reason = midRunReason(out.Lanes)
	} else {
		for _, name := range report.Steps() {
			out.Steps = append(out.Steps, b.step(name))
		}
	}
	for _, a := range lanes {
		out.Lanes = append(out.Lanes, describeLane(a))
	}
	boundLanes(&out)
	out.Batch.Lanes, out.Batch.More = nil, out.More
	for i := range out.Lanes {
		out.Batch.Lanes = append(out.Batch.Lanes, out.Lanes[i].Lane())
	}
	return out
}

// boundLanes keeps the lanes that a report has room for, by topic and partition.
func boundLanes(r *report.RecoveryReport) {
	took := func(l *report.RecoveredLane) (all int64) {
		for _, s := range l.Steps {
			all += s.Took
		}
		return all
	}
	if len(r.Lanes) > maxRows {
		slices.SortFunc(r.Lanes, func(x, y report.RecoveredLane) int { return cmp.Compare(took(&y), took(&x)) })
		kept, troubled := r.Lanes[:slowRows:slowRows], 0
		for _, l := range r.Lanes[slowRows:] {
			if l.State != report.LaneRunning && troubled < maxTrouble {
				kept = append(kept, l)
				troubled++
			}
		}
		r.More = len(r.Lanes) - len(kept)
		r.Lanes = kept
	}
	slices.SortFunc(r.Lanes, func(x, y report.RecoveredLane) int {
		return cmp.Or(strings.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition))
	})
}

// describeLane is what an acquisition has found and done so far.
func describeLane(a *lane.Acquisition) report.RecoveredLane {
	steps, state := a.Results()
	id := a.Lane()
	out := report.RecoveredLane{
		Topic: id.Topic, Partition: id.Partition, State: state, Token: string(a.Token()), Offset: -1, LogStart: -1, LogEnd: -1,
	}
	var decision *report.Decision
	for i := range steps {
		s := &steps[i]
		if s.Tries == 0 {
			continue
		}
		out.ToEpoch = s.Epoch
		out.Steps = append(out.Steps, s.StepTime)
		out.Offset, out.LogStart, out.LogEnd = max(out.Offset, s.Start), max(out.LogStart, s.LogStart), max(out.LogEnd, s.LogEnd)
		out.Reread += s.Reread
		out.Note = cmp.Or(cut(s.Error), out.Note)
		out.Journal, decision = cmp.Or(s.Journal, out.Journal), cmp.Or(s.Decision, decision)
		out.Incident = cmp.Or(s.Incident, out.Incident)
		switch s.Step {
		case report.StepAcquire:
			out.FromEpoch = s.From
		case report.StepRestore:
			out.Entries, out.Bytes = s.Entries, s.Bytes
		}
	}
	if out.Incident != nil { // it says what the note would
		inc := *out.Incident
		if decision != nil && decision.Incident == inc.ID {
			inc.Decided = decision.Choice
		}
		out.Incident, out.Note = &inc, ""
	}
	return out
}

// describeParked is a lane that parked while it ran.
func describeParked(p *lane.Parking) report.RecoveredLane {
	inc := *p.Incident
	out := report.RecoveredLane{
		Topic: p.Lane.Topic, Partition: p.Lane.Partition, State: report.LaneParked, Token: string(p.Token),
		FromEpoch: p.Token.Epoch(), ToEpoch: p.Token.Epoch(), Offset: p.Committed, LogStart: -1, LogEnd: p.LogEnd, Incident: &inc,
	}
	if inc.Kind == report.IncidentGap {
		out.LogStart = inc.To
	}
	return out
}

// midRunReason says what happened to lanes that parked while they ran: how many of each kind.
func midRunReason(lanes []report.RecoveredLane) string {
	kinds := make(map[string]int)
	for i := range lanes {
		kinds[lanes[i].Incident.Kind]++
	}
	parts := make([]string, 0, len(kinds))
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		parts = append(parts, fmt.Sprintf("%s of %d", kind, kinds[kind]))
	}
	return "parked while running: " + strings.Join(parts, ", ")
}

func cut(text string) string {
	if len(text) > maxDetail {
		return text[:maxDetail]
	}
	return text
}
