package store_test

import (
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

// faulty returns a store whose commands pass through faults, and the client beneath them.
func faulty(client redis.UniversalClient, hooked redis.UniversalClient) (*store.Store, *storetest.Faults) {
	faults := storetest.NewFaults(client)
	hooked.AddHook(faults)
	return store.New(hooked), faults
}

// eachFaulty is storetest.Each with a second client that carries faults.
func eachFaulty(t *testing.T, fn func(t *testing.T, client redis.UniversalClient, s *store.Store, faults *storetest.Faults)) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		var hooked redis.UniversalClient
		switch c := client.(type) {
		case *redis.ClusterClient:
			hooked = storetest.Client(t, c.Options().Addrs[0], true)
		case *redis.Client:
			hooked = storetest.Client(t, c.Options().Addr, false)
		}
		s, faults := faulty(client, hooked)
		fn(t, client, s, faults)
	})
}

// once returns a plan that gives the outcome to the n-th call of a lane from now on, counted from 0.
func once(n int, outcome storetest.Outcome) func(storetest.Op) storetest.Outcome {
	return func(op storetest.Op) storetest.Outcome {
		if op.Tag != lane.String() || !op.Write() {
			return storetest.Pass
		}
		n--
		if n == -1 {
			return outcome
		}
		return storetest.Pass
	}
}

func TestPipelineBreaks(t *testing.T) {
	outcomes := map[string]storetest.Outcome{
		"before": storetest.FailBefore, "after": storetest.FailAfter, "answers lost": storetest.LoseReplies,
	}
	eachFaulty(t, func(t *testing.T, client redis.UniversalClient, s *store.Store, faults *storetest.Faults) {
		a := acquire(t, s)
		a.mustApply(a.commit(1, "warm", hour0)) // the script is known from here on
		offset := int64(1)
		for name, outcome := range outcomes {
			for at := range 4 {
				offset++
				value := name + string(rune('0'+at))
				calls := a.commit(offset, value, hour0, hour1, store.SliceID{Width: 3600000, Start: 7200000})
				faults.Plan(once(at, outcome))
				n, err := s.Apply(ctx, lane, stateID, a.token, calls)
				require.ErrorIs(t, err, storetest.ErrInjected, value)
				require.False(t, store.IsFinal(err))
				require.Equal(t, at, n, "%s: calls known to be applied", value)
				faults.Plan(nil)

				a.mustApply(calls)
				meta, _, err := s.ReadMeta(ctx, lane)
				require.NoError(t, err)
				require.Equal(t, a.at, meta.Cursor)
				require.Equal(t, offset, meta.Offset)
				want := "k0=" + value + "/0 k1=" + value + "/1 k2=" + value + "/2 k3=" + value + "/3"
				require.Equal(t, want, entries(t, s, hour0))
				require.Equal(t, want, entries(t, s, hour1))
			}
		}
	})
}

func TestScriptsForgottenInMidPipeline(t *testing.T) {
	eachFaulty(t, func(t *testing.T, client redis.UniversalClient, s *store.Store, faults *storetest.Faults) {
		a := acquire(t, s)
		a.mustApply(a.commit(1, "a", hour0))
		for at := range 3 {
			calls := a.commit(int64(2+at), "b", hour0, hour1)
			n := at
			faults.Plan(func(op storetest.Op) storetest.Outcome {
				if op.Args[0] == "evalsha" && n == 0 {
					require.NoError(t, client.ScriptFlush(ctx).Err())
				}
				n--
				return storetest.Pass
			})
			a.mustApply(calls)
			faults.Plan(nil)
		}
		require.Equal(t, "k0=b/0 k1=b/1 k2=b/2 k3=b/3", entries(t, s, hour1))

		faults.Plan(func(storetest.Op) storetest.Outcome {
			require.NoError(t, client.ScriptFlush(ctx).Err())
			return storetest.Pass
		})
		n, err := s.Apply(ctx, lane, stateID, a.token, a.commit(9, "c", hour0, hour1))
		require.NoError(t, err, "even if it forgets before every call")
		require.Equal(t, 3, n)
	})
}

func TestLostSuffixIsNoticed(t *testing.T) {
	eachFaulty(t, func(t *testing.T, client redis.UniversalClient, s *store.Store, faults *storetest.Faults) {
		a := acquire(t, s)
		a.mustApply(a.commit(1, "a", hour0))
		a.mustApply(a.commit(2, "b", hour0, hour1))
		a.mustApply(a.commit(3, "c", hour0, hour1))
		require.Equal(t, 1+2+3+3, len(faults.Log(lane.String())))

		for keep := 8; keep >= 1; keep-- {
			require.NoError(t, faults.Rewind(ctx, lane.String(), keep))
			before := dump(t, client)
			n, err := s.Apply(ctx, lane, stateID, a.token, a.commit(4, "d", hour0))
			require.ErrorIs(t, err, store.ErrLostWrites, "%d of 9 calls survived", keep)
			require.Zero(t, n)
			require.Equal(t, before, dump(t, client))
		}
		require.NoError(t, faults.Rewind(ctx, lane.String(), 0))
		require.ErrorIs(t, a.apply(a.commit(4, "d", hour0)), store.ErrNoMeta)
		require.Empty(t, dump(t, client))

		b := acquire(t, s)
		reseed := b.commit(4, "d", hour0, hour1)
		b.mustApply(reseed)
		require.Equal(t, "k0=d/0 k1=d/1 k2=d/2 k3=d/3", entries(t, s, hour1))
		require.ErrorIs(t, a.apply(a.commit(5, "e", hour0)), store.ErrFenced)
	})
}

func TestLostAcquisitionFencesTheNewOwner(t *testing.T) {
	eachFaulty(t, func(t *testing.T, client redis.UniversalClient, s *store.Store, faults *storetest.Faults) {
		a := acquire(t, s)
		a.mustApply(a.commit(1, "a", hour0))
		survivors := len(faults.Log(lane.String()))
		b := acquire(t, s)
		b.mustApply(b.commit(2, "b", hour0))
		require.NoError(t, faults.Rewind(ctx, lane.String(), survivors))

		require.ErrorIs(t, b.apply(b.commit(3, "b", hour0)), store.ErrFenced)
		a.mustApply(a.commit(2, "a", hour0)) // the same epoch number is issued again, the token is not
		again := acquire(t, s)
		require.Equal(t, b.token.Epoch(), again.token.Epoch())
		require.ErrorIs(t, b.apply(b.commit(3, "b", hour0)), store.ErrFenced)
	})
}

// TestRandomFaults runs commits through random faults, rewinds, lost scripts and take-overs, against a plain map of what
// the entries must be, until each commit went through.
func TestRandomFaults(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		raw := storetest.Client(t, miniredis.RunT(t).Addr(), false)
		s, faults := faulty(raw, storetest.Client(t, raw.(*redis.Client).Options().Addr, false))
		faults.Plan(func(op storetest.Op) storetest.Outcome {
			switch rng.IntN(30) {
			case 0:
				raw.ScriptFlush(ctx)
			case 1, 2, 3:
				return storetest.Outcome(1 + rng.IntN(3))
			}
			return storetest.Pass
		})
		slices := []store.SliceID{hour0, hour1}
		memory := map[store.SliceID]string{} // value of every slice
		a := retryAcquire(t, s)
		for offset := int64(1); offset <= 60; {
			touched := slices[:rng.IntN(3)]
			value := string(a.token[:3]) + "-" + string(rune('A'+offset))
			for _, slice := range touched {
				memory[slice] = value
			}
			calls := a.commit(offset, value, touched...)
			for {
				err := a.apply(calls)
				if err == nil {
					offset++
					break
				}
				calls = calls[countApplied(calls, a.at):]
				if store.IsFinal(err) { // lost or fenced by a rewind: re-seed everything from memory
					a = retryAcquire(t, s)
					calls = nil
					prev, next := a.at, a.at.NextCommit()
					for slice, value := range memory {
						b := &owner{t: t, store: s, token: a.token, at: prev}
						chunk := b.commit(offset, value, slice)[0]
						chunk.Prev, chunk.Next = prev, next
						calls = append(calls, chunk)
						prev, next = next, next.NextChunk()
					}
					meta := a.commit(offset, "")[0]
					meta.Prev, meta.Next = prev, next
					calls = append(calls, meta)
				}
			}
			if rng.IntN(8) == 0 {
				log := faults.Log(lane.String())
				require.NoError(t, faults.Rewind(ctx, lane.String(), rng.IntN(len(log)+1)))
			}
		}
		faults.Plan(nil)
		a = retryAcquire(t, s) // whatever the last rewind left, one more re-seed must make it whole
		for slice, value := range memory {
			calls := a.commit(99, value, slice)
			a.mustApply(calls)
		}
		for slice, value := range memory {
			require.Equal(t, "k0="+value+"/0 k1="+value+"/1 k2="+value+"/2 k3="+value+"/3", entries(t, s, slice), "seed %d", seed)
		}
	}
}

func countApplied(calls []store.Call, at store.Cursor) int {
	n := 0
	for n < len(calls) && !at.Less(calls[n].Next) {
		n++
	}
	return n
}

func retryAcquire(t *testing.T, s *store.Store) *owner {
	for {
		meta, _, err := s.ReadMeta(ctx, lane)
		if err != nil {
			require.False(t, store.IsFinal(err))
			continue
		}
		token := store.NextToken(meta.Owner)
		for {
			meta, _, err := s.Acquire(ctx, lane, stateID, meta.Owner, token)
			if err == nil {
				return &owner{t: t, store: s, token: token, at: meta.Cursor}
			}
			require.False(t, store.IsFinal(err), err)
		}
	}
}

func TestFailoverToReplicaThatLagged(t *testing.T) {
	primaryAddr, replicaAddr := storetest.StartRedis(t), storetest.StartRedis(t)
	primary, replica := storetest.Client(t, primaryAddr, false), storetest.Client(t, replicaAddr, false)
	s := store.New(primary)
	a := acquire(t, s)
	_, port, err := net.SplitHostPort(primaryAddr)
	require.NoError(t, err)
	require.NoError(t, replica.Do(ctx, "replicaof", "127.0.0.1", port).Err())
	a.mustApply(a.commit(1, "a", hour0))
	require.Eventually(t, func() bool {
		meta, found, err := store.New(replica).ReadMeta(ctx, lane)
		return err == nil && found && meta.Offset == 1
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, replica.Do(ctx, "replicaof", "no", "one").Err())
	for offset := int64(2); offset < 7; offset++ {
		a.mustApply(a.commit(offset, "b", hour0, hour1)) // acknowledged by the primary alone
	}

	promoted := store.New(replica)
	n, err := promoted.Apply(ctx, lane, stateID, a.token, a.commit(7, "c", hour0))
	require.ErrorIs(t, err, store.ErrLostWrites)
	require.Zero(t, n)
	b := acquire(t, promoted)
	b.mustApply(b.commit(7, "c", hour0, hour1))
	require.Equal(t, "k0=c/0 k1=c/1 k2=c/2 k3=c/3", entries(t, promoted, hour1))
}
