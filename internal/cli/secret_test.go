package cli

import (
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"millrace/internal/connect"
)

// TestPasswordsInAddressesAreRefused holds for every command: none repeats the address.
func TestPasswordsInAddressesAreRefused(t *testing.T) {
	const secret = "hunter2"
	for _, server := range []connect.Server{connect.Kafka, connect.Redis, connect.Temporal} {
		for _, addr := range []string{
			"redis://u:" + secret + "@127.0.0.1:6379", "u:" + secret + "@127.0.0.1:6379", "127.0.0.1:" + secret,
			"kafka://" + secret, `"` + secret,
		} {
			for _, byFlag := range []bool{true, false} {
				for _, line := range []string{
					"status p", "status p --spec " + flightsSpec, "verify flights --spec " + flightsSpec, "windows ls p", "feed x --topic t",
					"start " + flightsSpec, "--help", "bench --records 1000",
				} {
					args := strings.Fields(line)
					const nobody = "127.0.0.1:1"
					values := map[string]string{connect.EnvKafkaBrokers: nobody, connect.EnvRedisAddrs: nobody, "TEMPORAL_ADDRESS": nobody}
					if byFlag {
						args = append(args, "--"+server.Flag, addr)
					} else {
						values[server.Addresses] = addr
					}
					for name, value := range values {
						t.Setenv(name, value)
					}
					var out, errs strings.Builder
					code := Main(t.Context(), args, &out, &errs)
					require.NotContains(t, out.String()+errs.String(), secret, "%q", args)
					if strings.Contains(errs.String(), server.Name+" in --") {
						require.Equal(t, ExitUsage, code)
					}
				}
			}
		}
	}
	t.Setenv("TEMPORAL_ADDRESS", "u:"+secret+"@temporal:7233")
	var errs strings.Builder
	require.Equal(t, ExitUsage, Main(t.Context(), []string{"status", "p"}, io.Discard, &errs))
	require.Equal(t, "millrace: the address of Temporal in --temporal or TEMPORAL_ADDRESS: it holds a user or a password; "+
		"want host:port, and the login in temporal.api_key\n", errs.String())
}

// speaking accepts connections, with TLS when there is a configuration, reads them and says nothing.
func speaking(t *testing.T, conf *tls.Config) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	if conf != nil {
		l = tls.NewListener(l, conf)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(io.Discard, conn)
			}()
		}
	}()
	return l.Addr().String()
}

// TestTLSOnOneSideOnly uses listeners that only accept, and an embedded Redis and Kafka that answer.
func TestTLSOnOneSideOnly(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for timeouts")
	}
	https := httptest.NewTLSServer(nil)
	defer https.Close()
	conf := &tls.Config{Certificates: https.TLS.Certificates, NextProtos: []string{"h2"}}
	plainRedis, tlsRedis := miniredis.RunT(t), miniredis.NewMiniRedis()
	require.NoError(t, tlsRedis.StartTLS(conf))
	defer tlsRedis.Close()
	startedKafka := func(opts ...kfake.Opt) string {
		k, err := kfake.NewCluster(append(opts, kfake.NumBrokers(1))...)
		require.NoError(t, err)
		t.Cleanup(k.Close)
		return k.ListenAddrs()[0]
	}
	plainKafka, tlsKafka := startedKafka(), startedKafka(kfake.TLS(conf))
	for _, c := range []struct {
		name, line string
		env        map[string]string
		says       string
	}{
		{"Redis plain, server TLS", "verify flights --spec " + flightsSpec, map[string]string{
			connect.EnvKafkaBrokers: plainKafka, connect.EnvRedisAddrs: tlsRedis.Addr()},
			"answers with TLS, and this program does not: is TLS on? Set redis.tls.enabled (MILLRACE_REDIS_TLS)=true"},
		{"Redis plain, server TLS and silent", "verify flights --spec " + flightsSpec, map[string]string{
			connect.EnvKafkaBrokers: plainKafka, connect.EnvRedisAddrs: speaking(t, conf)}, "is TLS on? Set redis.tls.enabled (MILLRACE_REDIS_TLS)=true"},
		{"Redis TLS, server plain", "verify flights --spec " + flightsSpec, map[string]string{
			connect.EnvKafkaBrokers: plainKafka, connect.EnvRedisAddrs: plainRedis.Addr(), "MILLRACE_REDIS_TLS": "1"},
			"does not answer with TLS, and this program does: is TLS on there? Without it unset redis.tls.enabled (MILLRACE_REDIS_TLS)"},
		{"Redis TLS, server silent", "verify flights --spec " + flightsSpec, map[string]string{
			connect.EnvKafkaBrokers: plainKafka, connect.EnvRedisAddrs: speaking(t, nil), "MILLRACE_REDIS_TLS": "1"}, "is TLS on there?"},
		{"Redis TLS, unknown authority", "verify flights --spec " + flightsSpec, map[string]string{
			connect.EnvKafkaBrokers: plainKafka, connect.EnvRedisAddrs: tlsRedis.Addr(), "MILLRACE_REDIS_TLS": "1"},
			"name its file in redis.tls.ca (MILLRACE_REDIS_CA)"},
		{"Kafka plain, server TLS", "windows ls p", map[string]string{connect.EnvKafkaBrokers: tlsKafka}, "is TLS on? Set kafka.tls.enabled (MILLRACE_KAFKA_TLS)=true"},
		{"Kafka TLS, server plain", "windows ls p", map[string]string{connect.EnvKafkaBrokers: plainKafka, "MILLRACE_KAFKA_TLS": "1"},
			"is TLS on there? Without it unset kafka.tls.enabled (MILLRACE_KAFKA_TLS)"},
		{"Kafka TLS, unknown authority", "windows ls p", map[string]string{connect.EnvKafkaBrokers: tlsKafka, "MILLRACE_KAFKA_TLS": "1"},
			"name its file in kafka.tls.ca (MILLRACE_KAFKA_CA)"},
		{"Temporal plain, server TLS", "status p", map[string]string{"TEMPORAL_ADDRESS": speaking(t, conf)}, "is TLS on? Set temporal.tls.enabled (TEMPORAL_TLS)=true"},
		{"Temporal TLS, server plain", "status p", map[string]string{"TEMPORAL_ADDRESS": speaking(t, nil), "TEMPORAL_TLS": "1"},
			"is TLS on there? Without it unset temporal.tls.enabled (TEMPORAL_TLS)"},
		{"Temporal TLS, unknown authority", "status p", map[string]string{"TEMPORAL_ADDRESS": speaking(t, conf), "TEMPORAL_TLS": "1"},
			"name its file in temporal.tls.ca (TEMPORAL_TLS_SERVER_CA_CERT_PATH)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			var errs strings.Builder
			code := Main(t.Context(), strings.Fields(c.line), io.Discard, &errs)
			require.Equal(t, ExitUnreachable, code, errs.String())
			require.Contains(t, errs.String(), c.says)
			require.Equal(t, 1, strings.Count(errs.String(), "\n"), errs.String())
		})
	}
}
