// Package servers tries tools/servers.sh: what it takes for its own, and what it leaves alone.
package servers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/tests/rig"
)

// script runs tools/servers.sh with a state directory and ports of the test's own.
type script struct {
	t   *testing.T
	dir string
	env []string
}

func newScript(t *testing.T, port int) *script {
	t.Helper()
	for _, program := range []string{"redis-server", "redis-cli", "bash"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip(program + " is not installed")
		}
	}
	s := &script{t: t, dir: t.TempDir()}
	s.env = append(os.Environ(), "MILLRACE_SERVERS_DIR="+s.dir, fmt.Sprintf("MILLRACE_SERVERS_REDIS_PORT=%d", port),
		fmt.Sprintf("MILLRACE_SERVERS_KAFKA_PORT=%d", rig.FreePort(t)), fmt.Sprintf("MILLRACE_SERVERS_TEMPORAL_PORT=%d", rig.FreePort(t)))
	t.Cleanup(func() { s.run("stop", "redis") })
	return s
}

// run returns what the script says, and its exit code.
func (s *script) run(args ...string) (string, int) {
	s.t.Helper()
	cmd := exec.Command("../../tools/servers.sh", args...)
	cmd.Env = s.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		require.IsType(s.t, &exec.ExitError{}, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (s *script) must(args ...string) string {
	s.t.Helper()
	out, code := s.run(args...)
	require.Zero(s.t, code, out)
	return out
}

// refused expects one line, and that nothing was done.
func (s *script) refused(says string, args ...string) {
	s.t.Helper()
	out, code := s.run(args...)
	require.Equal(s.t, 1, code, out)
	require.Contains(s.t, out, says)
	require.Equal(s.t, 1, strings.Count(out, "\n"), out)
}

// stranger is a Redis that somebody else has started on the port, with a key that must survive.
func stranger(t *testing.T, port int) *redis.Client {
	t.Helper()
	cmd := exec.Command("redis-server", "--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "")
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	c := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", port)})
	t.Cleanup(func() { c.Close() })
	require.Eventually(t, func() bool { return c.Set(context.Background(), "precious", "1", 0).Err() == nil },
		20*time.Second, 50*time.Millisecond)
	return c
}

func TestAForeignServerIsLeftAlone(t *testing.T) {
	port := rig.FreePort(t)
	s := newScript(t, port)
	foreign := stranger(t, port)
	const left = "is not the redis that was started here; it is left alone. " +
		"Stop it, or choose another port with MILLRACE_SERVERS_REDIS_PORT"
	s.refused(left, "start", "redis")
	s.refused(left, "restart", "redis")
	s.refused(left, "env")
	s.refused("redis is down: start it with", "flush-redis")
	s.must("stop", "redis")
	s.must("kill", "redis")
	require.Contains(t, s.must("status"), fmt.Sprintf("redis is down; port %d is somebody else's", port))
	require.Equal(t, "1", foreign.Get(context.Background(), "precious").Val(), "still there, with its data")
}

// TestAForgedPidFile has a pid file that names a living process, as one that was left by a crash may: somebody else's.
func TestAForgedPidFile(t *testing.T) {
	port := rig.FreePort(t)
	s := newScript(t, port)
	foreign := stranger(t, port)
	info, err := foreign.Info(context.Background(), "server").Result()
	require.NoError(t, err)
	_, pid, _ := strings.Cut(info, "process_id:")
	pid, _, _ = strings.Cut(pid, "\r\n")
	require.NoError(t, os.MkdirAll(filepath.Join(s.dir, "redis"), 0o755))
	for _, text := range []string{pid, pid + " " + strconv.Itoa(port), pid + " " + strconv.Itoa(port) + " then"} {
		require.NoError(t, os.WriteFile(filepath.Join(s.dir, "redis", "pid"), []byte(text+"\n"), 0o600))
		s.refused("redis is down", "flush-redis")
		s.refused("is left alone", "start", "redis")
		s.must("kill", "redis")
		require.Equal(t, "1", foreign.Get(context.Background(), "precious").Val())
	}
}

// TestAStrangerOnThePortOfAServerOfOurs is the last line of defence: our process lives and another server answers.
func TestAStrangerOnThePortOfAServerOfOurs(t *testing.T) {
	ours, theirs := rig.FreePort(t), rig.FreePort(t)
	s := newScript(t, ours)
	s.must("start", "redis")
	foreign := stranger(t, theirs)
	file := filepath.Join(s.dir, "redis", "pid")
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	forged := strings.Replace(string(text), " "+strconv.Itoa(ours)+" ", " "+strconv.Itoa(theirs)+" ", 1)
	require.NotEqual(t, string(text), forged)
	require.NoError(t, os.WriteFile(file, []byte(forged), 0o600))
	s.env = append(s.env, fmt.Sprintf("MILLRACE_SERVERS_REDIS_PORT=%d", theirs))
	s.refused("is left alone", "flush-redis")
	require.Equal(t, "1", foreign.Get(context.Background(), "precious").Val())
	require.NoError(t, os.WriteFile(file, text, 0o600))
	s.refused(fmt.Sprintf("listens on port %d, not on %d: stop it first", ours, theirs), "start", "redis")
}

func TestAServerOfOurs(t *testing.T) {
	port := rig.FreePort(t)
	s := newScript(t, port)
	s.must("start", "redis")
	require.Empty(t, s.must("start", "redis"), "it runs already")
	c := redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", port)})
	defer c.Close()
	require.NoError(t, c.Set(context.Background(), "k", "v", 0).Err())
	require.Contains(t, s.must("env"), fmt.Sprintf("MILLRACE_REDIS_ADDRS=127.0.0.1:%d", port))
	s.must("flush-redis")
	require.Zero(t, c.Exists(context.Background(), "k").Val())
	status := s.must("status")
	_, pid, found := strings.Cut(status, "redis runs, pid ")
	require.True(t, found, status)
	pid, _, _ = strings.Cut(pid, "\n")
	number, err := strconv.Atoi(pid)
	require.NoError(t, err)
	s.must("restart", "redis")
	require.NotContains(t, s.must("status"), "pid "+pid+"\n")
	require.ErrorIs(t, syscall.Kill(number, 0), syscall.ESRCH)
	s.must("kill", "redis")
	require.Contains(t, s.must("status"), "redis is down\n")
}
