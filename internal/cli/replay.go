package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
)

// rereadJob is what `replay` or `recount` is asked for.
type rereadJob struct {
	in     contract.ReplayInput
	from   string
	to     string
	spec   string // file
	scope  string
	id     string
	detach bool
}

func replayCommand(sh *shell) *cobra.Command {
	var job rereadJob
	var pushed pushing
	cmd := &cobra.Command{
		Use:   "replay NAME",
		Short: "Count windows again from Kafka, show what differs, and publish it when somebody approves",
		Long: `Replay reads the windows between --from and --to again from Kafka, in a shadow that runs beside the pipeline: with memory
and keys of its own, without a consumer group, and not so fast that the pipeline feels it. It compares what it counts with what
was published. Where nothing differs it ends. Otherwise it shows what differs and waits, for 7 days, until somebody approves the
diff by its checksum or rejects it; then the pipeline's own closer publishes a further revision of each window that differs. The
shadow is deleted in the end, whatever comes of it. Only windows that are final are counted again.

By default an event is late where it was late when the pipeline read it: with the same spec nothing differs. --lateness none counts
whatever has arrived. --from-late counts in what stands in the late topic. --spec counts with another spec, which must keep the
pipeline's name.

--dry-run says what would be read, how long that takes and what it needs, or why it cannot be done. Ctrl-C leaves the replay to itself;
so does --detach, at once. The workflow is replay:<name>:<id>.`,
		Example: `  millrace replay flights --from 2001-01-01T00:00:00Z --to 2001-01-02T00:00:00Z --dry-run
  millrace replay flights --from 2001-01-01T00:00:00Z --to 2001-01-02T00:00:00Z --lateness none --id fix-1
  millrace replay diff flights fix-1
  millrace replay approve flights fix-1 CHECKSUM --reason "a producer was a day late"`,
		Args: exactly(nameArg),
		RunE: func(cmd *cobra.Command, args []string) error {
			job.in.Pipeline = args[0]
			return replay(cmd.Context(), sh, job)
		},
	}
	job.flags(cmd)
	cmd.Flags().StringVar(&job.spec, "spec", "", "count with this file's spec instead of the pipeline's")
	cmd.Flags().StringVar(&job.in.Lateness, "lateness", "", contract.LatenessAsRead+" (default), or "+contract.LatenessNone+
		": no event is late, whatever has arrived counts")
	cmd.Flags().BoolVar(&job.in.FromLate, "from-late", false, "count in what stands in the late topic")
	pushed.addTo(sh, cmd)
	cmd.AddCommand(replayLsCommand(sh), replayShowCommand(sh), replayDiffCommand(sh), replayApproveCommand(sh), replayRejectCommand(sh),
		replayCancelCommand(sh), replayRateCommand(sh))
	return cmd
}

// flags adds what a replay and a recount have in common.
func (job *rereadJob) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&job.from, "from", "", "start of the first window, RFC 3339 or milliseconds since 1970")
	cmd.Flags().StringVar(&job.to, "to", "", "end of the last window, likewise; windows that lie between both as a whole are meant")
	cmd.Flags().StringVar(&job.in.Window, "window", "", "only windows of this name")
	cmd.Flags().Int64Var(&job.in.Rate, "rate", 0, "records a second, whatever that takes from the pipeline; "+
		"0: what a twentieth of a processor folds")
	cmd.Flags().BoolVar(&job.in.DryRun, "dry-run", false, "only say what would be read and what that costs")
	cmd.Flags().StringVar(&job.id, "id", "", "id of the replay (default: the present time and four digits)")
	cmd.Flags().BoolVar(&job.detach, "detach", false, "start it and do not wait")
}

// input is the input of the workflow.
func (job rereadJob) input() (in contract.ReplayInput, err error) {
	in = job.in
	in.Version = contract.Version
	for _, at := range []struct {
		flag, text string
		into       *time.Time
	}{{"--from", job.from, &in.From}, {"--to", job.to, &in.To}} {
		if at.text == "" {
			continue
		}
		if *at.into, err = parseInstant(at.flag, at.text); err != nil {
			return in, err
		}
	}
	if (in.From.IsZero() || in.To.IsZero()) && !in.Yesterday {
		return in, usagef("--from and --to are needed, as in --from 2001-01-01T00:00:00Z --to 2001-01-02T00:00:00Z")
	}
	if job.spec != "" {
		s, err := readSpecOf(in.Pipeline, job.spec)
		if err != nil {
			return in, err
		}
		if in.Spec, err = s.JSON(); err != nil {
			return in, err
		}
	}
	switch job.scope {
	case "":
	case "whole":
		in.Scope = contract.ScopeWhole
	case "first-offset":
		in.Scope = contract.ScopeFirstOffset
	default:
		return in, usagef("--scope is %q; want whole or first-offset", job.scope)
	}
	if err := in.Validate(); err != nil {
		return in, usagef("%w", err)
	}
	return in, nil
}

// replayID is the id that a replay gets that is given none. What follows the time tells it from those that begin in the same second.
func replayID(now time.Time) string {
	return now.UTC().Format("20060102T150405Z") + "-" + uuid.NewString()[:4]
}

// replayStarted is what --detach prints as JSON.
type replayStarted struct {
	Pipeline   string `json:"pipeline"`
	ID         string `json:"id"`
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
}

func replay(ctx context.Context, sh *shell, job rereadJob) error {
	in, err := job.input()
	if err != nil {
		return err
	}
	if job.id == "" {
		job.id = replayID(time.Now())
	}
	if err := contract.CheckReplayID(job.id); err != nil {
		return usagef("--id: %w", err)
	}
	return sh.withWorkers(ctx, func(c client.Client) error {
		if err := requirePipeline(ctx, c, in.Pipeline, 0); err != nil {
			return err
		}
		run, err := startReplay(ctx, c, in, job.id)
		if err != nil {
			return err
		}
		f := &following{sh: sh, c: c, run: run, pipeline: in.Pipeline, id: job.id, kind: in.Kind()}
		if job.detach {
			started := replayStarted{in.Pipeline, job.id, run.GetID(), run.GetRunID()}
			return sh.printOr(started, func() error {
				_, err := fmt.Fprintf(sh.out, "started %s %s of %s (workflow %s)\nlook with: %s\n",
					f.kind, job.id, in.Pipeline, run.GetID(), f.command("show"))
				return err
			})
		}
		return f.follow(ctx)
	})
}

// startReplay starts the workflow. An id is used once.
func startReplay(ctx context.Context, c client.Client, in contract.ReplayInput, id string) (client.WorkflowRun, error) {
	workflowID := contract.ReplayID(in.Pipeline, id)
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: workflowID, TaskQueue: contract.TaskQueue, WorkflowExecutionTimeout: contract.RunLimit,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		WorkflowExecutionErrorWhenAlreadyStarted: true, StaticSummary: in.Kind() + " of " + in.Pipeline,
	}, contract.WorkflowReplay, in)
	var before *serviceerror.WorkflowExecutionAlreadyStarted
	switch {
	case err == nil:
		return run, nil
	case errors.As(err, &before):
		return nil, fmt.Errorf("%s exists already, and an id is used once: look at it with `millrace replay show %s %s`, or give another --id",
			workflowID, in.Pipeline, id)
	}
	return nil, explainWorkflow(workflowID, "", err)
}

// noReplay says what to do when a replay is not there.
func noReplay(pipeline string) string { return fmt.Sprintf("see `millrace replay ls %s`", pipeline) }

func replayLsCommand(sh *shell) *cobra.Command {
	return runsListing[contract.ReplayStatus]{
		kind: contract.WorkflowReplay, prefix: contract.ReplayPrefix, noun: "replay",
		header: []any{"STARTED", "ID", "KIND", "STATE", "FROM", "TO", "WINDOWS", "DIFFER", "NOTE"}, draw: drawReplayRow,
	}.command(sh, &cobra.Command{
		Short:   "List a pipeline's replays and recounts, those that are open first",
		Example: "  millrace replay ls flights",
	})
}

func replayShowCommand(sh *shell) *cobra.Command {
	follow := false
	cmd := &cobra.Command{
		Use:     "show NAME ID",
		Short:   "Show a replay: what it reads, how far it is, what differs",
		Example: "  millrace replay show flights fix-1",
		Args:    exactly(nameArg, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return showReplay(cmd.Context(), sh, args[0], args[1], follow)
		},
	}
	cmd.Flags().BoolVar(&follow, "follow", false, "follow it until it asks or ends")
	return cmd
}

func replayApproveCommand(sh *shell) *cobra.Command {
	var a replayAnswer
	cmd := &cobra.Command{
		Use:   "approve NAME ID CHECKSUM",
		Short: "Publish what a replay has found",
		Long: `Approve has the pipeline's closer publish a further revision of every window that differs. CHECKSUM is that of the diff, which
` + "`millrace replay show`" + ` and ` + "`diff`" + ` print: what nobody has looked at is not published. A window that got another
revision since it was compared is left out and reported as moved. Approve waits until it is done and lists what became of each
window, unless --detach is given.`,
		Example: "  millrace replay approve flights fix-1 5f0c7b8ad9a54fcb7b0e7a3a4c7f3f0e --reason \"a producer was a day late\"",
		Args:    exactly(nameArg, "ID", "CHECKSUM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := contract.ApproveDiffRequest{Checksum: args[2], Reason: a.reason}
			return a.send(cmd.Context(), sh, args[0], args[1], contract.UpdateApprove, request)
		},
	}
	cmd.Flags().BoolVar(&a.detach, "detach", false, "do not wait until it is published")
	return a.flags(cmd)
}

func replayRejectCommand(sh *shell) *cobra.Command {
	var a replayAnswer
	return a.flags(&cobra.Command{
		Use:     "reject NAME ID",
		Short:   "Publish nothing of what a replay has found, and end it",
		Example: "  millrace replay reject flights fix-1 --reason \"the spec was wrong\"",
		Args:    exactly(nameArg, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.send(cmd.Context(), sh, args[0], args[1], contract.UpdateReject, contract.RejectRequest{Reason: a.reason})
		},
	})
}

func replayRateCommand(sh *shell) *cobra.Command {
	a := replayAnswer{detach: true}
	return a.flags(&cobra.Command{
		Use:     "rate NAME ID RECORDS",
		Short:   "Say how many records a second a replay reads; 0: what a twentieth of a processor folds",
		Example: "  millrace replay rate flights fix-1 20000",
		Args:    exactly(nameArg, "ID", "RECORDS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.ParseInt(args[2], 10, 64)
			if err != nil {
				return usagef("RECORDS is %q; want whole records a second, or 0 for what a twentieth of a processor folds", args[2])
			}
			request := contract.SetRateRequest{RecordsPerSecond: &n, Reason: a.reason}
			if err := request.Validate(); err != nil {
				return usagef("%w", err)
			}
			return a.send(cmd.Context(), sh, args[0], args[1], contract.UpdateSetRate, request)
		},
	})
}

func replayCancelCommand(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:   "cancel NAME ID",
		Short: "End a replay, whatever it is doing, and delete its shadow",
		Long: `Cancel ends the workflow of a replay or recount and waits until its shadow is deleted. What its approval has published already
stays published.`,
		Example: "  millrace replay cancel flights fix-1",
		Args:    exactly(nameArg, "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return cancelReplay(cmd.Context(), sh, args[0], args[1])
		},
	}
}
