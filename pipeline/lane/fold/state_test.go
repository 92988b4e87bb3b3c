package fold

import (
	"fmt"
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
			side := s.sides.takeCollected()
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
	side := s.sides.takeCollected()
	require.Len(t, side, 1)
	require.Equal(t, ReasonLateForSome, headerOf(side[0], "mr-reason"))
	require.Equal(t, "minute@"+stamp(base), headerOf(side[0], "mr-windows"))
	require.Equal(t, "40000", headerOf(side[0], "mr-lateness-ms"))
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
