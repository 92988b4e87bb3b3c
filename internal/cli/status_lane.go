package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// laneView is one lane with everything that is known of it.
type laneView struct {
	laneLine
	Conditions []contract.Condition `json:"conditions,omitempty"`
}

// showLane prints one lane of a view.
func showLane(sh *shell, view statusView, name string) error {
	i := slices.IndexFunc(view.Lanes, func(l laneLine) bool { return l.name() == name })
	if i < 0 {
		var names []string
		for i := range view.Lanes[:min(len(view.Lanes), shownLaneNames)] {
			names = append(names, view.Lanes[i].name())
		}
		if len(names) == 0 {
			return unreachablef("lane %s: the lanes cannot be read now: %s", name, view.Standing.Line)
		}
		return fmt.Errorf("pipeline %s has no lane %s; its %s: %s", view.Pipeline, name, counted(len(view.Lanes), "lane"),
			strings.Join(names, ", "))
	}
	lane := laneView{laneLine: view.Lanes[i]}
	for _, c := range view.Standing.Conditions {
		if c.Subject == name {
			lane.Conditions = append(lane.Conditions, c)
		}
	}
	if sh.json {
		return printJSON(sh.out, lane)
	}
	return drawLane(sh.out, &lane)
}

// shownLaneNames bounds the names in the answer to an unknown lane.
const shownLaneNames = 16

// refusedText says why records were refused, with the last of them.
func refusedText(r report.RefusedRecords) string {
	text := fmt.Sprintf("refused as %s: %s", r.Reason, counted(r.Count, "record"))
	if r.Last == nil {
		return text
	}
	text += fmt.Sprintf(", the last at offset %d", r.Last.Offset)
	if r.Last.Detail != "" {
		text += " (" + r.Last.Detail + ")"
	}
	if r.Last.Value != "" {
		text += ": " + strings.Map(shownRune, r.Last.Value)
	}
	return text
}

// shownRune replaces what would move a terminal's cursor.
func shownRune(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return '.'
}

func drawLane(w io.Writer, l *laneView) error {
	c := l.Counters
	updated := "-"
	if l.UpdatedAt > 0 {
		updated = time.UnixMilli(l.UpdatedAt).UTC().Format(time.RFC3339)
	}
	fmt.Fprintf(w, "lane %s\n", l.name())
	for _, row := range []struct {
		name  string
		value any
	}{
		{"state", laneState(&l.laneLine)}, {"committed offset", l.Offset}, {"log end", l.End}, {"lag", l.Lag}, {"records/s", short(l.Rate)},
		{"watermark", markText(l.Watermark)}, {"last commit", updated}, {"owner's epoch", l.Epoch}, {"open slices", l.Slices},
		{"state format", formatText(&l.laneLine)},
	} {
		fmt.Fprintf(w, "  %-18s%v\n", row.name, row.value)
	}
	if l.Pages != nil {
		fmt.Fprintln(w, "state pages: "+pagesText(l.Pages))
	}
	fmt.Fprintln(w, sentence(c))
	for _, r := range l.Refused {
		fmt.Fprintln(w, refusedText(r))
	}
	if l.Reason != "" {
		fmt.Fprintln(w, l.Reason)
	}
	for _, c := range l.Conditions {
		fmt.Fprintln(w, "! "+conditionLine(c))
		if c.Reason != "" && !strings.Contains(l.Reason, c.Reason) {
			fmt.Fprintln(w, c.Reason)
		}
	}
	return nil
}
