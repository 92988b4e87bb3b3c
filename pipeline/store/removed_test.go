package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

const removal = store.Token("removed:run-1")

func TestFenceEndsOwnership(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		a := acquire(t, s)
		a.mustApply(a.commit(1, "a", hour0))
		require.NoError(t, client.Expire(ctx, "mr:{flights/flights/3}:meta", time.Hour).Err())

		before, err := s.Fence(ctx, lane, removal)
		require.NoError(t, err)
		require.Equal(t, a.token, before)
		require.ErrorIs(t, a.apply(a.commit(2, "b", hour0)), store.ErrFenced)
		_, _, err = s.Acquire(ctx, lane, stateID, removal, store.NextToken(removal))
		require.ErrorIs(t, err, store.ErrRemoved, "also for one who has read the removal's token")
		require.True(t, store.IsFinal(err))
		_, _, err = s.Acquire(ctx, lane, "another state", removal, store.NextToken(removal))
		require.ErrorIs(t, err, store.ErrRemoved)
		_, err = s.SetDrop(ctx, lane, a.token, 1)
		require.ErrorIs(t, err, store.ErrRemoved)
		require.Zero(t, client.Exists(ctx, "mr:{flights/flights/3}:ctl").Val())
		require.EqualValues(t, -1, client.PTTL(ctx, "mr:{flights/flights/3}:meta").Val(), "the fence does not run out")

		again, err := s.Fence(ctx, lane, "removed:run-2")
		require.NoError(t, err)
		require.Equal(t, removal, again, "the first removal's token stays")
		meta, _, err := s.ReadMeta(ctx, lane)
		require.NoError(t, err)
		require.Equal(t, removal, meta.Owner)
		require.EqualValues(t, 1, meta.Offset)

		_, err = s.Fence(ctx, lane, "7:aa")
		require.ErrorContains(t, err, `token "7:aa" is not one of a removal`)
	})
}

// A lane without a meta, of which only other keys or none are left, is fenced too: nobody can begin it anew.
func TestFenceWithoutMeta(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		before, err := s.Fence(ctx, lane, removal)
		require.NoError(t, err)
		require.Empty(t, before)
		meta, found, err := s.ReadMeta(ctx, lane)
		require.NoError(t, err)
		require.True(t, found)
		require.EqualValues(t, store.NotStarted, meta.Offset)
		_, _, err = s.Acquire(ctx, lane, stateID, "", "1:aa")
		require.ErrorIs(t, err, store.ErrRemoved)
	})
}

func TestAbandonTakesBackAnEmptyMeta(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		a := acquire(t, s)
		require.NoError(t, s.Abandon(ctx, lane, "9:other"))
		_, found, err := s.ReadMeta(ctx, lane)
		require.NoError(t, err)
		require.True(t, found, "of another owner")
		require.NoError(t, s.Abandon(ctx, lane, a.token))
		_, found, err = s.ReadMeta(ctx, lane)
		require.NoError(t, err)
		require.False(t, found)

		a = acquire(t, s)
		a.mustApply(a.commit(1, "a", hour0))
		require.NoError(t, s.Abandon(ctx, lane, a.token))
		_, found, err = s.ReadMeta(ctx, lane)
		require.NoError(t, err)
		require.True(t, found, "with a commit")
	})
}

// everyKey writes one key of every kind for a pipeline, by what writes them in earnest, and some that nothing owns.
func everyKey(t *testing.T, s *store.Store, client redis.UniversalClient) {
	t.Helper()
	a := acquire(t, s)
	a.mustApply(a.commit(1, "a", hour0, hour1))
	_, err := s.SetSeal(ctx, lane, a.token, 5)
	require.NoError(t, err)
	writeWhole(t, s, 1, "a")
	require.NoError(t, s.StageRows(ctx, window, at(1), "a", 0, true, nil))
	require.NoError(t, flipRows(t, s, 1, store.View{Whole: 1, Attempt: "a"}, &store.Rows{Staged: "a"}))
	require.NoError(t, s.StageRows(ctx, window, at(2), "b", 0, false, nil))
	_, _, err = s.SetPipelineCtl(ctx, "flights", store.CtlChange{RequestID: "r1"})
	require.NoError(t, err)
	for n := -1; n < 2; n++ {
		_, held, err := s.AcquireLease(ctx, "flights", n, store.Lease{Worker: fmt.Sprintf("w%d", n), Token: "t"}, time.Minute)
		require.NoError(t, err)
		require.True(t, held)
	}
	for _, orphan := range []string{
		"mr:{flights/flights/7}:s:ffff:3600000:0:0:1", // a state that is no more, of a lane without a meta
		"mr:{flights/flights/3}:s:ffff:60000:0:0:1",   // of another spec's slices
		"mr:{flights/daily/0}:r:9", "mr:{flights/strange}:thing", "mr:{flights@2/flights/3}:meta2",
	} {
		require.NoError(t, client.HSet(ctx, orphan, "k", "v").Err())
	}
}

// others are keys that look alike and belong to somebody else.
var others = []string{"mr:{flights2/flights/3}:meta", "mr:{flights-2}:ctl", "mr:{flight}:ctl", "mr:{a/flights/0}:meta", "flights", "xmr:{flights}:ctl"}

func TestScanPipelineFindsEverything(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		everyKey(t, s, client)
		for _, other := range others {
			require.NoError(t, client.HSet(ctx, other, "k", "v").Err())
		}
		kinds, lanes := map[string]int{}, map[store.LaneID]bool{}
		seen := map[string]bool{}
		require.NoError(t, s.ScanPipeline(ctx, "flights", func(keys []store.PipelineKey) error {
			sizes, err := s.KeyBytes(ctx, keys)
			require.NoError(t, err)
			require.Len(t, sizes, len(keys))
			for _, k := range keys {
				if !seen[k.Name] {
					kinds[k.Kind]++
				}
				seen[k.Name] = true
				if k.Lane.Pipeline != "" {
					lanes[k.Lane] = true
				}
			}
			return nil
		}))
		for _, other := range others {
			require.False(t, seen[other], other)
		}
		require.Equal(t, map[string]int{
			store.KeyMeta: 1, store.KeyRequest: 1, store.KeySlices: 2, store.KeyEntries: 2*buckets + 2, store.KeyView: 6,
			store.KeyControl: 2, store.KeyLease: 3, store.KeyOther: 2,
		}, kinds)
		require.Equal(t, map[store.LaneID]bool{lane: true, {Pipeline: "flights", Topic: "flights", Partition: 7}: true}, lanes)
		leases, err := s.Leases(ctx, "flights", -1, 4)
		require.NoError(t, err)
		require.Len(t, leases, 3)
		require.Equal(t, "w-1", leases[0].Worker)
		require.Equal(t, 1, leases[2].Replica)
		require.Positive(t, leases[2].TTL)
	})
}

func TestDeleteKeysLeavesMetasToTheEnd(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		everyKey(t, s, client)
		for _, other := range others {
			require.NoError(t, client.HSet(ctx, other, "k", "v").Err())
		}
		remove := func(metas bool) error {
			return s.ScanPipeline(ctx, "flights", func(keys []store.PipelineKey) error {
				_, err := s.DeleteKeys(ctx, keys, metas)
				return err
			})
		}
		require.NoError(t, s.DeleteControl(ctx, "flights"))
		require.Zero(t, client.Exists(ctx, "mr:{flights}:ctl").Val()+client.Exists(ctx, "mr:{flights}:requests").Val())
		require.NoError(t, remove(false))
		require.Greater(t, len(left(t, s)), 1, "somebody owns the lane")
		require.ErrorIs(t, remove(true), store.ErrOwnerChanged)
		_, err := s.Fence(ctx, lane, removal)
		require.NoError(t, err)
		require.NoError(t, remove(false))
		require.Equal(t, []string{"mr:{flights/flights/3}:meta"}, left(t, s))
		require.NoError(t, remove(true))
		require.Empty(t, left(t, s))
		for _, other := range others {
			require.EqualValues(t, 1, client.Exists(ctx, other).Val(), other)
		}
	})
}

// Deleting while scanning misses no key.
func TestScanPipelineOfManyKeys(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		pipe := client.Pipeline()
		for n := range 5000 {
			pipe.Set(ctx, fmt.Sprintf("mr:{flights/hourly/%d}:ledger", n), "x", 0)
			pipe.Set(ctx, fmt.Sprintf("mr:{other/hourly/%d}:ledger", n), "x", 0)
		}
		_, err := pipe.Exec(ctx)
		require.NoError(t, err)
		deleted := int64(0)
		require.NoError(t, s.ScanPipeline(ctx, "flights", func(keys []store.PipelineKey) error {
			n, err := s.DeleteKeys(ctx, keys, true)
			deleted += n
			return err
		}))
		require.EqualValues(t, 5000, deleted)
		require.Empty(t, left(t, s))
		require.EqualValues(t, 1, client.Exists(ctx, "mr:{other/hourly/4999}:ledger").Val())
	})
}

func left(t *testing.T, s *store.Store) (names []string) {
	t.Helper()
	require.NoError(t, s.ScanPipeline(ctx, "flights", func(keys []store.PipelineKey) error {
		for _, k := range keys {
			require.True(t, strings.HasPrefix(k.Name, "mr:{flights"))
			names = append(names, k.Name)
		}
		return nil
	}))
	return names
}
