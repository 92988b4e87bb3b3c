package dev

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

func dialTemporal(t *testing.T, s *Temporal) client.Client {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: s.Addr(), Namespace: s.Namespace(), Logger: log.NewStructuredLogger(discard)})
	require.NoError(t, err)
	return c
}

func greet(_ workflow.Context, name string) (string, error) { return "hello " + name, nil }

func TestTemporalRunsWorkflowsAndKeepsThem(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the Temporal server")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute) // the first run may build the server
	defer cancel()
	dir := t.TempDir()
	cfg := TemporalConfig{DataDir: dir, Namespace: "millrace", Notice: func(line string) { t.Log(line) }}
	s, err := StartTemporal(ctx, cfg)
	require.NoError(t, err)
	defer s.Close()
	require.Positive(t, s.Pid())

	c := dialTemporal(t, s)
	w := worker.New(c, "greetings", worker.Options{})
	w.RegisterWorkflow(greet)
	require.NoError(t, w.Start())
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "greet:1", TaskQueue: "greetings"}, greet, "world")
	require.NoError(t, err)
	var got string
	require.NoError(t, run.Get(ctx, &got))
	require.Equal(t, "hello world", got)
	w.Stop()

	described, err := c.WorkflowService().DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: "millrace"})
	require.NoError(t, err)
	require.Equal(t, 30*24*time.Hour, described.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration())
	c.Close()
	requirePage(t, s.UIURL())

	_, err = lockFile(ctx, dir, 0)
	require.ErrorIs(t, err, ErrInUse)
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "closing twice is harmless")
	<-s.Done()

	again, err := StartTemporal(ctx, cfg)
	require.NoError(t, err)
	defer again.Close()
	c = dialTemporal(t, again)
	defer c.Close()
	kept, err := c.DescribeWorkflowExecution(ctx, "greet:1", "")
	require.NoError(t, err)
	require.Equal(t, enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, kept.GetWorkflowExecutionInfo().GetStatus())

	require.NoError(t, again.Kill())
	require.NoError(t, again.Close())
	log, err := os.ReadFile(filepath.Join(dir, "temporal.log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "Server:")
}

func requirePage(t *testing.T, url string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
}

func TestTemporalEndsAtOnceWithAReason(t *testing.T) {
	script := filepath.Join(t.TempDir(), "temporal")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\necho no such flag >&2\nexit 3\n"), 0o755))
	_, err := StartTemporal(t.Context(), TemporalConfig{Binary: script})
	require.ErrorContains(t, err, "no such flag")
	require.ErrorContains(t, err, "exit status 3")
	require.NotContains(t, err.Error(), "\n")
}

func TestTemporalThatDoesNotStopIsKilled(t *testing.T) {
	script := filepath.Join(t.TempDir(), "stubborn")
	require.NoError(t, os.WriteFile(script, []byte("#!/bin/sh\ntrap '' TERM\necho ready\nsleep 600\n"), 0o755))
	ready := make(chan struct{}, 1)
	c, err := startChild(command(script, notify(ready)))
	require.NoError(t, err)
	<-ready
	require.ErrorContains(t, c.stop(50*time.Millisecond), "was killed")
}

func TestFindTemporal(t *testing.T) {
	quiet := func(string) {}
	_, err := FindTemporal(t.Context(), filepath.Join(t.TempDir(), "none"), quiet)
	require.ErrorIs(t, err, ErrNoTemporal)

	dir := t.TempDir()
	path := filepath.Join(dir, "temporal")
	t.Setenv("PATH", dir)
	for version, used := range map[string]bool{"1.5.0": false, "1.5.1": true, "1.10.0": true, "2.0.0": true, "0.0.0-DEV": false} {
		text := "#!/bin/sh\necho 'temporal version " + version + " (Server 1.29.1, UI 2.42.1)'\n"
		require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
		require.Equal(t, used, recentEnough(t.Context(), path), version)
	}
}

func TestChoosePorts(t *testing.T) {
	ports, err := choosePorts(t.Context(), 0, 7233, 0)
	require.NoError(t, err)
	require.Equal(t, 7233, ports[1])
	require.NotZero(t, ports[0])
	require.NotZero(t, ports[2])
	require.NotEqual(t, ports[0], ports[2])
}
