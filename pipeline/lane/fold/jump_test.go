package fold

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

func TestBoundsOfEventTimes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		first  bool // nothing was read before
		ms     int64
		want   store.Counters
		reason string
	}{
		{"as far in the past as allowed", false, kafkaTime - 7_200_000, store.Counters{Read: 1, Late: 1}, ReasonLate},
		{"too far in the past", false, kafkaTime - 7_200_001, store.Counters{Read: 1, Past: 1}, ReasonTooFarPast},
		{"too far in the past, the first", true, kafkaTime - 7_200_001, store.Counters{Read: 1, Past: 1}, ReasonTooFarPast},
		{"as wide a jump as allowed", false, early + 600_000, store.Counters{Read: 1, Folded: 1}, ""},
		{"too wide a jump", false, early + 600_001, store.Counters{Read: 1, Jumped: 1}, ReasonJump},
		{"the first event jumps from nowhere", true, kafkaTime, store.Counters{Read: 1, Folded: 1}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := NewState(guarded(t, 100), testLane, "id", 0, store.Cursor{})
			if !tt.first {
				s.Fold(batch(eventAt(0, "a", early, 1)))
			}
			before, counted, watermark := s.Offset(), s.Counters(), s.Watermark()
			s.Fold(batch(eventAt(before, "a", tt.ms, 1)))
			got := s.Counters()
			got.Read, got.Folded = got.Read-counted.Read, got.Folded-counted.Folded
			require.Equal(t, tt.want, got)
			if tt.want.Refused() > 0 {
				require.Equal(t, watermark, s.Watermark())
			}
			side := s.sides.takeCollected()
			if tt.reason == "" {
				require.Empty(t, side)
				return
			}
			require.Len(t, side, 1)
			require.Equal(t, tt.reason, headerOf(side[0], "mr-reason"))
		})
	}
}

// Too many jumps in a row halt the lane just behind the last of them, wherever batches and commits end.
func TestJumpsInARowHaltTheLane(t *testing.T) {
	s := NewState(guarded(t, 3), testLane, "id", 0, store.Cursor{})
	s.Fold(batch(append([]source.Record{eventAt(0, "a", early, 1)}, jumps(1, 2)...)...))
	s.Fold(batch(record(3, "no event"))) // says nothing of jumps
	require.False(t, s.Halted())
	s.Fold(batch(eventAt(4, "a", early+1, 1)))
	s.Fold(batch(jumps(5, 2)...))
	require.False(t, s.Halted(), "an event that does not jump came in between")
	s.Fold(batch(append(jumps(7, 1), eventAt(8, "a", early+2, 1), eventAt(9, "a", early+3, 1))...))
	require.Equal(t, int64(8), s.Offset(), "nothing is decided behind the last jump")
	require.True(t, s.Halted())
	require.Equal(t, "3 events in a row would move the watermark forward "+
		"by more than event.max_jump, which is 10m: the greatest event time so far is "+stamp(early+1)+
		", the last one's at offset 7 "+stamp(early+1_200_000), s.HaltDetail())
	s.Fold(batch(eventAt(8, "a", early+2, 1)))
	require.Equal(t, int64(8), s.Offset())
	require.Equal(t, store.Counters{Read: 8, Invalid: 1, Jumped: 5, Folded: 2}, s.Counters())
}

// A straggler shows nothing about the watermark: it neither ends a row of jumps nor takes an answer back. An event that moves
// the watermark without a jump does both.
func TestOnlyAnEventThatMovesTheWatermarkEndsARow(t *testing.T) {
	s := NewState(guarded(t, 3), testLane, "id", 0, store.Cursor{})
	s.Fold(batch(eventAt(0, "a", early, 1)))
	s.Fold(batch(jumps(1, 2)...))
	s.Fold(batch(eventAt(3, "a", early-1_000, 1), eventAt(4, "a", early, 1)))
	s.Fold(batch(jumps(5, 1)...))
	require.True(t, s.Halted())

	s.halted, s.jumps = false, store.AcceptJump
	s.Fold(batch(eventAt(6, "a", early-1_000, 1)))
	require.Equal(t, int64(store.AcceptJump), s.jumps)
	s.Fold(batch(eventAt(7, "a", early+1, 1)))
	s.Fold(batch(jumps(8, 1)...))
	require.Equal(t, int64(1), s.jumps)
	require.Equal(t, store.Counters{Read: 9, Jumped: 4, Folded: 5}, s.Counters())
}

// What a lane remembers of seals and of accepted jumps fits into the metadata of the group's offset, and what does not is not
// called exact.
func TestAcceptedJumpsAreBounded(t *testing.T) {
	s := NewState(guarded(t, 1_000_000), testLane, "id", math.MaxInt64>>1, store.Cursor{})
	s.Fold(batch(eventAt(s.Offset(), "a", early, 1)))
	for range maxAccepted + 1 {
		r := s.Replay()
		require.True(t, r.Exact())
		s.jumps = store.AcceptJump
		ev := eventAt(s.Offset(), "a", s.maxTime+1_200_000, 1)
		ev.Timestamp = s.maxTime + 1_200_000
		s.Fold(batch(ev))
	}
	r := s.Replay()
	require.Len(t, r.Accepted, maxAccepted)
	require.False(t, r.Exact())
	for len(s.seals) < maxSeals {
		s.Snapshot(&Commit{}, Control{IdleAt: s.Offset(), SealBefore: s.effective + 1, DropBefore: none})
		late := eventAt(s.Offset(), "a", s.maxTime-1, 1)
		late.Timestamp = s.maxTime
		s.Fold(batch(late))
	}
	r = s.Replay()
	require.Len(t, r.Seals, maxSeals)
	require.Len(t, r.Accepted, maxAccepted)
	require.Less(t, len(r.String()), 4096)
}
