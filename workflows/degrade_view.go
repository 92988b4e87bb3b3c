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

func (d *degrade) status() (*contract.DegradeStatus, error) {
	return &contract.DegradeStatus{
		Pipeline: d.in.Pipeline, Worker: d.in.Worker, Dependency: d.in.Dependency, State: d.phase, Note: d.note, Began: d.state.Began,
		Changes: d.state.Changes, Machines: d.state.Machines, Timeline: d.state.Timeline, Proof: d.state.Proof, Receipts: d.state.Receipts,
		Generation: d.state.Generation,
	}, nil
}

func (d *degrade) set(ctx workflow.Context, phase, note string) {
	d.phase, d.note = phase, note
	d.show(ctx)
}

// shownChanges bounds the rows of current details.
const shownChanges = 60

func (d *degrade) show(ctx workflow.Context) {
	var b strings.Builder
	fmt.Fprintf(&b, "**%s** of %s on **%s** is **%s** %s\n\n"+
		"| replica | level | since | highest | override | lasted | |\n|---|---|---|---|---|---|---|\n",
		d.in.Dependency, d.in.Pipeline, d.in.Worker, d.phase, d.note)
	for _, m := range d.state.Machines {
		fmt.Fprintf(&b, "| %d | **%s** | %s | %s | %s | %s | %s |\n", m.Replica, m.Level, stamp(m.Since), m.Highest, m.Override,
			timesText(m.Times), endedText(m))
	}
	if n := len(d.state.Timeline); n > 0 {
		fmt.Fprintf(&b, "\n%d changes, the latest first\n\n"+
			"| at | replica | from | to | why | measured | override |\n|---|---|---|---|---|---|---|\n", d.state.Changes)
		for _, c := range slices.Backward(d.state.Timeline[max(0, n-shownChanges):]) {
			fmt.Fprintf(&b, "| %s | %d | %s | **%s** | %s | %s | %s |\n", stamp(c.At), c.Replica, c.From, c.To, c.Reason,
				numbersText(c.Numbers), c.Override)
		}
	}
	if p := d.state.Proof; p != nil {
		verdict := "**does not balance yet**"
		if p.Balanced {
			verdict = "**balances**"
		}
		fmt.Fprintf(&b, "\nThe journal %s: %s (disk %s, at %s)\n", verdict, p.Text, p.Disk, stamp(p.At))
	}
	for _, r := range d.state.Receipts {
		fmt.Fprintf(&b, "\n%s `%s` at %s, applied %t %s", r.Update, r.RequestID, stamp(r.At), r.Applied, r.Reason)
	}
	workflow.SetCurrentDetails(ctx, b.String())
	d.tellPipeline(ctx)
}

// tellPipeline tells the pipeline the highest level that the dependency is at, and the operator's override.
func (d *degrade) tellPipeline(ctx workflow.Context) {
	worst := contract.DegradedMachine{Level: report.LevelNormal}
	for _, m := range d.state.Machines {
		if m.Ended != "" {
			continue
		}
		if m.Level.Rank() > worst.Level.Rank() || worst.Override == "" && m.Override != "" &&
			m.Level == worst.Level {
			worst = m
		}
	}
	why := ""
	for _, c := range slices.Backward(d.state.Timeline) {
		if c.Replica == worst.Replica && c.To == worst.Level {
			why = c.Reason
			break
		}
	}
	d.pipeline.tellState(ctx, worst.Level != report.LevelNormal || worst.Override != "", string(worst.Level), why,
		contract.ChildWaits{Override: worst.Override, LevelSince: worst.Since})
}

func timesText(times []contract.LevelTime) string {
	var parts []string
	for _, t := range times {
		parts = append(parts, fmt.Sprintf("%s %s", t.Level, time.Duration(t.Took)*time.Millisecond))
	}
	return strings.Join(parts, ", ")
}

func endedText(m contract.DegradedMachine) string {
	text := m.Ended
	if m.Missed > 0 {
		text += fmt.Sprintf(" %d changes were no longer known to the process", m.Missed)
	}
	return text
}

func numbersText(numbers []report.LevelNumber) string {
	var parts []string
	for _, n := range numbers {
		parts = append(parts, fmt.Sprintf("%s %.4g", n.Name, n.Value))
	}
	return strings.Join(parts, ", ")
}
