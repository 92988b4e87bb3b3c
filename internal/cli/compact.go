package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"millrace/activities"
	"millrace/internal/contract"
)

func compactCommand(sh *shell) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "compact",
		Short: "Roll windows up, archive them, and say what has expired, now or by a schedule",
		Long: `Compact steers the workflow Compact: it rolls up every window that is final and not rolled up yet, as ` + "`rollups`" + ` of
the spec say, archives contents that are past their retention when the spec has an ` + "`archive`" + `, and counts what is kept and
what has expired. The ledger says what is to be done, so a run that was skipped heals itself with the next one.`,
	}
	cmd.AddCommand(compactScheduleCommand(sh), compactUnscheduleCommand(sh), compactRunCommand(sh), compactBackfillCommand(sh),
		compactLsCommand(sh))
	return cmd
}

func compactRunCommand(sh *shell) *cobra.Command {
	var until string
	detach := false
	cmd := &cobra.Command{
		Use:   "run NAME",
		Short: "Compact a pipeline now",
		Long: `Run starts the workflow compact:<name> and follows it to its end. It rolls up windows that end at or before --until, and
exits with 4 when there is something that somebody has to see to. A pipeline that is stopped is compacted, too.`,
		Example: "  millrace compact run flights\n  millrace compact run flights --until 2001-02-01T00:00:00Z",
		Args:    exactly(nameArg),
		RunE: func(cmd *cobra.Command, args []string) error {
			in := contract.CompactInput{Version: contract.Version, Pipeline: args[0]}
			if until != "" {
				at, err := parseInstant("--until", until)
				if err != nil {
					return err
				}
				in.Until = at
			}
			return compactNow(cmd.Context(), sh, in, detach)
		},
	}
	cmd.Flags().StringVar(&until, "until", "", "roll up windows that end at or before this time (default now)")
	cmd.Flags().BoolVar(&detach, "detach", false, "do not wait until it ends")
	return cmd
}

// requireCompactable refuses a pipeline that nobody knows or that was removed, and one whose spec gives a Compact nothing to do.
func requireCompactable(ctx context.Context, c client.Client, pipeline string) error {
	s, err := specOf(ctx, c, pipeline)
	if err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	removed, err := activities.NewSpecs(c).Removed(asking, pipeline)
	switch {
	case err != nil:
		return explain(pipeline, err)
	case removed:
		return fmt.Errorf("pipeline %s was removed: start it with `millrace start FILE`", pipeline)
	}
	return contract.RequireCompactable(s)
}

// compactStarted is what --detach prints as JSON.
type compactStarted struct {
	Pipeline   string `json:"pipeline"`
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
}

func compactNow(ctx context.Context, sh *shell, in contract.CompactInput, detach bool) error {
	return sh.withWorkers(ctx, func(c client.Client) error {
		if err := requireCompactable(ctx, c, in.Pipeline); err != nil {
			return err
		}
		id := contract.CompactID(in.Pipeline)
		run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: id, TaskQueue: contract.TaskQueue, WorkflowExecutionTimeout: contract.CompactTimeout,
			WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
			WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
			WorkflowExecutionErrorWhenAlreadyStarted: true, StaticSummary: compactSummary(in.Pipeline),
		}, contract.WorkflowCompact, in)
		var running *serviceerror.WorkflowExecutionAlreadyStarted
		switch {
		case errors.As(err, &running):
			return fmt.Errorf("%s is running already; look with `millrace compact ls %s`", id, in.Pipeline)
		case err != nil:
			return explainWorkflow(id, "", err)
		}
		if detach {
			started := compactStarted{in.Pipeline, run.GetID(), run.GetRunID()}
			return sh.printOr(started, func() error {
				_, err := fmt.Fprintf(sh.out, "started %s (run %s)\nlook with: millrace compact ls %s\n", id, run.GetRunID(), in.Pipeline)
				return err
			})
		}
		return (&compacting{sh: sh, c: c, run: run, pipeline: in.Pipeline}).follow(ctx)
	})
}

func compactSummary(pipeline string) string { return "compaction of " + pipeline }

// compacting follows a Compact to its end.
type compacting struct {
	sh       *shell
	c        client.Client
	run      client.WorkflowRun
	pipeline string
	said     changes
}

func (f *compacting) follow(ctx context.Context) error {
	return followRun(ctx, f.c, f.run, f.say, func(result contract.CompactResult, err error) error { return f.conclude(ctx, result, err) })
}

// say prints what the run does or waits for, once each.
func (f *compacting) say(s contract.CompactStatus) (enough bool, err error) {
	if s.State != contract.StateDone {
		f.said.print(f.sh.err, phaseLine(s.State, s.Note, s.Pending))
	}
	return false, nil
}

// conclude prints what the run came to.
func (f *compacting) conclude(ctx context.Context, result contract.CompactResult, err error) error {
	if err != nil {
		return explainEnd(ctx, f.run.GetID(), err,
			interruptedf("the run goes on as workflow %s; look with `millrace compact ls %s`", f.run.GetID(), f.pipeline),
			fmt.Errorf("%s was cancelled; the next run does what is left", f.run.GetID()))
	}
	if err := f.sh.printOr(result, func() error { return drawCompacted(f.sh.out, result) }); err != nil {
		return err
	}
	if n := len(result.Problems); n > 0 {
		return incompletef("compact %s: %s", f.pipeline, result.Problems[0])
	}
	return nil
}
