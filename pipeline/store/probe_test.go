package store_test

import (
	"net"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

// Somebody may change the eviction policy while pipelines run. Every probe looks at it.
func TestProbeSeesAnEvictionPolicy(t *testing.T) {
	client := storetest.Client(t, storetest.StartRedis(t), false)
	s := store.New(client)
	require.NoError(t, s.Probe(ctx))
	require.NoError(t, client.ConfigSet(ctx, "maxmemory-policy", "allkeys-lru").Err())
	err := s.Probe(ctx)
	require.ErrorIs(t, err, store.ErrEviction)
	require.ErrorContains(t, err, `"allkeys-lru", want noeviction; CONFIG SET`)
	require.NoError(t, client.ConfigSet(ctx, "maxmemory-policy", "noeviction").Err())
	require.NoError(t, s.Probe(ctx))
}

// A probe leaves nothing behind.
func TestProbeLeavesNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		require.NoError(t, s.Probe(ctx))
		require.NoError(t, s.Probe(ctx))
		keys, err := client.Keys(ctx, "mr:probe*").Result()
		require.NoError(t, err)
		require.Empty(t, keys)
	})
}

// A server that answers PING and takes no writes is not well, and the error says what to do.
func TestProbeSeesAServerThatTakesNoWrites(t *testing.T) {
	for _, tt := range []struct {
		name, answer, code, advice string
	}{
		{"a replica", storetest.ReadOnly, "READONLY", "point the workers at the primary, or promote this server"},
		{"a full one", storetest.Full, "OOM", "raise maxmemory"},
		{"one that cannot save", "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
			"MISCONF", "free disk space"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := miniredis.RunT(t)
			client := storetest.Client(t, server.Addr(), false)
			s := store.New(client)
			require.NoError(t, s.Probe(ctx))
			storetest.RefuseWrites(server, tt.answer)
			require.NoError(t, client.Ping(ctx).Err())
			requireRefusal(t, s.Probe(ctx), tt.code, tt.advice)
			storetest.RefuseWrites(server, "")
			require.NoError(t, s.Probe(ctx))
		})
	}
}

func requireRefusal(t *testing.T, err error, code, advice string) {
	t.Helper()
	var refusal *store.RefusalError
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, code, refusal.Code)
	require.ErrorContains(t, err, advice)
	require.False(t, store.IsFinal(err), "it may be mended")
}

// The same on real servers, also with a commit: it is refused as a whole. A full server refuses even transactions that only read.
func TestRealServersThatTakeNoWrites(t *testing.T) {
	addr := storetest.StartRedis(t)
	client := storetest.Client(t, addr, false)
	s := store.New(client)
	o := acquire(t, s)
	reads := map[string]func() error{
		"a slice": func() error {
			_, err := s.ReadSlice(ctx, lane, stateID, hour0, 0, buckets, func(int, []byte, []byte) error { return nil })
			return err
		},
		"a lane": func() error {
			_, _, err := s.Load(ctx, lane, stateID, []store.SliceID{hour0}, buckets, func(int, []byte, []byte) error { return nil })
			return err
		},
	}
	refusedWhile := func(code string, readable bool, begin, end func() error) {
		t.Helper()
		require.NoError(t, begin())
		require.NoError(t, client.Ping(ctx).Err())
		requireRefusal(t, s.Probe(ctx), code, "")
		before, err := client.HGetAll(ctx, "mr:{flights/flights/3}:meta").Result()
		require.NoError(t, err)
		n, err := s.Apply(ctx, lane, stateID, o.token, o.commit(10, "v", hour0))
		requireRefusal(t, err, code, "")
		require.Zero(t, n)
		after, err := client.HGetAll(ctx, "mr:{flights/flights/3}:meta").Result()
		require.NoError(t, err)
		require.Equal(t, before, after)
		for what, read := range reads {
			if err := read(); readable {
				require.NoError(t, err, what)
			} else {
				requireRefusal(t, err, code, "")
			}
		}
		require.NoError(t, end())
		require.NoError(t, s.Probe(ctx))
		n, err = s.Apply(ctx, lane, stateID, o.token, o.commit(10, "v", hour0))
		require.NoError(t, err)
		require.Positive(t, n)
	}
	o.mustApply(o.commit(5, "v", hour0))
	refusedWhile("OOM", false,
		func() error { return client.ConfigSet(ctx, "maxmemory", "1").Err() },
		func() error { return client.ConfigSet(ctx, "maxmemory", "0").Err() })
	o = acquire(t, s)
	host, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	refusedWhile("READONLY", true,
		func() error { return client.(*redis.Client).ReplicaOf(ctx, host, port).Err() }, // of itself, for want of another
		func() error { return client.(*redis.Client).ReplicaOf(ctx, "NO", "ONE").Err() })
}

// A server that asks for a password refuses every command, a single one as well as a pipeline.
func TestRefusalsOfEveryCommand(t *testing.T) {
	addr := storetest.StartRedis(t)
	require.NoError(t, storetest.Client(t, addr, false).ConfigSet(ctx, "requirepass", "secret").Err())
	s := store.New(storetest.Client(t, addr, false))
	_, _, err := s.ReadMeta(ctx, lane)
	requireRefusal(t, err, "NOAUTH", "give the workers one")
	_, err = s.ReadCtl(ctx, lane)
	requireRefusal(t, err, "NOAUTH", "give the workers one")
}
