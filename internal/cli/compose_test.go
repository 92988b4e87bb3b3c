package cli

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const (
	composeFile = "../../docker-compose.yaml"
	composeRun  = "docker compose run --rm millrace "
)

// composeService is what the tests look at of a service.
type composeService struct {
	Image       string
	Build       string
	Profiles    []string
	Entrypoint  []string
	Command     []string
	Ports       []string
	Volumes     []string
	User        string
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	SecurityOpt []string `yaml:"security_opt"`
	Tmpfs       []string
	Environment map[string]string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Healthcheck struct{ Test []string }
}

func readCompose(t *testing.T) (services map[string]composeService, commands [][]string) {
	t.Helper()
	text, err := os.ReadFile(composeFile)
	require.NoError(t, err)
	var file struct{ Services map[string]composeService }
	require.NoError(t, yaml.Unmarshal(text, &file))
	for _, line := range strings.Split(string(text), "\n") {
		if _, command, ok := strings.Cut(line, composeRun); ok && !strings.Contains(command, "COMMAND") {
			commands = append(commands, strings.Fields(command))
		}
	}
	return file.Services, commands
}

func TestComposeFile(t *testing.T) {
	services, commands := readCompose(t)
	worker, tool := services["worker"], services["millrace"]
	require.Len(t, commands, 3)
	require.Equal(t, []string{"/millrace"}, tool.Entrypoint)
	require.NotEmpty(t, tool.Profiles, "it is not started with the servers")
	require.Equal(t, "millrace", tool.Image)
	require.Equal(t, tool.Image, worker.Image)
	for name, value := range tool.Environment {
		require.Equal(t, value, worker.Environment[name], "the worker and the command line use the same servers")
	}
	for name, service := range services {
		for on, how := range service.DependsOn {
			require.Contains(t, services, on, name)
			require.Equal(t, "service_healthy", how.Condition)
			require.NotEmpty(t, services[on].Healthcheck.Test, "%s waits for the health of %s", name, on)
		}
		for _, port := range service.Ports {
			require.Regexp(t, `^127\.0\.0\.1:`, port, "%s listens on loopback only", name)
		}
	}
	for name, service := range map[string]composeService{"worker": worker, "millrace": tool} {
		require.Equal(t, "65532:65532", service.User, "%s runs as a user without rights", name)
		require.True(t, service.ReadOnly, "%s writes volumes only", name)
		require.Equal(t, []string{"ALL"}, service.CapDrop, name)
		require.Equal(t, []string{"no-new-privileges:true"}, service.SecurityOpt, name)
		require.Len(t, service.Tmpfs, 1, name)
	}
	require.Equal(t, []string{"CMD", "/worker", "--probe"}, worker.Healthcheck.Test)
	port, everywhere := strings.CutPrefix(worker.Environment["MILLRACE_METRICS_ADDR"], "0.0.0.0:")
	require.True(t, everywhere, "loopback in a container is reached by nobody")
	require.True(t, slices.ContainsFunc(worker.Ports, func(p string) bool { return strings.HasSuffix(p, ":"+port) }))

	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	for _, command := range commands {
		require.Contains(t, string(readme), composeRun+strings.Join(command, " "))
	}
	docker, err := os.ReadFile("../../Dockerfile")
	require.NoError(t, err)
	require.Contains(t, string(docker), "COPY --from=build /src/examples /examples\n")
	ignored, err := os.ReadFile("../../.dockerignore")
	require.NoError(t, err)
	require.NotRegexp(t, `(?m)^examples`, string(ignored))
}

// TestComposeCommandsShowWindows runs what the file's head says, with the files of the image where they are here.
func TestComposeCommandsShowWindows(t *testing.T) {
	_, commands := readCompose(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var out, errs lockedBuffer
	ended := make(chan int, 1)
	go func() { ended <- Main(ctx, []string{"dev", "--dir", t.TempDir()}, &out, &errs) }()
	export := regexp.MustCompile(`export MILLRACE_KAFKA_BROKERS=(\S+) MILLRACE_REDIS_ADDRS=(\S+) TEMPORAL_ADDRESS=(\S+)`)
	require.Eventually(t, func() bool { return export.MatchString(errs.String()) }, time.Minute, 50*time.Millisecond, errs.String)
	at := export.FindStringSubmatch(errs.String())
	run := func(args ...string) (int, string, string) {
		return millrace(t, append(args, "--kafka", at[1], "--redis", at[2], "--temporal", at[3])...)
	}
	for i, command := range commands {
		args := slices.Clone(command)
		for j := range args {
			args[j] = strings.Replace(args[j], "/examples/", filepath.Join("..", "..", "examples")+"/", 1)
		}
		if i < len(commands)-1 {
			require.Eventually(t, func() bool {
				code, text, problem := run(args...)
				if code == ExitUnreachable { // the worker is on its way; compose waits for its health
					return false
				}
				require.Equal(t, ExitOK, code, text+problem)
				return true
			}, time.Minute, 200*time.Millisecond)
			continue
		}
		require.Eventually(t, func() bool {
			code, text, _ := run(append(args, "--json")...)
			var rows []json.RawMessage
			return code == ExitOK && json.Unmarshal([]byte(text), &rows) == nil && len(rows) == 10
		}, 2*time.Minute, 500*time.Millisecond, "the last command never showed windows")
	}
	interrupt()
	require.Equal(t, ExitOK, <-ended, errs.String())
}
