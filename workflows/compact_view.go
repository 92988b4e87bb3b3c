package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func (c *compaction) status() (*contract.CompactStatus, error) {
	status := &contract.CompactStatus{
		Pipeline: c.in.Pipeline, State: c.phase, Note: c.note, Bound: c.bound, Began: c.began, CompactWork: c.work, Pending: c.waits.now(),
	}
	if c.phase != contract.StateDone {
		until := c.giveUp
		status.Until = &until
	}
	return status, nil
}

func (c *compaction) set(ctx workflow.Context, phase, note string) {
	c.phase, c.note = phase, note
	c.show(ctx)
}

// shownUnfinished is how many windows of a kind the page names.
const shownUnfinished = 5

func (c *compaction) show(ctx workflow.Context) {
	var b strings.Builder
	fmt.Fprintf(&b, "The compaction of **%s** up to %s is **%s**", c.in.Pipeline, stamp(c.bound), c.phase)
	if c.note != "" {
		b.WriteString(": " + c.note)
	}
	b.WriteString("\n")
	for _, w := range c.waits.now() {
		fmt.Fprintf(&b, "\n%s\n", w)
	}
	for _, problem := range c.work.Problems {
		fmt.Fprintf(&b, "\n**%s**\n", problem)
	}
	if r := c.work.Rollup; r != nil {
		showRolledUp(&b, r)
	}
	if a := c.work.Archived; a != nil {
		b.WriteString("\n**Archive**: contents past their retention, which this run has written to Parquet files.\n" +
			"\n| windows | files | bytes | left for the next run | failed |\n|---|---|---|---|---|\n")
		for _, f := range a.Families {
			fmt.Fprintf(&b, "| %s | %d | %d | %d | %d |\n", f.Name, f.Files, f.Bytes, f.Moved, f.Failed)
		}
		showUnfinished(&b, "not archived", a.Failed)
	}
	if s := c.work.Stock; s != nil {
		b.WriteString("\n**Stock**: all windows in the ledger. *Kept* ones have their contents in Redis and Kafka; of *expired* ones the row " +
			"is left, and the file where they are archived.\n" +
			"\n| windows | in the ledger | kept | expired | since the last run | bytes freed | archived | bytes |\n" +
			"|---|---|---|---|---|---|---|---|\n")
		for _, f := range s.Families {
			fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d | %d |\n", f.Name, f.Windows, f.Kept, f.Expired, f.ExpiredSince,
				f.BytesFreed, f.Archived, f.ArchivedBytes)
		}
	}
	if c.phase == contract.StateDone {
		fmt.Fprintf(&b, "\ntook %s\n", workflow.Now(ctx).Sub(c.began).Round(time.Second/10))
	}
	workflow.SetCurrentDetails(ctx, b.String())
}

func showRolledUp(b *strings.Builder, r *report.Rollup) {
	b.WriteString("\n**Roll-ups**: larger windows, which are made of smaller ones, their children.\n" +
		"\n| windows | rolled up | corrected | unchanged | waiting | incidents | failed | keys | late for children |\n" +
		"|---|---|---|---|---|---|---|---|---|\n")
	for _, f := range r.Families {
		fmt.Fprintf(b, "| %s | %d | %d | %d | %d | %d | %d | %d | %d |\n", f.Name, f.Published, f.Corrected, f.Unchanged, f.Waiting,
			f.Incidents, f.Failed, f.Keys, f.ChildLate)
	}
	showUnfinished(b, "waiting", r.Waiting)
	showUnfinished(b, "cannot be rolled up", r.Incidents)
	showUnfinished(b, "not rolled up this time", r.Failed)
}

func showUnfinished(b *strings.Builder, what string, list []report.Unfinished) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n\n", what)
	for _, u := range list[:min(len(list), shownUnfinished)] {
		fmt.Fprintf(b, "- %s\n", contract.DescribeUnfinished(u))
	}
	if more := len(list) - shownUnfinished; more > 0 {
		fmt.Fprintf(b, "- and %d more\n", more)
	}
}
