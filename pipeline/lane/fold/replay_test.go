package fold

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

func TestReplayTravelsWithTheGroupOffset(t *testing.T) {
	r := Replay{
		From: 12, Begun: 9, Decided: 40, Era: 7, TopicID: "id", Seals: []store.Seal{{Offset: 20, Before: 5000}, {Offset: 30, Before: 6000}},
		Basis: store.Basis{Known: true, Watermark: none, Sealed: 4000, Counters: store.Counters{
			Read: 1, Invalid: 2, Ahead: 3, Filtered: 4, Duplicate: 5, Late: 6, Folded: 7, Skipped: 8,
		}},
	}
	got, err := ParseReplay(r.String())
	require.NoError(t, err)
	require.Equal(t, r, got)
	require.True(t, got.Exact())
	r.Basis = store.Basis{Watermark: none, Sealed: none}
	got, err = ParseReplay(r.String())
	require.NoError(t, err)
	require.Equal(t, r, got)
	require.False(t, got.Exact())
	for _, text := range []string{
		"", "v1 replay_from=1 watermark=2 read=3 invalid=0 ahead=0 filtered=0 duplicate=0 late=0 folded=3", "v2", "v2 replay_from=x",
		"v2 replay_from=-3 decided=0 era=0 topic=", "v2 replay_from=1 decided=0 era=0 topic= seals=1",
	} {
		_, err := ParseReplay(text)
		require.ErrorIs(t, err, errMetadata, text)
	}
}

// The metadata is bounded: a lane that is sealed again and again forgets the oldest seals, and says so.
func TestSealsAreBounded(t *testing.T) {
	s := NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
	s.Fold(batch(eventAt(0, "a", kafkaTime-3_600_000, 1)))
	seal := func(i int64) {
		s.Snapshot(&Commit{}, Control{IdleAt: s.Offset(), SealBefore: kafkaTime - 3_600_000 + i, DropBefore: none})
	}
	for i := range int64(3 * maxSeals) {
		s.Fold(batch(record(s.Offset(), "no event")))
		seal(i)
	}
	require.Equal(t, []store.Seal{{Offset: s.Offset(), Before: kafkaTime - 3_600_000 + 3*maxSeals - 1}}, s.Replay().Seals,
		"where nothing but refused records came in between, the last seal decides what all of them did")
	for i := range int64(3 * maxSeals) {
		s.Fold(batch(eventAt(s.Offset(), "a", kafkaTime-3_700_000, 13)))
		seal(3*maxSeals + i)
	}
	r := s.Replay()
	require.Len(t, r.Seals, maxSeals)
	require.False(t, r.Exact())
	require.Less(t, len(r.String()), 4096)
}

// The group's offset may lie behind what Redis has. What a rebuild from there needs is kept, or the rebuild is not called exact.
func TestSealsAreKeptForAGroupThatIsBehind(t *testing.T) {
	at := int64(kafkaTime - 3_600_000)
	s := NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
	s.Fold(batch(eventAt(0, "a", at, 1)))
	c := &Commit{}
	s.Snapshot(c, Control{IdleAt: -1, SealBefore: none, DropBefore: none})
	hint := source.Committed{Offset: c.Offset, Metadata: c.Replay.String()}
	var adopted []store.Seal
	for i := range int64(2 * behindHint) {
		end := at + 48*3_600_000*(i+1)
		s.Snapshot(c, Control{IdleAt: s.Offset(), SealBefore: end, DropBefore: none})
		adopted = append(adopted, store.Seal{Offset: s.Offset(), Before: end})
		s.Acknowledged(c)
		s.Fold(batch(eventAt(s.Offset(), "a", at, 1))) // late
		s.Snapshot(c, Control{IdleAt: -1, SealBefore: none, DropBefore: end})
		require.Empty(t, s.slices, "nothing that a rebuild from here reads was decided under a seal")
		s.Acknowledged(c)

		meta := c.Calls[len(c.Calls)-1].Meta
		r, err := ReplayOf(store.Meta{Offset: meta.Offset, Seals: meta.Seals}, hint)
		require.NoError(t, err)
		if i < behindHint {
			require.Equal(t, adopted, r.Seals)
			require.True(t, r.Exact())
			continue
		}
		require.LessOrEqual(t, len(r.Seals), behindHint+1)
		require.Equal(t, i == behindHint, r.Exact(), "%d seals back", i)
		again, err := ParseReplay(c.Replay.String())
		require.NoError(t, err)
		require.True(t, again.Exact(), "once the group has followed")
	}
}
