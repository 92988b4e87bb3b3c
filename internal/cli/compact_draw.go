package cli

import (
	"fmt"
	"io"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

// drawnUnfinished is how many windows of a kind are named.
const drawnUnfinished = 5

// drawCompacted shows what a run came to.
func drawCompacted(w io.Writer, r contract.CompactResult) error {
	fmt.Fprintf(w, "%s up to %s: %s, %s, took %s\n", r.Pipeline, boundText(r.Bound), r.Outcome, r.String(),
		spec.Duration(r.Ended.Sub(r.Began).Round(1e6)))
	if up := r.Rollup; up != nil {
		t := &table{}
		t.row("ROLL-UP", "ROLLED UP", "CORRECTED", "UNCHANGED", "WAITING", "INCIDENTS", "FAILED", "KEYS", "LATE")
		for _, f := range up.Families {
			t.row(f.Name, f.Published, f.Corrected, f.Unchanged, f.Waiting, f.Incidents, f.Failed, f.Keys, f.ChildLate)
		}
		if err := t.write(w, ""); err != nil {
			return err
		}
		drawUnfinished(w, "waiting", up.Waiting)
		drawUnfinished(w, "INCIDENT", up.Incidents)
		drawUnfinished(w, "FAILED", up.Failed)
	}
	if a := r.Archived; a != nil {
		t := &table{}
		t.row("ARCHIVED", "FILES", "BYTES", "NEXT TIME", "FAILED")
		for _, f := range a.Families {
			t.row(f.Name, f.Files, f.Bytes, f.Moved, f.Failed)
		}
		if err := t.write(w, ""); err != nil {
			return err
		}
		drawUnfinished(w, "FAILED", a.Failed)
	}
	if s := r.Stock; s != nil {
		t := &table{}
		t.row("WINDOWS", "IN LEDGER", "KEPT", "EXPIRED", "SINCE LAST RUN", "BYTES FREED", "ARCHIVED", "BYTES")
		for _, f := range s.Families {
			t.row(f.Name, f.Windows, f.Kept, f.Expired, f.ExpiredSince, f.BytesFreed, f.Archived, f.ArchivedBytes)
		}
		if err := t.write(w, ""); err != nil {
			return err
		}
	}
	for _, problem := range r.Problems {
		fmt.Fprintf(w, "PROBLEM %s\n", problem)
	}
	return nil
}

// drawUnfinished names the first windows that were not done, and counts the others that the report names.
func drawUnfinished(w io.Writer, what string, list []report.Unfinished) {
	for _, u := range list[:min(len(list), drawnUnfinished)] {
		fmt.Fprintf(w, "%s %s\n", what, contract.DescribeUnfinished(u))
	}
	if more := len(list) - drawnUnfinished; more > 0 {
		fmt.Fprintf(w, "%s: %d more\n", what, more)
	}
}
