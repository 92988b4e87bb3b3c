package store_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

// bulk returns calls that write n keys into bucket 0 of hour0 with the given entry, a thousand per call, and the meta.
func (o *owner) bulk(from, n int, entry string) []store.Call {
	var calls []store.Call
	prev, next := o.at, o.at.NextCommit()
	for first := from; first < from+n; first += 1000 {
		var fields []string
		for i := first; i < min(first+1000, from+n); i++ {
			fields = append(fields, fmt.Sprintf("key-%06d", i), entry)
		}
		calls = append(calls, store.Call{Prev: prev, Next: next, Writes: []store.Write{{Slice: hour0, Fields: fields}}})
		prev, next = next, next.NextChunk()
	}
	update := &store.MetaUpdate{Offset: int64(from + n), Slices: []store.SliceStat{{SliceID: hour0}}}
	return append(calls, store.Call{Prev: prev, Next: next, Meta: update})
}

func TestReadBucketByPages(t *testing.T) {
	eachFaulty(t, func(t *testing.T, client redis.UniversalClient, s *store.Store, faults *storetest.Faults) {
		const keys = 30000
		a := acquire(t, s)
		a.mustApply(a.bulk(0, keys, "old"))
		read := func(fn func(key, entry []byte) error) (store.Guard, error) {
			return s.ReadSlice(ctx, lane, stateID, hour0, 0, 1, func(_ int, key, entry []byte) error { return fn(key, entry) })
		}
		got := map[string]string{}
		collect := func(key, entry []byte) error {
			if _, twice := got[string(key)]; twice {
				t.Errorf("%s came twice", key)
			}
			got[string(key)] = string(entry)
			return nil
		}
		guard, err := read(collect)
		require.NoError(t, err)
		require.Len(t, got, keys)
		require.Equal(t, store.Guard{Owner: a.token, Cursor: a.at, Offset: keys}, guard)

		// Commits between the pages: every key that was there at the end is seen, with one entry or the other.
		pages := 0
		faults.Plan(func(op storetest.Op) storetest.Outcome {
			if op.Args[0] == "hmget" && pages < 3 {
				pages++
				if pages == 2 {
					plain := &owner{t: t, store: store.New(client), token: a.token, at: a.at}
					plain.mustApply(plain.bulk(keys-1000, 3000, "new"))
					a.at = plain.at
				}
			}
			return storetest.Pass
		})
		clear(got)
		guard, err = read(collect)
		require.NoError(t, err)
		if pages > 1 { // a server that pages
			require.Equal(t, a.at, guard.Cursor)
			require.Len(t, got, keys+2000)
		}

		// Another owner between the pages.
		pages = 0
		faults.Plan(func(op storetest.Op) storetest.Outcome {
			if op.Args[0] == "hmget" {
				if pages++; pages == 2 {
					acquire(t, store.New(client))
				}
			}
			return storetest.Pass
		})
		_, err = read(func(_, _ []byte) error { return nil })
		if pages > 1 {
			require.ErrorIs(t, err, store.ErrLaneMoved)
		}
		faults.Plan(nil)

		stop := errors.New("enough")
		_, err = read(func(_, _ []byte) error { return stop })
		require.Equal(t, stop, err)
		require.NoError(t, client.FlushAll(ctx).Err())
		_, err = read(collect)
		require.ErrorIs(t, err, store.ErrNoMeta)
	})
}

func TestGuardFollows(t *testing.T) {
	base := store.Guard{Owner: "1:a", Cursor: store.Cursor{Seq: 2, Chunk: 3}, Offset: 10}
	for name, c := range map[string]struct {
		later store.Guard
		want  bool
	}{
		"same":             {base, true},
		"next chunk":       {store.Guard{Owner: "1:a", Cursor: store.Cursor{Seq: 2, Chunk: 4}, Offset: 10}, true},
		"next commit":      {store.Guard{Owner: "1:a", Cursor: store.Cursor{Seq: 3}, Offset: 12}, true},
		"other owner":      {store.Guard{Owner: "1:b", Cursor: base.Cursor, Offset: 10}, false},
		"cursor backwards": {store.Guard{Owner: "1:a", Cursor: store.Cursor{Seq: 2, Chunk: 2}, Offset: 10}, false},
		"offset backwards": {store.Guard{Owner: "1:a", Cursor: store.Cursor{Seq: 3}, Offset: 9}, false},
	} {
		require.Equal(t, c.want, c.later.Follows(base), name)
	}
}

func TestReadSlice(t *testing.T) {
	eachFaulty(t, func(t *testing.T, client redis.UniversalClient, s *store.Store, faults *storetest.Faults) {
		read := func() (map[string]string, []int, store.Guard, error) {
			got, order := map[string]string{}, []int{}
			guard, err := s.ReadSlice(ctx, lane, stateID, hour0, 0, buckets, func(bucket int, key, entry []byte) error {
				got[string(key)] = string(entry)
				if len(order) == 0 || order[len(order)-1] != bucket {
					order = append(order, bucket)
				}
				return nil
			})
			return got, order, guard, err
		}
		_, _, _, err := read()
		require.ErrorIs(t, err, store.ErrNoMeta)

		a := acquire(t, s)
		got, _, guard, err := read()
		require.NoError(t, err)
		require.Empty(t, got)
		require.EqualValues(t, store.NotStarted, guard.Offset)

		a.mustApply(a.commit(5, "a", hour0, hour1))
		got, order, guard, err := read()
		require.NoError(t, err)
		require.Equal(t, map[string]string{"k0": "a/0", "k1": "a/1", "k2": "a/2", "k3": "a/3"}, got)
		require.Equal(t, []int{0, 1, 2, 3}, order)
		require.Equal(t, store.Guard{Owner: a.token, Cursor: a.at, Offset: 5}, guard)

		a.mustApply(a.bulk(0, 12000, "big")) // bucket 0 needs more than a page
		got, order, _, err = read()
		require.NoError(t, err)
		require.Len(t, got, 12004)
		require.Equal(t, []int{0, 1, 2, 3}, order)

		// Another owner between the pages of the slice.
		reads := 0
		faults.Plan(func(op storetest.Op) storetest.Outcome {
			if op.Args[0] == "hmget" {
				if reads++; reads == 2 {
					acquire(t, store.New(client))
				}
			}
			return storetest.Pass
		})
		_, _, _, err = read()
		require.ErrorIs(t, err, store.ErrLaneMoved)
		faults.Plan(nil)
	})
}
