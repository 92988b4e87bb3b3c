package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"millrace/internal/contract"
	"millrace/pipeline/verify"
)

func verifyCommand(sh *shell) *cobra.Command {
	var file string
	var quick bool
	cmd := &cobra.Command{
		Use:   "verify NAME",
		Short: "Check that nothing was lost or counted twice, and that Redis, ledger and results agree",
		Long: `Verify checks, at any time and without changing anything:
  - per lane: read = invalid + ahead + past + jumped + filtered + duplicate + late + folded, and each input record was read once;
  - the entries in Redis add up to the events folded;
  - the ledger has no gap, the result topic holds exactly the revisions the ledger names, no row twice;
  - Redis shows what the ledger says, and what it does not show has expired; late events stand in the late topic;
  - status calls the pipeline healthy. With --spec that is left out while Temporal is away.
It exits with 4 when something is wrong.`,
		Example: "  millrace verify flights\n  millrace verify flights --json | jq .problems",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return verifyPipeline(cmd.Context(), sh, args[0], file, !quick)
		},
	}
	cmd.Flags().StringVar(&file, "spec", "", "the pipeline's spec file; default: what Temporal knows")
	cmd.Flags().BoolVar(&quick, "quick", false, "do not read the input and the late topic again to count their records")
	return cmd
}

func verifyPipeline(ctx context.Context, sh *shell, pipeline, file string, input bool) error {
	s, tc, err := sh.findSpec(ctx, pipeline, file)
	if err != nil {
		return err
	}
	o := &observer{sh: sh, spec: s, temporal: tc}
	defer o.Close()
	srv, err := sh.connectData(ctx)
	if err != nil {
		return err
	}
	o.data = srv
	cfg := verify.Config{Spec: s, State: srv.store, Kafka: srv.cluster, Input: input}
	if input && s.Late.Kafka != nil {
		cfg.Late = verify.LateTopic(srv.cluster, s.Late.Kafka.Topic)
	}
	v, err := verify.Run(ctx, cfg)
	if err != nil {
		return noLedger(pipeline, err)
	}
	view, err := o.look(ctx)
	if err != nil {
		return err
	}
	addStanding(v, view)
	if sh.json {
		err = printJSON(sh.out, v)
	} else {
		err = drawVerification(sh.out, v)
	}
	if err == nil && !v.OK() {
		err = incompletef("pipeline %s: %s found", pipeline, counted(len(v.Problems), "problem"))
	}
	return err
}

// addStanding adds what status calls unhealthy, and notes that an operator keeps windows from closing. That Temporal could not be
// asked says nothing about what was published.
func addStanding(v *verify.Report, view statusView) {
	for _, c := range view.Standing.Conditions {
		if c.Kind == contract.ConditionClosingSuspended {
			v.Notes = append(v.Notes, "no window closes: "+conditionLine(c))
		}
		if !contract.HealthyKind(c.Kind) && !contract.UnknownKind(c.Kind) {
			v.Add(verify.Problem{Kind: verify.ProblemUnhealthy, Where: cmp.Or(c.Subject, view.Pipeline), Detail: conditionLine(c)})
		}
	}
}

func drawVerification(w io.Writer, v *verify.Report) error {
	t := &table{}
	t.row("LANE", "OFFSET", "END", "RECORDS", "READ", "FOLDED", "LATE", "FILTERED", "INVALID", "AHEAD", "DUPLICATE", "ENTRIES", "NOTE")
	for _, l := range v.Lanes {
		c, note := l.Counters, ""
		if l.Busy {
			note = "in the middle of commits; entries not compared"
		}
		if l.Void > 0 {
			note += fmt.Sprintf(" %s decided anew", counted(l.Void, "late event"))
		}
		if c.Skipped > 0 {
			note += fmt.Sprintf(" %s skipped as decided", counted(c.Skipped, "record"))
		}
		if c.Past > 0 {
			note += fmt.Sprintf(" %s too far in the past", counted(c.Past, "record"))
		}
		if c.Jumped > 0 {
			note += fmt.Sprintf(" %s jumped", counted(c.Jumped, "record"))
		}
		t.row(l.Lane, orDash(l.Offset), l.End, orDash(l.Records), c.Read, c.Folded, c.Late, c.Filtered, c.Invalid, c.Ahead, c.Duplicate,
			l.Entries, note)
	}
	if err := t.write(w, ""); err != nil {
		return err
	}
	c := v.Totals
	sum := fmt.Sprintf("%d read = %d folded + %d late + %d filtered + %d invalid + %d too far ahead",
		c.Read, c.Folded, c.Late, c.Filtered, c.Invalid, c.Ahead)
	if c.Past > 0 {
		sum += fmt.Sprintf(" + %d too far in the past", c.Past)
	}
	if c.Jumped > 0 {
		sum += fmt.Sprintf(" + %d jumped", c.Jumped)
	}
	fmt.Fprintf(w, "%s + %d duplicate\n", sum, c.Duplicate)
	if c.Skipped > 0 {
		fmt.Fprintf(w, "%s skipped as an operator decided, and not among those read\n", counted(c.Skipped, "record"))
	}
	if v.Certified > 0 {
		fmt.Fprintf(w, "%s counted again, and certified to be as published\n", counted(v.Certified, "window"))
	}
	fmt.Fprintf(w, "%s in the ledger, %d final; %s with %s in the result topic; %s expired in Redis\n",
		counted(v.Windows, "window"), v.Final, counted(v.Revisions, "revision"), counted(v.Rows, "row"), counted(v.ViewsExpired, "window"))
	for _, p := range v.Problems {
		fmt.Fprintf(w, "PROBLEM %s: %s: %s\n", p.Kind, p.Where, p.Detail)
	}
	for _, note := range v.Notes {
		fmt.Fprintln(w, note)
	}
	if v.OK() {
		_, err := fmt.Fprintln(w, "everything agrees")
		return err
	}
	return nil
}

func orDash(n int64) any {
	if n < 0 {
		return "-"
	}
	return n
}
