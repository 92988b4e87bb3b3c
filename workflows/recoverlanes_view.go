package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func (r *recovery) status() (*contract.RecoverStatus, error) {
	lanes, _ := contract.BoundLanes(r.state.Lanes)
	s := &contract.RecoverStatus{
		Batch: r.batch, State: r.phase, Note: r.note, Steps: r.state.Steps, Totals: r.totals(), Lanes: lanes, Receipts: r.state.Receipts,
	}
	if steps := report.Steps(); r.state.Done < len(steps) {
		s.Step = steps[r.state.Done]
	}
	return s, nil
}

func (r *recovery) set(ctx workflow.Context, phase, note string) {
	r.phase, r.note = phase, note
	r.show(ctx)
	r.tellPipeline(ctx)
}

// tellPipeline tells the pipeline which lanes wait for a person, or for a process that does not answer.
func (r *recovery) tellPipeline(ctx workflow.Context) {
	var waits contract.ChildWaits
	for i := range r.state.Lanes {
		l := &r.state.Lanes[i]
		switch {
		case r.phase == contract.StateDeciding && open(l):
			waits.Waits = append(waits.Waits, contract.Wait{For: laneName(l), Why: l.Incident.Kind + ": " + l.Incident.Detail})
		case r.phase == contract.StateHostGone && !over(l.State):
			waits.Waits = append(waits.Waits, contract.Wait{For: laneName(l), Why: "recovers on " + r.batch.Worker})
		}
	}
	r.pipeline.tellState(ctx, len(waits.Waits) > 0, r.phase, r.note, waits)
}

func laneName(l *report.RecoveredLane) string { return fmt.Sprintf("%s/%d", l.Topic, l.Partition) }

// shownLanes bounds the rows of current details; lanes that need somebody come first.
const shownLanes = 100

func (r *recovery) show(ctx workflow.Context) {
	b := r.batch
	var out strings.Builder
	fmt.Fprintf(&out, "Recovery of %s on **%s** is **%s** %s\n\n", lanesOf(b), b.Worker, r.phase, r.note)
	fmt.Fprintf(&out, "batch %d of replica %d, began %s", b.Batch, b.Replica, stamp(b.Began))
	if b.Reason != "" {
		fmt.Fprintf(&out, ", %s", b.Reason)
	}
	if r.in.Report != nil && !b.MidRun {
		fmt.Fprintf(&out, "; the steps were done by the hot path while Temporal was away, until %s", stamp(r.ended))
	}
	out.WriteString("\n\n")
	r.showSteps(&out)
	r.showLanes(&out)
	r.showIncidents(&out)
	showStorm(&out, b.Storm)
	for _, d := range r.state.Receipts {
		fmt.Fprintf(&out, "\ndecided at %s: %s %s → **%s** %s %s", stamp(d.At), ofLanes(d), d.Incident, d.Choice, d.Reason, d.Note)
	}
	workflow.SetCurrentDetails(ctx, out.String())
}

func (r *recovery) showSteps(out *strings.Builder) {
	if len(r.state.Steps) == 0 {
		return
	}
	out.WriteString("| step | by | began | took | slowest lane | lanes done | parked | gone |\n|---|---|---|---|---|---|---|---|\n")
	for _, s := range r.state.Steps {
		slowest := ""
		if s.Slowest != "" {
			slowest = s.Slowest + " " + took(s.Most)
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %d | %d | %d |\n", s.Step, s.By, stamp(s.Began), took(s.Took), slowest, s.Sums.Done,
			s.Sums.Parked, s.Sums.Gone)
	}
	out.WriteString("\n")
}

// took renders microseconds.
func took(us int64) string {
	return (time.Duration(us) * time.Microsecond).Round(10 * time.Microsecond).String()
}

func (r *recovery) showLanes(out *strings.Builder) {
	lanes := slices.Clone(r.state.Lanes)
	slices.SortStableFunc(lanes, func(a, b report.RecoveredLane) int { return laneRank(&a) - laneRank(&b) })
	out.WriteString("| lane | state | epoch | entries | bytes | offset | log | re-read | journal |")
	for _, step := range report.Steps() {
		out.WriteString(" " + step + " |")
	}
	out.WriteString("\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for i := range lanes[:min(shownLanes, len(lanes))] {
		l := &lanes[i]
		fmt.Fprintf(out, "| %s/%d | %s %s | %d → %d | %d | %d | %d | %s | %d | %s |", l.Topic, l.Partition, l.State, l.Note,
			l.FromEpoch, l.ToEpoch, l.Entries, l.Bytes, l.Offset, l.Log(), l.Reread, journalText(l.Journal))
		for _, step := range report.Steps() {
			out.WriteString(" " + stepText(l.Steps, step) + " |")
		}
		out.WriteString("\n")
	}
	if more := len(lanes) - shownLanes + r.batch.More; more > 0 && len(lanes) >= shownLanes {
		fmt.Fprintf(out, "\nand %d more\n", more)
	}
}

func laneRank(l *report.RecoveredLane) int {
	switch {
	case open(l):
		return 0
	case l.State == report.LaneRecovering, l.State == report.LaneParked:
		return 1
	}
	return 2
}

func journalText(c *report.SettledChain) string {
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%s, %d commits %s", c.Outcome, c.Commits, c.Reason)
}

func stepText(steps []report.StepTime, step string) string {
	for _, s := range steps {
		if s.Step == step {
			return took(s.Took) + " " + s.By
		}
	}
	return ""
}

// showIncidents says of every lane that waits what happened, what can be chosen and what each choice costs.
func (r *recovery) showIncidents(out *strings.Builder) {
	for i := range r.state.Lanes {
		l := &r.state.Lanes[i]
		if l.Incident == nil || over(l.State) {
			continue
		}
		fmt.Fprintf(out, "\n**%s of lane %s/%d** %s", l.Incident.Kind, l.Topic, l.Partition, l.Incident.Detail)
		if l.Incident.From >= 0 {
			fmt.Fprintf(out, " (offsets %d to %d)", l.Incident.From, l.Incident.To)
		}
		if l.Incident.Decided != "" {
			fmt.Fprintf(out, ": decided %s\n", l.Incident.Decided)
			continue
		}
		out.WriteString("\n\n| choice | does | loses | reads again |\n|---|---|---|---|\n")
		for _, c := range l.Incident.Choices {
			fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", c.Name, c.Text, known(c.Lost), known(c.Reread))
		}
	}
}

func known(n int64) string {
	if n < 0 {
		return "not known"
	}
	return fmt.Sprint(n)
}

func showStorm(out *strings.Builder, s *report.Storm) {
	if s == nil {
		return
	}
	fmt.Fprintf(out, "\n**Rebalance storm**: %d changes of assignment since %s; this recovery was held back by %d ms\n\n"+
		"| at | lanes | held back |\n|---|---|---|\n",
		s.Changes, stamp(s.Since), s.Delay)
	for _, e := range s.Timeline {
		fmt.Fprintf(out, "| %s | %d | %d ms |\n", stamp(e.At), e.Lanes, e.Delay)
	}
}
