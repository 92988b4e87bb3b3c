package cli

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"millrace/internal/logs"
	"millrace/internal/telemetry"
	"millrace/pipeline/traces"
)

// traced runs the command that args name, in a span of that name where the environment asks for traces. What the command asks of
// Temporal goes below it.
func (sh *shell) traced(ctx context.Context, root *cobra.Command, args []string) error {
	log := logs.New(sh.err, true, false)
	if asksForJSON(root, args) {
		log = slog.New(slog.DiscardHandler) // an error alone stands on standard error
	}
	var err error
	who := telemetry.Instance{Service: "millrace", ID: fmt.Sprintf("cli:%d", os.Getpid())}
	if sh.traces, err = telemetry.StartTraces(ctx, who, log); err != nil {
		return usagef("%w", err)
	}
	defer sh.traces.Close()
	name := traces.SpanCommand
	if cmd, _, err := root.Find(args); err == nil {
		name = cmd.CommandPath()
	}
	ctx, span := sh.traces.Start(ctx, name)
	err = root.ExecuteContext(ctx)
	traces.End(span, err)
	return err
}
