package store_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

// A slice that lies in several spans is in the index once, one that lies in none is not, and one
// that was not known is found.
func TestIndexOfSpans(t *testing.T) {
	eachFaulty(t, func(t *testing.T, _ redis.UniversalClient, s *store.Store, _ *storetest.Faults) {
		hour := func(n int64) store.SliceID { return store.SliceID{Width: 3600000, Start: n * 3600000} }
		within := func(from, to int64) store.Span { return store.Span{After: hour(from).Start, UpTo: hour(to).Start} }
		a := acquire(t, s)
		a.mustApply(a.commit(5, "a", hour(0), hour(1), hour(2), hour(3), hour(4)))
		index := func(known []store.SliceID, spans ...store.Span) (found []store.SliceID) {
			stats := make([]store.SliceStat, len(known))
			for i, id := range known {
				stats[i].SliceID = id
			}
			x, err := s.Index(ctx, lane, stateID, spans, stats)
			require.NoError(t, err)
			require.EqualValues(t, 5, x.Meta.Offset)
			for i := range x.Slices {
				found = append(found, x.Slices[i].SliceID)
			}
			return found
		}
		require.Equal(t, []store.SliceID{hour(0), hour(1), hour(2), hour(4)},
			index(nil, within(0, 2), within(1, 3), within(4, 5)))
		require.Equal(t, []store.SliceID{hour(3), hour(0)},
			index([]store.SliceID{hour(0), hour(2), hour(3)}, within(3, 4), within(0, 1)))
		require.Len(t, index(nil, store.AllSlices...), 5)
		require.Empty(t, index(nil))
	})
}

// Lanes are asked together; one without a meta is nobody's.
func TestReadGuards(t *testing.T) {
	eachFaulty(t, func(t *testing.T, _ redis.UniversalClient, s *store.Store, _ *storetest.Faults) {
		other := store.LaneID{Pipeline: lane.Pipeline, Topic: lane.Topic, Partition: 9}
		a := acquire(t, s)
		a.mustApply(a.commit(5, "a", hour0))
		guards, err := s.ReadGuards(ctx, other, lane)
		require.NoError(t, err)
		require.Equal(t, []store.Guard{{}, {Owner: a.token, Cursor: a.at, Offset: 5}}, guards)
		guards, err = s.ReadGuards(ctx)
		require.NoError(t, err)
		require.Empty(t, guards)
	})
}
