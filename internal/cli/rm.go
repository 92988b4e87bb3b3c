package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
)

// rmJob is what `rm` is asked for.
type rmJob struct {
	pipeline, spec      string
	topics, yes, dryRun bool
	grace               durationFlag
}

func rmCommand(sh *shell) *cobra.Command {
	job := rmJob{grace: durationFlag(contract.OrphanGrace)}
	cmd := &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove everything a stopped pipeline has left",
		Long: `Rm shows what a stopped pipeline has left in Redis and Kafka, asks, and deletes it with the workflow remove:<name>: the
consumer group, all keys, and with --topics the topics that it writes. Topics that it reads are never deleted, nor those
that another pipeline names, nor the ledger while such a topic holds results of this pipeline. The lanes stay fenced for
--grace, so that a worker that was frozen and thaws can write nothing back; after that nothing is left.
A removal that is running already is followed if it was started in the same way; --dry-run only shows how far it is. One that was
cancelled half-way is finished by another rm. A name of which nothing is here exits with 1. Without --topics the ledger topic
stays with its rows given up, and a pipeline of the same name begins anew.`,
		Example: "  millrace rm flights --dry-run\n  millrace rm flights --topics --yes",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			job.pipeline = args[0]
			return rm(cmd.Context(), sh, job, cmd.InOrStdin())
		},
	}
	cmd.Flags().BoolVar(&job.topics, "topics", false, "delete the topics that the pipeline writes, too")
	cmd.Flags().BoolVarP(&job.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&job.dryRun, "dry-run", false, "only show what would be deleted")
	cmd.Flags().Var(&job.grace, "grace", "how long lanes stay fenced for workers that may be frozen, 1s to 24h")
	cmd.Flags().StringVar(&job.spec, "spec", "", "the pipeline's file, where Temporal does not know its spec any more")
	return cmd
}

func (job rmJob) input() (contract.RemoveInput, error) {
	in := contract.RemoveInput{
		Version: contract.Version, Pipeline: job.pipeline, Topics: job.topics, Approved: job.yes, DryRun: job.dryRun,
	}
	var err error
	if in.GraceSeconds, err = job.grace.seconds("--grace", contract.MinRemoveGrace, contract.MaxRemoveGrace); err != nil {
		return in, err
	}
	if job.spec != "" {
		s, err := readSpecOf(job.pipeline, job.spec)
		if err != nil {
			return in, err
		}
		if in.Spec, err = s.JSON(); err != nil {
			return in, err
		}
	}
	if err := in.Validate(); err != nil {
		return in, usagef("%w", err)
	}
	return in, nil
}

func rm(ctx context.Context, sh *shell, job rmJob, answers io.Reader) error {
	in, err := job.input()
	if err != nil {
		return err
	}
	if !job.yes && !job.dryRun && !canAsk(answers, sh.err) {
		return usagef("rm %s deletes for good and there is no terminal to ask on: look with --dry-run, then give --yes", job.pipeline)
	}
	return sh.withWorkers(ctx, func(c client.Client) error {
		if !job.dryRun && errors.Is(requireStopped(ctx, c, job.pipeline), errRunning) { // a survey would take seconds to say the same
			return fmt.Errorf("remove %s: workflow %s is open; stop it first with `millrace stop %s`", job.pipeline,
				contract.PipelineID(job.pipeline), job.pipeline)
		}
		return remove(ctx, sh, c, in, answers)
	})
}

// canAsk reports whether a person can be asked: both the question and the answer go over a terminal.
func canAsk(in io.Reader, out io.Writer) bool {
	f, ok := in.(*os.File)
	return ok && terminal(f) && terminal(out)
}

// remove starts a removal and follows it to its end. One that is running already is followed if it was started in the same way,
// and only shown to a dry run, which must not touch it.
func remove(ctx context.Context, sh *shell, c client.Client, in contract.RemoveInput, answers io.Reader) error {
	id := contract.RemoveID(in.Pipeline)
	f := &removing{sh: sh, c: c, id: id, in: in, answers: answers}
	for {
		run, err := startRemoval(ctx, c, in)
		var running *serviceerror.WorkflowExecutionAlreadyStarted
		switch {
		case err == nil:
			f.run = run
			return f.follow(ctx)
		case ctx.Err() != nil:
			return interruptedf("the start may have reached Temporal; see `millrace rm %s --dry-run`", in.Pipeline)
		case !errors.As(err, &running):
			return explainWorkflow(id, "", err)
		}
		f.run = c.GetWorkflow(ctx, id, running.RunId)
		again, err := f.join(ctx)
		if err != nil || !again {
			return err
		}
	}
}

// startRemoval starts the workflow that removes a pipeline, or only looks at what is left of it.
func startRemoval(ctx context.Context, c client.Client, in contract.RemoveInput) (client.WorkflowRun, error) {
	return c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: contract.RemoveID(in.Pipeline), TaskQueue: contract.TaskQueue,
		WorkflowIDConflictPolicy:                 enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowExecutionErrorWhenAlreadyStarted: true, StaticSummary: "removal of " + in.Pipeline,
	}, contract.WorkflowRemove, in)
}

// join deals with a removal that is running already. again is true when it has ended and this one can be started.
func (f *removing) join(ctx context.Context) (again bool, err error) {
	var status contract.RemoveStatus
	if err := queryWorkflow(ctx, f.c, f.id, f.run.GetRunID(), &status); err != nil {
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		return false, fmt.Errorf("%s is running already, and does not say how far it is: %w", f.id, explainWorkflow(f.id, "it has ended; try again", err))
	}
	begun := status.Input
	switch {
	case status.State == contract.StateDone, begun != nil && begun.DryRun: // which takes no longer than a survey
		if err := f.run.Get(ctx, nil); ctx.Err() != nil {
			return false, ctx.Err()
		} else if err != nil {
			fmt.Fprintf(f.sh.err, "an earlier run of %s failed: %v\n", f.id, err)
		}
		return true, nil
	case f.in.DryRun:
		return false, f.sh.printOr(status, func() error { return f.drawRunning(status) })
	case begun == nil:
		return false, fmt.Errorf("%s is running already, on a worker of an older release that does not say with which inputs it was started: wait for "+
			"its end, or cancel it with `temporal workflow cancel --workflow-id %s` and start again", f.id, f.id)
	}
	if differs := begun.Differs(f.in); differs != "" {
		return false, fmt.Errorf("%s is running already, and was started in another way: %s. Follow it with `%s`, or cancel it with "+
			"`temporal workflow cancel --workflow-id %s` and start again", f.id, differs, begun.Command(), f.id)
	}
	fmt.Fprintf(f.sh.err, "%s was running already, started in the same way; following it\n", f.id)
	return false, f.follow(ctx)
}
