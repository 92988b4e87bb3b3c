package cli

import (
	"encoding/json"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/dev"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

func TestTuneMeasuresAndCleansUp(t *testing.T) {
	kafka, err := dev.StartKafka(t.Context(), dev.KafkaConfig{})
	require.NoError(t, err)
	defer kafka.Close()
	redis, err := dev.StartRedis(t.Context(), dev.RedisConfig{})
	require.NoError(t, err)
	defer redis.Close()
	servers := []string{"--kafka", kafka.Addr(), "--redis", redis.Addr(), "--records", "10000", "--keys", "1000"}
	code, out, errs := millrace(t, append([]string{"tune", "--json", "--redis-pool-size", "7"}, servers...)...)
	require.Zero(t, code, errs)
	require.Regexp(t, "tune writes 10000 records to the topic (tune-[0-9a-f]{8}) and reads them again, .* it removes both at its end", errs)
	var view tuneView
	require.NoError(t, json.Unmarshal([]byte(out), &view))
	require.Len(t, view.Measured.Redis.Loads, len(tuneLanes))
	require.Positive(t, view.Measured.Redis.Loads[0].Calls)
	require.Positive(t, view.Measured.Redis.Chunks[0].Call)
	require.Positive(t, view.Measured.Kafka.Fetches[0].PerSecond)
	require.Positive(t, view.Measured.Kafka.RoundTrip)
	require.Positive(t, view.Measured.EventTime)
	require.Equal(t, "7", view.Advice[0].Now, "what the flags say is what is set now")
	require.Equal(t, "redis.pool_size", view.Advice[0].Option)

	topic := regexp.MustCompile("tune-[0-9a-f]{8}").FindString(errs)
	srv, err := dialKafka(t.Context(), source.Config{Brokers: []string{kafka.Addr()}})
	require.NoError(t, err)
	defer srv.Close()
	_, err = srv.cluster.Topic(t.Context(), topic)
	require.ErrorIs(t, err, source.ErrUnknownTopic)
	at := store.DefaultConfig()
	at.Addrs = []string{redis.Addr()}
	require.NoError(t, srv.dialRedis(t.Context(), at))
	keys, err := srv.redis.Keys(t.Context(), "*").Result()
	require.NoError(t, err)
	require.Empty(t, keys)
}

func TestTuneRefuses(t *testing.T) {
	for _, args := range [][]string{{"--keys", "0"}, {"--records", "5"}, {"--partitions", "0"}} {
		code, _, errs := millrace(t, append([]string{"tune"}, args...)...)
		require.Equal(t, ExitUsage, code)
		require.Contains(t, errs, args[0])
	}
}
