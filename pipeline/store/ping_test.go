package store_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

// Somebody may change the eviction policy while pipelines run. Every probe looks at it.
func TestPingSeesAnEvictionPolicy(t *testing.T) {
	client := storetest.Client(t, storetest.StartRedis(t), false)
	s := store.New(client)
	require.NoError(t, s.Ping(ctx))
	require.NoError(t, client.ConfigSet(ctx, "maxmemory-policy", "allkeys-lru").Err())
	err := s.Ping(ctx)
	require.ErrorIs(t, err, store.ErrEviction)
	require.ErrorContains(t, err, `"allkeys-lru", want noeviction; CONFIG SET`)
	require.NoError(t, client.ConfigSet(ctx, "maxmemory-policy", "noeviction").Err())
	require.NoError(t, s.Ping(ctx))
}
