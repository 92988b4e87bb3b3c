package cli

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"millrace/internal/connect"
)

// TestEveryArgumentIsCompleted holds for commands that are yet to come.
func TestEveryArgumentIsCompleted(t *testing.T) {
	for _, cmd := range leaves(New(io.Discard, io.Discard)) {
		for _, place := range placeholders(cmd) {
			require.Contains(t, argumentCompleters, place, "%s: say in argumentCompleters how %s is completed", cmd.CommandPath(), place)
		}
	}
}

func TestPlaceholders(t *testing.T) {
	for use, want := range map[string][]string{
		"x": nil, "x NAME": {"NAME"}, "x [NAME]": {"NAME"}, "x DIR --before INDEX": {"DIR"}, "x NAME CHOICE --disk ID": {"NAME", "CHOICE"},
		"x FILE[.gz]": {"FILE[.gz]"},
	} {
		require.Equal(t, want, placeholders(&cobra.Command{Use: use}), use)
	}
}

// TestCompletionIsSilentWithoutServers also holds its bound: an address that swallows everything must not hold the shell.
func TestCompletionIsSilentWithoutServers(t *testing.T) {
	t.Setenv("CLI_TEST_"+connect.EnvKafkaBrokers, "127.0.0.1:1")
	swallows, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer swallows.Close()
	hole := swallows.Addr().String()
	for _, servers := range [][]string{nil, {"--temporal", hole, "--kafka", hole}} {
		for _, line := range []string{
			"status", "windows ls", "recover show", "recover decide w", "recover decide w t/1", "windows get flights", "windows get flights hourly",
		} {
			args := append([]string{"__complete"}, strings.Fields(line)...)
			began := time.Now()
			code, out, errs := millrace(t, append(append(args, servers...), "")...)
			require.Equal(t, ExitOK, code, errs)
			require.Less(t, time.Since(began), completionTimeout+time.Second, line)
			require.True(t, strings.HasPrefix(out, ":"), "%s offers %s", line, out)
			require.NotContains(t, errs, "does not answer")
		}
	}
}

func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		code, out, errs := millrace(t, "completion", shell)
		require.Equal(t, ExitOK, code, errs)
		require.Contains(t, out, "__complete")
	}
	_, out, _ := millrace(t, "__complete", "completion", "")
	require.Contains(t, out, "bash\nzsh\nfish\n")
	_, out, _ = millrace(t, "__complete", "help", "windows", "")
	require.Contains(t, out, "get\tPrint the rows of one window\n")
	_, out, _ = millrace(t, "__complete", "start", "")
	require.Contains(t, out, "yaml\n")
	_, out, _ = millrace(t, "__complete", "wal", "decide", "p", "")
	require.Contains(t, out, "quarantine\nabort\n")
}

// completions asks the servers of a running `millrace dev`.
func completions(t *testing.T, run terminalRun, servers ...string) {
	for line, want := range map[string]string{
		"status": "flights\n", "verify": "flights\n", "windows get flights": "hourly\n", "windows ls flights --window": "hourly\n",
		"recover show": "recover:flights:", "feed x --topic": "flights\n", "windows get flights hourly": "2001-01-01T00:00:00Z\n",
	} {
		if strings.HasSuffix(line, "hourly") {
			require.Eventually(t, func() bool {
				_, out, _ := run("windows", "ls", "flights", "--json")
				return strings.Contains(out, `"start":"2001-01-01T00:00:00Z"`)
			}, time.Minute, 200*time.Millisecond)
		}
		args := append([]string{"__complete"}, servers...) // the last word is what is completed
		_, out, errs := millrace(t, append(append(args, strings.Fields(line)...), "")...)
		require.Contains(t, out, want, "%s: %s", line, errs)
	}
}
