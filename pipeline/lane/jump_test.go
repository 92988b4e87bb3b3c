package lane

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// guarded bounds the past and jumps.
func guarded(t testing.TB, streak int) *fold.Program {
	t.Helper()
	s, err := spec.Parse("orders.yaml", []byte(foldtest.Guarded(streak)))
	require.NoError(t, err)
	p, err := fold.Compile(s)
	require.NoError(t, err)
	return p
}

// The operator accepts: the next jump moves the watermark, and so it does when the lane is restored or rebuilt. The
// operator refuses: the lane goes on and asks again.
func TestOperatorDecidesJumps(t *testing.T) {
	log := []source.Record{eventAt(0, "a", early, 1)}
	log = append(log, jumps(1, 5)...)
	log = append(log, eventAt(6, "a", early+1_200_000+500, 1))
	log = append(log, jumps(7, 1)...)
	for _, choice := range []string{report.ChoiceAccept, report.ChoiceRefuse} {
		t.Run(choice, func(t *testing.T) {
			st, redis := testStore(t)
			b := startGuarded(t, newFakeLog(log), st, redis)
			b.wait(t, "parked", func(s Status) bool { return s.State == StateParked && s.Committed == 4 })
			inc := b.Status().Incident
			require.Equal(t, report.IncidentJump, inc.Kind)
			names := []string{inc.Choices[0].Name, inc.Choices[1].Name, inc.Choices[2].Name}
			require.Equal(t, []string{report.ChoiceAccept, report.ChoiceRefuse, report.ChoiceWait}, names)

			// Whoever takes the lane over finds the incident.
			require.NoError(t, b.stop(t))
			b = startGuarded(t, newFakeLog(log), st, redis)
			b.wait(t, "parked again", func(s Status) bool { return s.State == StateParked })
			require.NoError(t, b.Decide(b.Status().Incident.ID, choice, "test"))
			if choice == report.ChoiceRefuse {
				b.wait(t, "asked again", func(s Status) bool { return s.State == StateParked && s.Committed == 7 })
				require.Equal(t, store.Counters{Read: 7, Jumped: 6, Folded: 1}, b.Status().Counters)
				return
			}
			b.wait(t, "read", func(s Status) bool { return s.Committed == 8 })
			require.NoError(t, b.stop(t))
			require.Equal(t, store.Counters{Read: 8, Jumped: 3, Folded: 5}, b.state.Counters())
			require.Equal(t, []int64{4}, b.state.Replay().Accepted)
			want := contents(b.state)

			// Redis loses everything; the group's metadata is enough to decide as before.
			r, err := fold.ParseReplay(b.state.Replay().String())
			require.NoError(t, err)
			require.True(t, r.Exact())
			require.Equal(t, []int64{4}, r.Accepted)
			redis.FlushAll()
			ctx, p := context.Background(), guarded(t, 3)
			owner := store.NextToken("")
			_, _, err = st.Acquire(ctx, testLane, p.StateID, "", owner)
			require.NoError(t, err)
			_, err = Rebuild(ctx, st, p, testLane, owner, r, source.Ends{End: 8, HighWatermark: 8}, 1)
			require.NoError(t, err)
			again, _, err := Restore(ctx, st, p, testLane, owner)
			require.NoError(t, err)
			again.Fold(batch(log...))
			require.False(t, again.Halted(), "the operator has answered")
			require.Equal(t, want, contents(again))
		})
	}
}

func startGuarded(t *testing.T, log *fakeLog, st *store.Store, redis *miniredis.Miniredis) *bench {
	t.Helper()
	return startWith(t, guarded(t, 3), log, st, redis)
}

// Wherever a lane crashes, what it decides about jumps is what it would have decided.
func TestJumpsAreDecidedTheSameAfterARestart(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 9))
		var log []source.Record
		at := early
		for i := range int64(200) {
			at += rng.Int64N(20_000)
			ms := at - rng.Int64N(60_000)
			if i > 0 && rng.IntN(10) == 0 {
				ms += 1_000_000
			}
			log = append(log, eventAt(i, fmt.Sprint(rng.IntN(5)), ms, 1))
		}
		p := guarded(t, 1_000_000)
		want := fold.NewState(p, testLane, "id", 0, store.Cursor{})
		want.Fold(batch(log...))
		require.NotZero(t, want.Counters().Jumped)

		st, _ := testStore(t)
		var owner store.Token
		for done := false; !done; {
			meta, _, err := st.ReadMeta(ctx, testLane)
			require.NoError(t, err)
			next := store.NextToken(meta.Owner)
			_, _, err = st.Acquire(ctx, testLane, p.StateID, meta.Owner, next)
			require.NoError(t, err)
			owner = next
			s, _, err := Restore(ctx, st, p, testLane, owner)
			require.NoError(t, err)
			s.ReadFrom("id", max(s.Offset(), 0))
			for crashed := false; !crashed && !done; {
				to := min(int64(len(log)), s.Offset()+1+rng.Int64N(20))
				s.Fold(batch(log[s.Offset():to]...))
				c := &fold.Commit{}
				s.Snapshot(c, fold.Control{IdleAt: -1, SealBefore: none, DropBefore: none})
				if crashed = rng.IntN(3) == 0; !crashed {
					_, err := st.Apply(ctx, testLane, p.StateID, owner, c.Calls)
					require.NoError(t, err)
					s.Acknowledged(c)
					done = to == int64(len(log))
				}
			}
		}
		s, _, err := Restore(ctx, st, p, testLane, owner)
		require.NoError(t, err)
		require.Equal(t, contents(want), contents(s), "seed %d", seed)
		require.Equal(t, jumpsOf(want), jumpsOf(s))
	}
}

// jumpsOf is the state's streak of refused jumps. It takes a snapshot.
func jumpsOf(s *fold.State) int64 {
	c := new(fold.Commit)
	s.Snapshot(c, fold.Control{SealBefore: none, DropBefore: none, IdleAt: store.NotIdle})
	return c.Calls[len(c.Calls)-1].Meta.Jumps
}
