package store_test

import (
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

func TestTracesAreKeptForTheCloser(t *testing.T) {
	const key = "mr:{flights/flights/3}:traces"
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		a := acquire(t, s)
		first := store.SliceTrace{Slice: hour0, Parent: "00-one"}
		require.NoError(t, s.NoteTrace(ctx, lane, a.token, first))
		require.NoError(t, s.NoteTrace(ctx, lane, a.token, first), "twice is once")
		require.NoError(t, s.NoteTrace(ctx, lane, a.token, store.SliceTrace{Slice: hour1, Parent: "00-two"}))
		require.NoError(t, client.ZAdd(ctx, key, redis.Z{Score: 1, Member: "of a later version"}).Err())
		other := store.LaneID{Pipeline: "flights", Topic: "flights", Partition: 4}
		got, err := s.Traces(ctx, lane, other)
		require.NoError(t, err)
		require.Equal(t, []store.SliceTrace{first, {Slice: hour1, Parent: "00-two"}}, got)
		require.Positive(t, client.PTTL(ctx, key).Val())

		require.NoError(t, s.NoteTrace(ctx, lane, "7:another", store.SliceTrace{Slice: hour0, Parent: "00-frozen"}))
		require.NoError(t, s.NoteTrace(ctx, other, a.token, first))
		require.Zero(t, client.Exists(ctx, "mr:{flights/flights/4}:traces").Val(), "nobody owns that lane")
		for i := range int64(200) {
			slice := store.SliceID{Width: 1000, Start: 7_200_000 + i*1000}
			require.NoError(t, s.NoteTrace(ctx, lane, a.token, store.SliceTrace{Slice: slice, Parent: fmt.Sprint("00-", i)}))
		}
		got, err = s.Traces(ctx, lane)
		require.NoError(t, err)
		require.Len(t, got, 128)
		require.Equal(t, "00-72", got[0].Parent)

		next := acquire(t, s)
		next.mustApply(next.commit(1, "a", hour0))
		meta, _, err := s.ReadMeta(ctx, lane)
		require.NoError(t, err, "the lane does not mind a key that expires")
		require.EqualValues(t, 1, meta.Offset)
		var kinds []string
		require.NoError(t, s.ScanPipeline(ctx, "flights", func(keys []store.PipelineKey) error {
			for _, k := range keys {
				if k.Name == key {
					kinds = append(kinds, k.Kind, k.Lane.String())
				}
			}
			return nil
		}))
		require.Equal(t, []string{store.KeySlices, "flights/flights/3"}, kinds)
	})
}
