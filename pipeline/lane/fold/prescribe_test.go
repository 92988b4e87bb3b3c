package fold

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/agg"
	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// sealedLog reads a random log with seals adopted here and there, and returns the state with all seals and the offsets that
// were reported as late.
func sealedLog(t *testing.T, rng *rand.Rand, log []source.Record) (s *State, seals []store.Seal, late []int64) {
	t.Helper()
	s = NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
	s.Fold(batch(log[0]))
	c := &Commit{}
	for i := 1; i < len(log); {
		n := min(len(log)-i, 1+rng.IntN(40))
		s.Fold(batch(log[i : i+n]...))
		i += n
		s.Snapshot(c, Control{SealBefore: s.Watermark() + rng.Int64N(60_000) - 20_000, DropBefore: none, IdleAt: s.Offset()})
		for _, x := range c.Replay.Seals {
			if x.Before != none && !slices.Contains(seals, x) {
				seals = append(seals, x)
			}
		}
		for _, side := range c.Side {
			if foldtest.HeaderOf(side, "mr-windows") != "" {
				late = append(late, offsetOf(t, side))
			}
		}
	}
	slices.SortFunc(seals, func(a, b store.Seal) int { return int(a.Offset - b.Offset) })
	return s, seals, late
}

func offsetOf(t *testing.T, side source.SideRecord) (offset int64) {
	t.Helper()
	for _, c := range foldtest.HeaderOf(side, "mr-offset") {
		offset = 10*offset + int64(c-'0')
	}
	return offset
}

// rereading is an empty state whose records below end were decided before.
func rereading(t *testing.T, end int64) *State {
	t.Helper()
	meta := store.Meta{
		Watermark: none, MaxTime: none, Sealed: none, IdleEnd: store.NotIdle, Decided: end, TopicID: "id", Balance: store.Balance{Known: true},
	}
	l, err := NewLoader(mustProgram(t), testLane, store.LaneIndex{Meta: meta})
	require.NoError(t, err)
	s, _, err := l.Done()
	require.NoError(t, err)
	return s
}

type heldSlice struct{ first, last, folded, keys int64 }

func held(s *State, keeps func(int64) bool) map[store.SliceID]heldSlice {
	out := map[store.SliceID]heldSlice{}
	s.EachSlice(func(stat store.SliceStat, table *agg.Table) {
		if keeps(stat.Start) {
			out[stat.SliceID] = heldSlice{stat.FirstOffset, stat.LastOffset, stat.Folded, int64(table.Len())}
		}
	})
	return out
}

func everySlice(int64) bool { return true }

// TestPrescribedStateDecidesAsWasDecided: under the seals of another lane, prescribed at their offsets, and also after a
// restore in the middle, a state decides what that lane has decided. Of slices that are not wanted nothing is kept, and
// nothing is missing in the balance.
func TestPrescribedStateDecidesAsWasDecided(t *testing.T) {
	seen := 0
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 2))
		log := foldtest.RandomLog(rng, 1500)
		live, seals, late := sealedLog(t, rng, log)
		seen += len(seals)
		from := int64(foldtest.KafkaTime - 3_600_000 + 300_000)
		for name, keeps := range map[string]func(int64) bool{"all": everySlice, "some": func(start int64) bool { return start >= from }} {
			s := rereading(t, int64(len(log)))
			half := rng.IntN(len(log))
			p := Prescription{Seals: seals, Keeps: keeps}
			s.Prescribe(p)
			s.Fold(batch(log[:half]...))
			s.Prescribe(p) // as one that was restored
			s.Fold(batch(log[half:]...))
			require.Equal(t, live.Counters(), s.Counters(), "%s, seed %d", name, seed)
			require.Equal(t, live.Watermark(), s.Watermark())
			require.Equal(t, held(live, keeps), held(s, everySlice), "%s, seed %d", name, seed)
			require.Equal(t, s.Counters().Folded, s.Folded()+s.dropped)
			require.Empty(t, s.Replay().Seals, "no commit keeps what is prescribed")
		}

		s := rereading(t, int64(len(log)))
		s.Prescribe(Prescription{Seals: seals, Late: late, Keeps: everySlice})
		s.Fold(batch(log...))
		require.Zero(t, s.Counters().Late, "what was late counts")
		require.Equal(t, live.Counters().Folded+live.Counters().Late, s.Counters().Folded)
		s.EachSlice(func(stat store.SliceStat, _ *agg.Table) { require.Zero(t, stat.Gen) })
	}
	require.Greater(t, seen, 500)
}

// TestDiscardedSlicesGoWithTheNextCommit: from memory at once, from Redis with a purge, and the balance stays whole.
func TestDiscardedSlicesGoWithTheNextCommit(t *testing.T) {
	log := foldtest.RandomLog(rand.New(rand.NewPCG(1, 3)), 600)
	s := rereading(t, int64(len(log)))
	s.Prescribe(Prescription{Keeps: everySlice})
	s.Fold(batch(log...))
	c := &Commit{}
	s.Snapshot(c, Control{SealBefore: none, DropBefore: none, IdleAt: -1})
	require.False(t, s.Dirty())
	before, all := s.Slices(), held(s, everySlice)
	from := int64(foldtest.KafkaTime - 3_600_000 + 240_000)
	keeps := func(start int64) bool { return start >= from }
	n := s.Discard(keeps)
	require.Positive(t, n)
	require.Equal(t, before-n, s.Slices())
	require.True(t, s.Dirty())
	s.Snapshot(c, Control{SealBefore: none, DropBefore: none, IdleAt: -1})
	require.Len(t, c.Calls[0].Purge, n)
	require.Equal(t, s.Counters().Folded-s.Folded(), c.Calls[len(c.Calls)-1].Meta.Balance.Dropped)
	for id := range all {
		require.Equal(t, !keeps(id.Start), slices.Contains(c.Calls[0].Purge, id))
	}
	require.Zero(t, s.Discard(keeps))
	require.False(t, s.Dirty())
}
