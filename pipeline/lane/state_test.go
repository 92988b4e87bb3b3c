package lane

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

func TestEveryRecordIsDecidedOnce(t *testing.T) {
	base := int64(kafkaTime - 3_600_000)
	base -= base % 300_000
	tests := []struct {
		name   string
		last   source.Record
		want   store.Counters // beyond the one folded event before
		reason string
		moves  bool // the watermark follows
	}{
		{"folded", eventAt(1, "a", base+1, 1), store.Counters{Folded: 1}, "", true},
		{"not JSON", record(1, `{"k":"a"`), store.Counters{Invalid: 1}, "not_json", false},
		{"tombstone", source.Record{Offset: 1, Timestamp: kafkaTime}, store.Counters{Invalid: 1}, "tombstone", false},
		{"too far ahead", eventAt(1, "a", kafkaTime+3_600_001, 1), store.Counters{Ahead: 1}, ReasonTooFarAhead, false},
		{"as far ahead as allowed", eventAt(1, "a", kafkaTime+3_600_000, 1), store.Counters{Folded: 1}, "", true},
		{"filtered", eventAt(1, "a", base+600_000, 13), store.Counters{Filtered: 1}, "", true},
		{"late for all", eventAt(1, "a", base-400_000, 1), store.Counters{Late: 1}, ReasonLate, false},
		{"late for one", eventAt(1, "a", base-300_000+70_000, 1), store.Counters{Folded: 1}, ReasonLateForSome, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
			s.Fold(batch(eventAt(0, "a", base, 1)))
			before := s.Watermark()
			s.Fold(batch(tt.last))
			got := s.Counters()
			got.Read, got.Folded = got.Read-1, got.Folded-1
			tt.want.Read = 1
			require.Equal(t, tt.want, got)
			require.Equal(t, tt.moves, s.Watermark() > before)
			require.Equal(t, int64(2), s.Offset())
			side := s.sides.take()
			if tt.reason == "" {
				require.Empty(t, side)
				return
			}
			require.Len(t, side, 1)
			require.Equal(t, tt.reason, headerOf(side[0], "mr-reason"))
			require.Equal(t, "1", headerOf(side[0], "mr-offset"))
			require.Equal(t, tt.last.Value, side[0].Value)
		})
	}
}

func TestLateForSomeIsFoldedAndReported(t *testing.T) {
	base := int64(kafkaTime - 3_600_000)
	base -= base % 300_000
	s := NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
	s.Fold(batch(eventAt(0, "a", base+150_000, 1))) // watermark base+120 s: minute windows up to base+100 s are gone
	s.Fold(batch(eventAt(1, "a", base+10_000, 1)))
	require.Equal(t, store.Counters{Read: 2, Folded: 2}, s.Counters())
	side := s.sides.take()
	require.Len(t, side, 1)
	require.Equal(t, ReasonLateForSome, headerOf(side[0], "mr-reason"))
	require.Equal(t, "minute@"+stamp(base), headerOf(side[0], "mr-windows"))
	require.Equal(t, "40000", headerOf(side[0], "mr-lateness-ms"))
}

// A lane that crashes at any call of any commit, and is restored, ends as one that never crashed.
func TestRestoreAfterCrashAtAnyCall(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 1))
		log := randomLog(rng, 300)
		want := NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
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
			s.offset = max(s.offset, 0)
			for s.Offset() < int64(len(log)) && !crashed {
				to := min(int64(len(log)), s.Offset()+1+rng.Int64N(80))
				s.Fold(batch(log[s.Offset():to]...))
				c := &Commit{}
				s.Snapshot(c, Control{IdleAt: -1, SealBefore: none, DropBefore: none})
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
		s := NewState(p, testLane, "id", 0, meta.Cursor)
		c := &Commit{}
		var err2 error
		for i := 0; i < len(log); i += 50 {
			s.Fold(batch(log[i : i+50]...))
			s.Snapshot(c, Control{IdleAt: -1, SealBefore: none, DropBefore: none})
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

func TestSealIsAdoptedOnlyAtTheEnd(t *testing.T) {
	s := NewState(mustProgram(t), testLane, "id", 10, store.Cursor{})
	c := &Commit{}
	s.Snapshot(c, Control{IdleAt: -1, SealBefore: 5000, DropBefore: none})
	require.Equal(t, int64(window.NoTime), s.sealed)
	s.Snapshot(c, Control{IdleAt: 11, SealBefore: 5000, DropBefore: none})
	require.Equal(t, int64(window.NoTime), s.sealed, "one record waits")
	s.Snapshot(c, Control{IdleAt: 10, SealBefore: 5000, DropBefore: none})
	require.Equal(t, int64(5000), s.sealed)
	require.Equal(t, int64(10), c.Calls[0].Meta.IdleEnd)
}

func TestDropWaitsForTheCommittedSeal(t *testing.T) {
	base := int64(kafkaTime - 3_600_000)
	base -= base % 300_000
	s := NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
	s.Fold(batch(eventAt(0, "a", base, 1), eventAt(1, "a", base+600_000, 1)))
	c := &Commit{}
	ctl := Control{IdleAt: -1, SealBefore: none, DropBefore: base + 400_000}
	s.Snapshot(c, ctl)
	require.Equal(t, 2, s.Slices(), "the watermark that allows it is not committed yet")
	s.Acknowledged(c)
	s.Snapshot(c, ctl)
	require.Equal(t, 1, s.Slices())
	require.Len(t, c.Calls[0].Drop, 1)
	require.Equal(t, base+320_000, c.Calls[0].Drop[0].Deadline)
}

func TestSideRecordsLeaveFirst(t *testing.T) {
	st, _ := testStore(t)
	p := mustProgram(t)
	ctx := context.Background()
	meta, _, err := st.Acquire(ctx, testLane, p.StateID, "", store.NextToken(""))
	require.NoError(t, err)
	s := NewState(p, testLane, "id", 0, meta.Cursor)
	s.Fold(batch(record(0, "nonsense")))
	c := &Commit{}
	s.Snapshot(c, Control{IdleAt: -1, SealBefore: none, DropBefore: none})
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

func TestPendingForeseesTheCommit(t *testing.T) {
	s := NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
	require.Zero(t, s.Pending())
	for i := range int64(1000) {
		s.Fold(batch(eventAt(i, fmt.Sprintf("%0200d", i), kafkaTime-i, 1)))
	}
	pending := s.Pending()
	c := &Commit{}
	s.Snapshot(c, Control{IdleAt: -1, SealBefore: none, DropBefore: none})
	require.GreaterOrEqual(t, pending, int64(c.Bytes))
	require.Less(t, pending, 4*int64(c.Bytes))
	require.Zero(t, s.Pending())
}
