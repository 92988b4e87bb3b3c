package store_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

func TestBeginGivesALaneItsFirstState(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		run := store.BeginToken("run")
		require.NoError(t, s.Begin(ctx, lane, stateID, run, 17, "topic-a", false))
		require.NoError(t, s.Begin(ctx, lane, stateID, run, 17, "topic-a", false), "it may be repeated")
		require.ErrorIs(t, s.Begin(ctx, lane, stateID, store.BeginToken("other"), 5, "topic-a", true), store.ErrHasState)

		meta, found, err := s.ReadMeta(ctx, lane)
		require.NoError(t, err)
		require.True(t, found)
		require.EqualValues(t, 17, meta.Offset)
		require.EqualValues(t, 17, meta.Begun)
		require.Equal(t, "topic-a", meta.TopicID)
		require.Equal(t, int64(store.NoTime), meta.Watermark)

		next := store.NextToken(meta.Owner)
		require.EqualValues(t, 1, next.Epoch())
		meta, found, err = s.Acquire(ctx, lane, stateID, meta.Owner, next)
		require.NoError(t, err)
		require.True(t, found, "a lane that was begun is none that nobody knows")
		require.True(t, meta.Balance.Known)
		require.ErrorIs(t, s.Begin(ctx, lane, stateID, run, 17, "topic-a", true), store.ErrHasState, "a try that thawed begins nothing again")
	})
}

func TestBeginAtTheStartOfTheLog(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		run := store.BeginToken("run")
		require.NoError(t, s.Begin(ctx, lane, stateID, run, store.NotStarted, "", false))
		_, found, err := s.Acquire(ctx, lane, stateID, run, store.NextToken(run))
		require.NoError(t, err)
		require.False(t, found, "it has never committed")
	})
}

func TestBeginInPlaceOfAFencedLane(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		a := acquire(t, s)
		a.mustApply(a.commit(1, "a", hour0))
		_, err := s.SetDrop(ctx, lane, a.token, 99)
		require.NoError(t, err)
		_, err = s.Fence(ctx, lane, removal)
		require.NoError(t, err)
		require.ErrorIs(t, s.Begin(ctx, lane, "new", store.BeginToken("run"), 5, "t", false), store.ErrRemoved)
		require.NoError(t, s.Begin(ctx, lane, "new", store.BeginToken("run"), 5, "t", true))

		meta, stats, err := s.LaneView(ctx, lane, "new")
		require.NoError(t, err)
		require.EqualValues(t, 5, meta.Offset)
		require.Zero(t, meta.Counters)
		require.Empty(t, stats, "nothing of the lane before is left")
		ctls, err := s.ReadCtl(ctx, lane)
		require.NoError(t, err)
		require.Equal(t, int64(store.NoTime), ctls[0].DropBefore)
		require.ErrorIs(t, a.apply(a.commit(2, "b", hour0)), store.ErrFenced, "the owner before stays fenced")
	})
}

// A removal that was frozen in the middle of its scan deletes nothing of a lane that was begun meanwhile.
func TestDeleteKeysLeavesALaneThatWasBegunAnew(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		a := acquire(t, s)
		a.mustApply(a.commit(1, "a", hour0))
		_, err := s.Fence(ctx, lane, removal)
		require.NoError(t, err)
		var found []store.PipelineKey
		require.NoError(t, s.ScanPipeline(ctx, lane.Pipeline, func(keys []store.PipelineKey) error {
			found = append(found, keys...)
			return nil
		}))
		require.NoError(t, s.Begin(ctx, lane, stateID, store.BeginToken("run"), 0, "", true))
		b := acquire(t, s)
		b.mustApply(b.commit(1, "a", hour0))
		n, err := s.DeleteKeys(ctx, found, false)
		require.NoError(t, err)
		require.Zero(t, n)
		_, stats, err := s.LaneView(ctx, lane, stateID)
		require.NoError(t, err)
		require.Len(t, stats, 1)
	})
}
