package lane

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/store"
)

// A lane that crashes at any call of any commit, and is restored, ends as one that never crashed.
func TestRestoreAfterCrashAtAnyCall(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		log := randomLog(rng, 300)
		want := fold.NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
		want.Fold(batch(log...))

		st, _ := testStore(t)
		p := mustProgram(t)
		side := &sideLog{}
		var owner store.Token
		for crashed := true; crashed; {
			crashed = false
			meta, _, err := st.ReadMeta(ctx, testLane)
			require.NoError(t, err)
			next := store.NextToken(meta.Owner)
			_, _, err = st.Acquire(ctx, testLane, p.StateID, meta.Owner, next)
			require.NoError(t, err)
			owner = next
			s, _, err := Restore(ctx, st, p, testLane, owner)
			require.NoError(t, err)
			s.ReadFrom("id", max(s.Offset(), 0))
			for s.Offset() < int64(len(log)) && !crashed {
				to := min(int64(len(log)), s.Offset()+1+rng.Int64N(80))
				s.Fold(batch(log[s.Offset():to]...))
				c := &fold.Commit{}
				s.Snapshot(c, fold.Control{IdleAt: -1, SealBefore: none, DropBefore: none})
				if rng.IntN(4) == 0 {
					crashed = true
					c.Calls = c.Calls[:rng.IntN(len(c.Calls)+1)]
				}
				require.NoError(t, deliverCommit(ctx, st, side, testLane, p.StateID, owner, c))
				s.Acknowledged(c)
			}
		}
		got, _, err := Restore(ctx, st, p, testLane, owner)
		require.NoError(t, err)
		require.Equal(t, contents(want), contents(got), "seed %d", seed)
		conserve(t, got.Counters())
	}
}

func TestReseedAfterLostWrites(t *testing.T) {
	ctx := context.Background()
	for _, flush := range []bool{true, false} {
		rng := rand.New(rand.NewPCG(7, 7))
		log := randomLog(rng, 400)
		st, server := testStore(t)
		p := mustProgram(t)
		meta, _, err := st.Acquire(ctx, testLane, p.StateID, "", store.NextToken(""))
		require.NoError(t, err)
		owner := meta.Owner
		s := fold.NewState(p, testLane, "id", 0, meta.Cursor)
		c := &fold.Commit{}
		var err2 error
		for i := 0; i < len(log); i += 50 {
			s.Fold(batch(log[i : i+50]...))
			s.Snapshot(c, fold.Control{IdleAt: -1, SealBefore: none, DropBefore: none})
			if i == 200 {
				if flush {
					server.FlushAll()
				} else {
					server.HSet("mr:{orders/orders/0}:meta", "cursor", "2:0")
				}
			}
			err2 = deliverCommit(ctx, st, &sideLog{}, testLane, p.StateID, owner, c)
			if i != 200 {
				require.NoError(t, err2)
				continue
			}
			if flush {
				require.ErrorIs(t, err2, store.ErrNoMeta)
			} else {
				require.ErrorIs(t, err2, store.ErrLostWrites)
			}
			found, _, err := st.ReadMeta(ctx, testLane)
			require.NoError(t, err)
			next := store.NextToken(found.Owner)
			meta, _, err := st.Acquire(ctx, testLane, p.StateID, found.Owner, next)
			require.NoError(t, err)
			_, stored, err := st.LaneView(ctx, testLane, p.StateID)
			require.NoError(t, err)
			owner = next
			s.Reseed(c, meta.Cursor, stored)
			require.NoError(t, deliverCommit(ctx, st, &sideLog{}, testLane, p.StateID, owner, c))
		}
		got, _, err := Restore(ctx, st, p, testLane, owner)
		require.NoError(t, err)
		require.Equal(t, contents(s), contents(got))
	}
}

func TestSideRecordsLeaveFirst(t *testing.T) {
	st, _ := testStore(t)
	p := mustProgram(t)
	ctx := context.Background()
	meta, _, err := st.Acquire(ctx, testLane, p.StateID, "", store.NextToken(""))
	require.NoError(t, err)
	s := fold.NewState(p, testLane, "id", 0, meta.Cursor)
	s.Fold(batch(record(0, "nonsense")))
	c := &fold.Commit{}
	s.Snapshot(c, fold.Control{IdleAt: -1, SealBefore: none, DropBefore: none})
	side := &sideLog{fail: errors.New("broker away")}
	require.Error(t, deliverCommit(ctx, st, side, testLane, p.StateID, meta.Owner, c))
	got, _, err := st.ReadMeta(ctx, testLane)
	require.NoError(t, err)
	require.Equal(t, int64(store.NotStarted), got.Offset)
	side.fail = nil
	require.NoError(t, deliverCommit(ctx, st, side, testLane, p.StateID, meta.Owner, c))
	require.NoError(t, deliverCommit(ctx, st, side, testLane, p.StateID, meta.Owner, c))
	require.Equal(t, 1, side.count("not_json"))
}
