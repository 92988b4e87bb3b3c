package store_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

// keysOf lists what Redis holds of the window, and how long each key is kept; negative for ever.
func keysOf(t *testing.T, client redis.UniversalClient) map[string]time.Duration {
	t.Helper()
	kept := map[string]time.Duration{}
	for _, name := range []string{"ledger", "r:0", "r:1", "r:2", "r:3", "r:4"} {
		if ttl := client.PTTL(ctx, "mr:{"+window.String()+"}:"+name).Val(); ttl != -2 {
			kept[name] = ttl
		}
	}
	return kept
}

func publish(t *testing.T, s *store.Store, rev int, final bool) {
	t.Helper()
	_, _, err := s.Prepare(ctx, window, rev, pages("header", "page"))
	require.NoError(t, err)
	require.NoError(t, s.Flip(ctx, window, store.Version{Edition: 1, Revision: rev}, final, []byte("row")))
}

func TestExpireWindow(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		shown, err := s.ExpireWindow(ctx, window, store.Version{Edition: 1, Revision: 1}, time.Hour)
		require.NoError(t, err)
		require.False(t, shown, "nothing was published")
		require.Empty(t, keysOf(t, client))

		for rev := 1; rev <= 3; rev++ {
			publish(t, s, rev, rev == 3)
		}
		_, _, err = s.Prepare(ctx, window, 4, pages("header", "of a closer that was overtaken"))
		require.NoError(t, err)
		require.Len(t, keysOf(t, client), 5)

		shown, err = s.ExpireWindow(ctx, window, store.Version{Edition: 1, Revision: 3}, time.Hour)
		require.NoError(t, err)
		require.True(t, shown)
		kept := keysOf(t, client)
		require.Len(t, kept, 4, "revision 1 is trimmed, although the closer died before it did so")
		for name, ttl := range kept {
			require.InDelta(t, time.Hour, ttl, float64(time.Minute), name)
		}
		shown, err = s.ExpireWindow(ctx, window, store.Version{Edition: 1, Revision: 3}, 2*time.Hour)
		require.NoError(t, err)
		require.True(t, shown)
		require.InDelta(t, 2*time.Hour, keysOf(t, client)["r:3"], float64(time.Minute), "renewed")

		shown, err = s.ExpireWindow(ctx, window, store.Version{Edition: 1, Revision: 3}, 0)
		require.NoError(t, err)
		require.True(t, shown)
		require.Empty(t, keysOf(t, client))
		shown, err = s.ExpireWindow(ctx, window, store.Version{Edition: 1, Revision: 3}, 0)
		require.NoError(t, err)
		require.False(t, shown)
	})
}

// A closer that was overtaken, or read an older ledger, must not take a correction away.
func TestExpireLeavesCorrections(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		publish(t, s, 1, true)
		publish(t, s, 2, true)
		for _, d := range []time.Duration{0, time.Hour} {
			shown, err := s.ExpireWindow(ctx, window, store.Version{Edition: 1, Revision: 1}, d)
			require.NoError(t, err)
			require.False(t, shown)
			kept := keysOf(t, client)
			require.Len(t, kept, 3)
			for name, ttl := range kept {
				require.Negative(t, ttl, name)
			}
		}
		shown, err := s.ExpireWindow(ctx, window, store.Version{Edition: 1, Revision: 2}, time.Hour)
		require.NoError(t, err)
		require.True(t, shown)

		// What an overtaken closer shows of an expired window goes with the next sweep.
		_, err = s.ExpireWindow(ctx, window, store.Version{Edition: 1, Revision: 2}, 0)
		require.NoError(t, err)
		publish(t, s, 1, false)
		shown, err = s.ExpireWindow(ctx, window, store.Version{Edition: 1, Revision: 2}, 0)
		require.NoError(t, err)
		require.False(t, shown)
		require.Empty(t, keysOf(t, client))
	})
}
