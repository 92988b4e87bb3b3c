package lane

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// guarded is testSpec with bounds on the past and on jumps.
func guarded(t testing.TB, streak int) *Program {
	t.Helper()
	const bounds = "max_future: 1h\n  max_past: 2h\n  max_jump: 10m\n  max_jump_streak: %d"
	text := strings.Replace(testSpec, "max_future: 1h", fmt.Sprintf(bounds, streak), 1)
	s, err := spec.Parse("orders.yaml", []byte(text))
	require.NoError(t, err)
	p, err := Compile(s)
	require.NoError(t, err)
	return p
}

const early = int64(kafkaTime - 3_600_000)

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
			side := s.sides.take()
			if tt.reason == "" {
				require.Empty(t, side)
				return
			}
			require.Len(t, side, 1)
			require.Equal(t, tt.reason, headerOf(side[0], "mr-reason"))
		})
	}
}

// jumps makes n events from offset on that are 20 minutes ahead of what came before.
func jumps(from int64, n int) []source.Record {
	var out []source.Record
	for i := range int64(n) {
		out = append(out, eventAt(from+i, "j", early+1_200_000+i, 1))
	}
	return out
}

// Too many jumps in a row halt the lane just behind the last of them, wherever batches and commits end.
func TestJumpsInARowHaltTheLane(t *testing.T) {
	s := NewState(guarded(t, 3), testLane, "id", 0, store.Cursor{})
	s.Fold(batch(append([]source.Record{eventAt(0, "a", early, 1)}, jumps(1, 2)...)...))
	s.Fold(batch(record(3, "no event"))) // says nothing of jumps
	require.Nil(t, s.jumpIncident())
	s.Fold(batch(eventAt(4, "a", early+1, 1)))
	s.Fold(batch(jumps(5, 2)...))
	require.Nil(t, s.jumpIncident(), "an event that does not jump came in between")
	s.Fold(batch(append(jumps(7, 1), eventAt(8, "a", early+2, 1), eventAt(9, "a", early+3, 1))...))
	require.Equal(t, int64(8), s.Offset(), "nothing is decided behind the last jump")
	inc := s.jumpIncident()
	require.NotNil(t, inc)
	require.Equal(t, "incident jump, offsets [8, 8): 3 events in a row would move the watermark forward "+
		"by more than event.max_jump, which is 10m: the greatest event time so far is "+stamp(early+1)+
		", the last one's at offset 7 "+stamp(early+1_200_000), inc.Error())
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

// The operator accepts: the next jump moves the watermark, and so it does when the lane is restored or rebuilt. The
// operator refuses: the lane goes on and asks again.
func TestOperatorDecidesJumps(t *testing.T) {
	log := []source.Record{eventAt(0, "a", early, 1)}
	log = append(log, jumps(1, 5)...)
	log = append(log, eventAt(6, "a", early+1_200_000+500, 1))
	log = append(log, jumps(7, 1)...)
	for _, choice := range []string{ChoiceAccept, ChoiceRefuse} {
		t.Run(choice, func(t *testing.T) {
			st, redis := testStore(t)
			b := startGuarded(t, newFakeLog(log), st, redis)
			b.wait(t, "parked", func(s Status) bool { return s.State == StateParked && s.Committed == 4 })
			inc := b.Status().Incident
			require.Equal(t, IncidentJump, inc.Kind)
			names := []string{inc.Choices[0].Name, inc.Choices[1].Name, inc.Choices[2].Name}
			require.Equal(t, []string{ChoiceAccept, ChoiceRefuse, ChoiceWait}, names)

			// Whoever takes the lane over finds the incident.
			require.NoError(t, b.stop(t))
			b = startGuarded(t, newFakeLog(log), st, redis)
			b.wait(t, "parked again", func(s Status) bool { return s.State == StateParked })
			require.NoError(t, b.Decide(b.Status().Incident.ID, choice, "test"))
			if choice == ChoiceRefuse {
				b.wait(t, "asked again", func(s Status) bool { return s.State == StateParked && s.Committed == 7 })
				require.Equal(t, store.Counters{Read: 7, Jumped: 6, Folded: 1}, b.Status().Counters)
				return
			}
			b.wait(t, "read", func(s Status) bool { return s.Committed == 8 })
			require.NoError(t, b.stop(t))
			require.Equal(t, store.Counters{Read: 8, Jumped: 3, Folded: 5}, b.state.Counters())
			require.Equal(t, []int64{4}, b.state.accepted)
			want := contents(b.state)

			// Redis loses everything; the group's metadata is enough to decide as before.
			r, err := ParseReplay(b.state.Replay().String())
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
			require.False(t, again.halted, "the operator has answered")
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
		want := NewState(p, testLane, "id", 0, store.Cursor{})
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
			s.offset = max(s.offset, 0)
			for crashed := false; !crashed && !done; {
				to := min(int64(len(log)), s.Offset()+1+rng.Int64N(20))
				s.Fold(batch(log[s.Offset():to]...))
				c := &Commit{}
				s.Snapshot(c, Control{IdleAt: -1, SealBefore: none, DropBefore: none})
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
		require.Equal(t, want.jumps, s.jumps)
	}
}
