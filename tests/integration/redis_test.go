package integration

import (
	"context"
	"net"
	"os/exec"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/internal/dev"
)

// redisServer is a redis-server process of the test's own that keeps what it has acknowledged, as `everysec` does: after
// a kill it may have forgotten the last second.
type redisServer struct {
	t    *testing.T
	addr string
	args []string
	*process
}

// startRedis skips the test where there is no redis-server. Further arguments go to it.
func startRedis(t *testing.T, args ...string) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("redis-server is not installed, and this test has to kill one")
	}
	port := freePort(t)
	r := &redisServer{t: t, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	r.args = append([]string{
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "",
		"--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
		"--repl-diskless-sync-delay", "0",
	}, args...)
	r.start()
	return r
}

// start starts the process, again after a kill, and returns when it answers with its data loaded.
func (r *redisServer) start() {
	path, err := exec.LookPath("redis-server")
	require.NoError(r.t, err)
	r.process = spawn(r.t, "redis", nil, path, r.args...)
	client := r.client()
	eventually(r.t, "redis-server answers", patience, func() bool {
		return !r.ended() && client.Ping(context.Background()).Err() == nil
	})
}

// client is for the test's own commands, not for millrace.
func (r *redisServer) client() *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: r.addr, MaxRetries: -1})
	r.t.Cleanup(func() { c.Close() })
	return c
}

// anyRedis is a Redis that no other test uses: a process where the system has one, embedded otherwise.
func anyRedis(t *testing.T) (addr string) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err == nil {
		return startRedis(t).addr
	}
	r, err := dev.StartRedis(context.Background(), dev.RedisConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	return r.Addr()
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func split(addr string) (host, port string) {
	host, port, _ = net.SplitHostPort(addr)
	return host, port
}
