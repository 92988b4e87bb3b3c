package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"millrace/internal/tune"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

// formatText says in which format a lane's state is, and why it is not in pages.
func formatText(l *laneLine) string {
	switch {
	case l.StateFormat == 0:
		return "-"
	case l.StateFormat != store.FieldFormat:
		return fmt.Sprintf("%d (pages)", l.StateFormat)
	case l.KeepsFields != "":
		return fmt.Sprintf("%d (fields): %s", l.StateFormat, l.KeepsFields)
	}
	return fmt.Sprintf("%d (fields)", l.StateFormat)
}

// pagesText says what pages add up to.
func pagesText(p *report.LanePages) string {
	text := fmt.Sprintf("%s, %s, at most %s above a slice's last whole one", counted(p.Pages, "page"), tune.Bytes(p.Bytes), counted(p.Runs, "run"))
	if p.Dirtied > 0 {
		text += fmt.Sprintf(", %.2f entries written for each that changed", p.Amplification())
	}
	if p.InFields > 0 {
		text += fmt.Sprintf(", %d entries of slices that are in fields still", p.InFields)
	}
	return text
}

// drawFormat says how many lanes are in pages, what their pages add up to, and what keeps the others in fields.
func drawFormat(w io.Writer, lanes []laneLine) {
	var sum report.LanePages
	paged, inFields, why := 0, 0, make(map[string]int)
	for i := range lanes {
		l := &lanes[i]
		if l.Pages != nil {
			paged++
			sum.Add(l.Pages)
		}
		if l.StateFormat == store.FieldFormat {
			inFields++
			if l.KeepsFields != "" {
				why[l.KeepsFields]++
			}
		}
	}
	if paged > 0 {
		fmt.Fprintf(w, "  state of %s in pages: %s\n", counted(paged, "lane"), pagesText(&sum))
	}
	if inFields > 0 {
		fmt.Fprintf(w, "  state of %s in fields\n", counted(inFields, "lane"))
	}
	for _, reason := range slices.Sorted(maps.Keys(why)) {
		fmt.Fprintf(w, "    %s: %s\n", counted(why[reason], "lane"), reason)
	}
}
