package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func recoverCommand(sh *shell) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "recover",
		Short: "Look at recoveries of lanes, and decide what happens to lanes with an incident",
		Long: `Whenever a worker is given lanes (at the start, by a rebalance, after it was fenced) it recovers them: acquire, settle the
journal, restore, verify the offset against the log, resume. Each batch of lanes is one workflow recover:<pipeline>:<process>:<n>.
A lane that cannot go on by itself parks, and its workflow stays open and asks.`,
	}
	ls := runsListing[contract.RecoverStatus]{
		kind: contract.WorkflowRecoverLanes, prefix: contract.RecoverLanesPrefix, noun: "recovery",
		header: []any{"STARTED", "STATE", "LANES", "RUNNING", "INCIDENTS", "RE-READ", "WORKER", "WORKFLOW", "NOTE"}, draw: drawRecoveryRow,
	}.command(sh, &cobra.Command{
		Short:   "List a pipeline's recoveries, those that are open first",
		Example: "  millrace recover ls flights",
	})
	show := &cobra.Command{
		Use:     "show WORKFLOW",
		Short:   "Show a recovery: its steps, its lanes, and what can be decided",
		Example: "  millrace recover show recover:flights:0b2c5a0e-51c5-4f0f-9f5e-1c2e8a4f7d10:3",
		Args:    exactly("WORKFLOW"),
		RunE:    func(cmd *cobra.Command, args []string) error { return showRecovery(cmd.Context(), sh, args[0]) },
	}
	cmd.AddCommand(ls, show, recoverDecideCommand(sh))
	return cmd
}

func recoverDecideCommand(sh *shell) *cobra.Command {
	var requestID, reason string
	var all bool
	cmd := &cobra.Command{
		Use:   "decide WORKFLOW [TOPIC/PARTITION] CHOICE",
		Short: "Decide what happens to a lane with an incident, or to all that wait",
		Long: `Decide carries one of the choices that ` + "`millrace recover show`" + ` lists to the lane, or with --all to every lane of the
recovery that waits for a decision and offers it. The list says for each lane what a choice does, how many records it gives
up and how many it reads again. With --all, lanes that do not offer the choice are named, and the exit code is 4.

` + choiceHelp(),
		Example: `  millrace recover decide recover:flights:0b2c5a0e-51c5-4f0f-9f5e-1c2e8a4f7d10:3 flights/1 skip \
    --reason "retention was too short"
  millrace recover decide recover:flights:0b2c5a0e-51c5-4f0f-9f5e-1c2e8a4f7d10:3 --all rebuild`,
		Args: func(cmd *cobra.Command, args []string) error {
			if all {
				return exactly("WORKFLOW", "CHOICE")(cmd, args)
			}
			return exactly("WORKFLOW", "TOPIC/PARTITION", "CHOICE")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if all {
				return decideIncident(cmd.Context(), sh, args[0], requestID, contract.DecideRequest{All: true, Choice: args[1], Reason: reason})
			}
			request, err := decision(args[1], args[2], reason)
			if err != nil {
				return err
			}
			return decideIncident(cmd.Context(), sh, args[0], requestID, request)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "decide for every lane of the recovery that waits for a decision")
	steering(cmd, &requestID, &reason)
	return cmd
}

// choiceHelp explains the choices of all incidents.
func choiceHelp() string {
	var out strings.Builder
	out.WriteString("Choices:\n")
	for _, c := range report.ChoiceTexts() {
		fmt.Fprintf(&out, "  %-8s  %s\n", c.Name, c.Text)
	}
	return strings.TrimRight(out.String(), "\n")
}

// steering adds the flags that every command has that asks something of a workflow.
func steering(cmd *cobra.Command, requestID, reason *string) {
	cmd.Flags().StringVar(requestID, "request-id", "", "repeat an earlier request: answers with its receipt (default: a new id)")
	cmd.Flags().StringVar(reason, "reason", "", "why, for the history")
}

// decision reads the arguments of a decision.
func decision(lane, choice, reason string) (contract.DecideRequest, error) {
	at := strings.LastIndexByte(lane, '/')
	if at > 0 {
		if n, err := strconv.ParseInt(lane[at+1:], 10, 32); err == nil && n >= 0 {
			partition := int32(n)
			return contract.DecideRequest{Topic: lane[:at], Partition: &partition, Choice: choice, Reason: reason}, nil
		}
	}
	return contract.DecideRequest{}, usagef("TOPIC/PARTITION is %q; want a topic and a partition, such as flights/3", lane)
}

func drawRecoveryRow(t *table, l listed, s contract.RecoverStatus) {
	sum := s.Totals
	t.row(l.Started, s.State, sum.Lanes, sum.Running, sum.Incidents, sum.Reread, s.Batch.Worker, l.WorkflowID, s.Note+l.Problem)
}

// noRecovery says what to do when a recovery is not there. The ids of workflows name the pipeline.
func noRecovery(id string) string {
	if parts := strings.SplitN(id, ":", 3); len(parts) == 3 && strings.HasPrefix(id, contract.RecoverLanesPrefix(parts[1])) {
		return fmt.Sprintf("see `millrace recover ls %s`", parts[1])
	}
	return "give the id of a workflow as `millrace recover ls NAME` lists them"
}

func showRecovery(ctx context.Context, sh *shell, id string) error {
	return sh.withWorkers(ctx, func(c client.Client) error {
		var status contract.RecoverStatus
		if err := queryWorkflow(ctx, c, id, "", &status); err != nil {
			return explainWorkflow(id, noRecovery(id), err)
		}
		return sh.printOr(status, func() error { return drawRecoveryStatus(sh.out, id, status) })
	})
}

// began is when a step began, "-" when nobody has.
func began(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return instant(at.UnixMilli())
}

func drawRecoveryStatus(w io.Writer, id string, s contract.RecoverStatus) error {
	b := s.Batch
	fmt.Fprintf(w, "recovery of %s on %s: %s", b.Pipeline, b.Worker, s.State)
	if s.Note != "" {
		fmt.Fprintf(w, " (%s)", s.Note)
	}
	fmt.Fprintf(w, "\n%s, %d running, %s, %s, %s read again\n", counted(s.Totals.Lanes, "lane"), s.Totals.Running,
		counted(s.Totals.Entries, "entry"), counted(s.Totals.Bytes, "byte"), counted(s.Totals.Reread, "record"))
	t := &table{}
	t.row("STEP", "BY", "BEGAN", "TOOK", "SLOWEST", "DONE", "PARKED", "GONE")
	for _, step := range s.Steps {
		t.row(step.Step, step.By, began(step.Began), micros(step.Took), step.Slowest, step.Sums.Done, step.Sums.Parked, step.Sums.Gone)
	}
	if err := t.write(w, "  "); err != nil {
		return err
	}
	t = &table{}
	t.row("LANE", "STATE", "EPOCH", "ENTRIES", "BYTES", "OFFSET", "LOG", "RE-READ", "JOURNAL", "NOTE")
	for _, l := range s.Lanes {
		journal := ""
		if l.Journal != nil {
			journal = fmt.Sprintf("%s, %s", l.Journal.Outcome, counted(l.Journal.Commits, "commit"))
		}
		t.row(fmt.Sprintf("%s/%d", l.Topic, l.Partition), l.State, fmt.Sprintf("%d→%d", l.FromEpoch, l.ToEpoch), l.Entries, l.Bytes, l.Offset,
			l.Log(), l.Reread, journal, l.Note)
	}
	if err := t.write(w, ""); err != nil {
		return err
	}
	drawIncidents(w, id, s.Lanes)
	if storm := b.Storm; storm != nil {
		fmt.Fprintln(w, stormLine(*storm))
	}
	for _, d := range s.Receipts {
		drawDecision(w, d)
	}
	return nil
}

// drawIncidents says what can be decided and what it costs.
func drawIncidents(w io.Writer, id string, lanes []report.RecoveredLane) {
	for _, l := range lanes {
		if l.Incident == nil || l.Incident.Decided != "" || l.State != report.LaneParked {
			continue
		}
		fmt.Fprintf(w, "\nINCIDENT %s of %s/%d: %s\n", l.Incident.Kind, l.Topic, l.Partition, l.Incident.Detail)
		for _, c := range l.Incident.Choices {
			fmt.Fprintf(w, "  %s\n    millrace recover decide %s %s/%d %s\n", c, id, l.Topic, l.Partition, c.Name)
		}
	}
}

func drawDecision(w io.Writer, d contract.DecisionReceipt) {
	state := "applied"
	if !d.Applied {
		state = "NOT APPLIED"
	}
	about := d.Incident
	switch {
	case d.Partition != nil:
		about = fmt.Sprintf("%s of %s/%d", d.Incident, d.Topic, *d.Partition)
	case d.Incident == "":
		about = "for all lanes that waited"
	}
	fmt.Fprintf(w, "decided %s: %s, %s at %s (request %s)\n", about, d.Choice, state, instant(d.At.UnixMilli()), d.RequestID)
	if d.Repeated {
		fmt.Fprintln(w, "  a repetition: this is what came of the request before")
	}
	for _, text := range []string{d.Cost, d.Reason, d.Note} {
		if text != "" {
			fmt.Fprintf(w, "  %s\n", text)
		}
	}
	for _, l := range d.Lanes {
		became := l.Cost
		if !l.Applied {
			became = "NOT APPLIED: " + l.Note
		}
		fmt.Fprintf(w, "  %s/%d %s: %s\n", l.Topic, l.Partition, l.Incident, became)
	}
	if d.More > 0 {
		fmt.Fprintf(w, "  and %s more\n", counted(d.More, "lane"))
	}
}

func micros(us int64) string { return (time.Duration(us) * time.Microsecond).String() }

func decideIncident(ctx context.Context, sh *shell, id, requestID string, request contract.DecideRequest) error {
	return sh.withWorkers(ctx, func(c client.Client) error {
		var receipt contract.DecisionReceipt
		if err := sh.sendUpdate(ctx, c, id, contract.UpdateDecide, requestID, noRecovery(id), request, &receipt); err != nil {
			return err
		}
		return sh.decided(receipt)
	})
}

// decided prints a decision's receipt; one that was not applied is an error.
func (sh *shell) decided(receipt contract.DecisionReceipt) error {
	if err := sh.printOr(receipt, func() error { drawDecision(sh.out, receipt); return nil }); err != nil {
		return err
	}
	if !receipt.Applied && receipt.Lanes != nil {
		return incompletef("the decision was applied to %s; the receipt says why not to the others", receipt.Note)
	}
	if !receipt.Applied {
		return incompletef("the decision was not applied: %s", receipt.Note)
	}
	return nil
}

// stormLine says in one line how often lanes move.
func stormLine(s report.Storm) string {
	return fmt.Sprintf("rebalance storm: %s of assignment since %s; held back by %d ms",
		counted(s.Changes, "change"), instant(s.Since.UnixMilli()), s.Delay)
}
