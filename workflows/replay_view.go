package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

func (s *shadowing) status() (*contract.ReplayStatus, error) {
	return &contract.ReplayStatus{
		Pipeline: s.ask.Pipeline, ID: s.ask.ID, State: s.phase, Outcome: s.outcome, Note: s.note, Until: s.until, Began: s.began, Ask: &s.ask,
		OtherSpec: len(s.in.Spec) > 0, DryRun: s.in.DryRun, Swept: s.swept, Plan: s.plan, Progress: s.progress, Summary: s.summary,
		Certified: s.certified, Published: s.published, Receipts: s.receipts, Pending: s.waits.now(),
	}, nil
}

// standing is the phase, or how the replay has ended.
func (s *shadowing) standing() string {
	return contract.ReplayStatus{State: s.phase, Outcome: s.outcome}.Standing()
}

// set notes a phase, and tells the pipeline of one that waits for somebody.
func (s *shadowing) set(ctx workflow.Context, phase, note string, until *time.Time) {
	s.phase, s.note, s.until = phase, note, until
	s.show(ctx)
	asks := phase == contract.StateAsking
	var waits contract.ChildWaits
	if asks {
		waits = s.in.AskingWaits()
	}
	s.pipeline.tellState(ctx, asks, phase, note, waits)
}

// shownLeftOut is how many of the windows that cannot be counted again the page names.
const shownLeftOut = 5

func (s *shadowing) show(ctx workflow.Context) {
	workflow.SetCurrentDetails(ctx, s.page())
}

// page is written for somebody who may never have heard of the pipeline: first what is to be decided, then what was asked for,
// then what was found.
func (s *shadowing) page() string {
	var b strings.Builder
	if s.phase == contract.StateAsking {
		s.showQuestion(&b)
	} else {
		fmt.Fprintf(&b, "The %s `%s` of **%s** is **%s**", s.in.Kind(), s.ask.ID, s.ask.Pipeline, s.standing())
		if s.note != "" {
			b.WriteString(": " + s.note)
		}
		b.WriteString(untilText(s.until))
	}
	for _, w := range s.waits.now() {
		if w.Why != "" {
			b.WriteString("\n\n" + w.String())
		}
	}
	fmt.Fprintf(&b, "\n\nIt counts windows%s of **%s** between %s and %s again from Kafka%s. %s.\n", s.of(), s.ask.Pipeline, stamp(s.ask.From),
		stamp(s.ask.To), s.spec(), s.lateness())
	if s.summary != nil {
		s.showSummary(&b, *s.summary)
	}
	if r := s.certified; r != nil {
		fmt.Fprintf(&b, "\ncertificates: %s\n", r)
	}
	if r := s.published; r != nil {
		fmt.Fprintf(&b, "\npublished: %s\n", r)
	}
	if s.plan != nil {
		showPlan(&b, *s.plan)
	}
	if s.summary == nil && s.progress != nil {
		s.showProgress(&b, *s.progress)
	}
	for _, r := range s.receipts {
		fmt.Fprintf(&b, "\n%s `%s` at %s %s", r.Update, r.RequestID, stamp(r.At), r.Reason)
	}
	return b.String()
}

// showQuestion says what somebody has to decide, and each way to do it.
func (s *shadowing) showQuestion(b *strings.Builder) {
	fmt.Fprintf(b, "**Waits for your decision.** The %s `%s` of **%s** is **%s**: %s.\n\nNothing of it is published unless somebody "+
		"approves; without a decision it is rejected at %s.\n\n", s.in.Kind(), s.ask.ID, s.ask.Pipeline, s.phase, s.note, stamp(*s.until))
	names := s.ask.Pipeline + " " + s.ask.ID
	b.WriteString("| you want to | command | or the update |\n|---|---|---|\n")
	fmt.Fprintf(b, "| see what differs, key by key | `millrace replay diff %s` | `%s` |\n", names, contract.UpdateShowDiff)
	if s.summary != nil {
		fmt.Fprintf(b, "| publish it, as one more revision of each window | `millrace replay approve %s %s` | `%s` |\n", names,
			s.summary.Checksum, contract.UpdateApprove)
	}
	fmt.Fprintf(b, "| publish nothing | `millrace replay reject %s` | `%s` |\n", names, contract.UpdateReject)
}

func showPlan(b *strings.Builder, p contract.ReplayPlan) {
	fmt.Fprintf(b, "\nTo read: %d records for %d windows, about %d bytes in Redis, about %s.\n", p.Records, p.Windows, p.RedisBytes,
		spec.Duration(time.Duration(p.Seconds)*time.Second))
	for _, note := range p.Notes {
		fmt.Fprintf(b, "\n%s\n", note)
	}
	if p.LeftOut == 0 {
		return
	}
	fmt.Fprintf(b, "\n%d windows are left out, because they cannot be counted again now:\n\n", p.LeftOut)
	named := p.Why[:min(len(p.Why), shownLeftOut)]
	for _, w := range named {
		fmt.Fprintf(b, "- %s\n", w)
	}
	if more := p.LeftOut - len(named); more > 0 {
		fmt.Fprintf(b, "- and %d more\n", more)
	}
}

// of says which windows are meant.
func (s *shadowing) of() string {
	if s.ask.Window == "" {
		return ""
	}
	return " `" + s.ask.Window + "`"
}

// spec says which spec they are counted with.
func (s *shadowing) spec() string {
	if len(s.in.Spec) > 0 {
		return " with another spec"
	}
	return ""
}

func (s *shadowing) lateness() string {
	switch {
	case s.ask.FromLate:
		return "Events that were late then are late again, except those in the late topic, which count"
	case s.ask.Lateness == contract.LatenessNone:
		return "No event is late: whatever has arrived counts"
	}
	return "Events that were late then are late again"
}

func (s *shadowing) showProgress(b *strings.Builder, p contract.ReplayProgress) {
	fmt.Fprintf(b, "\n%s\n\n| lane | offset | end | left | records/s |\n|---|---|---|---|---|\n", p)
	for _, l := range p.Lanes[:min(len(p.Lanes), contract.ReplayRevealEvery)] {
		fmt.Fprintf(b, "| %s/%d | %d | %d | %d | %.0f |\n", l.Topic, l.Partition, l.Offset, l.End, max(0, l.End-l.Offset), l.Rate)
	}
	if more := len(p.Lanes) - contract.ReplayRevealEvery + p.More; more > 0 {
		fmt.Fprintf(b, "\nand %d more lanes\n", more)
	}
}

func (s *shadowing) showSummary(b *strings.Builder, found contract.ReplaySummary) {
	if s.phase != contract.StateAsking { // then it is what is asked about, and stands above
		fmt.Fprintf(b, "\n%s\n", found)
	}
	if found.Differ == 0 {
		return
	}
	b.WriteString("\n| window | published as revision | keys added | changed | removed | events then | events now | |\n" +
		"|---|---|---|---|---|---|---|---|\n")
	for _, d := range found.Differences {
		fmt.Fprintf(b, "| %s | %d | %d | %d | %d | %d | %d | %s |\n", d.WindowRef, d.Revision, d.Added, d.Changed, d.Removed,
			d.OldEvents, d.NewEvents, wrongText(d.Wrong))
	}
	if found.More > 0 {
		fmt.Fprintf(b, "\nand %d more windows\n", found.More)
	}
	fmt.Fprintf(b, "\nchecksum of the diff: `%s`\n", found.Checksum)
}

// wrongText says which places a recount has found wrong.
func wrongText(places []string) string {
	if len(places) == 0 {
		return ""
	}
	return "wrong: " + strings.Join(places, ", ")
}
