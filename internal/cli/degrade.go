package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

func degradeCommand(sh *shell) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "degrade",
		Short: "Look at degradations and override the level of a dependency",
		Long: `A hot path whose Redis or result topic is in trouble goes through levels: normal, journal (commits go to the WAL, lanes go on),
throttled (the WAL is over its soft limit, intake is limited), paused (the WAL is full). The process decides alone; a workflow
degrade:<pipeline>:<worker>:<dependency> says what happened and takes overrides while it is open.`,
	}
	status := &cobra.Command{
		Use:     "status NAME",
		Short:   "Show a pipeline's degradations: levels, timeline, the journal's books",
		Example: "  millrace degrade status flights",
		Args:    exactly("NAME"),
		RunE:    func(cmd *cobra.Command, args []string) error { return degradeStatus(cmd.Context(), sh, args[0]) },
	}
	cmd.AddCommand(status)
	for _, o := range []struct{ update, short, long string }{
		{contract.UpdateHold, "Stay at the level of now",
			"Hold keeps the level that a dependency is at now, whatever happens, until `millrace degrade auto`."},
		{contract.UpdateOpen, "Treat a dependency as away",
			"Open makes the hot path treat a dependency as away until `millrace degrade auto`: commits go to the WAL."},
		{contract.UpdateClose, "Treat a dependency as well",
			"Close makes the hot path use a dependency whatever its health says, until `millrace degrade auto`."},
		{contract.UpdateAuto, "Let the hot path decide again", "Auto lifts hold, open and close."},
	} {
		cmd.AddCommand(overrideCommand(sh, o.update, o.short, o.long))
	}
	return cmd
}

// degradation says which of a pipeline's degradations is meant.
type degradation struct{ pipeline, worker, dependency string }

func overrideCommand(sh *shell, update, short, long string) *cobra.Command {
	var of degradation
	c := &command{sh: sh, name: contract.UpdateDegrade}
	cmd := &cobra.Command{
		Use:   update + " NAME",
		Short: short,
		Long: long + `
The order is for all workers of the pipeline, also before anything is wrong, and for hot paths that are placed later.
With --worker it is for that worker alone, whose degradation must be open; --expect-generation is then that of its overrides,
see ` + "`millrace degrade status`" + `.`,
		Example: "  millrace degrade " + update + " flights --reason \"Redis maintenance\"",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			of.pipeline = args[0]
			request := contract.LevelRequest{Reason: c.reason, ExpectGeneration: c.expected()}
			if err := request.Validate(update); err != nil {
				return usagef("%w", err)
			}
			if of.worker != "" {
				return override(cmd.Context(), sh, of, update, c.requestID, request)
			}
			everywhere := contract.DegradeRequest{
				Override: report.Override(update), Dependency: of.dependency, Reason: c.reason, ExpectGeneration: c.expected(),
			}
			if err := everywhere.Validate(); err != nil {
				return usagef("%w", err)
			}
			return c.send(cmd.Context(), of.pipeline, everywhere)
		},
	}
	cmd.Flags().StringVar(&of.worker, "worker", "", "this worker alone (default: all workers of the pipeline)")
	cmd.Flags().StringVar(&of.dependency, "dependency", "", report.DependencyRedis+" or "+report.DependencyResults+
		" (default: redis; with auto all of them; with --worker the only one that is degraded)")
	return c.flags(cmd)
}

// shownDegradations is how many of a pipeline's degradations status shows.
const shownDegradations = 10

func degradeStatus(ctx context.Context, sh *shell, pipeline string) error {
	return sh.withWorkers(ctx, func(c client.Client) error {
		found, err := listWorkflows(ctx, c, contract.WorkflowDegrade, contract.DegradePrefix(pipeline), shownDegradations)
		if err != nil {
			return err
		}
		if err := requirePipeline(ctx, c, pipeline, len(found)); err != nil {
			return err
		}
		all := make([]listed, 0, len(found))
		var text strings.Builder
		for _, e := range found {
			l, status := listedOf[contract.DegradeStatus](ctx, c, e)
			all = append(all, l)
			if l.Problem != "" {
				fmt.Fprintf(&text, "%s: %s\n", l.WorkflowID, l.Problem)
				continue
			}
			if err := drawDegrade(&text, l, status); err != nil {
				return err
			}
		}
		return sh.printOr(all, func() error {
			if len(all) == 0 {
				text.WriteString("pipeline " + pipeline + " has not been degraded as far as Temporal remembers\n")
			}
			_, err := io.WriteString(sh.out, text.String())
			return err
		})
	})
}

func drawDegrade(w io.Writer, l listed, s contract.DegradeStatus) error {
	fmt.Fprintf(w, "%s of %s on %s: %s", s.Dependency, s.Pipeline, s.Worker, s.State)
	if s.Note != "" {
		fmt.Fprintf(w, " (%s)", s.Note)
	}
	fmt.Fprintf(w, "\n  workflow %s, since %s, %s, overrides at generation %d\n", l.WorkflowID, instant(s.Began.UnixMilli()),
		counted(s.Changes, "change"), s.Generation)
	t := &table{}
	t.row("REPLICA", "LEVEL", "SINCE", "HIGHEST", "OVERRIDE", "LASTED", "")
	for _, m := range s.Machines {
		var times []string
		for _, lasted := range m.Times {
			times = append(times, fmt.Sprintf("%s %s", lasted.Level, time.Duration(lasted.Took)*time.Millisecond))
		}
		t.row(m.Replica, m.Level, instant(m.Since.UnixMilli()), m.Highest, m.Override, strings.Join(times, ", "), m.Ended)
	}
	if err := t.write(w, "  "); err != nil {
		return err
	}
	t = &table{}
	for _, c := range s.Timeline {
		var numbers []string
		for _, n := range c.Numbers {
			numbers = append(numbers, fmt.Sprintf("%s %.4g", n.Name, n.Value))
		}
		t.row(instant(c.At.UnixMilli()), fmt.Sprintf("replica %d", c.Replica), c.From+" → "+c.To, c.Reason,
			strings.Join(numbers, ", "), c.Override)
	}
	if err := t.write(w, "  "); err != nil {
		return err
	}
	if p := s.Proof; p != nil {
		verdict := "does not balance"
		if p.Balanced {
			verdict = "balances"
		}
		fmt.Fprintf(w, "  the journal %s: %s\n", verdict, p.Text)
	}
	return nil
}

// find returns the id of the degradation that is meant and open.
func (of degradation) find(ctx context.Context, c client.Client) (string, error) {
	found, err := listWorkflows(ctx, c, contract.WorkflowDegrade, contract.DegradePrefix(of.pipeline), 0)
	if err != nil {
		return "", err
	}
	var ids []string
	for _, e := range found {
		if e.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			break // those that run come first
		}
		l, status := listedOf[contract.DegradeStatus](ctx, c, e)
		if l.Problem == "" && (of.worker == "" || of.worker == status.Worker) && (of.dependency == "" || of.dependency == status.Dependency) {
			ids = append(ids, l.WorkflowID)
		}
	}
	slices.Sort(ids)
	switch len(ids) {
	case 0:
		if err := requirePipeline(ctx, c, of.pipeline, len(found)); err != nil {
			return "", err
		}
		return "", fmt.Errorf("no degradation of pipeline %s is open: its levels are normal, or the worker has not reached Temporal yet",
			of.pipeline)
	case 1:
		return ids[0], nil
	}
	return "", usagef("%d degradations of pipeline %s are open: %s; choose with --worker and --dependency",
		len(ids), of.pipeline, strings.Join(ids, ", "))
}

func override(ctx context.Context, sh *shell, of degradation, update, requestID string, request contract.LevelRequest) error {
	return sh.withWorkers(ctx, func(c client.Client) error {
		id, err := of.find(ctx, c)
		if err != nil {
			return err
		}
		var receipt contract.LevelReceipt
		if err := sh.sendUpdate(ctx, c, id, update, requestID, "its levels are normal", request, &receipt); err != nil {
			return err
		}
		if err := sh.printOr(receipt, func() error { return drawLevelReceipt(sh.out, id, receipt) }); err != nil {
			return err
		}
		return notTaken(receipt)
	})
}

func drawLevelReceipt(w io.Writer, id string, r contract.LevelReceipt) error {
	state := "applied"
	if !r.Applied {
		state = "NOT APPLIED everywhere"
	}
	fmt.Fprintf(w, "%s: %s by %s (request %s)\n", r.Update, state, id, r.RequestID)
	if r.Repeated {
		fmt.Fprintln(w, "  a repetition: this is what came of the request at "+instant(r.At.UnixMilli()))
	}
	for _, m := range r.Machines {
		if m.Problem != "" {
			fmt.Fprintf(w, "  replica %d: %s\n", m.Replica, m.Problem)
			continue
		}
		override := m.Status.Override
		if override == "" {
			override = "none"
		}
		fmt.Fprintf(w, "  replica %d: level %s, override %s\n", m.Replica, m.Status.Level, override)
	}
	return nil
}

func notTaken(r contract.LevelReceipt) error {
	var problems []error
	for _, m := range r.Machines {
		if m.Problem != "" {
			problems = append(problems, fmt.Errorf("replica %d: %s", m.Replica, m.Problem))
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return incompletef("%s was not taken by %s: %w", r.Update, counted(len(problems), "replica"), errors.Join(problems...))
}
