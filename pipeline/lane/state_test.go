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

// formats are what a lane commits in, and from which commit on.
var formats = map[string]func(rng *rand.Rand, offset int64) bool{
	"fields":  func(*rand.Rand, int64) bool { return false },
	"pages":   func(*rand.Rand, int64) bool { return true },
	"turning": func(rng *rand.Rand, offset int64) bool { return offset > 100 && rng.IntN(3) == 0 },
}

// smallLimits give every commit several pages in several calls, and spread slices.
var smallLimits = fold.Limits{Page: 100, Call: 150, Deltas: 5, Merge: 500, Spread: 400, Deletes: 3}

// A lane that crashes at any call of any commit, and is restored, ends as one that never crashed.
func TestRestoreAfterCrashAtAnyCall(t *testing.T) {
	ctx := context.Background()
	for format, pages := range formats {
		for seed := range uint64(12) {
			rng := rand.New(rand.NewPCG(seed, 1))
			log := randomLog(rng, 300)
			want := fold.NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
			want.Fold(batch(log...))

			st, _ := testStore(t)
			p := mustProgram(t)
			p.Limit(smallLimits)
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
				if s.InPages() {
					require.Zero(t, s.Unconfirmed(), "a state in pages stands exactly at its offset")
				}
				s.ReadFrom("id", max(s.Offset(), 0))
				for s.Offset() < int64(len(log)) && !crashed {
					to := min(int64(len(log)), s.Offset()+1+rng.Int64N(80))
					s.Fold(batch(log[s.Offset():to]...))
					c := &fold.Commit{}
					s.Snapshot(c, fold.Control{
						IdleAt: -1, SealBefore: none, DropBefore: none, Pages: pages(rng, s.Offset()), DeleteUpTo: s.Cursor().Seq - rng.Int64N(2),
					})
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
			require.Equal(t, contents(want), contents(got), "%s seed %d", format, seed)
			require.True(t, format != "pages" || got.InPages())
			conserve(t, got.Counters())
		}
	}
}

// A lane whose Redis goes back to what it was some calls ago, or forgets everything, writes what it lacks again: whoever restores
// the lane then has what the lane has in memory. Its chain may go on from a lower number than rows remember.
func TestReseedAfterLostWrites(t *testing.T) {
	ctx := context.Background()
	for format, pages := range formats {
		for seed := range uint64(12) {
			rng := rand.New(rand.NewPCG(seed, 7))
			log := randomLog(rng, 400)
			st, server := testStore(t)
			p := mustProgram(t)
			p.Limit(smallLimits)
			owner := store.NextToken("")
			meta, _, err := st.Acquire(ctx, testLane, p.StateID, "", owner)
			require.NoError(t, err)
			s := fold.NewState(p, testLane, "id", 0, meta.Cursor)
			c := &fold.Commit{}
			var past []*redisDump
			for s.Offset() < int64(len(log)) {
				to := min(int64(len(log)), s.Offset()+1+rng.Int64N(60))
				s.Fold(batch(log[s.Offset():to]...))
				s.Snapshot(c, fold.Control{
					IdleAt: -1, SealBefore: none, DropBefore: none, Pages: pages(rng, s.Offset()), DeleteUpTo: s.Cursor().Seq - rng.Int64N(3),
				})
				for _, call := range c.Calls {
					past = append(past, dumpRedis(server))
					_, err := st.Apply(ctx, testLane, p.StateID, owner, []store.Call{call})
					require.NoError(t, err)
				}
				for lost := rng.IntN(4) == 0; lost; {
					server.FlushAll()
					if rng.IntN(5) > 0 {
						past[len(past)-1-rng.IntN(min(len(past), 12))].restore(server)
					}
					found, _, err := st.ReadMeta(ctx, testLane)
					require.NoError(t, err)
					owner = store.NextToken(found.Owner)
					_, _, err = st.Acquire(ctx, testLane, p.StateID, found.Owner, owner)
					require.NoError(t, err)
					stored, err := st.WholeIndex(ctx, testLane, p.StateID)
					require.NoError(t, err)
					s.Reseed(c, stored)
					calls := c.Calls
					if rng.IntN(3) == 0 { // and again, in the middle of it
						calls = calls[:rng.IntN(len(calls))]
					}
					past = nil
					for _, call := range calls {
						past = append(past, dumpRedis(server))
						_, err := st.Apply(ctx, testLane, p.StateID, owner, []store.Call{call})
						require.NoError(t, err)
					}
					past = append(past, dumpRedis(server))
					lost = len(calls) < len(c.Calls)
				}
				got, _, err := Restore(ctx, st, p, testLane, owner)
				require.NoError(t, err, "%s seed %d offset %d", format, seed, s.Offset())
				require.Equal(t, contents(s), contents(got), "%s seed %d offset %d", format, seed, s.Offset())
			}
		}
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
