// Package cli is the millrace command line: one file per command, each a thin cobra command over a function that takes
// a context, a writer and what it needs. It talks to Temporal, Kafka and Redis as any user would and holds no state.
package cli

import (
	"context"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"millrace/internal/build"
	"millrace/internal/connect"
)

// shell is what every command shares: its streams, the output format and how to reach the servers.
type shell struct {
	out, err io.Writer
	json     bool
	conn     *connect.Options
}

// jsonFlag asks any command for JSON.
const jsonFlag = "json"

// New returns the millrace command writing to out and err.
func New(out, err io.Writer) *cobra.Command {
	sh := &shell{out: out, err: err, conn: connect.FromEnv(os.Getenv)}
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

Kafka, Redis and Temporal are found by flags or by the environment; passwords by the environment alone:

` + connect.VariablesHelp() + `

With --json a command prints one JSON value on standard output, lists as an array, and an error as one object
{"error": TEXT, "code": EXIT CODE} on standard error.

Exit codes: 0 done; 1 failed, or no such pipeline, workflow or window; 2 wrong usage or invalid spec; 3 a server does
not answer or no worker polls; 4 carried out in part, or verify found a violation; 130 interrupted.`,
		Version:       build.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetOut(out)
	root.SetErr(err)
	root.PersistentFlags().BoolVar(&sh.json, jsonFlag, false, "print machine-readable JSON")
	sh.conn.AddFlags(root.PersistentFlags())
	root.SetFlagErrorFunc(flagError)
	root.SetVersionTemplate("millrace {{.Version}}\n")
	root.SetHelpCommand(helpCommand())
	root.SetUsageTemplate(usageTemplate(root))
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		devCommand(sh), specCommand(sh), startCommand(sh), statusCommand(sh), windowsCommand(sh), archiveCommand(sh),
		flushCommand(sh), pauseCommand(sh), resumeCommand(sh), scaleCommand(sh), stopCommand(sh), rmCommand(sh),
		recoverCommand(sh), degradeCommand(sh), watermarkCommand(sh), compactCommand(sh), replayCommand(sh), recountCommand(sh),
		feedCommand(sh), verifyCommand(sh), benchCommand(sh), walCommand(sh),
		versionCommand(sh), completionCommand(sh),
	)
	refuseUnknownCommands(root)
	completeArguments(sh, root)
	return root
}

// Main runs the command line and returns its exit code.
func Main(ctx context.Context, args []string, out, err io.Writer) int {
	root := New(out, err)
	root.SetArgs(args)
	failed := root.ExecuteContext(ctx)
	if asksForJSON(root, args) {
		reportJSON(err, failed)
	} else {
		Report(err, failed)
	}
	return Code(failed)
}

// terminal reports whether w is a terminal, where lines may be redrawn.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
