package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// statusFlags are what a user may say to status.
type statusFlags struct {
	file  string
	once  bool
	check bool
	slow  bool
}

func statusCommand(sh *shell) *cobra.Command {
	var flags statusFlags
	cmd := &cobra.Command{
		Use:   "status [NAME] [TOPIC/PARTITION]",
		Short: "Show a pipeline: how it is, lag, watermark, open windows and rate per lane",
		Long: `Status shows one pipeline; without a name it lists those that run, or shows the only one. The first line says how the
pipeline is: running, or what keeps it from its work; below stand the reasons, each with the command that leads out.
With TOPIC/PARTITION it shows everything that is known of that lane, long texts included.

In a terminal it redraws every second until Ctrl-C, the lanes in trouble first. Lanes are read from Redis and Kafka, so
with --spec it works also while Temporal is away; while Redis is away it shows what Temporal knows.

With --check it prints the first line and the reasons, and exits 0 if data flows and windows close, 1 if not. A pipeline
that was paused or stopped on purpose, and one whose sources are quiet, is healthy; the line says so.

With --slow it says where the last minute went: first what that means and what to do, then for each lane which part of the time its
goroutine waited for records, decoded, folded, encoded commits and waited for commits, and what its reader and its committer were
busy with. A reader is with the broker, unpacks, or waits for its lane; a committer is idle, with Redis, with the
write-ahead log (journal), or with Kafka (sides: late and dead-letter records). docs/profiling.md says more.`,
		Example: "  millrace status flights\n  millrace status flights flights/3\n  millrace status flights --slow\n  millrace status flights --check || page somebody\n" +
			"  millrace status flights --json | jq .standing",
		Args: between(0, nameArg, "TOPIC/PARTITION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var name, lane string
			if len(args) > 0 {
				name = args[0]
			}
			if len(args) > 1 {
				lane = args[1]
			}
			switch {
			case flags.check && name == "" && flags.file == "":
				return usagef("--check needs NAME: which pipeline is to be healthy?")
			case flags.slow && (name == "" || lane != "" || flags.check || flags.file != ""):
				return usagef("--slow takes NAME and neither a lane nor --check nor --spec")
			case flags.slow:
				return slow(cmd.Context(), sh, name)
			case flags.check && lane != "":
				return usagef("--check is about the whole pipeline; leave %s out", lane)
			}
			return status(cmd.Context(), sh, name, lane, flags)
		},
	}
	cmd.Flags().StringVar(&flags.file, "spec", "", "the pipeline's spec file; default: what Temporal knows")
	cmd.Flags().BoolVar(&flags.once, "once", false, "print once, also in a terminal")
	cmd.Flags().BoolVar(&flags.slow, "slow", false, "say where the last minute went, and what to do about it")
	cmd.Flags().BoolVar(&flags.check, "check", false, "print how the pipeline is, and exit 0 only if it is healthy")
	return cmd
}

// statusView is what status prints as JSON.
type statusView struct {
	Pipeline  string                `json:"pipeline"`
	State     string                `json:"state"` // what the operator wants: running, paused, ...
	Note      string                `json:"note,omitempty"`
	Standing  contract.Standing     `json:"standing"` // how it is
	Replicas  int                   `json:"replicas,omitempty"`
	Since     *time.Time            `json:"since,omitempty"`
	Children  []contract.ChildState `json:"children,omitempty"`
	Pending   []contract.Pending    `json:"pending,omitempty"` // what commands, and the pipeline itself, wait for
	Watermark *int64                `json:"watermark_ms"`
	Holder    *holderView           `json:"watermark_holder,omitempty"` // nil when no closer has said so
	Open      int                   `json:"open_windows"`
	Waiting   int                   `json:"closed_not_final_windows"`
	Lag       int64                 `json:"lag"`
	Rate      float64               `json:"records_per_second"`
	Storms    []report.Storm        `json:"storms,omitempty"` // of replicas whose lanes move too often
	Memory    []memoryView          `json:"memory,omitempty"` // of hot paths that say so
	Kept      *report.Kept          `json:"kept,omitempty"`
	KeptAt    *time.Time            `json:"kept_at,omitempty"`  // when the closer said so; nil when nobody knows
	Removal   *removalView          `json:"removal,omitempty"`  // that has fenced lanes and has not ended
	LanesAt   *time.Time            `json:"lanes_at,omitempty"` // when the lanes were read; nil when they never were
	Lanes     []laneLine            `json:"lanes"`

	askedKept bool // the closer was asked what is kept
}

// memoryView is the memory of a hot path, and of the worker it runs on.
type memoryView struct {
	Replica    int    `json:"replica"`
	Lanes      int64  `json:"lanes_bytes"`
	LaneLimit  int64  `json:"lanes_limit_bytes"`
	GoLimit    int64  `json:"go_limit_bytes,omitempty"` // 0 without one
	GoLimitWhy string `json:"go_limit_why,omitempty"`
}

// holderView is the lane that holds the pipeline's watermark where it is, as the closer said last.
type holderView struct {
	Lane  string    `json:"lane"`
	Since time.Time `json:"since"` // as far as this closer knows
	Why   string    `json:"why,omitempty"`
}

func status(ctx context.Context, sh *shell, name, lane string, flags statusFlags) error {
	if name == "" && flags.file == "" {
		found, err := listPipelines(ctx, sh)
		if err != nil || found == "" {
			return err
		}
		name = found
	}
	s, tc, err := sh.findSpec(ctx, name, flags.file)
	if err != nil {
		return err
	}
	o := &observer{sh: sh, spec: s, temporal: tc}
	defer o.Close()
	if !flags.once && !flags.check && lane == "" && !sh.json && terminal(sh.out) {
		o.asked = newAsked(s)
		return watchStatus(ctx, sh.out, o)
	}
	view, err := o.look(ctx)
	switch {
	case err != nil:
		return err
	case flags.check:
		return checkStatus(sh, view)
	case lane != "":
		return showLane(sh, view, lane)
	case sh.json:
		return printJSON(sh.out, view)
	}
	return drawStatus(sh.out, view)
}

// checkStatus prints the standing alone. What is not healthy is an error, so that scripts can decide on it.
func checkStatus(sh *shell, view statusView) error {
	if sh.json {
		if err := printJSON(sh.out, view.Standing); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(sh.out, "pipeline %s: %s\n", view.Pipeline, view.Standing.Line)
		drawConditions(sh.out, view.Standing)
	}
	if !view.Standing.Healthy {
		return fmt.Errorf("pipeline %s is not healthy", view.Pipeline)
	}
	return nil
}
