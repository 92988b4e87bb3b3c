package cli

import (
	"context"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
)

// command is what the commands that steer a running pipeline have in common.
type command struct {
	sh        *shell
	name      string // of the update
	requestID string
	reason    string
	wait      durationFlag
	expect    int64
	cmd       *cobra.Command
}

func (c *command) flags(cmd *cobra.Command) *cobra.Command {
	c.wait, c.cmd = durationFlag(askPatience), cmd
	steering(cmd, &c.requestID, &c.reason)
	cmd.Flags().Var(&c.wait, "wait", "how long to wait for the answer, 1s to 7d; the request goes on without the command then")
	cmd.Flags().Int64Var(&c.expect, "expect-generation", 0,
		"refuse when the desired state has another generation than this, because somebody has commanded something since")
	return cmd
}

// expected is the generation that the command expects, nil when it does not care.
func (c *command) expected() *int64 {
	if !c.cmd.Flags().Changed("expect-generation") {
		return nil
	}
	return &c.expect
}

// pipelineAsking is a request to a pipeline's workflow.
func pipelineAsking(sh *shell, tc client.Client, pipeline, update string, request any) *asking {
	return &asking{
		sh: sh, c: tc, id: contract.PipelineID(pipeline), update: update, request: request, wait: askPatience,
		look: "millrace status " + pipeline, explain: func(ctx context.Context, err error) error { return explainNear(ctx, tc, pipeline, err) },
	}
}

// send asks the pipeline and prints the receipt.
func (c *command) send(ctx context.Context, pipeline string, request any) error {
	if _, err := c.wait.seconds("--wait", time.Second, contract.MaxDrainTimeout); err != nil {
		return err
	}
	tc, err := c.sh.dialTemporal(ctx)
	if err != nil {
		return err
	}
	defer tc.Close()
	if err := requireWorker(ctx, tc); err != nil {
		return err
	}
	a := pipelineAsking(c.sh, tc, pipeline, c.name, request)
	a.requestID, a.wait = c.requestID, time.Duration(c.wait)
	var receipt contract.Receipt
	if err := a.send(ctx, &receipt); err != nil {
		return err
	}
	if c.sh.json {
		err = printJSON(c.sh.out, receipt)
	} else {
		err = printReceipt(c.sh.out, pipeline, receipt)
	}
	if err != nil {
		return err
	}
	return unmet(pipeline, receipt)
}

func flushCommand(sh *shell) *cobra.Command {
	c := &command{sh: sh, name: contract.UpdateFlush}
	return c.flags(&cobra.Command{
		Use:   "flush NAME",
		Short: "Publish what every open window holds now, without closing it",
		Long: `Flush makes every lane commit and publishes the open windows as they stand. They stay open: what comes
later gives further revisions. The receipt names the offsets that are covered.`,
		Example: "  millrace flush flights",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.send(cmd.Context(), args[0], contract.FlushRequest{Reason: c.reason, ExpectGeneration: c.expected()})
		},
	})
}

func pauseCommand(sh *shell) *cobra.Command {
	c := &command{sh: sh, name: contract.UpdatePause}
	return c.flags(&cobra.Command{
		Use:     "pause NAME",
		Short:   "Stop reading until `millrace resume`",
		Example: "  millrace pause flights --reason \"broker maintenance\"",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.send(cmd.Context(), args[0], contract.PauseRequest{Reason: c.reason, ExpectGeneration: c.expected()})
		},
	})
}

func resumeCommand(sh *shell) *cobra.Command {
	c := &command{sh: sh, name: contract.UpdateResume}
	return c.flags(&cobra.Command{
		Use:     "resume NAME",
		Short:   "Read on after a pause",
		Example: "  millrace resume flights",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.send(cmd.Context(), args[0], contract.ResumeRequest{Reason: c.reason, ExpectGeneration: c.expected()})
		},
	})
}

func scaleCommand(sh *shell) *cobra.Command {
	c := &command{sh: sh, name: contract.UpdateScale}
	return c.flags(&cobra.Command{
		Use:     "scale NAME REPLICAS",
		Short:   "Spread the pipeline's lanes over this many hot paths",
		Example: "  millrace scale flights 4",
		Args:    exactly("NAME", "REPLICAS"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return usagef("REPLICAS is %q; want a number from 1 to %d", args[1], contract.MaxReplicas)
			}
			request := contract.ScaleRequest{Replicas: n, Reason: c.reason, ExpectGeneration: c.expected()}
			if err := request.Validate(); err != nil {
				return usagef("%w", err)
			}
			return c.send(cmd.Context(), args[0], request)
		},
	})
}

func stopCommand(sh *shell) *cobra.Command {
	c := &command{sh: sh, name: contract.UpdateStop}
	var drain bool
	var timeout durationFlag
	cmd := c.flags(&cobra.Command{
		Use:   "stop NAME",
		Short: "Stop a pipeline; with --drain after everything that waits was read and published",
		Long: `Stop commits, releases all lanes and ends the pipeline. State stays in Redis: a later start goes on where this
one stopped. With --drain everything that stands in Kafka now is read first and every open window is published with
reason "drain"; when that is not possible the pipeline goes on and the receipt says which lane stood in the way.`,
		Example: "  millrace stop flights --drain",
		Args:    exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			seconds, err := timeout.seconds("--timeout", 0, contract.MaxDrainTimeout)
			if err != nil {
				return err
			}
			if !drain && cmd.Flags().Changed("timeout") {
				return usagef("--timeout is only for a drain; give --drain as well, or --wait for how long to wait for the answer")
			}
			request := contract.StopRequest{Drain: drain, TimeoutSeconds: seconds, Reason: c.reason, ExpectGeneration: c.expected()}
			if err := request.Validate(); err != nil {
				return usagef("%w", err)
			}
			if drain && !cmd.Flags().Changed("wait") { // what a drain may take, and then the stop
				c.wait = durationFlag(min(request.DrainTimeout()+askPatience, contract.MaxDrainTimeout))
			}
			return c.send(cmd.Context(), args[0], request)
		},
	})
	cmd.Flags().BoolVar(&drain, "drain", false, "read and publish everything first")
	cmd.Flags().Var(&timeout, "timeout", "how long a drain may take, 1s to 7d (default 1h)")
	return cmd
}
