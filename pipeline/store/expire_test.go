package store_test

import (
	"maps"
	"strings"
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
	prefix := "mr:{" + window.String() + "}:"
	for _, key := range client.Keys(ctx, prefix+"*").Val() {
		kept[strings.TrimPrefix(key, prefix)] = client.PTTL(ctx, key).Val()
	}
	return kept
}

// withoutDrafts leaves out keys of drafts.
func withoutDrafts(kept map[string]time.Duration) map[string]time.Duration {
	maps.DeleteFunc(kept, func(name string, _ time.Duration) bool {
		return name == "v:drafts" || strings.Count(name, ":") == 3
	})
	return kept
}

// forms are the ways in which a revision comes to be shown: as earlier releases wrote it, whole,
// and as what it changes to the revision before.
var forms = map[string]func(t *testing.T, s *store.Store, client redis.UniversalClient, rev int) store.View{
	"earlier": func(t *testing.T, _ *store.Store, client redis.UniversalClient, rev int) store.View {
		writeEarlier(t, client, rev, "page")
		return store.View{}
	},
	"whole": func(t *testing.T, s *store.Store, _ redis.UniversalClient, rev int) store.View {
		return writeWhole(t, s, rev, "a")
	},
	"changes": func(t *testing.T, s *store.Store, _ redis.UniversalClient, rev int) store.View {
		view, _, err := s.ReadDirectory(ctx, window, rev-1)
		if err != nil {
			return writeWhole(t, s, rev, "a")
		}
		changes := []store.ViewField{page(rev, "a"), directory(rev, rev)}
		require.NoError(t, s.WriteView(ctx, window, at(rev), view, changes))
		return view
	},
}

// eachForm is storetest.Each for every form, with a function that publishes a revision.
func eachForm(t *testing.T,
	fn func(t *testing.T, s *store.Store, client redis.UniversalClient, publish func(rev int, final bool))) {
	for form, write := range forms {
		t.Run(form, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
				s := store.New(client)
				fn(t, s, client, func(rev int, final bool) {
					t.Helper()
					require.NoError(t, s.Flip(ctx, window, at(rev), final, []byte("row"), write(t, s, client, rev), nil, nil, nil))
				})
			})
		})
	}
}

func requireTTL(t *testing.T, client redis.UniversalClient, want time.Duration) {
	t.Helper()
	for name, ttl := range withoutDrafts(keysOf(t, client)) {
		require.InDelta(t, want, ttl, float64(time.Minute), name)
	}
}

func TestExpireWindow(t *testing.T) {
	eachForm(t, func(t *testing.T, s *store.Store, client redis.UniversalClient, publish func(rev int, final bool)) {
		expire := func(rev int, d time.Duration, want bool) {
			t.Helper()
			shown, err := s.ExpireWindow(ctx, window, at(rev), d)
			require.NoError(t, err)
			require.Equal(t, want, shown)
		}
		expire(1, time.Hour, false)
		require.Empty(t, keysOf(t, client), "nothing was published")

		for rev := 1; rev <= 5; rev++ {
			publish(rev, rev == 5)
		}
		draft := writeWhole(t, s, 6, "of a closer that is about to show it")
		expire(5, time.Hour, true)
		kept := len(keysOf(t, client))
		require.LessOrEqual(t, kept, 5, "the closer died before it trimmed, and older ones are gone all the same")
		requireTTL(t, client, time.Hour)
		expire(5, 2*time.Hour, true)
		requireTTL(t, client, 2*time.Hour)
		require.Len(t, keysOf(t, client), kept)

		expire(5, 0, true)
		require.Empty(t, withoutDrafts(keysOf(t, client)))
		require.NoError(t, s.Flip(ctx, window, at(6), true, []byte("row"), draft, nil, nil, nil))
		requireShown(t, s, 6, draft, draft.Attempt)
		expire(6, 3*time.Hour, true)
		requireTTL(t, client, 3*time.Hour)
		expire(6, 0, true)
		require.Empty(t, keysOf(t, client))
		expire(6, 0, false)
	})
}

// A correction whose closer dies before it lets it expire leaves nothing behind that the next
// sweep does not find.
func TestACorrectionIsKeptUntilItExpires(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		view := writeWhole(t, s, 1, "a")
		for rev := 1; rev <= 5; rev++ {
			fields := []store.ViewField{directory(rev, 1)}
			require.NoError(t, s.Flip(ctx, window, at(rev), true, []byte("row"), view, fields, nil, nil))
			for name, ttl := range keysOf(t, client) {
				require.Negative(t, ttl, name)
			}
			_, err := s.ExpireWindow(ctx, window, at(rev), time.Hour)
			require.NoError(t, err)
			require.Len(t, keysOf(t, client), 2)
			requireTTL(t, client, time.Hour)
			require.NoError(t, s.Flip(ctx, window, at(rev), true, []byte("row"), store.View{}, nil, nil, nil))
			requireTTL(t, client, time.Hour) // shown again from the ledger
		}
	})
}

// Between the two calls of ExpireWindow somebody shows the revision with another content.
func TestExpireFollowsTheViews(t *testing.T) {
	eachFaulty(t, func(t *testing.T, client redis.UniversalClient, s *store.Store, faults *storetest.Faults) {
		plain := store.New(client)
		show(t, plain, 1, writeWhole(t, plain, 1, "a"))
		view := writeWhole(t, plain, 2, "b")
		calls := 0
		faults.Plan(func(op storetest.Op) storetest.Outcome {
			if calls++; calls == 2 {
				show(t, plain, 2, view)
			}
			return storetest.Pass
		})
		_, err := s.ExpireWindow(ctx, window, at(2), 0)
		require.NoError(t, err)
		require.Empty(t, keysOf(t, client))
		require.Greater(t, calls, 2)
	})
}

// A closer that was overtaken, or read an older ledger, must not take a correction away.
func TestExpireLeavesCorrections(t *testing.T) {
	eachForm(t, func(t *testing.T, s *store.Store, client redis.UniversalClient, publish func(rev int, final bool)) {
		publish(1, true)
		publish(2, true)
		published := len(keysOf(t, client))
		for _, d := range []time.Duration{0, time.Hour} {
			shown, err := s.ExpireWindow(ctx, window, at(1), d)
			require.NoError(t, err)
			require.False(t, shown)
			kept := keysOf(t, client)
			require.Len(t, kept, published)
			for name, ttl := range kept {
				require.Negative(t, ttl, name)
			}
		}
		shown, err := s.ExpireWindow(ctx, window, at(2), time.Hour)
		require.NoError(t, err)
		require.True(t, shown)

		// What an overtaken closer shows of an expired window goes with the next sweep.
		_, err = s.ExpireWindow(ctx, window, at(2), 0)
		require.NoError(t, err)
		publish(1, false)
		shown, err = s.ExpireWindow(ctx, window, at(2), 0)
		require.NoError(t, err)
		require.False(t, shown)
		require.Empty(t, keysOf(t, client))
	})
}
