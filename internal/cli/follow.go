package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
)

// followLook is how often a command that follows a workflow asks it for its status.
const followLook = 500 * time.Millisecond

// followRun asks a run for its status until the run ends, and has conclude say what it came to. watch gets each status; it leaves
// the run to itself by reporting that it has seen enough, or by an error.
func followRun[S, R any](ctx context.Context, c client.Client, run client.WorkflowRun, watch func(S) (enough bool, err error),
	conclude func(R, error) error,
) error {
	ended := make(chan error, 1)
	var result R
	go func() { ended <- run.Get(ctx, &result) }()
	tick := time.NewTicker(followLook)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return conclude(result, err)
		case <-tick.C:
		}
		var status S
		if err := queryWorkflow(ctx, c, run.GetID(), run.GetRunID(), &status); err != nil {
			continue // the end of the workflow says what is wrong
		}
		if enough, err := watch(status); enough || err != nil {
			return err
		}
	}
}

// explainEnd turns the error with which a followed run came to an end into what a person can act on. interrupted and cancelled
// are the errors of a command that was interrupted and of a workflow that was cancelled.
func explainEnd(ctx context.Context, id string, err, interrupted, cancelled error) error {
	var stopped *temporal.CanceledError
	switch {
	case ctx.Err() != nil:
		return interrupted
	case errors.As(err, &stopped):
		return cancelled
	}
	return explainWorkflow(id, "", err)
}

// phaseLine is what a workflow does or waits for, in one line. Of what it waits for only that which has failed is named.
func phaseLine(state, note string, pending []contract.Pending) string {
	line := state
	if note != "" {
		line += ": " + note
	}
	for _, p := range pending {
		if p.Why != "" {
			line += "; " + p.String()
		}
	}
	return line
}

// changes prints lines that differ from the one before.
type changes struct{ last string }

// print prints the line, unless the last one that was printed is the same. It reports whether it has printed.
func (c *changes) print(w io.Writer, line string) bool {
	if line == c.last {
		return false
	}
	c.last = line
	fmt.Fprintln(w, line)
	return true
}

// lastFlag gives a command that lists what a pipeline has the flag --last, and what it does.
func lastFlag(cmd *cobra.Command, last int, usage string, list func(ctx context.Context, pipeline string, last int) error) *cobra.Command {
	cmd.Args = exactly(nameArg)
	cmd.Flags().IntVar(&last, "last", last, usage)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := atLeast("last", last, 0); err != nil {
			return err
		}
		return list(cmd.Context(), args[0], last)
	}
	return cmd
}

// runsListing is how the workflows of one type are listed.
type runsListing[S any] struct {
	kind   string                        // the workflow's type
	prefix func(pipeline string) string  // of the ids of a pipeline's workflows
	noun   string                        // what people call one
	header []any                         // of the table
	draw   func(t *table, l listed, s S) // adds a row
}

// command returns the command `ls NAME` that lists them.
func (r runsListing[S]) command(sh *shell, cmd *cobra.Command) *cobra.Command {
	cmd.Use = "ls NAME"
	return lastFlag(cmd, 20, "how many; 0 for all", func(ctx context.Context, pipeline string, last int) error {
		return r.print(ctx, sh, pipeline, last)
	})
}

func (r runsListing[S]) print(ctx context.Context, sh *shell, pipeline string, last int) error {
	return sh.withWorkers(ctx, func(c client.Client) error {
		found, err := listWorkflows(ctx, c, r.kind, r.prefix(pipeline), last)
		if err != nil {
			return err
		}
		if err := requirePipeline(ctx, c, pipeline, len(found)); err != nil {
			return err
		}
		all := make([]listed, 0, len(found))
		t := &table{}
		t.row(r.header...)
		for _, e := range found {
			l, status := listedOf[S](ctx, c, e)
			all = append(all, l)
			r.draw(t, l, status)
		}
		return sh.printOr(all, func() error {
			if len(all) == 0 {
				t.rows = [][]string{{"no " + r.noun + " of pipeline " + pipeline + " is known"}}
			}
			return t.write(sh.out, "")
		})
	})
}
