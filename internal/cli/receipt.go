package cli

import (
	"fmt"
	"io"
	"strings"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// printReceipt says in a few lines what an update came to.
func printReceipt(w io.Writer, pipeline string, r contract.Receipt) error {
	var b strings.Builder
	state := "applied"
	if !r.Applied {
		state = "accepted, not applied everywhere"
	}
	fmt.Fprintf(&b, "%s %s: %s (generation %d, request %s)\n", r.Update, pipeline, state, r.Generation, r.RequestID)
	if r.Repeated {
		b.WriteString("  a repetition: this is what came of the request at " + instant(r.At.UnixMilli()) + "\n")
	}
	if e := r.Emitted; e != nil {
		fmt.Fprintf(&b, "  published %d of %s: %s, %s\n", e.Published, counted(e.Windows, "open window"),
			counted(e.Keys, "row"), counted(e.Events, "event"))
		for i, rev := range e.Revisions {
			if i == 5 {
				fmt.Fprintf(&b, "    ... %d more; see `millrace windows ls %s`\n", e.Published-i, pipeline)
				break
			}
			fmt.Fprintf(&b, "    %s %s revision %d: %s, %s\n", rev.Window, instant(rev.Start), rev.Revision,
				counted(rev.Keys, "row"), counted(rev.Events, "event"))
		}
		printLanes(&b, "covers", e.Covered)
	} else {
		printLanes(&b, "committed", r.Lanes)
	}
	if r.Replicas > 0 {
		fmt.Fprintf(&b, "  replicas: %d\n", r.Replicas)
	}
	for _, id := range r.Started {
		fmt.Fprintf(&b, "  started %s\n", id)
	}
	for _, id := range r.Stopped {
		fmt.Fprintf(&b, "  stopped %s\n", id)
	}
	for _, l := range r.Levels {
		if l.Problem != "" {
			fmt.Fprintf(&b, "  %s has NOT answered: %s; it follows when it reads the desired state\n", l.Worker, l.Problem)
			continue
		}
		override := l.Override
		if override == "" {
			override = "none"
		}
		fmt.Fprintf(&b, "  %s replica %d: %s at level %s, override %s\n", l.Worker, l.Replica, l.Dependency, l.Level, override)
	}
	if r.Drained != nil && *r.Drained {
		b.WriteString("  drained: everything that was in Kafka is in the results\n")
	}
	for _, lane := range r.Missing {
		fmt.Fprintf(&b, "  MISSING %s/%d at offset %d", lane.Topic, lane.Partition, lane.Offset)
		if lane.Want > 0 {
			fmt.Fprintf(&b, " of %d", lane.Want)
		}
		fmt.Fprintf(&b, ": %s\n", lane.Reason)
	}
	if r.Note != "" {
		fmt.Fprintf(&b, "  note: %s\n", r.Note)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printLanes lists offsets on one line, the first sixteen.
func printLanes(b *strings.Builder, verb string, lanes []report.LaneReceipt) {
	if len(lanes) == 0 {
		return
	}
	const most = 16
	b.WriteString("  " + verb)
	for i, lane := range lanes {
		if i == most {
			fmt.Fprintf(b, " and %d more", len(lanes)-most)
			break
		}
		fmt.Fprintf(b, " %s/%d<%d", lane.Topic, lane.Partition, lane.Offset)
	}
	b.WriteByte('\n')
}

// unmet is the error of a receipt that does not say what was asked for.
func unmet(pipeline string, r contract.Receipt) error {
	switch {
	case r.Drained != nil && !*r.Drained:
		return incompletef("pipeline %s is not drained and goes on%s", pipeline, firstMissing(r))
	case r.Update == contract.UpdateDegrade && !r.Applied:
		return incompletef("%s of pipeline %s stands, and is not known to be in force everywhere", r.Update, pipeline)
	case !r.Applied && len(r.Missing) == 0:
		return incompletef("%s of pipeline %s is not applied%s", r.Update, pipeline, firstMissing(r))
	case len(r.Missing) > 0:
		return incompletef("%s of pipeline %s is not applied by %s%s", r.Update, pipeline, counted(len(r.Missing), "lane"), firstMissing(r))
	}
	return nil
}

func firstMissing(r contract.Receipt) string {
	if len(r.Missing) == 0 {
		if r.Note != "" {
			return ": " + r.Note
		}
		return ""
	}
	m := r.Missing[0]
	return fmt.Sprintf(": %s/%d %s", m.Topic, m.Partition, m.Reason)
}
