// Package storetest runs tests against in-process and real Redis servers, and injects faults between a store and its
// server: calls that never arrive, answers that are lost, calls held back, and servers that forget what they acknowledged.
package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
)

// Each runs fn as a subtest against an empty server of every kind there is: in-process, a redis-server process, and a
// redis-server process in Cluster mode. The real ones are skipped where redis-server is not installed.
func Each(t *testing.T, fn func(t *testing.T, client redis.UniversalClient)) {
	t.Run("miniredis", func(t *testing.T) {
		fn(t, Client(t, miniredis.RunT(t).Addr(), false))
	})
	t.Run("redis", func(t *testing.T) {
		fn(t, sharedClient(t, &shared.redis, false))
	})
	t.Run("cluster", func(t *testing.T) {
		fn(t, sharedClient(t, &shared.cluster, true))
	})
}

// patience is how long a test's client waits for an answer: a machine that runs many tests may take
// seconds for one.
const patience = time.Minute

// Client returns a client as the worker would make it but for its patience, closed with the test.
func Client(t testing.TB, addr string, cluster bool) redis.UniversalClient {
	cfg := store.DefaultConfig()
	cfg.Addrs = []string{addr}
	cfg.ReadTimeout, cfg.WriteTimeout, cfg.PoolTimeout = patience, patience, patience
	if cluster {
		cfg.Mode = store.Cluster
	}
	client, err := store.NewClient(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// StartRedis starts a redis-server without persistence on a free loopback port, stopped with the test, and returns its
// address. Further arguments go to redis-server. The test is skipped where it is not installed.
func StartRedis(t testing.TB, args ...string) string {
	srv := launch(t, t.TempDir(), args...)
	t.Cleanup(srv.stop)
	return srv.addr
}

// StartCluster is StartRedis for a Cluster of one node that owns all slots.
func StartCluster(t testing.TB) string {
	srv := launchCluster(t, t.TempDir())
	t.Cleanup(srv.stop)
	return srv.addr
}

type server struct {
	addr string
	dir  string
	cmd  *exec.Cmd
}

func launch(t testing.TB, dir string, args ...string) *server {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed")
	}
	port := FreePort(t)
	args = append([]string{
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
		"--dir", dir, "--maxmemory-policy", "noeviction", "--repl-diskless-sync-delay", "0",
	}, args...)
	srv := &server{addr: fmt.Sprintf("127.0.0.1:%d", port), dir: dir, cmd: exec.Command(path, args...)}
	require.NoError(t, srv.cmd.Start())
	client := redis.NewClient(&redis.Options{Addr: srv.addr, MaxRetries: -1})
	defer client.Close()
	for deadline := time.Now().Add(10 * time.Second); client.Ping(context.Background()).Err() != nil; runtime.Gosched() {
		if time.Now().After(deadline) {
			srv.stop()
			t.Fatalf("redis-server at %s does not answer", srv.addr)
		}
	}
	return srv
}

func launchCluster(t testing.TB, dir string, args ...string) *server {
	srv := launch(t, dir, append(args, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(FreePort(t)))...)
	client := redis.NewClient(&redis.Options{Addr: srv.addr})
	defer client.Close()
	ctx := context.Background()
	require.NoError(t, client.ClusterAddSlotsRange(ctx, 0, 16383).Err())
	require.Eventually(t, func() bool { return client.Set(ctx, "ready", "", time.Millisecond).Err() == nil },
		10*time.Second, 10*time.Millisecond, "the cluster does not become ready")
	return srv
}

func (s *server) stop() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// Ports that FreePort looks among: below those that systems give to whoever asks for any port, so that nobody is given
// one before it is used.
const (
	firstPort = 20_000
	portCount = 10_000
)

// portsAsked begins somewhere, for test processes run side by side.
var portsAsked atomic.Uint32

func init() { portsAsked.Store(rand.Uint32N(portCount)) }

// FreePort is a port of the loopback interface that nobody listens on now. It is another one each time.
func FreePort(t testing.TB) int {
	t.Helper()
	for range portCount {
		port := firstPort + int(portsAsked.Add(1)%portCount)
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			require.NoError(t, l.Close())
			return port
		}
	}
	require.FailNow(t, "no port is free", "%d to %d", firstPort, firstPort+portCount-1)
	return 0
}
