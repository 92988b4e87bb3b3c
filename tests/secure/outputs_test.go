package secure

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/workflowservice/v1"

	"millrace/internal/dev"
	"millrace/tests/rig"
)

// workerConfig runs a subcommand of `worker config` with what the workers are told.
func (s *secured) workerConfig(command string) string {
	s.T.Helper()
	a := rig.RunProgram(s.T, append(s.Env(), "MILLRACE_WAL_DIR="+s.wal, "MILLRACE_METRICS_ADDR="+s.admin), "worker", "config", command)
	require.Zero(s.T, a.Code, "%s%s", a.Out, a.Err)
	return a.Out + a.Err
}

// metrics remembers what the admin address says, to those who have its token and to others.
func (s *secured) metrics() {
	s.T.Helper()
	for _, path := range []string{"/metrics", "/healthz", "/readyz", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2"} {
		for _, token := range []string{"", s.secrets.plant("admin token")} {
			request, err := http.NewRequest(http.MethodGet, "http://"+s.admin+path, nil)
			require.NoError(s.T, err)
			if token != "" {
				request.Header.Set("Authorization", "Bearer "+token)
			}
			answer, err := http.DefaultClient.Do(request)
			require.NoError(s.T, err)
			body, err := io.ReadAll(answer.Body)
			require.NoError(s.T, err)
			answer.Body.Close()
			if path == "/metrics" {
				want := http.StatusUnauthorized
				if token != "" {
					want = http.StatusOK
				}
				require.Equal(s.T, want, answer.StatusCode)
			}
			s.outputs[fmt.Sprintf("%s, token %t", path, token != "")] = fmt.Sprint(answer.Header) + string(body)
		}
	}
}

// histories remembers every workflow as Temporal's own command line shows it: as Temporal has it, and decrypted.
func (s *secured) histories() {
	s.T.Helper()
	ctx := context.Background()
	temporal, err := dev.FindTemporal(ctx, "", func(string) {})
	require.NoError(s.T, err)
	token, addr := s.secrets.plant("codec token"), fmt.Sprintf("127.0.0.1:%d", rig.FreePort(s.T))
	file := filepath.Join(s.T.TempDir(), "token")
	require.NoError(s.T, os.WriteFile(file, []byte(token), 0o600))
	millrace, err := rig.Binary("millrace")
	require.NoError(s.T, err)
	codec := rig.Spawn(s.T, rig.Program{
		Name: "codec", Path: millrace, Args: []string{"codec", "serve", "--listen", addr, "--token-file", file}, Env: s.Env(),
	})
	rig.Eventually(s.T, "the codec is served", rig.Patience, func() bool { return codec.SaidOf("decrypting at") > 0 })
	namespace := ""
	for _, v := range s.Env() {
		if name, value, _ := strings.Cut(v, "="); name == "TEMPORAL_NAMESPACE" {
			namespace = value
		}
	}
	list, err := s.Client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: namespace})
	require.NoError(s.T, err)
	require.NotEmpty(s.T, list.GetExecutions())
	show := func(id string, more ...string) string {
		cmd := exec.Command(temporal, append([]string{"workflow", "show", "--address", s.plain, "--namespace", namespace,
			"--workflow-id", id, "--output", "json"}, more...)...)
		cmd.Env = append(os.Environ(), "TEMPORAL_CODEC_AUTH=Bearer "+token)
		out, err := cmd.CombinedOutput()
		require.NoError(s.T, err, "%s", out)
		return string(out) + payloads(string(out))
	}
	for _, one := range list.GetExecutions() {
		id := one.GetExecution().GetWorkflowId()
		s.outputs["history of "+id] = show(id)
		s.outputs["decrypted history of "+id] = show(id, "--codec-endpoint", "http://"+addr)
	}
	id := "pipeline:" + s.Spec.Name
	require.NotContains(s.T, s.outputs["history of "+id], s.Spec.Late.Kafka.Topic, "it is encrypted")
	require.Contains(s.T, s.outputs["decrypted history of "+id], s.Spec.Late.Kafka.Topic)
}

var payload = regexp.MustCompile(`"data": *"([A-Za-z0-9+/=]+)"`)

// payloads are those of a history in JSON, which shows them in base64.
func payloads(history string) string {
	var all strings.Builder
	for _, data := range payload.FindAllStringSubmatch(history, -1) {
		text, err := base64.StdEncoding.DecodeString(data[1])
		if err == nil {
			all.Write(text)
			all.WriteByte('\n')
		}
	}
	return all.String()
}

// allFiles is the content of all files below a directory.
func allFiles(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	files := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		files++
		return err
	}))
	require.Positive(t, files)
	return all.String()
}

// arguments looks at the arguments of all processes again and again.
type arguments struct {
	stop, done chan struct{}
	once       sync.Once
	leaks      map[string]bool
	seen       int // processes
}

func watchArguments(secrets *planted) *arguments {
	a := &arguments{stop: make(chan struct{}), done: make(chan struct{}), leaks: make(map[string]bool)}
	go func() {
		defer close(a.done)
		seen := make(map[string]bool)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil || len(text) == 0 {
					continue
				}
				seen[file] = true
				if names := secrets.in(string(text)); names != nil {
					a.leaks[fmt.Sprint(names)] = true
				}
			}
			a.seen = len(seen)
			select {
			case <-tick.C:
			case <-a.stop:
				return
			}
		}
	}()
	return a
}

// end returns which secrets were seen.
func (a *arguments) end() (leaks []string) {
	a.once.Do(func() { close(a.stop) })
	<-a.done
	for names := range a.leaks {
		leaks = append(leaks, names)
	}
	return leaks
}
