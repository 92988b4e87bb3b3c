package store_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

// wide writes n entries of size bytes into each bucket of hour0, a few per call.
func (o *owner) wide(n, size int) {
	o.t.Helper()
	text := strings.Repeat("x", size)
	prev, next := o.at, o.at.NextCommit()
	var calls []store.Call
	for b := range buckets {
		for from := 0; from < n; from += 8 {
			var fields []string
			for i := from; i < min(from+8, n); i++ {
				fields = append(fields, fmt.Sprintf("key-%d-%d", b, i), text)
			}
			calls = append(calls, store.Call{Prev: prev, Next: next, Writes: []store.Write{{Slice: hour0, Bucket: b, Fields: fields}}})
			prev, next = next, next.NextChunk()
		}
	}
	update := &store.MetaUpdate{Offset: int64(n * buckets), Slices: []store.SliceStat{{SliceID: hour0}}}
	o.mustApply(append(calls, store.Call{Prev: prev, Next: next, Meta: update}))
}

// asked is how many bytes of entries one transaction of scans asked for at the most.
func asked(log []storetest.Op, perBucket, size int) (most int) {
	sum := 0
	for _, op := range log {
		switch op.Args[0] {
		case "hmget":
			sum = 0
		case "hscan":
			at := slices.IndexFunc(op.Args, func(a string) bool { return strings.EqualFold(a, "count") })
			count, err := strconv.Atoi(op.Args[at+1])
			if err != nil {
				return 1 << 40
			}
			sum += min(count, perBucket) * size
			most = max(most, sum)
		}
	}
	return most
}

// Pages are bounded by bytes too: an answer of hundreds of megabytes can never come within its timeout.
func TestPagesOfLargeEntriesAreBounded(t *testing.T) {
	eachFaulty(t, func(t *testing.T, client redis.UniversalClient, s *store.Store, faults *storetest.Faults) {
		const perBucket, size, page = 300, 50_000, 4 << 20
		a := acquire(t, s)
		a.wide(perBucket, size)
		for name, read := range map[string]func(fn func(key, entry []byte) error) error{
			"ReadSlice": func(fn func(key, entry []byte) error) error {
				_, err := s.ReadSlice(ctx, lane, stateID, hour0, 0, buckets, func(_ int, key, entry []byte) error { return fn(key, entry) })
				return err
			},
			"Load": func(fn func(key, entry []byte) error) error {
				_, _, err := s.Load(ctx, lane, stateID, []store.SliceID{hour0}, buckets,
					func(_ int, key, entry []byte) error { return fn(key, entry) })
				return err
			},
		} {
			before := len(faults.Log(lane.String()))
			got := make(map[string]int)
			require.NoError(t, read(func(key, entry []byte) error { got[string(key)] = len(entry); return nil }), name)
			require.Len(t, got, perBucket*buckets, name)
			require.LessOrEqual(t, asked(faults.Log(lane.String())[before:], perBucket, size), page+page/4, name)
		}
	})
}

// A user who may not ask for the size of a key reads by entries alone.
func TestPagesWithoutTheRightToAskForSizes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		if _, single := client.(*redis.Client); !single || client.Do(ctx, "ACL", "SETUSER", "default", "-memory").Err() != nil {
			t.Skip("a server without access control")
		}
		s := store.New(client)
		a := acquire(t, s)
		a.wide(20, 100)
		got := 0
		_, err := s.ReadSlice(ctx, lane, stateID, hour0, 0, buckets, func(int, []byte, []byte) error { got++; return nil })
		require.NoError(t, err)
		require.Equal(t, 20*buckets, got)
	})
}
