package store_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

func TestPresence(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		a, b := store.Present{ID: "a", Beat: 1, Version: 1}, store.Present{ID: "b", Beat: 1 << 53, Version: 7}
		all, err := s.Beat(ctx, "default", a, []byte("I am a"))
		require.NoError(t, err)
		require.Equal(t, []store.Present{a}, all)
		_, err = s.Beat(ctx, "elsewhere", store.Present{ID: "x"}, nil)
		require.NoError(t, err)
		all, err = s.Beat(ctx, "default", b, []byte{0, 255})
		require.NoError(t, err)
		require.Equal(t, []store.Present{a, b}, all, "fleets are apart")
		bodies, err := s.Bodies(ctx, "default", "b", "nobody", "a")
		require.NoError(t, err)
		require.Equal(t, [][]byte{{0, 255}, nil, []byte("I am a")}, bodies)

		seen := a
		a.Beat++
		_, err = s.Beat(ctx, "default", a, []byte("I am a"))
		require.NoError(t, err)
		won, err := s.Bury(ctx, "default", seen)
		require.NoError(t, err)
		require.False(t, won, "it has beaten since")
		won, err = s.Bury(ctx, "default", a)
		require.NoError(t, err)
		require.True(t, won)
		won, err = s.Bury(ctx, "default", a)
		require.NoError(t, err)
		require.False(t, won, "one wins")
		require.NoError(t, s.Leave(ctx, "default", "b"))
		for _, key := range []string{"mr:presence:{default}:beats", "mr:presence:{default}:bodies"} {
			n, err := client.Exists(ctx, key).Result()
			require.NoError(t, err)
			require.Zero(t, n, "nothing is left of an empty fleet")
		}
	})
}
