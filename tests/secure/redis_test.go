package secure

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/tests/rig"
)

// node is a redis-server process, or a Sentinel. Everything that it is told stands in a file: arguments are for everybody to read.
type node struct {
	t    *testing.T
	addr string
	args []string
	rdb  *redis.Client // for the test's own commands, not for millrace
	*rig.Process
}

// lock is what a node demands of those who connect. The zero value is a node without TLS.
type lock struct {
	as      identity // what it shows
	ca      string   // PEM file of the authority of clients' certificates
	clients bool     // it wants a certificate of a client
}

// listen are the lines of a configuration that make a node listen there.
func (l lock) listen(port int) []string {
	if l.as.cert == "" {
		return []string{fmt.Sprintf("port %d", port)}
	}
	auth := "no"
	if l.clients {
		auth = "yes"
	}
	return []string{
		"port 0", fmt.Sprintf("tls-port %d", port), "tls-cert-file " + l.as.cert, "tls-key-file " + l.as.key,
		"tls-ca-cert-file " + l.ca, "tls-auth-clients " + auth, "tls-replication yes", "tls-cluster yes",
	}
}

// startNode starts a redis-server that is configured by these lines beside where it listens.
func startNode(t *testing.T, name string, login redis.Options, l lock, lines ...string) *node {
	t.Helper()
	return launch(t, name, login, l, nil, lines)
}

// startSentinel starts a Sentinel that is configured by these lines beside where it listens.
func startSentinel(t *testing.T, name string, login redis.Options, l lock, lines ...string) *node {
	t.Helper()
	return launch(t, name, login, l, []string{"--sentinel"}, lines)
}

func launch(t *testing.T, name string, login redis.Options, l lock, args, lines []string) *node {
	t.Helper()
	if !rig.HaveRedis() {
		t.Skip("redis-server is not installed")
	}
	dir, port := t.TempDir(), rig.FreePort(t)
	n := &node{t: t, addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	login.Addr, login.MaxRetries = n.addr, -1
	n.rdb = redis.NewClient(&login)
	t.Cleanup(func() { n.rdb.Close() })
	text := append(l.listen(port), "bind 127.0.0.1", "dir "+dir)
	if args == nil {
		text = append(text, "save \"\"", "appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction", "repl-diskless-sync-delay 0")
	}
	file := filepath.Join(dir, "redis.conf")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(append(text, lines...), "\n")+"\n"), 0o600))
	n.args = append([]string{file}, args...)
	n.start(name)
	return n
}

func (n *node) start(name string) {
	n.t.Helper()
	path, err := exec.LookPath("redis-server")
	require.NoError(n.t, err)
	n.Process = rig.Spawn(n.t, rig.Program{Name: name, Path: path, Args: n.args})
	rig.Eventually(n.t, name+" answers", rig.Patience, func() bool {
		require.False(n.t, n.Ended(), "%s has ended:\n%s", name, n.Tail(20))
		return n.rdb.Ping(context.Background()).Err() == nil
	})
}

// info is one field of a section of INFO; "" while the node does not answer.
func (n *node) info(section, field string) string {
	text, err := n.rdb.Info(context.Background(), section).Result()
	if err != nil {
		return ""
	}
	_, value, _ := strings.Cut(text, field+":")
	value, _, _ = strings.Cut(value, "\r\n")
	return value
}

// cutReplicas lets no replica follow any more, so that whatever the node acknowledges from now on is lost with it.
func (n *node) cutReplicas() {
	n.t.Helper()
	ctx := context.Background()
	follows := cmp.Or(n.rdb.Options().Username, "default")
	require.NoError(n.t, n.rdb.Do(ctx, "ACL", "SETUSER", follows, "-psync", "-sync").Err())
	require.NoError(n.t, n.rdb.Do(ctx, "CLIENT", "KILL", "TYPE", "replica").Err())
}

func (n *node) hostPort() (host, port string) {
	host, port, err := net.SplitHostPort(n.addr)
	require.NoError(n.t, err)
	return host, port
}
