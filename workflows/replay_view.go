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
		Pipeline: s.ask.Pipeline, ID: s.ask.ID, State: s.phase, Note: s.note, Until: s.until, Began: s.began, Ask: &s.ask,
		OtherSpec: len(s.in.Spec) > 0, DryRun: s.in.DryRun, Swept: s.swept, Plan: s.plan, Progress: s.progress, Summary: s.summary,
		Certified: s.certified, Published: s.published, Receipts: s.receipts, Pending: s.waits.now(),
	}, nil
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

func (s *shadowing) show(ctx workflow.Context) {
	var b strings.Builder
	fmt.Fprintf(&b, "The %s `%s` of **%s** is **%s**", s.in.Kind(), s.ask.ID, s.ask.Pipeline, s.phase)
	if s.note != "" {
		b.WriteString(": " + s.note)
	}
	b.WriteString(untilText(s.until))
	for _, w := range s.waits.now() {
		if w.Why != "" {
			b.WriteString("\n\n" + w.String())
		}
	}
	fmt.Fprintf(&b, "\n\nfrom %s to %s%s, late events: %s\n", stamp(s.ask.From), stamp(s.ask.To), s.of(), s.lateness())
	if p := s.plan; p != nil {
		fmt.Fprintf(&b, "\n%d windows, %d records, about %d bytes in Redis, about %s\n", p.Windows, p.Records, p.RedisBytes,
			spec.Duration(time.Duration(p.Seconds)*time.Second))
		for _, note := range p.Notes {
			fmt.Fprintf(&b, "\n%s\n", note)
		}
		for _, w := range p.Why {
			fmt.Fprintf(&b, "\nleft out: %s\n", w)
		}
	}
	if s.summary == nil && s.progress != nil {
		s.showProgress(&b, *s.progress)
	}
	if s.summary != nil {
		s.showSummary(&b, *s.summary)
	}
	if r := s.certified; r != nil {
		fmt.Fprintf(&b, "\ncertificates: %s\n", r)
	}
	if r := s.published; r != nil {
		fmt.Fprintf(&b, "\npublished: %s\n", r)
	}
	for _, r := range s.receipts {
		fmt.Fprintf(&b, "\n%s `%s` at %s %s", r.Update, r.RequestID, stamp(r.At), r.Reason)
	}
	workflow.SetCurrentDetails(ctx, b.String())
}

// of says which windows are meant.
func (s *shadowing) of() string {
	if s.ask.Window == "" {
		return ""
	}
	return ", window " + s.ask.Window
}

func (s *shadowing) lateness() string {
	switch {
	case s.ask.FromLate:
		return "counted in from the late topic"
	case s.ask.Lateness == contract.LatenessNone:
		return "there are none"
	}
	return "as read"
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
	fmt.Fprintf(b, "\n%s\n", found)
	if found.Differ == 0 {
		return
	}
	fmt.Fprintf(b, "\nchecksum of the diff: `%s`\n", found.Checksum)
	if s.phase == contract.StateAsking {
		fmt.Fprintf(b, "\n`millrace replay diff %s %s` shows it; `millrace replay approve %[1]s %[2]s %s` publishes it; "+
			"`millrace replay reject %[1]s %[2]s` does not\n", s.ask.Pipeline, s.ask.ID, found.Checksum)
	}
	b.WriteString("\n| window | revision | keys added | changed | removed | events | |\n|---|---|---|---|---|---|---|\n")
	for _, d := range found.Differences {
		fmt.Fprintf(b, "| %s | %d | %d | %d | %d | %d -> %d | %s |\n", d.WindowRef, d.Revision, d.Added, d.Changed, d.Removed,
			d.OldEvents, d.NewEvents, wrongText(d.Wrong))
	}
	if found.More > 0 {
		fmt.Fprintf(b, "\nand %d more windows\n", found.More)
	}
}

// wrongText says which places a recount has found wrong.
func wrongText(places []string) string {
	if len(places) == 0 {
		return ""
	}
	return "wrong: " + strings.Join(places, ", ")
}
