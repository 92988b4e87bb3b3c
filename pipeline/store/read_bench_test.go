package store_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
)

// BenchmarkReadSlice reads a commit of benchEntries entries back.
func BenchmarkReadSlice(b *testing.B) {
	benchServers(b, func(b *testing.B, client redis.UniversalClient) {
		s := store.New(client)
		meta, _, err := s.Acquire(ctx, lane, stateID, "", "1:bench")
		require.NoError(b, err)
		calls := benchCommit(512, 1)
		chain(calls, meta.Cursor)
		_, err = s.Apply(ctx, lane, stateID, "1:bench", calls)
		require.NoError(b, err)
		before := serverCPU(client)
		b.ReportAllocs()
		for b.Loop() {
			entries := 0
			_, err := s.ReadSlice(ctx, lane, stateID, store.SliceID{Width: 3600000}, 0, benchBuckets, func(int, []byte, []byte) error {
				entries++
				return nil
			})
			require.NoError(b, err)
			require.Equal(b, benchEntries, entries)
		}
		report(b, client, before)
	})
}
