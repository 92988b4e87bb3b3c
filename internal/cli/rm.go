package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
)

// rmJob is what `rm` is asked for.
type rmJob struct {
	pipeline, spec      string
	topics, yes, dryRun bool
	grace               time.Duration
}

func rmCommand(sh *shell) *cobra.Command {
	var job rmJob
	cmd := &cobra.Command{
		Use:   "rm NAME",
		Short: "Remove everything a stopped pipeline has left",
		Long: `Rm shows what a stopped pipeline has left in Redis and Kafka, asks, and deletes it with the workflow remove:<name>: the consumer
group, all keys, and with --topics the topics that it writes. Topics that it reads are never deleted, nor those that another pipeline
names, nor the ledger while such a topic holds results of this pipeline. The lanes stay fenced for --grace, so that a worker that was
frozen and thaws can write nothing back; after that nothing is left.
A removal that was interrupted is finished by another rm. Without --topics the ledger topic stays with its rows given up, and a
pipeline of the same name begins anew.`,
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
	cmd.Flags().DurationVar(&job.grace, "grace", contract.OrphanGrace, "how long lanes stay fenced for workers that may be frozen")
	cmd.Flags().StringVar(&job.spec, "spec", "", "the pipeline's file, where Temporal does not know its spec any more")
	return cmd
}

func (job rmJob) input() (contract.RemoveInput, error) {
	in := contract.RemoveInput{
		Version: contract.Version, Pipeline: job.pipeline, Topics: job.topics, Approved: job.yes, DryRun: job.dryRun,
		GraceSeconds: int(job.grace.Seconds()),
	}
	if job.grace < contract.MinRemoveGrace {
		return in, usagef("--grace is %s; want at least %s", job.grace, contract.MinRemoveGrace)
	}
	if job.spec != "" {
		s, err := readSpec(job.spec)
		if err != nil {
			return in, err
		}
		if s.Name != job.pipeline {
			return in, usagef("%s describes pipeline %s, not %s", job.spec, s.Name, job.pipeline)
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
	if !job.yes && !job.dryRun && !canAsk(answers, sh.err) {
		return usagef("rm %s deletes for good and there is no terminal to ask on: look with --dry-run, then give --yes", job.pipeline)
	}
	in, err := job.input()
	if err != nil {
		return err
	}
	return sh.withWorkers(ctx, func(c client.Client) error {
		id := contract.RemoveID(job.pipeline)
		run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
			ID: id, TaskQueue: contract.TaskQueue, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
			WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE, StaticSummary: "removal of " + job.pipeline,
		}, contract.WorkflowRemove, in)
		if err != nil {
			return explainWorkflow(id, "", err)
		}
		f := &removing{sh: sh, c: c, id: id, run: run, answers: answers, yes: job.yes}
		return f.follow(ctx)
	})
}

// canAsk reports whether a person can be asked: both the question and the answer go over a terminal.
func canAsk(in io.Reader, out io.Writer) bool {
	f, ok := in.(*os.File)
	return ok && terminal(f) && terminal(out)
}

// removing follows a Remove to its end.
type removing struct {
	sh      *shell
	c       client.Client
	id      string
	run     client.WorkflowRun
	answers io.Reader
	yes     bool
	shown   bool
	said    string
}

const rmLook = 500 * time.Millisecond

func (f *removing) follow(ctx context.Context) error {
	ended := make(chan error, 1)
	var result contract.RemoveResult
	go func() { ended <- f.run.Get(ctx, &result) }()
	tick := time.NewTicker(rmLook)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return f.conclude(ctx, result, err)
		case <-tick.C:
		}
		var status contract.RemoveStatus
		if err := queryWorkflow(ctx, f.c, f.id, "", &status); err != nil {
			continue // the end of the workflow says what is wrong
		}
		f.progress(status)
		if status.State != contract.StateAsking {
			continue
		}
		if err := f.ask(ctx, status); err != nil {
			return err
		}
	}
}

// progress says on the error stream, once each, what is left, what is done, and what is waited for until when.
func (f *removing) progress(s contract.RemoveStatus) {
	if s.Remains != nil && !f.shown {
		f.shown = true
		drawRemains(f.sh.err, s.Pipeline, *s.Remains)
	}
	line := s.Note
	if s.Until != nil {
		line += ", until " + instant(s.Until.UnixMilli()) + " at the longest"
	}
	if line != "" && line != f.said {
		f.said = line
		fmt.Fprintln(f.sh.err, s.State+": "+line)
	}
}

// ask asks whether to delete what was shown. A no cancels the removal.
func (f *removing) ask(ctx context.Context, s contract.RemoveStatus) error {
	if !f.yes {
		fmt.Fprintf(f.sh.err, "Delete all of this for good? Type the pipeline's name to go on: ")
		answer, err := bufio.NewReader(f.answers).ReadString('\n')
		if err != nil || strings.TrimSpace(answer) != s.Pipeline {
			if err := f.c.CancelWorkflow(context.WithoutCancel(ctx), f.id, ""); err != nil {
				return explainWorkflow(f.id, "it has ended", err)
			}
			return fmt.Errorf("rm %s: not approved; nothing was deleted", s.Pipeline)
		}
	}
	var receipt contract.ApproveReceipt
	return sendUpdate(ctx, f.c, f.id, contract.UpdateApprove, "", "it has ended", contract.ApproveRequest{}, &receipt)
}

func (f *removing) conclude(ctx context.Context, result contract.RemoveResult, err error) error {
	var failed *temporal.ApplicationError
	var cancelled *temporal.CanceledError
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("%w: workflow %s goes on; cancel it with temporal workflow cancel --workflow-id %s", ctx.Err(), f.id, f.id)
	case errors.As(err, &failed):
		return errors.New(failed.Message())
	case errors.As(err, &cancelled):
		return fmt.Errorf("workflow %s was cancelled; lanes that it has fenced stay fenced until another millrace rm finishes it", f.id)
	case err != nil:
		return explainWorkflow(f.id, "", err)
	}
	if !f.shown {
		f.shown = true
		drawRemains(f.sh.err, result.Pipeline, result.Remains)
	}
	return f.sh.printOr(result, func() error {
		fmt.Fprintf(f.sh.out, "%s: %s", result.Pipeline, result.Outcome)
		for i, s := range result.Steps {
			sep := ", "
			if i == 0 {
				sep = ": "
			}
			fmt.Fprintf(f.sh.out, "%s%s %d", sep, s.Step, s.Count)
		}
		_, err := fmt.Fprintf(f.sh.out, "\n%s\n", result.Note)
		return err
	})
}

func drawRemains(w io.Writer, pipeline string, r contract.Remains) {
	fmt.Fprintf(w, "pipeline %s has left %s", pipeline, counted(r.Lanes, "lane"))
	if r.Grouped {
		fmt.Fprintf(w, " and the consumer group %s", r.Group)
	}
	fmt.Fprintln(w)
	t := &table{}
	t.row("KEYS", "NUMBER", "BYTES")
	for _, k := range r.Keys {
		t.row(k.Kind, k.Keys, k.Bytes)
	}
	_ = t.write(w, "  ")
	t = &table{}
	t.row("TOPIC", "ROLE", "")
	for _, topic := range r.Topics {
		fate := "will be deleted"
		if !topic.Delete {
			fate = "stays: " + topic.Why
		}
		t.row(topic.Topic, topic.Role, fate)
	}
	_ = t.write(w, "  ")
	if !r.Holders.Free() {
		fmt.Fprintln(w, "held: "+r.Holders.String())
	}
	for _, note := range r.Notes {
		fmt.Fprintln(w, "note: "+note)
	}
}
