package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/admin"
	"millrace/internal/build"
	"millrace/pipeline/breaker"
	"millrace/pipeline/wal"
)

func TestConfigure(t *testing.T) {
	env := map[string]string{"MILLRACE_KAFKA_BROKERS": "k1:9092,k2:9092", "MILLRACE_REDIS_ADDRS": "r:6379",
		"MILLRACE_METRICS_ADDR": ":9464"}
	var out bytes.Buffer
	cfg, err := configure([]string{"--temporal", "t:7233", "--name", "w1", "--redis", "other:6379"},
		func(k string) string { return env[k] }, &out)
	require.NoError(t, err)
	require.Equal(t, []string{"k1:9092", "k2:9092"}, cfg.Kafka.Brokers)
	require.Equal(t, []string{"other:6379"}, cfg.Redis.Addrs, "a flag overrides the environment")
	require.Equal(t, "t:7233", cfg.Temporal.Client.HostPort)
	require.Equal(t, "w1", cfg.Temporal.Worker)
	require.Equal(t, ":9464", cfg.Admin.Addr)
	require.NotNil(t, cfg.Log)
	require.Empty(t, cfg.WAL)
	require.Equal(t, breaker.DefaultThresholds(), cfg.Breaker)

	env["MILLRACE_WAL_DIR"] = "/wal"
	cfg, err = configure([]string{"--name", "w1", "--wal-hard-limit", "1GiB"}, func(k string) string { return env[k] }, &out)
	require.NoError(t, err)
	require.Equal(t, wal.Config{Dir: "/wal", Worker: "w1", HardLimit: 1 << 30}, cfg.WAL)

	cfg, err = configure([]string{"--breaker-open", "30s", "--storm-changes", "9"}, func(k string) string { return env[k] }, &out)
	require.NoError(t, err)
	require.Equal(t, 30*time.Second, cfg.Breaker.OpenFor)
	require.Equal(t, 9, cfg.Storm.Changes)
	cfg, err = configure([]string{"--wal", "/wal", "--wal-aside-age", "2d", "--breaker-open", "1m30s"},
		func(k string) string { return env[k] }, &out)
	require.NoError(t, err)
	require.Equal(t, 48*time.Hour, cfg.WAL.AsideAge)
	require.Equal(t, 90*time.Second, cfg.Breaker.OpenFor)
	_, err = configure([]string{"--breaker-error-window", "30m"}, func(k string) string { return env[k] }, &out)
	require.NoError(t, err)
}

func TestWrongUsage(t *testing.T) {
	none := func(string) string { return "" }
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"help", []string{"--help"}, 0, "--kafka"},
		{"help names what has no flag", []string{"--help"}, 0, "MILLRACE_REDIS_PASSWORD"},
		{"version", []string{"--version"}, 0, "worker " + build.Version() + ", go1."},
		{"password in an address", []string{"--kafka", "k:1", "--redis", "redis://u:hunter2@r:6379"}, 2,
			"it holds a user or a password; want host:port, and the login in MILLRACE_REDIS_USER and MILLRACE_REDIS_PASSWORD"},
		{"password in what is no list", []string{"--redis", `redis://u:hunter2@"r`}, 2, "--redis cannot be read; want host:port"},
		{"probe of nobody", []string{"--probe", "--metrics", "127.0.0.1:1"}, 1, "worker: the worker does not answer: "},
		{"probe of nothing", []string{"--probe"}, 2, "give --metrics HOST:PORT or set MILLRACE_METRICS_ADDR"},
		{"admin address without a port", []string{"--metrics", "localhost"}, 2, `admin: address is "localhost"; want host:port, or a port for loopback`},
		{"unknown flag", []string{"--brokers", "x"}, 2, "unknown flag: --brokers"},
		{"argument", []string{"orders"}, 2, `unexpected argument "orders"`},
		{"limit without a WAL", []string{"--kafka", "k:1", "--redis", "r:1", "--wal-soft-limit", "1GiB"}, 2, "give --wal DIR"},
		{"no share", []string{"--breaker-error-rate", "80"}, 2, "worker: --breaker-error-rate is 80; want a share above 0 and up to 1"},
		{"nothing", []string{"--breaker-error-rate", "0"}, 2, "worker: --breaker-error-rate is 0; want more"},
		{"no storm", []string{"--storm-span", "1ms"}, 2, "--storm-changes is 5 and --storm-span 1ms; want at least 1 and 1s"},
		{"nothing configured", nil, 2, "MILLRACE_KAFKA_BROKERS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			require.Equal(t, tt.code, run(context.Background(), tt.args, none, &out))
			require.Contains(t, out.String(), tt.want)
			require.NotContains(t, out.String(), "hunter2")
		})
	}
}

func TestProbe(t *testing.T) {
	notReady := errors.New("starting")
	server, err := admin.Listen(admin.Config{Addr: "0"}, admin.Answers{Metrics: http.NotFoundHandler(),
		Ready: func() error { return notReady }, Health: func() admin.Health { return admin.Health{} }}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	defer server.Close(context.Background())
	_, port, err := net.SplitHostPort(server.Addr())
	require.NoError(t, err)
	env := map[string]string{"MILLRACE_METRICS_ADDR": ":" + port}
	probed := func() (int, string) {
		var out bytes.Buffer
		return run(t.Context(), []string{"--probe"}, func(k string) string { return env[k] }, &out), out.String()
	}
	code, text := probed()
	require.Equal(t, 1, code)
	require.Equal(t, "worker: the worker is not ready: starting\n", text)
	notReady = nil
	code, text = probed()
	require.Zero(t, code, text)
}
