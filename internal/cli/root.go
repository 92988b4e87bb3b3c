// Package cli is the millrace command line: one file per command, each a thin cobra command over a function that takes
// a context, a writer and what it needs. It talks to Temporal, Kafka and Redis as any user would and holds no state.
package cli

import (
	"context"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"millrace/internal/build"
	"millrace/internal/connect"
	"millrace/internal/telemetry"
)

// shell is what every command shares: its streams, the output format and how to reach the servers.
type shell struct {
	out, err io.Writer
	json     bool
	conn     *connect.Options
	traces   *telemetry.Traces // nil: nothing is traced
}

// jsonFlag asks any command for JSON.
const jsonFlag = "json"

// New returns the millrace command writing to out and err.
func New(out, err io.Writer) *cobra.Command { return newRoot(newShell(out, err)) }

func newShell(out, err io.Writer) *shell { return &shell{out: out, err: err, conn: connect.New()} }

func newRoot(sh *shell) *cobra.Command {
	root := &cobra.Command{
		Use:   "millrace",
		Short: "Exact event-time windows over Kafka streams, steered by Temporal",
		Long: `Millrace turns Kafka event streams into exact, event-time window aggregates.

A pipeline is one YAML file. Try one on this machine with nothing installed:

  millrace dev --spec examples/flights/flights.yaml --feed examples/flights/flights-2001-01.jsonl.gz

or run it against your own Kafka, Redis and Temporal, with at least one worker:

  millrace spec check flights.yaml
  millrace start flights.yaml
  millrace status flights

Kafka, Redis and Temporal are found by flags, by variables or in a configuration file (--config, or MILLRACE_CONFIG), in this
order; passwords by variables or files alone:

` + sh.conn.Settings().VariablesHelp(false) + `

With --json a command prints one JSON value on standard output, lists as an array, and an error as one object
{"error": TEXT, "code": EXIT CODE} on standard error.

Exit codes: 0 done; 1 failed, or no such pipeline, workflow or window; 2 wrong usage or invalid spec; 3 a server does
not answer or no worker polls; 4 carried out in part, or verify found a violation; 130 interrupted.`,
		Version:       build.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(sh.out)
	root.SetErr(sh.err)
	root.PersistentFlags().BoolVar(&sh.json, jsonFlag, false, "print machine-readable JSON")
	sh.conn.AddFlags(root.PersistentFlags(), false)
	hideConnections(root)
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return sh.settle(root) }
	root.SetFlagErrorFunc(flagError)
	root.SetVersionTemplate("millrace {{.Version}}\n")
	root.SetHelpCommand(helpCommand())
	root.SetUsageTemplate(usageTemplate(root))
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		devCommand(sh), specCommand(sh), startCommand(sh), statusCommand(sh), windowsCommand(sh), archiveCommand(sh),
		flushCommand(sh), pauseCommand(sh), resumeCommand(sh), scaleCommand(sh), stopCommand(sh), rmCommand(sh),
		recoverCommand(sh), degradeCommand(sh), watermarkCommand(sh), compactCommand(sh), replayCommand(sh), recountCommand(sh),
		feedCommand(sh), verifyCommand(sh), benchCommand(sh), tuneCommand(sh), walCommand(sh), codecCommand(sh),
		withoutSettings(versionCommand(sh)), withoutSettings(completionCommand(sh)),
	)
	refuseUnknownCommands(root)
	completeArguments(sh, root)
	return root
}

// Main runs the command line and returns its exit code.
func Main(ctx context.Context, args []string, out, err io.Writer) int {
	sh := newShell(out, err)
	root := newRoot(sh)
	root.SetArgs(args)
	failed := sh.traced(ctx, root, args)
	if asksForJSON(root, args) {
		reportJSON(err, failed)
	} else {
		Report(err, failed)
	}
	return Code(failed)
}

// settle reads the configuration file and the environment, once the flags are known.
func (sh *shell) settle(root *cobra.Command) error {
	if err := sh.conn.Resolve(root.PersistentFlags(), os.Getenv, false); err != nil {
		return configured(err)
	}
	return nil
}

// withoutSettings has a command say what it says whatever is wrong with the settings.
func withoutSettings(cmd *cobra.Command) *cobra.Command {
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error { return nil }
	return cmd
}

// hideConnections leaves the flags for connections out of the help of every command, but for those that say where the servers are:
// the help of millrace itself lists them all.
func hideConnections(root *cobra.Command) {
	shown := []string{jsonFlag, "config", connect.Kafka.Flag, connect.Redis.Flag, connect.Temporal.Flag, "namespace"}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { f.Hidden = !slices.Contains(shown, f.Name) })
}

// terminal reports whether w is a terminal, where lines may be redrawn.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
