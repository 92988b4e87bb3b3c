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
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
	"millrace/internal/settings"
)

// replayJob is what `wal replay` is asked for.
type replayJob struct {
	pipeline, disk string
	rate           settings.Size
	wait           bool
}

func walReplayCommand(sh *shell) *cobra.Command {
	var job replayJob
	cmd := &cobra.Command{
		Use:   "replay NAME",
		Short: "Settle what a pipeline has left in a worker's WAL",
		Long: `Replay starts the workflow replay-wal:<pipeline>:<disk>, or follows the one that runs. Commits that still follow their lane's state
are drained into Redis; those that another owner has overtaken are recorded as superseded and never applied. Lanes that run on that
worker drain their own. It is done by the worker that has the directory. What cannot be read asks: see ` + "`millrace wal decide`" + `.`,
		Example: "  millrace wal replay flights\n  millrace wal replay flights --disk 5b0c... --rate 20MiB",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			job.pipeline = args[0]
			return replayWAL(cmd.Context(), sh, job)
		},
	}
	cmd.Flags().StringVar(&job.disk, "disk", "", "id of the WAL directory, as millrace wal ls DIR shows it (default: the only one of the pipeline's workers)")
	cmd.Flags().Var(&job.rate, "rate", "bytes per second at most, such as 20MiB (default no limit)")
	cmd.Flags().BoolVar(&job.wait, "wait", false, "wait until it is done")
	return cmd
}

func walDecideCommand(sh *shell) *cobra.Command {
	var disk, requestID, reason string
	cmd := &cobra.Command{
		Use:   "decide NAME CHOICE --disk ID",
		Short: "Decide what happens to a part of a WAL that cannot be read",
		Long: `Decide answers what a replay asks: quarantine sets the part that cannot be read aside and settles the rest; abort leaves the
WAL as it is and ends the replay.`,
		Example: "  millrace wal decide flights quarantine --disk 5b0c...",
		Args:    exactly("NAME", "CHOICE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			request := contract.WALDecideRequest{Choice: args[1], Reason: reason}
			if err := request.Validate(); err != nil {
				return usagef("%w", err)
			}
			if disk == "" {
				return usagef("--disk is missing; millrace wal replay %s prints it", args[0])
			}
			return sh.withWorkers(cmd.Context(), func(c client.Client) error {
				var receipt contract.DecisionReceipt
				id := contract.ReplayWALID(args[0], disk)
				missing := fmt.Sprintf("start it with `millrace wal replay %s --disk %s`", args[0], disk)
				if err := sh.sendUpdate(cmd.Context(), c, id, contract.UpdateDecide, requestID, missing, request, &receipt); err != nil {
					return err
				}
				return sh.decided(receipt)
			})
		},
	}
	cmd.Flags().StringVar(&disk, "disk", "", "id of the WAL directory")
	steering(cmd, &requestID, &reason)
	return cmd
}

// onlyDisk returns the WAL directory of the pipeline's workers, from the heartbeats of its replicas.
func onlyDisk(ctx context.Context, c client.Client, pipeline string) (disk, worker string, err error) {
	var p contract.PipelineStatus
	if err := queryWorkflow(ctx, c, contract.PipelineID(pipeline), "", &p); err != nil {
		return "", "", explain(pipeline, err)
	}
	var disks, names []string
	for n := range p.Replicas {
		status := heartbeat(ctx, c, contract.ReplicaID(pipeline, n))
		if status.Disk != "" && !slices.Contains(disks, status.Disk) {
			disks, names = append(disks, status.Disk), append(names, status.Worker)
		}
	}
	switch len(disks) {
	case 0:
		return "", "", usagef("no worker of pipeline %s says that it has a WAL directory now; give --disk ID, which millrace wal ls DIR shows", pipeline)
	case 1:
		return disks[0], names[0], nil
	}
	var choices []string
	for i := range disks {
		choices = append(choices, fmt.Sprintf("%s (%s)", disks[i], names[i]))
	}
	return "", "", usagef("pipeline %s has several WAL directories: %s; choose with --disk", pipeline, strings.Join(choices, ", "))
}

func replayWAL(ctx context.Context, sh *shell, job replayJob) error {
	return sh.withWorkers(ctx, func(c client.Client) error {
		host := ""
		if job.disk == "" {
			var err error
			if job.disk, host, err = onlyDisk(ctx, c, job.pipeline); err != nil {
				return err
			}
		}
		id := contract.ReplayWALID(job.pipeline, job.disk)
		run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: id, TaskQueue: contract.TaskQueue, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
			WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, StaticSummary: "journal of " + job.pipeline + " on disk " + job.disk,
		}, contract.WorkflowReplayWAL, contract.ReplayWALInput{
			Version: contract.Version, Pipeline: job.pipeline, Disk: job.disk, BytesPerSecond: int64(job.rate), Host: host,
		})
		if err != nil && ctx.Err() != nil {
			return interruptedf("the start may have reached Temporal; see temporal workflow describe --workflow-id %s", id)
		}
		if err != nil {
			return explainWorkflow(id, "", err)
		}
		if !job.wait {
			return sh.printOr(started{Pipeline: job.pipeline, WorkflowID: id, RunID: run.GetRunID()}, func() error {
				_, err := fmt.Fprintf(sh.out, "replay of %s's WAL on disk %s is workflow %s\nsee how far it is: temporal workflow query --workflow-id %s --type status\n",
					job.pipeline, job.disk, id, id)
				return err
			})
		}
		return sh.followReplay(ctx, c, run, id, job)
	})
}

// followReplay waits for the end of a replay. When it asks something it says so, once.
func (sh *shell) followReplay(ctx context.Context, c client.Client, run client.WorkflowRun, id string, job replayJob) error {
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		for {
			var status contract.ReplayWALStatus
			if err := queryWorkflow(asking, c, id, "", &status); err == nil && status.State == contract.StateDeciding && status.Corrupt != nil {
				fmt.Fprintf(sh.err, "%s: segment %s, bytes %d to %d: %s\n  millrace wal decide %s %s|%s --disk %s\n", status.Note, status.Corrupt.Segment,
					status.Corrupt.From, status.Corrupt.To, status.Corrupt.Detail, status.Pipeline, contract.ChoiceQuarantine, contract.ChoiceAbort, status.Disk)
				return
			}
			select {
			case <-asking.Done():
				return
			case <-time.After(time.Second):
			}
		}
	}()
	var result contract.ReplayWALResult
	err := run.Get(ctx, &result)
	var failed *temporal.ApplicationError
	switch {
	case ctx.Err() != nil:
		return interruptedf("the replay goes on as workflow %s; follow it with `millrace wal replay %s --disk %s --wait`", id, job.pipeline, job.disk)
	case errors.As(err, &failed):
		return errors.New(failed.Message())
	case err != nil:
		return explainWorkflow(id, "", err)
	}
	if err := sh.printOr(result, func() error { return drawReplayed(sh.out, result) }); err != nil {
		return err
	}
	if result.Outcome != contract.OutcomeDrained {
		return incompletef("the WAL is not settled: %s", result.Note)
	}
	return nil
}

func drawReplayed(w io.Writer, r contract.ReplayWALResult) error {
	fmt.Fprintf(w, "%s's WAL on disk %s: %s, %s\n", r.Pipeline, r.Disk, r.Outcome, counted(r.Segments, "segment"))
	t := &table{}
	t.row("", "CHAINS", "COMMITS", "ENTRIES", "BYTES")
	for _, row := range []struct {
		name string
		sum  contract.ReplayTotal
	}{{"drained", r.Totals.Drained}, {"superseded", r.Totals.Superseded}, {"kept", r.Totals.Kept}, {"quarantined", r.Totals.Quarantined}} {
		t.row(row.name, row.sum.Chains, row.sum.Commits, row.sum.Entries, row.sum.Bytes)
	}
	if err := t.write(w, "  "); err != nil {
		return err
	}
	for _, d := range r.Decisions {
		drawDecision(w, d)
	}
	return nil
}
