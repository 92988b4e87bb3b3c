package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

func TestConfigValidate(t *testing.T) {
	require.NoError(t, store.DefaultConfig().Validate())
	for name, c := range map[string]struct {
		change func(*store.Config)
		want   string
	}{
		"no address":    {func(c *store.Config) { c.Addrs = nil }, "redis addrs is empty"},
		"empty address": {func(c *store.Config) { c.Addrs = []string{"a:1", ""} }, "addrs[1]: it is empty"},
		"cluster db":    {func(c *store.Config) { c.Addrs = []string{"a:1", "b:1"}; c.DB = 3 }, "redis db is 3, want 0 with a cluster"},
		"negative db":   {func(c *store.Config) { c.DB = -1 }, "redis db is -1"},
		"no pool":       {func(c *store.Config) { c.PoolSize = 0 }, "redis pool size is 0"},
		"no timeout":    {func(c *store.Config) { c.ReadTimeout = 0 }, "redis read timeout is 0s"},
	} {
		cfg := store.DefaultConfig()
		c.change(&cfg)
		require.ErrorContains(t, cfg.Validate(), c.want, name)
		_, err := store.NewClient(cfg)
		require.ErrorContains(t, err, c.want, name)
	}
}

func TestClientKeepsDeadlines(t *testing.T) {
	addr := storetest.StartRedis(t, "--enable-debug-command", "local")
	client := storetest.Client(t, addr, false)
	require.NoError(t, client.Ping(ctx).Err())
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	require.Error(t, client.Do(short, "debug", "sleep", "2").Err())
	require.Less(t, time.Since(start), time.Second)
}

func TestCheck(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		require.NoError(t, client.Set(ctx, "of:others", 1, 0).Err())
		require.NoError(t, s.Check(ctx))
		require.NoError(t, s.Check(ctx), "our own mark is accepted")
		require.NoError(t, client.Set(ctx, "mr:format", store.Format+6, 0).Err())
		var format *store.FormatError
		require.ErrorAs(t, s.Check(ctx), &format)
		require.Equal(t, store.FormatError{Key: "mr:format", Found: store.Format + 6, Want: store.Format}, *format)
		require.NoError(t, client.Set(ctx, "mr:format", "x", 0).Err())
		require.ErrorIs(t, s.Check(ctx), store.ErrCorrupt)
	})
}

func TestCheckRefusesEviction(t *testing.T) {
	client := storetest.Client(t, storetest.StartRedis(t, "--maxmemory-policy", "allkeys-lru"), false)
	err := store.New(client).Check(ctx)
	require.ErrorIs(t, err, store.ErrEviction)
	require.ErrorContains(t, err, `maxmemory-policy is "allkeys-lru", want noeviction`)
}

func TestUnreachableServer(t *testing.T) {
	s := store.New(storetest.Client(t, "127.0.0.1:1", false))
	_, _, err := s.ReadMeta(ctx, lane)
	require.ErrorContains(t, err, "read meta of lane flights/flights/3")
	require.False(t, store.IsFinal(err))
	n, err := s.Apply(ctx, lane, stateID, "1:a", []store.Call{{Next: store.Cursor{Seq: 1}, Meta: &store.MetaUpdate{}}})
	require.Error(t, err)
	require.Zero(t, n)
	require.False(t, store.IsFinal(err))
}
