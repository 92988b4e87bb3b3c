package cli

import (
	"context"
	"strconv"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"millrace/internal/contract"
)

// command is what the commands that steer a running pipeline have in common.
type command struct {
	sh        *shell
	name      string // of the update
	requestID string
	reason    string
}

func (c *command) flags(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().StringVar(&c.requestID, "request-id", "", "repeat an earlier request: answers with its receipt (default: a new id)")
	cmd.Flags().StringVar(&c.reason, "reason", "", "why, for the history")
	return cmd
}

// send asks the pipeline and prints the receipt.
func (c *command) send(ctx context.Context, pipeline string, request any) error {
	tc, err := c.sh.dialTemporal(ctx)
	if err != nil {
		return err
	}
	defer tc.Close()
	if err := requireWorker(ctx, tc); err != nil {
		return err
	}
	id := c.requestID
	if id == "" {
		id = uuid.NewString()
	}
	receipt, err := update(ctx, tc, pipeline, c.name, id, request)
	if err != nil {
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
			return c.send(cmd.Context(), args[0], contract.FlushRequest{Reason: c.reason})
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
			return c.send(cmd.Context(), args[0], contract.PauseRequest{Reason: c.reason})
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
			return c.send(cmd.Context(), args[0], contract.ResumeRequest{Reason: c.reason})
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
			request := contract.ScaleRequest{Replicas: n, Reason: c.reason}
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
			request := contract.StopRequest{Drain: drain, TimeoutSeconds: seconds, Reason: c.reason}
			if err := request.Validate(); err != nil {
				return usagef("%w", err)
			}
			return c.send(cmd.Context(), args[0], request)
		},
	})
	cmd.Flags().BoolVar(&drain, "drain", false, "read and publish everything first")
	cmd.Flags().Var(&timeout, "timeout", "how long a drain may take, 1s to 7d (default 1h)")
	return cmd
}
