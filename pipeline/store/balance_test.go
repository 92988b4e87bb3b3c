package store_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

const laneKeys = "mr:{flights/flights/3}:"

// balanced is commit with a balance, as lanes write it.
func (o *owner) balanced(offset, dropped int64, registered int, slices ...store.SliceID) []store.Call {
	calls := o.commit(offset, "v", slices...)
	for i := range calls {
		calls[i].Buckets = buckets
	}
	calls[0].Registered = registered
	m := calls[len(calls)-1].Meta
	m.Balance = store.Balance{Known: true, Dropped: dropped}
	m.Counters.Folded = dropped
	for _, st := range m.Slices {
		m.Counters.Folded += st.Folded
	}
	return calls
}

func view(t *testing.T, s *store.Store) (store.Meta, []store.SliceStat) {
	t.Helper()
	meta, stats, err := s.LaneView(ctx, lane, stateID)
	require.NoError(t, err)
	return meta, stats
}

// Whatever is taken from a lane's slices shows: in its balance to whoever looks, and to the lane itself with its next call,
// which then changes nothing.
func TestPartialLossShows(t *testing.T) {
	for name, take := range map[string]func(client redis.UniversalClient) error{
		"slices": func(client redis.UniversalClient) error { return client.Del(ctx, laneKeys+"slices").Err() },
		"folds":  func(client redis.UniversalClient) error { return client.Del(ctx, laneKeys+"folds").Err() },
		"one slice": func(client redis.UniversalClient) error {
			return client.ZRem(ctx, laneKeys+"slices", hour0.String()).Err()
		},
		"one fold": func(client redis.UniversalClient) error {
			return client.HDel(ctx, laneKeys+"folds", hour0.String()).Err()
		},
		"both of one": func(client redis.UniversalClient) error { return forgetSlice(client) },
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
				s := store.New(client)
				a := acquire(t, s)
				a.mustApply(a.balanced(10, 0, 0, hour0, hour1))
				a.mustApply(a.balanced(20, 0, 2, hour0, hour1))
				meta, stats := view(t, s)
				require.NoError(t, meta.CheckBalance(lane, stats))
				require.NoError(t, take(client))
				meta, stats = view(t, s)
				require.ErrorIs(t, meta.CheckBalance(lane, stats), store.ErrPartialLoss)

				before := dump(t, client)
				calls := a.balanced(30, 0, 2, hour0, hour1)
				n, err := s.Apply(ctx, lane, stateID, a.token, calls)
				require.ErrorIs(t, err, store.ErrPartialLoss)
				require.ErrorIs(t, err, store.ErrLostWrites, "a live lane writes its state again")
				require.True(t, store.IsFinal(err))
				require.Zero(t, n)
				require.Equal(t, before, dump(t, client))

				whole := a.balanced(30, 0, 0, hour0, hour1)
				whole[len(whole)-1].Meta.Whole = true
				a.mustApply(whole)
				meta, stats = view(t, s)
				require.NoError(t, meta.CheckBalance(lane, stats))
				a.mustApply(a.balanced(40, 0, 2, hour0, hour1))
			})
		})
	}
}

func forgetSlice(client redis.UniversalClient) error {
	if err := client.ZRem(ctx, laneKeys+"slices", hour0.String()).Err(); err != nil {
		return err
	}
	return client.HDel(ctx, laneKeys+"folds", hour0.String()).Err()
}

// The balance holds after every call: what a slice held moves to what was dropped with the call that drops it.
func TestBalanceHoldsBetweenCalls(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		a := acquire(t, s)
		a.mustApply(a.balanced(10, 0, 0, hour0, hour1))
		drop := store.Call{Prev: a.at, Next: a.at.NextCommit(), Buckets: buckets, Registered: 2,
			Drop: []store.SliceDrop{{SliceID: hour0, Deadline: 10}}}
		a.mustApply([]store.Call{drop})
		meta, stats := view(t, s)
		require.Equal(t, store.Balance{Known: true, Dropped: 10}, meta.Balance)
		require.NoError(t, meta.CheckBalance(lane, stats))

		b := acquire(t, s)
		meta, stats = view(t, s)
		require.Equal(t, store.Balance{Known: true, Dropped: 10}, meta.Balance, "it moves with the owner")
		require.NoError(t, meta.CheckBalance(lane, stats))
		b.mustApply([]store.Call{{Prev: b.at, Next: b.at.NextCommit(), Buckets: buckets, Purge: []store.SliceID{hour1}}})
		meta, stats = view(t, s)
		require.Equal(t, int64(20), meta.Balance.Dropped)
		require.NoError(t, meta.CheckBalance(lane, stats))
	})
}

// A meta that an earlier version wrote last has no balance, wherever it stood before, and that is no loss.
func TestBalanceOfEarlierVersions(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		a := acquire(t, s)
		a.mustApply(a.balanced(10, 0, 0, hour0))
		require.NoError(t, client.HDel(ctx, laneKeys+"meta", "dropped", "dropped_under").Err())
		b := acquire(t, s)
		meta, stats := view(t, s)
		require.False(t, meta.Balance.Known)
		require.NoError(t, meta.CheckBalance(lane, stats))
		b.mustApply(b.balanced(20, 0, 0, hour0))
		meta, _ = view(t, s)
		require.True(t, meta.Balance.Known, "the first commit begins it")

		// An earlier version takes the lane, drops a slice and gives it back.
		require.NoError(t, client.HSet(ctx, laneKeys+"meta", "owner", "9:old").Err())
		require.NoError(t, client.Del(ctx, laneKeys+"slices", laneKeys+"folds").Err())
		c := acquire(t, s)
		meta, stats = view(t, s)
		require.False(t, meta.Balance.Known)
		require.NoError(t, meta.CheckBalance(lane, stats))

		c.mustApply(c.balanced(30, 20, 0, hour0))
		meta, _ = view(t, s)
		require.True(t, meta.Balance.Known)
		c.mustApply(c.commit(40, "old", hour0)) // out of the journal of an earlier version
		meta, _ = view(t, s)
		require.False(t, meta.Balance.Known)
	})
}

// A slice that is not registered has no entries: what is left of one whose registration is gone does not come back.
func TestFirstEntriesReplaceLeftovers(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		a := acquire(t, s)
		a.mustApply(a.balanced(10, 0, 0, hour0))
		require.NoError(t, client.Del(ctx, laneKeys+"slices").Err())
		calls := a.balanced(20, 0, 0, hour0)
		calls[0].Writes = calls[0].Writes[2:3]
		a.mustApply(calls)
		require.Equal(t, "k2=v/2", entries(t, s, hour0))
		a.mustApply(a.balanced(30, 0, 0, hour0))
		require.Equal(t, "k0=v/0 k1=v/1 k2=v/2 k3=v/3", entries(t, s, hour0), "only the first time")
	})
}

func TestAskRewrite(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		a := acquire(t, s)
		rewrite := func() store.Rewrite {
			ctls, err := s.ReadCtl(ctx, lane)
			require.NoError(t, err)
			return ctls[0].Rewrite
		}
		require.NoError(t, s.AskRewrite(ctx, lane, "3:gone", 2))
		require.Zero(t, rewrite(), "that owner would never read it")
		require.NoError(t, s.AskRewrite(ctx, lane, a.token, 17))
		_, err := s.SetSeal(ctx, lane, a.token, 50)
		require.NoError(t, err)
		require.Equal(t, store.Rewrite{Owner: a.token, Seq: 17}, rewrite())
		b := acquire(t, s)
		require.NoError(t, s.AskRewrite(ctx, lane, b.token, 2))
		require.Equal(t, store.Rewrite{Owner: b.token, Seq: 2}, rewrite())
	})
}
