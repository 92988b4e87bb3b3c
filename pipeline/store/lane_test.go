package store_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

const (
	stateID = "00112233445566aa"
	buckets = 4
)

var (
	ctx   = context.Background()
	lane  = store.LaneID{Pipeline: "flights", Topic: "flights", Partition: 3}
	hour0 = store.SliceID{Width: 3600000, Start: 0}
	hour1 = store.SliceID{Width: 3600000, Start: 3600000}
)

// owner is a lane's side of the protocol: its token and the cursor it has seen acknowledged.
type owner struct {
	t     *testing.T
	store *store.Store
	token store.Token
	at    store.Cursor
}

func acquire(t *testing.T, s *store.Store) *owner {
	meta, _, err := s.ReadMeta(ctx, lane)
	require.NoError(t, err)
	token := store.NextToken(meta.Owner)
	meta, _, err = s.Acquire(ctx, lane, stateID, meta.Owner, token)
	require.NoError(t, err)
	require.Equal(t, token, meta.Owner)
	return &owner{t: t, store: s, token: token, at: meta.Cursor}
}

// commit returns the calls of a commit: a chunk for every slice, which writes value under keys k0, k1, ... and the meta.
func (o *owner) commit(offset int64, value string, slices ...store.SliceID) []store.Call {
	var calls []store.Call
	prev, next := o.at, o.at.NextCommit()
	update := &store.MetaUpdate{
		Offset: offset, Watermark: offset * 1000, MaxTime: offset * 1e9, Sealed: store.NoTime, IdleEnd: store.NotIdle,
		Counters: store.Counters{Read: offset, Folded: offset}, TopicID: "topic-id", CtlGen: 7, SpecGen: 2, UpdatedAt: 99,
	}
	for _, slice := range slices {
		var writes []store.Write
		for bucket := range buckets {
			writes = append(writes, store.Write{Slice: slice, Bucket: bucket,
				Fields: []string{fmt.Sprintf("k%d", bucket), fmt.Sprintf("%s/%d", value, bucket)}})
		}
		calls = append(calls, store.Call{Prev: prev, Next: next, Writes: writes})
		prev, next = next, next.NextChunk()
		update.Slices = append(update.Slices, store.SliceStat{SliceID: slice, FirstOffset: 0, LastOffset: offset - 1, Folded: offset})
	}
	return append(calls, store.Call{Prev: prev, Next: next, Meta: update})
}

func (o *owner) apply(calls []store.Call) error {
	n, err := o.store.Apply(ctx, lane, stateID, o.token, calls)
	if n > 0 {
		o.at = calls[n-1].Next
	}
	return err
}

func (o *owner) mustApply(calls []store.Call) {
	o.t.Helper()
	require.NoError(o.t, o.apply(calls))
	require.Equal(o.t, calls[len(calls)-1].Next, o.at)
}

// entries reads a slice as "key=entry key=entry ...", by bucket.
func entries(t *testing.T, s *store.Store, slice store.SliceID) string {
	var got []string
	for bucket := range buckets {
		_, err := s.ReadSlice(ctx, lane, stateID, slice, bucket, bucket+1, func(_ int, key, entry []byte) error {
			got = append(got, string(key)+"="+string(entry))
			return nil
		})
		require.NoError(t, err)
	}
	return strings.Join(got, " ")
}

func TestCommit(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		_, found, err := s.ReadMeta(ctx, lane)
		require.NoError(t, err)
		require.False(t, found)
		_, _, err = s.LaneView(ctx, lane, stateID)
		require.ErrorIs(t, err, store.ErrNoMeta)

		token := store.NextToken("")
		meta, found, err := s.Acquire(ctx, lane, stateID, "", token)
		require.NoError(t, err)
		require.False(t, found)
		fresh := store.Meta{Format: store.Format, StateID: stateID, Owner: token, Offset: store.NotStarted,
			Watermark: store.NoTime, MaxTime: store.NoTime, Sealed: store.NoTime, IdleEnd: store.NotIdle,
			Balance: store.Balance{Known: true}}
		require.Equal(t, fresh, meta)

		a := &owner{t: t, store: s, token: token, at: meta.Cursor}
		first := a.commit(10, "a", hour1, hour0)
		a.mustApply(first[:1])
		meta, stats, err := s.LaneView(ctx, lane, stateID)
		require.NoError(t, err)
		require.Equal(t, store.Cursor{Seq: 1}, meta.Cursor)
		require.EqualValues(t, store.NotStarted, meta.Offset, "offset moves in the last call only")
		require.Equal(t, []store.SliceStat{{SliceID: hour1, FirstOffset: -1, LastOffset: -1}}, stats)

		a.mustApply(first[1:])
		meta, stats, err = s.LaneView(ctx, lane, stateID)
		require.NoError(t, err)
		require.Equal(t, store.Meta{Format: store.Format, StateID: stateID, Owner: token, Cursor: store.Cursor{Seq: 1, Chunk: 2},
			Offset: 10, Watermark: 10000, MaxTime: 10e9, Sealed: store.NoTime, IdleEnd: store.NotIdle,
			Counters: store.Counters{Read: 10, Folded: 10}, TopicID: "topic-id", CtlGen: 7, SpecGen: 2, UpdatedAt: 99}, meta)
		require.Equal(t, []store.SliceStat{
			{SliceID: hour0, LastOffset: 9, Folded: 10}, {SliceID: hour1, LastOffset: 9, Folded: 10}}, stats, "by end")
		require.Equal(t, "k0=a/0 k1=a/1 k2=a/2 k3=a/3", entries(t, s, hour0))
		guard, err := s.ReadSlice(ctx, lane, stateID, hour0, 0, 1, func(_ int, _, _ []byte) error { return nil })
		require.NoError(t, err)
		require.Equal(t, meta.Guard(), guard)

		b := acquire(t, s)
		require.Equal(t, a.at, b.at, "an acquisition keeps the cursor")
		b.mustApply(b.commit(20, "b", hour0))
		require.Equal(t, "k0=b/0 k1=b/1 k2=b/2 k3=b/3", entries(t, s, hour0))
		require.Equal(t, "k0=a/0 k1=a/1 k2=a/2 k3=a/3", entries(t, s, hour1))

		b.mustApply(b.commit(20, "b"))
		require.Equal(t, store.Cursor{Seq: 3}, b.at, "an empty commit is one call")
		noTTL(t, client)
	})
}

// noTTL fails if any key under the lane's tag can expire.
func noTTL(t *testing.T, client redis.UniversalClient) {
	keys, err := client.Keys(ctx, "*{"+lane.String()+"}*").Result()
	require.NoError(t, err)
	require.NotEmpty(t, keys)
	for _, key := range keys {
		require.EqualValues(t, -1, client.TTL(ctx, key).Val(), key)
	}
}

func TestStaleOwnerChangesNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		zombie := acquire(t, s)
		zombie.mustApply(zombie.commit(10, "a", hour0))
		late := zombie.commit(11, "z", hour0, hour1)

		heir := acquire(t, s)
		before := dump(t, client)
		n, err := s.Apply(ctx, lane, stateID, zombie.token, late)
		require.ErrorIs(t, err, store.ErrFenced)
		require.True(t, store.IsFinal(err))
		require.Zero(t, n)
		require.Equal(t, before, dump(t, client))

		heir.mustApply(heir.commit(12, "h", hour0))
		before = dump(t, client)
		require.ErrorIs(t, zombie.apply(late), store.ErrFenced)
		_, _, err = s.Acquire(ctx, lane, stateID, zombie.token, store.NextToken(zombie.token))
		require.ErrorIs(t, err, store.ErrOwnerChanged)
		require.Equal(t, before, dump(t, client))
	})
}

// dump returns everything under the lane's tag.
func dump(t *testing.T, client redis.UniversalClient) map[string]any {
	keys, err := client.Keys(ctx, "*{"+lane.String()+"}*").Result()
	require.NoError(t, err)
	all := make(map[string]any)
	for _, key := range keys {
		switch kind := client.Type(ctx, key).Val(); kind {
		case "hash":
			all[key] = client.HGetAll(ctx, key).Val()
		case "zset":
			all[key] = client.ZRangeWithScores(ctx, key, 0, -1).Val()
		default:
			t.Fatalf("%s is a %s", key, kind)
		}
	}
	return all
}

func TestRepeatedCallsAreAcknowledged(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		a := acquire(t, s)
		first := a.commit(10, "a", hour0)
		a.mustApply(first)
		second := a.commit(20, "b", hour0, hour1)
		a.mustApply(second[:2])
		before := dump(t, client)

		for name, calls := range map[string][]store.Call{
			"same call": second[1:2], "older calls": first, "everything applied so far": second[:2],
		} {
			n, err := s.Apply(ctx, lane, stateID, a.token, calls)
			require.NoError(t, err, name)
			require.Equal(t, len(calls), n, name)
			require.Equal(t, before, dump(t, client), name)
		}
		a.mustApply(second)
		require.Equal(t, "k0=b/0 k1=b/1 k2=b/2 k3=b/3", entries(t, s, hour1))
		meta, _, err := s.ReadMeta(ctx, lane)
		require.NoError(t, err)
		require.EqualValues(t, 20, meta.Offset)
	})
}

func TestAcquireRace(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		expected := store.Token("")
		for range 20 {
			const racers = 4
			var wg sync.WaitGroup
			won := make(chan store.Token, racers)
			for range racers {
				wg.Go(func() {
					next := store.NextToken(expected)
					_, _, err := s.Acquire(ctx, lane, stateID, expected, next)
					if err == nil {
						won <- next
						_, _, err = s.Acquire(ctx, lane, stateID, expected, next)
						require.NoError(t, err, "repeating is safe")
						return
					}
					require.ErrorIs(t, err, store.ErrOwnerChanged)
				})
			}
			wg.Wait()
			require.Len(t, won, 1)
			winner := <-won
			require.Equal(t, expected.Epoch()+1, winner.Epoch())
			expected = winner
		}
	})
}

func TestAcquireRefuses(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		_, _, err := s.Acquire(ctx, lane, stateID, "5:gone", "6:new")
		require.ErrorIs(t, err, store.ErrOwnerChanged, "an owner was expected and there is no meta")
		a := acquire(t, s)

		a.mustApply(a.commit(1, "a", hour0))
		for _, name := range []string{"meta", "slices", "folds"} {
			key := "mr:{flights/flights/3}:" + name
			require.NoError(t, client.Expire(ctx, key, time.Hour).Err())
			_, _, err = s.Acquire(ctx, lane, stateID, a.token, "2:x")
			require.ErrorIs(t, err, store.ErrExpires)
			require.ErrorContains(t, err, key)
			require.NoError(t, client.Persist(ctx, key).Err())
		}

		_, _, err = s.Acquire(ctx, lane, "other", a.token, "2:x")
		var state *store.StateIDError
		require.ErrorAs(t, err, &state)
		require.Equal(t, &store.StateIDError{Lane: lane, Found: stateID, Want: "other"}, state)
		_, _, err = s.LaneView(ctx, lane, "other")
		require.ErrorAs(t, err, &state)

		require.NoError(t, client.HSet(ctx, "mr:{flights/flights/3}:meta", "format", store.PageFormat+1).Err())
		var format *store.FormatError
		_, _, err = s.Acquire(ctx, lane, stateID, a.token, "2:x")
		require.ErrorAs(t, err, &format)
		require.Equal(t, store.PageFormat+1, format.Found)
		require.Equal(t, store.PageFormat, format.Want)
		_, _, err = s.ReadMeta(ctx, lane)
		require.ErrorAs(t, err, &format)

		require.NoError(t, client.HSet(ctx, "mr:{flights/flights/3}:meta", "format", store.Format, "offset", "ten").Err())
		_, _, err = s.ReadMeta(ctx, lane)
		require.ErrorIs(t, err, store.ErrCorrupt)
		require.ErrorContains(t, err, "offset")
	})
}

// Whatever stands there, of another format, under another state id or unreadable, a replaced lane has nothing of it left; and
// only whoever has read its owner can replace it.
func TestReplace(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		const meta = "mr:{flights/flights/3}:meta"
		for name, spoil := range map[string]func() string{ // and the state id under which it is replaced
			"another format": func() string {
				require.NoError(t, client.HSet(ctx, meta, "format", store.PageFormat+1).Err())
				return stateID
			},
			"another spec": func() string { return "0000000000000000" },
			"unreadable": func() string {
				require.NoError(t, client.HSet(ctx, meta, "cursor", "x", "offset", "ten").Err())
				return stateID
			},
			"folds unreadable": func() string {
				require.NoError(t, client.HSet(ctx, "mr:{flights/flights/3}:folds", hour0.String(), "many").Err())
				return stateID
			},
		} {
			t.Run(name, func(t *testing.T) {
				require.NoError(t, client.Del(ctx, meta, "mr:{flights/flights/3}:slices", "mr:{flights/flights/3}:folds").Err())
				a := acquire(t, s)
				a.mustApply(a.commit(10, "a", hour0, hour1))
				id := spoil()
				next := &store.MetaUpdate{
					Offset: 4, Watermark: 4000, MaxTime: store.NoTime, Sealed: 3000, IdleEnd: store.NotIdle, TopicID: "topic-id", Decided: 9, Era: 77,
					Counters: store.Counters{Read: 4, Folded: 4}, Seals: []store.Seal{{Offset: 5, Before: 6}},
					Balance: store.Balance{Known: true, Dropped: 4},
				}
				_, err := s.Replace(ctx, lane, id, "1:other", "2:x", buckets, next)
				require.ErrorIs(t, err, store.ErrOwnerChanged)
				var got store.Meta
				for range 2 { // repeating is safe
					got, err = s.Replace(ctx, lane, id, a.token, "2:x", buckets, next)
					require.NoError(t, err)
				}
				require.Equal(t, store.Token("2:x"), got.Owner)
				require.Equal(t, id, got.StateID)
				require.Equal(t, []int64{4, 4000, 3000, 9, 77}, []int64{got.Offset, got.Watermark, got.Sealed, got.Decided, got.Era})
				require.Equal(t, next.Counters, got.Counters)
				require.Equal(t, next.Seals, got.Seals)
				require.Equal(t, next.Balance, got.Balance)
				require.Positive(t, got.Cursor.Seq)
				view, slices, err := s.LaneView(ctx, lane, id)
				require.NoError(t, err)
				require.Equal(t, got, view)
				require.Empty(t, slices)
				require.NoError(t, view.CheckBalance(lane, slices))
				keys, err := client.Keys(ctx, "mr:{flights/flights/3}:s:*").Result()
				require.NoError(t, err)
				require.Empty(t, keys, "no entry is left behind")
				require.ErrorIs(t, a.apply(a.commit(20, "b", hour0)), store.ErrFenced)
			})
		}
		_, err := s.Fence(ctx, lane, store.RemovedToken("run"))
		require.NoError(t, err)
		_, err = s.Replace(ctx, lane, stateID, "removed:run", "3:y", buckets, &store.MetaUpdate{})
		require.ErrorIs(t, err, store.ErrRemoved)
	})
}

func TestDrop(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		a := acquire(t, s)
		a.mustApply(a.commit(10, "a", hour0, hour1)) // watermark 10000
		drop := func(slice store.SliceID, deadline int64) []store.Call {
			return []store.Call{{Prev: a.at, Next: a.at.NextCommit(), Buckets: buckets,
				Drop: []store.SliceDrop{{SliceID: slice, Deadline: deadline}}}}
		}

		before := dump(t, client)
		require.ErrorIs(t, a.apply(drop(hour0, 10001)), store.ErrNotSealed)
		require.Equal(t, before, dump(t, client))

		a.mustApply(drop(hour0, 10000))
		_, stats, err := s.LaneView(ctx, lane, stateID)
		require.NoError(t, err)
		require.Equal(t, []store.SliceStat{{SliceID: hour1, LastOffset: 9, Folded: 10}}, stats)
		require.Empty(t, entries(t, s, hour0))

		sealed := a.commit(10, "a")
		sealed[0].Meta.Sealed = 7200000
		sealed[0].Drop, sealed[0].Buckets = drop(hour1, 7200000)[0].Drop, buckets
		require.ErrorIs(t, a.apply(sealed), store.ErrNotSealed, "the seal of the same call is not committed yet")
		sealed[0].Drop = nil
		a.mustApply(sealed)
		a.mustApply(drop(hour1, 7200000))
		require.Len(t, dump(t, client), 1, "nothing but the meta is left")

		a.mustApply(a.commit(30, "b", hour0, hour1))
		a.mustApply([]store.Call{{Prev: a.at, Next: a.at.NextCommit(), Buckets: buckets, Purge: []store.SliceID{hour0, hour1}}})
		require.Len(t, dump(t, client), 1)

		forgot := drop(hour0, 0)
		forgot[0].Buckets = 0
		require.ErrorContains(t, a.apply(forgot), "buckets is 0")
	})
}

func TestCtlOnlyGrows(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		other := store.LaneID{Pipeline: "flights", Topic: "flights", Partition: 4}
		none := store.Ctl{SealBefore: store.NoTime, DropBefore: store.NoTime}
		ctls, err := s.ReadCtl(ctx, lane, other)
		require.NoError(t, err)
		require.Equal(t, []store.Ctl{none, none}, ctls)

		for _, step := range []struct{ seal, want int64 }{{-5000, -5000}, {978307200000, 978307200000}, {978307199999, 978307200000}, {978307200001, 978307200001}} {
			ctl, err := s.SetSeal(ctx, lane, "", step.seal)
			require.NoError(t, err)
			require.Equal(t, store.Ctl{SealBefore: step.want, DropBefore: store.NoTime}, ctl)
		}
		_, err = s.SetDrop(ctx, lane, "", 50)
		require.NoError(t, err)
		ctl, err := s.SetDrop(ctx, lane, "", 40)
		require.NoError(t, err)
		require.EqualValues(t, 50, ctl.DropBefore)
		ctls, err = s.ReadCtl(ctx, other, lane)
		require.NoError(t, err)
		require.Equal(t, []store.Ctl{none, {SealBefore: 978307200001, DropBefore: 50}}, ctls)

		a := acquire(t, s)
		for _, owner := range []store.Token{"", "9:other"} {
			_, err = s.SetDrop(ctx, lane, owner, 60)
			require.ErrorIs(t, err, store.ErrLaneMoved, "what was seen of one owner is not asked of another")
		}
		ctl, err = s.SetDrop(ctx, lane, a.token, 60)
		require.NoError(t, err)
		require.EqualValues(t, 60, ctl.DropBefore)
	})
}
