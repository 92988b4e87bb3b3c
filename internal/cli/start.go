package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"millrace/internal/contract"
)

func startCommand(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:   "start FILE",
		Short: "Start a pipeline",
		Long: `Start checks the spec, makes sure that a worker polls the task queue and starts the workflow
pipeline:<name>. A pipeline that is running already is left alone and the start is refused.`,
		Example: "  millrace start flights.yaml",
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return start(cmd.Context(), sh, args[0])
		},
	}
}

type started struct {
	Pipeline   string `json:"pipeline"`
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
}

func start(ctx context.Context, sh *shell, file string) error {
	s, err := readSpec(file)
	if err != nil {
		return err
	}
	c, err := sh.dialTemporal(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := requireWorker(ctx, c); err != nil {
		return err
	}
	run, err := startPipeline(ctx, c, s)
	if err != nil {
		return err
	}
	if sh.json {
		return printJSON(sh.out, started{s.Name, contract.PipelineID(s.Name), run.GetRunID()})
	}
	_, err = fmt.Fprintf(sh.out, "started pipeline %s (workflow %s, run %s)\nwatch it with: millrace status %s\n",
		s.Name, contract.PipelineID(s.Name), run.GetRunID(), s.Name)
	return err
}
