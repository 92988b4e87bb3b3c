package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/admin"
	"millrace/internal/app"
	"millrace/internal/build"
	"millrace/internal/settings"
	"millrace/pipeline/breaker"
	"millrace/pipeline/merge"
	"millrace/pipeline/wal"
)

// configure is a worker with these arguments and variables.
func configure(args []string, env map[string]string) (app.Config, error) {
	a, err := parse(args, func(k string) string { return env[k] }, io.Discard)
	if err != nil {
		return app.Config{}, err
	}
	return settled(a.options)
}

func TestConfigure(t *testing.T) {
	env := map[string]string{"MILLRACE_KAFKA_BROKERS": "k1:9092,k2:9092", "MILLRACE_REDIS_ADDRS": "r:6379",
		"MILLRACE_METRICS_ADDR": ":9464"}
	cfg, err := configure([]string{"--temporal", "t:7233", "--name", "w1", "--redis", "other:6379"}, env)
	require.NoError(t, err)
	require.Equal(t, []string{"k1:9092", "k2:9092"}, cfg.Kafka.Brokers)
	require.Equal(t, []string{"other:6379"}, cfg.Redis.Addrs, "a flag overrides the environment")
	require.Equal(t, "t:7233", cfg.Temporal.Client.HostPort)
	require.Equal(t, "w1", cfg.Temporal.Worker)
	require.EqualValues(t, merge.DefaultCacheBytes, cfg.MergeCache)
	require.Equal(t, ":9464", cfg.Admin.Addr)
	require.Empty(t, cfg.WAL)
	require.Equal(t, breaker.DefaultThresholds(), cfg.Breaker)

	env["MILLRACE_WAL_DIR"] = "/wal"
	cfg, err = configure([]string{"--name", "w1", "--wal-hard-limit", "1GiB"}, env)
	require.NoError(t, err)
	require.Equal(t, wal.Config{Dir: "/wal", Worker: "w1", HardLimit: 1 << 30}, cfg.WAL)

	cfg, err = configure([]string{"--breaker-open", "30s", "--storm-changes", "9"}, env)
	require.NoError(t, err)
	require.Equal(t, 30*time.Second, cfg.Breaker.OpenFor)
	require.Equal(t, 9, cfg.Storm.Changes)
	cfg, err = configure([]string{"--wal", "/wal", "--wal-aside-age", "2d", "--breaker-open", "1m30s"}, env)
	require.NoError(t, err)
	require.Equal(t, 48*time.Hour, cfg.WAL.AsideAge)
	require.Equal(t, 90*time.Second, cfg.Breaker.OpenFor)
	cfg, err = configure([]string{"--merge-cache", "0"}, env)
	require.NoError(t, err)
	require.Zero(t, cfg.MergeCache)
	_, err = configure([]string{"--breaker-error-window", "30m"}, env)
	require.NoError(t, err)
}

// TestDefaultsOfTheTable holds what the table says to what is in force.
func TestDefaultsOfTheTable(t *testing.T) {
	var out strings.Builder
	require.Zero(t, run(t.Context(), []string{"config", "print"}, func(string) string { return "" }, &out, &out))
	limit := settings.Size(app.DefaultReportsLimit)
	require.Regexp(t, `(?m)^worker\.reports_limit +`+limit.String()+` +default$`, out.String())
}

func TestConfigCommands(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "millrace.yaml")
	require.NoError(t, os.WriteFile(file, []byte("kafka: {brokers: [k:1]}\nredis: {addrs: [r:1], password: hunter2}\n"), 0o600))
	env := map[string]string{"MILLRACE_CONFIG": file, "MILLRACE_REDIS_DB": "3"}
	asked := func(args ...string) (int, string, string) {
		var out, errs strings.Builder
		code := run(t.Context(), args, func(k string) string { return env[k] }, &out, &errs)
		return code, out.String(), errs.String()
	}
	code, out, errs := asked("config", "check")
	require.Zero(t, code, errs)
	require.Contains(t, out, "the settings are valid")

	code, out, errs = asked("config", "print", "--name", "w1")
	require.Zero(t, code, errs)
	require.Regexp(t, `(?m)^kafka\.brokers +k:1 +`+regexp.QuoteMeta(file)+`:1$`, out)
	require.Regexp(t, `(?m)^redis\.password +\(set\) +`+regexp.QuoteMeta(file)+`:2$`, out)
	require.Regexp(t, `(?m)^redis\.db +3 +MILLRACE_REDIS_DB$`, out)
	require.Regexp(t, `(?m)^worker\.name +w1 +--name$`, out)
	require.NotContains(t, out, "hunter2")

	env["MILLRACE_KAFKA_CA"], env["MILLRACE_WAL_SOFT_LIMIT"] = filepath.Join(dir, "none.pem"), "1GiB"
	code, _, errs = asked("config", "check")
	require.Equal(t, 2, code)
	require.Regexp(t, `(?m)^worker: kafka tls: CA file: open .*none.pem`, errs)
	require.Regexp(t, `(?m)^worker: WAL limits without a directory`, errs)
	require.Equal(t, 2, strings.Count(errs, "\n"), errs)

	code, _, errs = asked("config", "show")
	require.Equal(t, 2, code)
	require.Contains(t, errs, "want config check or config print")
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
			"it holds a user or a password; want host:port, and the login in redis.user and redis.password"},
		{"password in what is no list", []string{"--kafka", "k:1", "--redis", `redis://u:hunter2@"r`}, 2, "it holds a user or a password"},
		{"probe of nobody", []string{"--probe", "--metrics", "127.0.0.1:1"}, 1, "worker: the worker does not answer: "},
		{"probe of nothing", []string{"--probe"}, 2, "give --metrics HOST:PORT or set MILLRACE_METRICS_ADDR"},
		{"admin address without a port", []string{"--metrics", "localhost"}, 2, `admin: address is "localhost"; want host:port, or a port for loopback`},
		{"unknown flag", []string{"--brokers", "x"}, 2, "unknown flag: --brokers"},
		{"argument", []string{"orders"}, 2, `unexpected argument "orders"`},
		{"limit without a WAL", []string{"--kafka", "k:1", "--redis", "r:1", "--wal-soft-limit", "1GiB"}, 2, "give --wal DIR"},
		{"no share", []string{"--breaker-error-rate", "80"}, 2, `worker: --breaker-error-rate: "80" is not valid; want a share above 0 and up to 1`},
		{"nothing", []string{"--breaker-error-rate", "0"}, 2, `worker: --breaker-error-rate: "0" is not valid; want a share`},
		{"no storm", []string{"--storm-span", "1ms"}, 2, "--storm-span: 1ms is out of range; want a duration from 1s to 1d"},
		{"nothing configured", nil, 2, "MILLRACE_KAFKA_BROKERS"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			require.Equal(t, tt.code, run(t.Context(), tt.args, none, &out, &out))
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
		code := run(t.Context(), []string{"--probe"}, func(k string) string { return env[k] }, &out, &out)
		return code, out.String()
	}
	code, text := probed()
	require.Equal(t, 1, code)
	require.Equal(t, "worker: the worker is not ready: starting\n", text)
	notReady = nil
	code, text = probed()
	require.Zero(t, code, text)
}
