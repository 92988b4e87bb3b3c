package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"millrace/pipeline/spec"
)

// nameArg is the placeholder of a pipeline's name in a command's usage.
const nameArg = "NAME"

// exactly is cobra.ExactArgs with a message that says what is missing. A pipeline's name must be one.
func exactly(names ...string) cobra.PositionalArgs { return between(len(names), names...) }

// between takes the named arguments, of which the first least must be given.
func between(least int, names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s is missing; usage: %s", names[len(args)], cmd.UseLine())
		case len(args) > len(names):
			return usagef("%q is too much; usage: %s", args[len(names)], cmd.UseLine())
		}
		for i, arg := range args {
			if names[i] != nameArg {
				continue
			}
			if err := spec.CheckName(arg); err != nil {
				return usagef("pipeline: %w", err)
			}
		}
		return nil
	}
}

// refuseUnknownCommands makes the command and all below it that only hold other commands refuse what is none of them.
// cobra by itself takes it for a request for help, which succeeds.
func refuseUnknownCommands(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		refuseUnknownCommands(sub)
	}
	if !cmd.HasSubCommands() || cmd.Runnable() {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return unknownCommand(cmd, args[0])
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !cmd.HasParent() { // somebody who looks around
			return cmd.Help()
		}
		return usagef("a command is missing, one of %s; see %s --help", strings.Join(commandNames(cmd), ", "), cmd.CommandPath())
	}
}

func unknownCommand(parent *cobra.Command, name string) error {
	names := commandNames(parent)
	if near := spec.Nearest(name, names); near != "" {
		return usagef("%s has no command %q; did you mean %s?", parent.CommandPath(), name, near)
	}
	return usagef("%s has no command %q; there are %s", parent.CommandPath(), name, strings.Join(names, ", "))
}

// commandNames names the commands directly below parent.
func commandNames(parent *cobra.Command) []string {
	var names []string
	for _, sub := range parent.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	return names
}

// flagError words what pflag says of a flag. When the command before the flag is unknown, that is what is wrong.
func flagError(cmd *cobra.Command, err error) error {
	if before := cmd.Flags().Args(); len(before) > 0 && cmd.HasAvailableSubCommands() && !cmd.HasParent() {
		return unknownCommand(cmd, before[0])
	}
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	switch {
	case errors.As(err, &unknown) && isNumber(unknown.GetSpecifiedShortnames()):
		return usagef("-%s is no flag, and no argument may be negative; usage: %s", unknown.GetSpecifiedShortnames(), cmd.UseLine())
	case errors.As(err, &unknown):
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
		if near := spec.Nearest(unknown.GetSpecifiedName(), names); near != "" {
			return usagef("%w; did you mean --%s?", err, near)
		}
	case errors.As(err, &invalid):
		if want := wantedValue(invalid.GetFlag()); want != "" {
			return usagef("--%s is %q; want %s; see %s --help", invalid.GetFlag().Name, invalid.GetValue(), want, cmd.CommandPath())
		}
		return usagef("--%s: %w; see %s --help", invalid.GetFlag().Name, invalid.Unwrap(), cmd.CommandPath())
	}
	return usagef("%w; see %s --help", err, cmd.CommandPath())
}

// wantedValue says what a flag of one of Go's types takes; flags with a type of their own say it themselves.
func wantedValue(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "int", "int32", "int64":
		return "a whole number"
	case "uint64":
		return "a whole number from 0"
	case "float64":
		return "a number"
	case "bool":
		return "true or false"
	}
	return ""
}

// atLeast refuses a number below least in its flag's name.
func atLeast[N int | int32 | int64](flag string, n, least N) error {
	if n < least {
		return usagef("--%s is %d; want at least %d", flag, n, least)
	}
	return nil
}

// helpCommand is cobra's, which succeeds also for what is no command.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Help about a command",
		Example: "  millrace help windows get",
		RunE: func(cmd *cobra.Command, args []string) error {
			about := cmd.Root()
			for _, name := range args {
				next, _, err := about.Find([]string{name})
				if err != nil || next == about {
					return unknownCommand(about, name)
				}
				about = next
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			about, _, err := cmd.Root().Find(args)
			if err != nil {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, sub := range about.Commands() {
				if sub.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
	}
}

// usageTemplate is cobra's without the line for a command that only holds others: it cannot be run alone.
func usageTemplate(cmd *cobra.Command) string {
	return strings.Replace(cmd.UsageTemplate(), "{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1)
}

// asksForJSON reports whether --json is among the arguments, also when they cannot be parsed.
func asksForJSON(root *cobra.Command, args []string) bool {
	if f := root.PersistentFlags().Lookup(jsonFlag); f.Changed {
		return f.Value.String() == "true"
	}
	for _, arg := range args {
		switch arg {
		case "--":
			return false
		case "--" + jsonFlag, fmt.Sprintf("--%s=true", jsonFlag):
			return true
		}
	}
	return false
}

// isNumber reports whether text consists of digits, at least one.
func isNumber(text string) bool { return text != "" && strings.Trim(text, "0123456789") == "" }
