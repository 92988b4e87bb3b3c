package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

// leaves are all commands that do something, hidden ones left out.
func leaves(cmd *cobra.Command) []*cobra.Command {
	if !cmd.IsAvailableCommand() && cmd.HasParent() {
		return nil
	}
	if !cmd.HasAvailableSubCommands() {
		return []*cobra.Command{cmd}
	}
	var all []*cobra.Command
	if len(placeholders(cmd)) > 0 { // one that does something itself, and has others below it
		all = append(all, cmd)
	}
	for _, sub := range cmd.Commands() {
		all = append(all, leaves(sub)...)
	}
	return all
}

func words(cmd *cobra.Command) []string { return strings.Fields(cmd.CommandPath())[1:] }

// arguments are valid values for what stands in the usage of commands.
var arguments = map[string]string{
	"NAME": "flights", "FILE": flightsSpec, "FILE[.gz]": "none.jsonl", "WORKFLOW": "recover:flights:p:1", "TOPIC/PARTITION": "flights/1",
	"CHOICE": "quarantine", "WINDOW": "hourly", "START": "978307200000", "DIR": "none", "REPLICAS": "2", "SHELL": "bash", "COMMAND": "windows",
	"ID": "fix-1", "CHECKSUM": "c0ffee", "RECORDS": "1000",
}

// TestEveryCommandRefusesWrongUsage holds for commands that are yet to come.
func TestEveryCommandRefusesWrongUsage(t *testing.T) {
	for _, cmd := range leaves(New(io.Discard, io.Discard)) {
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			var args []string
			for _, place := range placeholders(cmd) {
				require.Contains(t, arguments, place)
				args = append(args, arguments[place])
			}
			line := append(words(cmd), args...)
			refused := func(says string, args ...string) {
				t.Helper()
				code, out, errs := millrace(t, args...)
				require.Equal(t, ExitUsage, code, "%q: %s%s", args, out, errs)
				require.Contains(t, errs, says)
				require.Empty(t, out)
			}
			refused("unknown flag: --nonsense", append(line, "--nonsense")...)
			refused(`want true or false`, append(line, "--json=perhaps")...)
			if cmd.Name() != "help" {
				refused(`"surplus" is too much; usage: millrace `, append(line, "surplus")...)
			}
			if len(args) > 0 && !strings.HasPrefix(strings.Fields(cmd.Use)[1], "[") {
				refused(" is missing; usage: "+cmd.CommandPath(), words(cmd)...)
			}
			for i, place := range placeholders(cmd) {
				if place == nameArg {
					wrong := append(words(cmd), args...)
					wrong[len(words(cmd))+i] = "No/Name"
					refused(`pipeline: "No/Name" is not a name; want 1 to 64 of`, wrong...)
				}
			}
		})
	}
}

func TestUnknownCommands(t *testing.T) {
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"statu", ExitUsage, `millrace: millrace has no command "statu"; did you mean status?`},
		{"statu flights --once", ExitUsage, `did you mean status?`},
		{"nonsense", ExitUsage, `millrace has no command "nonsense"; there are archive, bench, codec, compact, completion, `},
		{"windows", ExitUsage, "a command is missing, one of certificates, get, ls; see millrace windows --help"},
		{"windows foo", ExitUsage, `millrace windows has no command "foo"; there are certificates, get, ls`},
		{"windows lss flights", ExitUsage, `did you mean ls?`},
		{"recover", ExitUsage, "a command is missing"},
		{"recover decid", ExitUsage, "did you mean decide?"},
		{"degrade", ExitUsage, "a command is missing"},
		{"degrade opne flights", ExitUsage, "did you mean open?"},
		{"wal list", ExitUsage, `millrace wal has no command "list"`},
		{"spec chek x", ExitUsage, "did you mean check?"},
		{"help nonsense", ExitUsage, `millrace has no command "nonsense"`},
		{"help windows nonsense", ExitUsage, `millrace windows has no command "nonsense"`},
		{"bench fast", ExitUsage, `"fast" is too much`},
		{"completion tcsh", ExitUsage, `SHELL is "tcsh"; want one of bash, zsh, fish`},
		{"windows ls p --widow x", ExitUsage, "unknown flag: --widow; did you mean --window?"},
		{"windows ls p --last many", ExitUsage, `--last is "many"; want a whole number; see millrace windows ls --help`},
		{"windows ls p --last -1", ExitUsage, "--last is -1; want at least 0"},
		{"windows get p w 0 --revision -1", ExitUsage, "--revision is -1; want at least 0"},
		{"windows get p w 0 --key ATL", ExitUsage, `--key is "ATL"; want a JSON object`},
		{"recover ls p --last -1", ExitUsage, "--last is -1; want at least 0"},
		{"wal dump d --limit -1", ExitUsage, "--limit is -1; want at least 0"},
		{"spec preview s --feed f --rows -1", ExitUsage, "--rows is -1; want at least 0"},
		{"dev --kafka-port 70000", ExitUsage, "--kafka-port is 70000; want a port"},
		{"feed x --topic t --create -1", ExitUsage, "--create is -1; want at least 1"},
		{"feed x --topic t --rate -1", ExitUsage, "--rate is -1; want at least 0"},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, out, errs := millrace(t, strings.Fields(c.args)...)
			require.Equal(t, c.code, code, errs)
			require.Contains(t, errs, c.says)
			require.Empty(t, out)
		})
	}
	for _, args := range [][]string{nil, {"help"}, {"help", "windows", "get"}, {"windows", "--help"}, {"--help"}} {
		code, out, errs := millrace(t, args...)
		require.Equal(t, ExitOK, code, errs)
		require.Contains(t, out, "Usage:")
		require.Empty(t, errs)
	}
}

func TestVersion(t *testing.T) {
	code, out, errs := millrace(t, "version")
	require.Equal(t, ExitOK, code, errs)
	require.Regexp(t, `^millrace \S.*, go1\.\S+\n$`, out)
	code, out, errs = millrace(t, "--version")
	require.Equal(t, ExitOK, code, errs)
	require.Regexp(t, `^millrace \S`, out)
	code, out, errs = millrace(t, "version", "--json")
	require.Equal(t, ExitOK, code, errs)
	var v versionView
	require.NoError(t, json.Unmarshal([]byte(out), &v))
	require.NotEmpty(t, v.Version)
}

func TestErrorsAsJSON(t *testing.T) {
	for _, c := range []struct {
		args, want string
	}{
		{"status flights --json", `{"error":"Temporal at 127.0.0.1:1 does not answer: `},
		{"statu --json", `{"error":"millrace has no command \"statu\"; did you mean status?","code":2}`},
		{"windows ls --nonsense --json", `{"error":"unknown flag: --nonsense; see millrace windows ls --help","code":2}`},
		{"windows ls --json", `{"error":"NAME is missing; usage: millrace windows ls NAME [flags]","code":2}`},
		{"wal ls none --json", `{"error":"none holds no log: `},
		{"start none.yaml --json", `{"error":"cannot read the spec: open none.yaml: no such file or directory","code":2}`},
	} {
		code, out, errs := millrace(t, strings.Fields(c.args)...)
		require.Empty(t, out, c.args)
		require.Equal(t, 1, strings.Count(errs, "\n"), errs)
		require.True(t, strings.HasPrefix(errs, c.want), errs)
		var f failure
		require.NoError(t, json.Unmarshal([]byte(errs), &f))
		require.Equal(t, code, f.Code)
	}
}

// jsonList takes a text apart that has to be one JSON array.
func jsonList(t *testing.T, text string) []json.RawMessage {
	t.Helper()
	require.True(t, strings.HasPrefix(text, "["), text)
	var all []json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(text), &all), text)
	return all
}

// terminalRun runs a command against the servers of a running `millrace dev`.
type terminalRun func(args ...string) (code int, out, errs string)

// unknownPipelines checks that no command takes a pipeline that does not exist for one that has nothing.
func unknownPipelines(t *testing.T, run terminalRun) {
	for _, cmd := range leaves(New(io.Discard, io.Discard)) {
		places := placeholders(cmd)
		if len(places) == 0 || places[0] != nameArg {
			continue
		}
		args := words(cmd)
		for _, place := range places {
			args = append(args, arguments[place])
		}
		args[len(words(cmd))] = "fligths"
		switch cmd.CommandPath() {
		case "millrace rm":
			args = append(args, "--dry-run")
		case "millrace watermark reset":
			args = append(args, "--from", "latest", "--dry-run")
		case "millrace compact backfill":
			args = append(args, "--from", "2001-01-01T00:00:00Z", "--to", "2001-01-02T00:00:00Z")
		case "millrace wal decide":
			args = append(args, "--disk", "none")
		case "millrace replay", "millrace recount":
			args = append(args, "--from", "0", "--to", "3600000")
		case "millrace recount schedule":
			args = append(args, "--every", "1d")
		}
		for _, form := range []string{"--json=false", "--json"} {
			code, out, errs := run(append(args, form)...)
			require.Equal(t, ExitFailed, code, "%s: %s%s", strings.Join(args, " "), out, errs)
			require.Contains(t, errs, "fligths", fmt.Sprint(args))
		}
	}
	for _, args := range []string{"status fligths", "flush fligths", "recover ls fligths", "degrade status fligths"} {
		_, _, errs := run(strings.Fields(args)...)
		require.Contains(t, errs, "did you mean flights?", args)
	}
	code, _, errs := run("recover", "show", "recover:flights:nobody:1")
	require.Equal(t, ExitFailed, code, errs)
}

// lists checks that what lists something prints one array, however much there is.
func lists(t *testing.T, run terminalRun) {
	for line, least := range map[string]int{
		"status": 1, "degrade status flights": 0, "recover ls flights": 1, "replay ls flights": 0, "windows ls flights": 0,
		"windows ls flights --window hourly": 0,
	} {
		code, out, errs := run(append(strings.Fields(line), "--json")...)
		require.Equal(t, ExitOK, code, errs)
		require.GreaterOrEqual(t, len(jsonList(t, out)), least, line)
		require.NotContains(t, out, ":null", line)
	}
}
