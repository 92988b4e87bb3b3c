package lane

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/store"
)

// begin acquires the test lane and delivers all calls but the last of a commit that holds the records.
func begin(t *testing.T, st *store.Store, p *fold.Program, s *fold.State, owner store.Token, n int64, ctl fold.Control) {
	t.Helper()
	for i := s.Offset(); i < n; i++ {
		s.Fold(batch(eventAt(i, string(rune('a'+i%26)), kafkaTime-600_000+i, 1)))
	}
	c := &fold.Commit{}
	s.Snapshot(c, ctl)
	require.Greater(t, len(c.Calls), 1)
	c.Calls = c.Calls[:len(c.Calls)-1]
	require.NoError(t, deliverCommit(context.Background(), st, &sideLog{}, testLane, p.StateID, owner, c))
}

func takeOver(t *testing.T, st *store.Store, p *fold.Program) (store.Meta, store.Token) {
	t.Helper()
	before, _, err := st.ReadMeta(context.Background(), testLane)
	require.NoError(t, err)
	next := store.NextToken(before.Owner)
	meta, _, err := st.Acquire(context.Background(), testLane, p.StateID, before.Owner, next)
	require.NoError(t, err)
	return meta, next
}

// What an owner left that never committed may have been decided under seals that nobody committed.
func TestLeftoversOfALaneThatNeverCommitted(t *testing.T) {
	ctx := context.Background()
	st, _ := testStore(t)
	p := mustProgram(t)
	p.Spec.Lane.ChunkFields = 1
	quiet := fold.Control{IdleAt: -1, SealBefore: none, DropBefore: none}
	meta, owner := takeOver(t, st, p)
	begin(t, st, p, fold.NewState(p, testLane, "id", 0, meta.Cursor), owner, 20, quiet)

	_, owner = takeOver(t, st, p)
	s, sum, err := Restore(ctx, st, p, testLane, owner)
	require.NoError(t, err)
	require.Zero(t, sum.Entries)
	s.ReadFrom("id", 0)
	s.Fold(batch(eventAt(0, "z", kafkaTime-600_000, 1)))
	c := &fold.Commit{}
	s.Snapshot(c, quiet)
	require.NotEmpty(t, c.Calls[0].Purge)
	require.NoError(t, deliverCommit(ctx, st, &sideLog{}, testLane, p.StateID, owner, c))
	got, sum, err := Restore(ctx, st, p, testLane, owner)
	require.NoError(t, err)
	require.Equal(t, 1, sum.Entries)
	require.Equal(t, contents(s), contents(got))
}

// Entries that are newer than the lane's offset were decided under the old control values.
func TestFinalWindowsBindOnlyBehindRestoredStamps(t *testing.T) {
	ctx := context.Background()
	st, _ := testStore(t)
	p := mustProgram(t)
	p.Spec.Lane.ChunkFields = 1
	meta, owner := takeOver(t, st, p)
	s := fold.NewState(p, testLane, "id", 0, meta.Cursor)
	s.Fold(batch(eventAt(0, "a", kafkaTime-600_000, 1)))
	c := &fold.Commit{}
	quiet := fold.Control{IdleAt: -1, SealBefore: none, DropBefore: none}
	s.Snapshot(c, quiet)
	require.NoError(t, deliverCommit(ctx, st, &sideLog{}, testLane, p.StateID, owner, c))
	begin(t, st, p, s, owner, 20, quiet)

	_, owner = takeOver(t, st, p)
	s, _, err := Restore(ctx, st, p, testLane, owner)
	require.NoError(t, err)
	require.Equal(t, int64(1), s.Offset())
	final := fold.Control{IdleAt: -1, SealBefore: none, DropBefore: kafkaTime}
	s.Snapshot(c, final)
	require.Equal(t, int64(none), s.Sealed(), "events up to offset 20 are decided")
	for i := int64(1); i < 20; i++ {
		s.Fold(batch(eventAt(i, string(rune('a'+i%26)), kafkaTime-600_000+i, 1)))
	}
	require.Equal(t, int64(20), s.Counters().Folded)
	s.Snapshot(c, final)
	require.Equal(t, int64(kafkaTime), s.Sealed())
}
