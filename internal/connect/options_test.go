package connect

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestEnvironmentAndFlags(t *testing.T) {
	o := FromEnv(env(map[string]string{
		EnvKafkaBrokers: "a:1, b:2", EnvKafkaCA: "/ca.pem", EnvKafkaSASL: "scram-sha-256",
		EnvKafkaUser: "u", EnvKafkaPassword: "p", EnvRedisAddrs: "r:3", EnvRedisPassword: "q", EnvRedisTLS: "1",
	}))
	flags := pflag.NewFlagSet("t", pflag.ContinueOnError)
	o.AddFlags(flags)
	require.NoError(t, flags.Parse([]string{"--redis", "x:4,y:5", "--temporal", "t:7233"}))
	kafka, err := o.KafkaConfig()
	require.NoError(t, err)
	require.Equal(t, []string{"a:1", "b:2"}, kafka.Brokers)
	require.True(t, kafka.TLS.Enable)
	require.Equal(t, "SCRAM-SHA-256", kafka.SASL.Mechanism)
	redis, err := o.RedisConfig()
	require.NoError(t, err)
	require.Equal(t, []string{"x:4", "y:5"}, redis.Addrs)
	require.Equal(t, "q", redis.Password)
	require.NotNil(t, redis.TLS)
	temporal, err := o.Temporal()
	require.NoError(t, err)
	require.Equal(t, "t:7233", temporal.HostPort)
	require.Equal(t, "default", temporal.Namespace)
}

func TestNothingConfigured(t *testing.T) {
	o := FromEnv(env(nil))
	_, err := o.KafkaConfig()
	require.ErrorIs(t, err, ErrNotConfigured)
	require.ErrorContains(t, err, "--kafka HOST:PORT or set MILLRACE_KAFKA_BROKERS")
	_, err = o.RedisConfig()
	require.ErrorContains(t, err, "--redis HOST:PORT or set MILLRACE_REDIS_ADDRS")
}

func TestMissingAuthority(t *testing.T) {
	o := FromEnv(env(map[string]string{EnvRedisAddrs: "r:1", EnvRedisCA: t.TempDir() + "/none.pem"}))
	_, err := o.RedisConfig()
	require.ErrorContains(t, err, "CA file")
}
