package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/pipeline/report"
)

func completionCommand(sh *shell) *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print a script with which bash, zsh or fish completes commands, pipelines, windows and workflows",
		Long: `Completion prints a script for SHELL, one of bash, zsh and fish. With it the shell completes commands and flags, and
asks Temporal and Kafka for pipelines, windows and workflows. That takes 2 s at most, and completes nothing while
they do not answer.`,
		Example: `  source <(millrace completion bash)                                     # this shell; bash-completion is needed
  millrace completion zsh > "${fpath[1]}/_millrace"                       # every new zsh
  millrace completion fish > ~/.config/fish/completions/millrace.fish     # every new fish`,
		Args:      exactly("SHELL"),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(sh.out, true)
			case "zsh":
				return root.GenZshCompletion(sh.out)
			case "fish":
				return root.GenFishCompletion(sh.out, true)
			}
			return usagef("SHELL is %q; want one of %s", args[0], strings.Join(shells, ", "))
		},
	}
}

// completionTimeout bounds what a completion may ask of servers: somebody waits with a finger on the Tab key.
const completionTimeout = 2 * time.Second

// shownCompletions is how many workflows or windows are offered.
const shownCompletions = 50

// A completer offers values for an argument behind those of args. Servers that do not answer offer nothing.
type completer func(ctx context.Context, sh *shell, cmd *cobra.Command, args []string) ([]string, cobra.ShellCompDirective)

// argumentCompleters are the completers by the placeholder that stands in the usage of a command.
var argumentCompleters = map[string]completer{
	nameArg:           offered(pipelineNames),
	"WORKFLOW":        offered(recoveryIDs),
	"TOPIC/PARTITION": offered(parkedLanes),
	"CHOICE":          offered(choiceNames),
	"WINDOW":          offered(windowNames),
	"START":           offered(windowStarts),
	"ID":              offered(replayIDs),
	"CHECKSUM":        offered(diffChecksums),
	"RECORDS":         offered(nothing),
	"FILE":            specFiles,
	"FILE[.gz]":       anyFiles,
	"DIR":             directories,
	"REPLICAS":        offered(nothing),
	"SHELL":           nil, // the command's own ValidArgs
	"COMMAND":         nil, // of help, which knows
}

// flagCompleters are the completers of flags by their name.
var flagCompleters = map[string]completer{
	"spec":       specFiles,
	"topic":      offered(topicNames),
	"window":     offered(windowNames),
	"feed":       anyFiles,
	"results":    anyFiles,
	"dir":        directories,
	"scope":      offered(fixedWords("whole", "first-offset")),
	"lateness":   offered(fixedWords(contract.LatenessAsRead, contract.LatenessNone)),
	"dependency": offered(fixedWords(report.DependencyRedis, report.DependencyResults)),
}

// completeArguments gives the command and all below it the completers of their arguments and flags.
func completeArguments(sh *shell, cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		completeArguments(sh, sub)
	}
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		complete := flagCompleters[f.Name]
		if complete == nil || f.Value.Type() == "bool" {
			return
		}
		_ = cmd.RegisterFlagCompletionFunc(f.Name, func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			return bounded(complete, sh, cmd, args)
		}) // fails for a flag that has one already, and each is visited once
	})
	if cmd.HasSubCommands() && !cmd.Runnable() || cmd.ValidArgsFunction != nil || cmd.ValidArgs != nil {
		return
	}
	places := placeholders(cmd)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(places) || argumentCompleters[places[len(args)]] == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return bounded(argumentCompleters[places[len(args)]], sh, cmd, args)
	}
}

// placeholders returns the names of a command's arguments, without flags and their values.
func placeholders(cmd *cobra.Command) []string {
	var places []string
	words := strings.Fields(cmd.Use)[1:]
	for i := 0; i < len(words); i++ {
		if strings.HasPrefix(strings.TrimLeft(words[i], "["), "-") {
			i++
			continue
		}
		if word := words[i]; strings.HasPrefix(word, "[") {
			places = append(places, strings.Trim(word, "[]"))
		} else {
			places = append(places, word)
		}
	}
	return places
}

func bounded(complete completer, sh *shell, cmd *cobra.Command, args []string) ([]string, cobra.ShellCompDirective) {
	if sh.settle(cmd.Root()) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()
	return complete(ctx, sh, cmd, args)
}

// offered makes a completer of values that are no files.
func offered(values func(context.Context, *shell, *cobra.Command, []string) []string) completer {
	return func(ctx context.Context, sh *shell, cmd *cobra.Command, args []string) ([]string, cobra.ShellCompDirective) {
		return values(ctx, sh, cmd, args), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// fixedWords offers the same words whatever the arguments are.
func fixedWords(list ...string) func(context.Context, *shell, *cobra.Command, []string) []string {
	return func(context.Context, *shell, *cobra.Command, []string) []string { return list }
}

func nothing(context.Context, *shell, *cobra.Command, []string) []string { return nil }

func specFiles(context.Context, *shell, *cobra.Command, []string) ([]string, cobra.ShellCompDirective) {
	return []string{"yaml", "yml", "json"}, cobra.ShellCompDirectiveFilterFileExt
}

func anyFiles(context.Context, *shell, *cobra.Command, []string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveDefault
}

func directories(context.Context, *shell, *cobra.Command, []string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// ofTemporal asks Temporal, if it answers.
func ofTemporal[T any](ctx context.Context, sh *shell, ask func(client.Client) []T) []T {
	c, err := sh.dialTemporal(ctx)
	if err != nil {
		return nil
	}
	defer c.Close()
	return ask(c)
}

// pipelineNames are the names of pipelines that Temporal remembers, those that run first.
func pipelineNames(ctx context.Context, sh *shell, _ *cobra.Command, _ []string) []string {
	return ofTemporal(ctx, sh, func(c client.Client) []string { return knownPipelines(ctx, c) })
}

// knownPipelines names the pipelines that Temporal remembers, those that run first; nil when it does not answer.
func knownPipelines(ctx context.Context, c client.Client) []string {
	found, err := listWorkflows(ctx, c, contract.WorkflowPipeline, contract.PipelineID(""), 0)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range found {
		if name, ok := contract.PipelineOf(e.GetExecution().GetWorkflowId()); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// recoveryIDs are the ids of recoveries of any pipeline, those that are open first.
func recoveryIDs(ctx context.Context, sh *shell, _ *cobra.Command, _ []string) []string {
	return ofTemporal(ctx, sh, func(c client.Client) []string {
		found, err := listWorkflows(ctx, c, contract.WorkflowRecoverLanes, "", shownCompletions)
		if err != nil {
			return nil
		}
		var ids []string
		for _, e := range found {
			ids = append(ids, e.GetExecution().GetWorkflowId())
		}
		return ids
	})
}

// replayIDs are the ids of a pipeline's replays, those that are open first.
func replayIDs(ctx context.Context, sh *shell, _ *cobra.Command, args []string) []string {
	return ofTemporal(ctx, sh, func(c client.Client) []string {
		found, err := listWorkflows(ctx, c, contract.WorkflowReplay, contract.ReplayPrefix(args[0]), shownCompletions)
		if err != nil {
			return nil
		}
		var ids []string
		for _, e := range found {
			ids = append(ids, strings.TrimPrefix(e.GetExecution().GetWorkflowId(), contract.ReplayPrefix(args[0])))
		}
		return ids
	})
}

// diffChecksums is the checksum of what a replay has found.
func diffChecksums(ctx context.Context, sh *shell, _ *cobra.Command, args []string) []string {
	return ofTemporal(ctx, sh, func(c client.Client) []string {
		var status contract.ReplayStatus
		if queryWorkflow(ctx, c, contract.ReplayID(args[0], args[1]), "", &status) != nil || status.Summary == nil {
			return nil
		}
		return []string{status.Summary.Checksum}
	})
}

// incidents are the lanes of a recovery that wait for a decision.
func incidents(ctx context.Context, sh *shell, workflowID string) []report.RecoveredLane {
	return ofTemporal(ctx, sh, func(c client.Client) []report.RecoveredLane {
		var status contract.RecoverStatus
		if queryWorkflow(ctx, c, workflowID, "", &status) != nil {
			return nil
		}
		return slices.DeleteFunc(status.Lanes, func(l report.RecoveredLane) bool {
			return l.Incident == nil || l.Incident.Decided != ""
		})
	})
}

func parkedLanes(ctx context.Context, sh *shell, _ *cobra.Command, args []string) []string {
	var names []string
	for _, l := range incidents(ctx, sh, args[0]) {
		names = append(names, cobra.CompletionWithDesc(fmt.Sprintf("%s/%d", l.Topic, l.Partition), l.Incident.Kind))
	}
	return names
}

// choiceNames are what can be decided about a part of a WAL, or about a lane of a recovery.
func choiceNames(ctx context.Context, sh *shell, cmd *cobra.Command, args []string) []string {
	if cmd.Parent().Name() == "wal" {
		return []string{contract.ChoiceQuarantine, contract.ChoiceAbort}
	}
	var names []string
	for _, l := range incidents(ctx, sh, args[0]) {
		if args[len(args)-1] != fmt.Sprintf("%s/%d", l.Topic, l.Partition) {
			continue
		}
		for _, choice := range l.Incident.Choices {
			names = append(names, cobra.CompletionWithDesc(choice.Name, choice.String()))
		}
	}
	return names
}

// windowNames are the windows of the spec that a pipeline was started with.
func windowNames(ctx context.Context, sh *shell, _ *cobra.Command, args []string) []string {
	if len(args) == 0 {
		return nil
	}
	return ofTemporal(ctx, sh, func(c client.Client) []string {
		s, err := specOf(ctx, c, args[0])
		if err != nil {
			return nil
		}
		return s.Families()
	})
}

// windowStarts are the starts of the latest published windows.
func windowStarts(ctx context.Context, sh *shell, _ *cobra.Command, args []string) []string {
	srv, err := sh.connectKafka(ctx)
	if err != nil {
		return nil
	}
	defer srv.Close()
	rows, err := ledger.Latest(ctx, srv.cluster, args[0])
	if err != nil {
		return nil
	}
	var starts []int64
	for i := range rows {
		if rows[i].Window == args[1] {
			starts = append(starts, rows[i].Start)
		}
	}
	slices.Sort(starts)
	slices.Reverse(starts)
	var texts []string
	for _, start := range starts[:min(len(starts), shownCompletions)] {
		texts = append(texts, instant(start))
	}
	return texts
}

func topicNames(ctx context.Context, sh *shell, _ *cobra.Command, _ []string) []string {
	srv, err := sh.connectKafka(ctx)
	if err != nil {
		return nil
	}
	defer srv.Close()
	names, err := srv.cluster.Topics(ctx)
	if err != nil {
		return nil
	}
	return names
}
