package connect

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"millrace/internal/settings"
	"millrace/pipeline/store"
)

// read returns the options that a worker has with these variables, arguments and configuration file.
func read(t *testing.T, env map[string]string, file string, args ...string) (*Options, error) {
	t.Helper()
	o := New()
	flags := pflag.NewFlagSet("t", pflag.ContinueOnError)
	o.AddFlags(flags, true)
	if file != "" {
		path := filepath.Join(t.TempDir(), "millrace.yaml")
		require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
		args = append(args, "--config", path)
	}
	require.NoError(t, flags.Parse(args))
	return o, o.Resolve(flags, func(name string) string { return env[name] }, true)
}

func TestEnvironmentAndFlags(t *testing.T) {
	o, err := read(t, map[string]string{
		EnvKafkaBrokers: "a:1, b:2", "MILLRACE_KAFKA_CA": "/ca.pem", "MILLRACE_KAFKA_SASL": "scram-sha-256",
		"MILLRACE_KAFKA_USER": "u", "MILLRACE_KAFKA_PASSWORD": "p", EnvRedisAddrs: "r:3", "MILLRACE_REDIS_PASSWORD": "q", "MILLRACE_REDIS_TLS": "1",
	}, "", "--redis", "x:4,y:5", "--temporal", "t:7233")
	require.NoError(t, err)
	kafka, err := o.KafkaConfig()
	require.NoError(t, err)
	require.Equal(t, []string{"a:1", "b:2"}, kafka.Brokers)
	require.True(t, kafka.TLS.Enable, "implied by the authorities")
	require.Equal(t, "SCRAM-SHA-256", kafka.SASL.Mechanism)
	redis, err := o.RedisConfig()
	require.NoError(t, err)
	require.Equal(t, []string{"x:4", "y:5"}, redis.Addrs)
	password, err := redis.Password.Get()
	require.NoError(t, err)
	require.Equal(t, "q", password)
	require.True(t, redis.TLS.Enable)
	temporal, err := o.TemporalConfig()
	require.NoError(t, err)
	require.Equal(t, "t:7233", temporal.HostPort)
	require.Equal(t, "default", temporal.Namespace)
}

func TestPrecedence(t *testing.T) {
	const file = `
kafka:
  brokers: [file:1]
  session_timeout: 20s
redis: {addrs: "file:2", db: 3, pool_size: 7, read_timeout: 1s}
temporal: {address: "file:7233", namespace: of-file}
worker: {name: of-file}
log: {text: true}
`
	o, err := read(t, map[string]string{EnvKafkaBrokers: "env:1", "MILLRACE_REDIS_DB": "4", "MILLRACE_REDIS_POOL_SIZE": "8",
		"TEMPORAL_NAMESPACE": "of-env"}, file, "--redis-pool-size", "9", "--log-text=false")
	require.NoError(t, err)
	require.Equal(t, []string{"env:1"}, o.Kafka.Addrs)
	require.Equal(t, 20*time.Second, o.Kafka.SessionTimeout)
	require.Equal(t, []string{"file:2"}, o.Redis.Addrs)
	require.Equal(t, 4, o.Redis.DB)
	require.Equal(t, 9, o.Redis.PoolSize)
	require.Equal(t, time.Second, o.Redis.ReadTimeout)
	require.Equal(t, store.DefaultConfig().WriteTimeout, o.Redis.WriteTimeout)
	require.Equal(t, "of-file", o.Worker.Name)
	require.False(t, o.Worker.LogText, "a flag says so")
	temporal, err := o.TemporalConfig()
	require.NoError(t, err)
	require.Equal(t, "file:7233", temporal.HostPort)
	require.Equal(t, "of-env", temporal.Namespace)
}

func TestNothingConfigured(t *testing.T) {
	o, err := read(t, nil, "")
	require.NoError(t, err)
	_, err = o.KafkaConfig()
	require.ErrorIs(t, err, ErrNotConfigured)
	require.ErrorContains(t, err, "--kafka HOST:PORT or set MILLRACE_KAFKA_BROKERS")
	_, err = o.RedisConfig()
	require.ErrorContains(t, err, "--redis HOST:PORT or set MILLRACE_REDIS_ADDRS")
}

func TestSettingsThatContradict(t *testing.T) {
	for _, c := range []struct {
		name, file, says string
	}{
		{"TLS off with a file of it", `kafka: {brokers: "k:1", tls: {enabled: false, ca: /ca.pem}}`,
			"kafka.tls.enabled (MILLRACE_KAFKA_TLS) is false, and kafka.tls.ca (MILLRACE_KAFKA_CA) is set"},
		{"half a certificate", `redis: {addrs: "r:1", tls: {cert: /c.pem}}`, "redis.tls.cert (MILLRACE_REDIS_CERT) and redis.tls.key"},
		{"no authorities", `redis: {addrs: "r:1", tls: {ca: /none.pem}}`, "CA file: open /none.pem"},
		{"two tokens", `kafka: {brokers: "k:1", sasl: {mechanism: oauthbearer, token_file: /t, token_command: [t]}}`, "are both set"},
		{"no token", `kafka: {brokers: "k:1", sasl: {mechanism: OAUTHBEARER}}`, "OAUTHBEARER needs a token"},
		{"token and password", `kafka: {brokers: "k:1", sasl: {mechanism: PLAIN, user: u, password: p, token_file: /t}}`, "a token is given"},
		{"sentinel without a master", `redis: {addrs: "r:1", mode: sentinel}`, "without a master name"},
		{"master without sentinel", `redis: {addrs: "r:1", mode: single, sentinel: {master: m}}`, `with the master name "m"`},
		{"database of a Cluster", `redis: {addrs: "r:1", mode: cluster, db: 1}`, "redis db is 1, want 0 with a cluster"},
		{"user without a password", `redis: {addrs: "r:1", user: u}`, `redis user "u" has no password`},
		{"admin without an address", `admin: {token_file: /t}`, "admin: a certificate, client CA or token is set, and no address"},
		{"clients without a certificate", `admin: {address: "127.0.0.1:1", tls: {client_ca: /ca}}`, `client CA file is "/ca" without TLS`},
		{"no file of the password", `redis: {addrs: "r:1", password_file: /none}`, "redis password: open /none"},
		{"heartbeats", `kafka: {brokers: "k:1", session_timeout: 6s, heartbeat_interval: 3s}`, "kafka heartbeat interval: 3s is outside"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, err := read(t, nil, c.file)
			require.NoError(t, err)
			require.ErrorContains(t, o.Check(), c.says)
		})
	}
}

func TestSecretTwice(t *testing.T) {
	_, err := read(t, map[string]string{"MILLRACE_REDIS_PASSWORD": "hunter2"}, `redis: {password_file: /run/secrets/redis}`)
	require.ErrorContains(t, err, "redis.password (MILLRACE_REDIS_PASSWORD) and redis.password_file (")
	require.ErrorContains(t, err, "are both set; leave one of them out")
	require.NotContains(t, err.Error(), "hunter2")
}

// TestTable holds what every row of the table has to have.
func TestTable(t *testing.T) {
	o := New()
	seen := make(map[string]string)
	for _, row := range append(o.table(), o.workerTable()...) {
		for _, name := range []string{row.Name, row.Env, row.Flag} {
			require.Empty(t, seen[name], "%s is there twice", name)
			if name != "" {
				seen[name] = row.Name
			}
		}
		require.NotEmpty(t, row.Help, row.Name)
		require.NotContains(t, row.Help, "\n", row.Name)
		require.Equal(t, row.Secret, row.Flag == "", "a secret has no flag, everything else has one: %s", row.Name)
		if row.Secret {
			require.Contains(t, labels.Label(row.Name+settings.FileSuffix), "MILLRACE_", "%s has no file", row.Name)
		}
	}
}

// TestMistakesAreNotShown: what stands in the wrong place may be a secret.
func TestMistakesAreNotShown(t *testing.T) {
	const key = "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnQ=" // 32 bytes
	o, err := read(t, map[string]string{
		EnvKafkaBrokers: "k:1,k:2?password=hunter2", EnvRedisAddrs: "redis://u:hunter2@r:1", EnvTemporalAddress: "hunter2@t:1",
		"MILLRACE_KAFKA_TOKEN_COMMAND": "get-token --secret hunter2", "MILLRACE_CODEC_KEYS": "a=/run/a,b=" + key + "," + key + ",hunter2",
	}, "")
	require.NoError(t, err)
	var out strings.Builder
	require.NoError(t, o.Settings().Print(&out))
	for _, secret := range []string{"hunter2", key, key[:len(key)-1]} {
		require.NotContains(t, out.String(), secret)
	}
	for _, line := range []string{`kafka\.brokers +k:1,\(not host:port\) `, `redis\.addrs +\(not host:port\) `, `temporal\.address +\(not host:port\) `,
		`kafka\.sasl\.token_command +get-token \(and 2 arguments\) `, `temporal\.codec\.keys +a=/run/a,\(not ID=FILE\),\(not ID=FILE\),\(not ID=FILE\) `} {
		require.Regexp(t, "(?m)^"+line, out.String())
	}
	_, err = o.CodecKeys()
	require.ErrorContains(t, err, `key 2 of 4 says the key "b" itself; want ID=FILE`)
	require.NotContains(t, err.Error(), key)
}
