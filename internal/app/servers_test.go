package app

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"millrace/internal/dev"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

// startKafka starts an embedded broker that ends with the test, and creates topics.
func startKafka(t *testing.T, topics ...source.TopicSpec) (source.Config, *source.Cluster) {
	t.Helper()
	broker, err := dev.StartKafka(t.Context(), dev.KafkaConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, broker.Close()) })
	cfg := source.Config{Brokers: []string{broker.Addr()}}
	cluster, err := source.NewCluster(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	for _, topic := range topics {
		_, err := cluster.EnsureTopic(t.Context(), topic)
		require.NoError(t, err)
	}
	return cfg, cluster
}

// startRedis starts an embedded Redis that ends with the test.
func startRedis(t *testing.T) (*miniredis.Miniredis, *store.Store) {
	t.Helper()
	server := miniredis.RunT(t)
	return server, store.New(storetest.Client(t, server.Addr(), false))
}
