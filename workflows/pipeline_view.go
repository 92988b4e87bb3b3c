package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

func (p *pipeline) status() (*contract.PipelineStatus, error) {
	s := &contract.PipelineStatus{
		Pipeline: p.spec.Name, State: p.phase, Note: p.note, Since: p.state.Since, Generation: p.state.Generation,
		Replicas: p.state.Replicas, Topics: p.state.Topics, Windows: p.windows(), Children: p.childStates(), Runs: p.state.Runs,
		Orders: p.state.Orders, Attached: p.state.Attached, Pending: p.waits.now(),
	}
	standing := p.standing(p.shownAt)
	s.Standing = &standing
	for _, r := range p.state.Receipts {
		s.Receipts = append(s.Receipts, contract.ReceiptHead{
			RequestID: r.RequestID, Update: r.Update, At: r.At, Generation: r.Generation, Applied: r.Applied, Note: r.Note,
			Input: r.Input,
		})
	}
	return s, nil
}

func (p *pipeline) windows() []string {
	var names []string
	for _, w := range p.spec.Windows {
		text := fmt.Sprintf("%s %s", w.Name, w.Size)
		if w.Slide != w.Size && w.Slide != 0 {
			text += fmt.Sprintf(" every %s", w.Slide)
		}
		names = append(names, text)
	}
	for _, up := range p.spec.Rollups {
		names = append(names, fmt.Sprintf("%s %s of %s", up.Name, up.Calendar, up.From))
	}
	return names
}

// standing sums up what the pipeline knows of itself, its children and the workflows that report to it.
func (p *pipeline) standing(now time.Time) contract.Standing {
	journal := p.spec.Lane.Overflow == spec.OverflowJournal
	conditions := contract.IntentConditions(p.spec.Name, p.phase, p.note, p.phaseSince)
	conditions = append(conditions, contract.OrderConditions(p.spec.Name, journal, p.state.Orders)...)
	for _, c := range append(p.childStates(), p.state.Attached...) {
		conditions = append(conditions, contract.ChildConditions(p.spec.Name, journal, c)...)
	}
	lanes := 0
	for _, t := range p.state.Topics {
		lanes += t.Partitions
	}
	return contract.NewStanding(p.spec.Name, p.phase, lanes, conditions, now)
}

// show makes the state readable in Temporal's UI: current details always, the memo when what it holds has changed.
func (p *pipeline) show(ctx workflow.Context) {
	p.showPage(ctx)
	if memo := fmt.Sprintf("%s/%d", p.phase, p.state.Replicas); memo != p.shown {
		p.shown = memo
		if err := workflow.UpsertMemo(ctx, map[string]any{
			"state": p.phase, "replicas": p.state.Replicas, "topics": p.spec.Source.Topics, "windows": p.windows(),
		}); err != nil {
			p.log.Warn("memo not written", "error", err)
		}
	}
	p.showSearch(ctx)
}

// showPage writes the current details, which is no command in the history and so may be done at any time.
func (p *pipeline) showPage(ctx workflow.Context) {
	p.shownAt = workflow.Now(ctx)
	if p.phase != p.phaseShown {
		p.phaseShown, p.phaseSince = p.phase, p.shownAt
	}
	standing := p.standing(p.shownAt)
	var b strings.Builder
	fmt.Fprintf(&b, "**%s** is **%s**", p.spec.Name, standing.Line)
	if p.note != "" && len(standing.Conditions) == 0 {
		fmt.Fprintf(&b, ": %s", p.note)
	}
	showConditions(&b, standing)
	for _, w := range p.waits.now() {
		fmt.Fprintf(&b, "\n\n%s", w)
	}
	fmt.Fprintf(&b, "\n\nreads %s · windows %s · desired state %d\n\n| child | state | worker | since | |\n|---|---|---|---|---|\n",
		strings.Join(p.spec.Source.Topics, ", "), strings.Join(p.windows(), ", "), p.state.Generation)
	for _, c := range p.children() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", c.state.ID, c.state.State, c.state.Worker, stamp(c.state.Since),
			cell(c.state.Note))
	}
	if n := len(p.state.Receipts); n > 0 {
		last := p.state.Receipts[n-1]
		fmt.Fprintf(&b, "\nlast update: %s `%s` at %s, generation %d, applied %t %s\n",
			last.Update, last.RequestID, stamp(last.At), last.Generation, last.Applied, last.Note)
	}
	for _, warning := range p.state.Warnings {
		fmt.Fprintf(&b, "\nwarning: %s\n", warning)
	}
	workflow.SetCurrentDetails(ctx, b.String())
}

// shownConditions bounds the rows of the Pipeline page.
const shownConditions = 20

func showConditions(b *strings.Builder, s contract.Standing) {
	if len(s.Conditions) == 0 {
		return
	}
	b.WriteString("\n\n| condition | of | why | since | way out |\n|---|---|---|---|---|\n")
	for _, c := range s.Conditions[:min(len(s.Conditions), shownConditions)] {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", c.Kind, cell(c.Subject), cell(c.Reason), stamp(c.Since), code(c.Command))
	}
	if more := len(s.Conditions) - shownConditions + s.More; more > 0 {
		fmt.Fprintf(b, "\nand %d more\n", more)
	}
}

// cell makes a text fit a cell of a Markdown table.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ").Replace(text)
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + cell(text) + "`"
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}
