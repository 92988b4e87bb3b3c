package rig

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/internal/dev"
	"millrace/pipeline/store/storetest"
)

// Redis is a redis-server process of the test's own that keeps what it has acknowledged, as `everysec` does: after a
// kill it may have forgotten the last second.
type Redis struct {
	t    *testing.T
	Addr string
	dir  string
	args []string
	*Process
}

// StartRedis skips the test where there is no redis-server. Further arguments go to it.
func StartRedis(t *testing.T, args ...string) *Redis {
	t.Helper()
	if !HaveRedis() {
		t.Skip("redis-server is not installed, and this test has to kill one")
	}
	port := FreePort(t)
	r := &Redis{t: t, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), dir: t.TempDir()}
	r.args = append([]string{
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", r.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
		"--repl-diskless-sync-delay", "0",
	}, args...)
	r.Start()
	return r
}

// HaveRedis tells whether the system has a redis-server.
func HaveRedis() bool {
	_, err := exec.LookPath("redis-server")
	return err == nil
}

// Start starts the process, again after a kill, and returns when it answers with its data loaded.
func (r *Redis) Start() {
	path, err := exec.LookPath("redis-server")
	require.NoError(r.t, err)
	r.Process = Spawn(r.t, Program{Name: "redis", Path: path, Args: r.args})
	client := r.Client()
	Eventually(r.t, "redis-server answers", Patience, func() bool {
		return !r.Ended() && client.Ping(context.Background()).Err() == nil
	})
}

// Wipe deletes the data of a killed process.
func (r *Redis) Wipe() {
	files, err := filepath.Glob(filepath.Join(r.dir, "*"))
	require.NoError(r.t, err)
	for _, file := range files {
		require.NoError(r.t, os.RemoveAll(file))
	}
}

// Client is for the test's own commands, not for millrace.
func (r *Redis) Client() *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: r.Addr, MaxRetries: -1})
	r.t.Cleanup(func() { c.Close() })
	return c
}

// AnyRedis is a Redis that no other test uses: a process where the system has one, embedded otherwise.
func AnyRedis(t *testing.T) (addr string) {
	t.Helper()
	if HaveRedis() {
		return StartRedis(t).Addr
	}
	r, err := dev.StartRedis(context.Background(), dev.RedisConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return r.Addr()
}

// FreePort is a port of the loopback interface that nobody listens on now.
func FreePort(t *testing.T) int { return storetest.FreePort(t) }
