package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"millrace/internal/contract"
)

func drawReplayRow(t *table, l listed, s contract.ReplayStatus) {
	if s.Ask == nil {
		t.row(l.Started, l.WorkflowID, "", "", "", "", "", "", l.Problem)
		return
	}
	windows, differ := "", ""
	if s.Plan != nil {
		windows = fmt.Sprint(s.Plan.Windows)
	}
	if s.Summary != nil {
		windows, differ = fmt.Sprint(s.Summary.Windows), fmt.Sprint(s.Summary.Differ)
	}
	state := s.Standing()
	if !l.Open && s.State != contract.StateDone {
		state = "terminated"
	}
	t.row(l.Started, s.ID, kindOf(s), state, instant(s.Ask.From.UnixMilli()), instant(s.Ask.To.UnixMilli()), windows, differ, s.Note)
}

// drawReplayStatus shows a replay, and how to go on with one that asks.
func drawReplayStatus(w io.Writer, s contract.ReplayStatus) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s of %s: %s", kindOf(s), s.ID, s.Pipeline, s.Standing())
	if s.Note != "" {
		b.WriteString(": " + s.Note)
	}
	asks := s.State == contract.StateAsking
	if s.Until != nil && !asks {
		fmt.Fprintf(&b, ", until %s at the longest", instant(s.Until.UnixMilli()))
	}
	b.WriteByte('\n')
	if s.Until != nil && asks {
		fmt.Fprintf(&b, "  waits for a decision; without one it is rejected at %s\n", instant(s.Until.UnixMilli()))
	}
	if s.Ask != nil {
		b.WriteString("  " + askedText(*s.Ask, s.OtherSpec) + "\n")
	}
	for _, p := range s.Pending {
		if p.Why != "" {
			fmt.Fprintf(&b, "  %s\n", p)
		}
	}
	if s.Plan != nil {
		drawReplayPlan(&b, *s.Plan)
	}
	if s.Summary == nil && s.Progress != nil {
		if err := drawReplayProgress(&b, *s.Progress); err != nil {
			return err
		}
	}
	if s.Summary != nil {
		if err := drawDifferences(&b, *s.Summary); err != nil {
			return err
		}
	}
	drawJob(&b, "certificates", s.Certified)
	drawJob(&b, "published", s.Published)
	for _, r := range s.Receipts {
		fmt.Fprintf(&b, "  %s at %s (request %s) %s\n", r.Update, instant(r.At.UnixMilli()), r.RequestID, r.Reason)
	}
	if asks {
		fmt.Fprintf(&b, "look at it with:   millrace replay diff %s %s\npublish it with:   millrace replay approve %[1]s %[2]s %s\n"+
			"or do not:         millrace replay reject %[1]s %[2]s\n", s.Pipeline, s.ID, s.Summary.Checksum)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// askedText says what was asked for, in one line.
func askedText(a contract.ReplayAsk, otherSpec bool) string {
	text := fmt.Sprintf("from %s to %s", instant(a.From.UnixMilli()), instant(a.To.UnixMilli()))
	if a.Window != "" {
		text += ", window " + a.Window
	}
	switch {
	case a.FromLate:
		text += ", with what stands in the late topic"
	case a.Lateness == contract.LatenessNone:
		text += ", no event is late"
	default:
		text += ", late events as read"
	}
	if otherSpec {
		text += ", with another spec"
	}
	if a.Rate > 0 {
		text += fmt.Sprintf(", at most %d records a second", a.Rate)
	}
	return text
}

func drawReplayPlan(b *strings.Builder, p contract.ReplayPlan) {
	fmt.Fprintf(b, "  %s: %s", counted(p.Windows, "window"), counted(p.Records, "record"))
	if p.Bytes > 0 {
		fmt.Fprintf(b, ", %s bytes", short(float64(p.Bytes)))
	}
	fmt.Fprintf(b, "; about %s bytes in Redis and %s", short(float64(p.RedisBytes)), time.Duration(p.Seconds)*time.Second)
	if p.Rate > 0 {
		fmt.Fprintf(b, " at %s records a second", short(float64(p.Rate)))
	}
	b.WriteByte('\n')
	if p.First != nil && p.Last != nil {
		fmt.Fprintf(b, "  the first is %s, the last %s\n", p.First, p.Last)
	}
	if p.Scope != "" {
		fmt.Fprintf(b, "  scope: %s\n", p.Scope)
	}
	for _, note := range p.Notes {
		fmt.Fprintf(b, "  note: %s\n", note)
	}
	drawLeftOut(b, p)
}

// drawLeftOut names the windows of the range that are not counted again, so that nobody takes them for certified or equal.
func drawLeftOut(b *strings.Builder, p contract.ReplayPlan) {
	if p.LeftOut > 0 {
		fmt.Fprintf(b, "  %s left out:\n", counted(p.LeftOut, "window"))
	}
	for _, w := range p.Why {
		fmt.Fprintf(b, "    %s\n", w)
	}
	if more := p.LeftOut - len(p.Why); more > 0 && len(p.Why) > 0 {
		fmt.Fprintf(b, "    and %d more\n", more)
	}
}

func drawReplayProgress(b *strings.Builder, p contract.ReplayProgress) error {
	fmt.Fprintf(b, "  %s\n", p)
	if len(p.Lanes) == 0 {
		return nil
	}
	t := &table{}
	t.row("LANE", "OFFSET", "END", "LEFT", "RECORDS/S")
	for _, l := range p.Lanes {
		t.row(fmt.Sprintf("%s/%d", l.Topic, l.Partition), l.Offset, l.End, max(0, l.End-l.Offset), fmt.Sprintf("%.0f", l.Rate))
	}
	err := t.write(b, "  ")
	if p.More > 0 {
		fmt.Fprintf(b, "  and %s more\n", counted(p.More, "lane"))
	}
	return err
}

// drawDifferences lists the windows that differ.
func drawDifferences(b *strings.Builder, s contract.ReplaySummary) error {
	fmt.Fprintf(b, "  %s\n", s)
	if s.Differ == 0 {
		return nil
	}
	t := &table{}
	t.row("WINDOW", "START", "REVISION", "ADDED", "CHANGED", "REMOVED", "KEYS", "EVENTS", "WRONG")
	for _, d := range s.Differences {
		t.row(d.Window, instant(d.Start), d.Revision, d.Added, d.Changed, d.Removed, fmt.Sprintf("%d → %d", d.OldKeys, d.NewKeys),
			fmt.Sprintf("%d → %d", d.OldEvents, d.NewEvents), strings.Join(d.Wrong, ", "))
	}
	err := t.write(b, "  ")
	if s.More > 0 {
		fmt.Fprintf(b, "  and %s more\n", counted(s.More, "window"))
	}
	for _, d := range s.Differences {
		for _, detail := range d.Details {
			fmt.Fprintf(b, "  %s %s: wrong %s\n", d.Window, instant(d.Start), detail)
		}
	}
	fmt.Fprintf(b, "  checksum of the diff: %s\n", s.Checksum)
	return err
}

// shownCarried is how many windows of a job are listed.
const shownCarried = 20

func drawJob(b *strings.Builder, what string, r *contract.JobReport) {
	if r == nil {
		return
	}
	fmt.Fprintf(b, "  %s: %s\n", what, r)
	for i, c := range r.Windows {
		if i == shownCarried {
			fmt.Fprintf(b, "    and %d more\n", len(r.Windows)+r.More-i)
			break
		}
		fmt.Fprintf(b, "    %s: %s", c.WindowRef, c.Outcome)
		if c.Revision > 0 {
			fmt.Fprintf(b, ", revision %d", c.Revision)
		}
		if c.Problem != "" {
			b.WriteString(": " + c.Problem)
		}
		b.WriteByte('\n')
	}
}

// drawReplayResult shows how a replay has ended.
func drawReplayResult(w io.Writer, r contract.ReplayResult) error {
	var b strings.Builder
	kind := contract.ReplayInput{Recount: r.Ask.Recount}.Kind()
	fmt.Fprintf(&b, "%s %s of %s: %s", kind, r.ID, r.Pipeline, r.Outcome)
	if r.Note != "" {
		b.WriteString(": " + r.Note)
	}
	fmt.Fprintf(&b, "\n  %s, took %s\n", askedText(r.Ask, false), r.Ended.Sub(r.Began).Round(time.Second/10))
	switch {
	case r.Plan == nil:
	case r.Outcome == contract.OutcomeDryRun:
		drawReplayPlan(&b, *r.Plan)
	default:
		drawLeftOut(&b, *r.Plan)
	}
	if r.Summary != nil && r.Summary.Differ > 0 && r.Outcome != contract.OutcomeRejected { // who rejects has seen what differs
		if err := drawDifferences(&b, *r.Summary); err != nil {
			return err
		}
	}
	drawJob(&b, "certificates", r.Certified)
	drawJob(&b, "published", r.Published)
	_, err := io.WriteString(w, b.String())
	return err
}

func drawReplayReceipt(w io.Writer, id string, r contract.ReplayReceipt) error {
	text := fmt.Sprintf("%s of %s: accepted at %s (request %s)", r.Update, id, instant(r.At.UnixMilli()), r.RequestID)
	switch {
	case r.Rate != nil && *r.Rate == 0:
		text += "; it reads without a limit"
	case r.Rate != nil:
		text += fmt.Sprintf("; it reads %d records a second at the most", *r.Rate)
	}
	if r.Repeated {
		text += "\n  a repetition: this is what came of the request before"
	}
	_, err := fmt.Fprintln(w, text)
	return err
}
