package lane

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

const laneKeys = "mr:{orders/orders/0}:"

// losses are what an eviction or a hand may take of a lane while its meta stays.
var losses = map[string]func(redis *miniredis.Miniredis){
	"slices": func(redis *miniredis.Miniredis) { redis.Del(laneKeys + "slices") },
	"folds":  func(redis *miniredis.Miniredis) { redis.Del(laneKeys + "folds") },
	"both": func(redis *miniredis.Miniredis) {
		redis.Del(laneKeys + "slices")
		redis.Del(laneKeys + "folds")
	},
	"one slice": func(redis *miniredis.Miniredis) {
		members, _ := redis.ZMembers(laneKeys + "slices")
		_, _ = redis.ZRem(laneKeys+"slices", members[0])
		redis.HDel(laneKeys+"folds", members[0])
	},
	"entries": func(redis *miniredis.Miniredis) {
		for _, key := range redis.Keys() {
			if strings.HasPrefix(key, laneKeys+"p:") {
				redis.Del(key)
				return
			}
		}
	},
}

// A live lane has everything in memory and writes again what is gone: by itself what its slices are, and entries when the
// closer, which reads them, asks for it.
func TestLiveLaneWritesAgainWhatIsGone(t *testing.T) {
	log := randomLog(rand.New(rand.NewPCG(21, 21)), 500)
	for name, take := range losses {
		t.Run(name, func(t *testing.T) {
			st, redis := testStore(t)
			b := start(t, newFakeLog(log), st, redis)
			b.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 })
			take(redis)
			if name == "entries" {
				meta, _, err := st.ReadMeta(t.Context(), testLane)
				require.NoError(t, err)
				require.NoError(t, st.AskRewrite(t.Context(), testLane, meta.Owner, meta.Cursor.Seq))
			}
			eventually(t, "whole again though the source is quiet", func() bool {
				meta, _, err := st.ReadMeta(t.Context(), testLane)
				require.NoError(t, err)
				_, _, err = Restore(t.Context(), st, mustProgram(t), testLane, meta.Owner)
				return err == nil
			})
			require.NoError(t, b.stop(t))
			b.requireExact(t, reference(t, log))
		})
	}
}

// Nobody has in memory what is gone while the lane is stopped: whoever acquires it asks, and reads it again.
func TestStoppedLaneIsRebuilt(t *testing.T) {
	log := randomLog(rand.New(rand.NewPCG(22, 22)), 500)
	for name, take := range losses {
		t.Run(name, func(t *testing.T) {
			st, redis := testStore(t)
			partition := newFakeLog(log)
			first := start(t, partition, st, redis)
			first.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 })
			require.NoError(t, first.stop(t))
			partition.hint = source.Committed{Offset: 500, Metadata: first.hintText}
			take(redis)

			b := start(t, partition, st, redis)
			b.wait(t, "parked", func(s Status) bool { return s.State == StateParked })
			inc := b.Status().Incident
			require.Equal(t, report.IncidentStateLost, inc.Kind)
			require.Contains(t, inc.Detail, "gone from redis")
			require.Equal(t, report.ChoiceRebuild, inc.Choices[0].Name)
			require.True(t, inc.Choices[0].Exact)
			require.NoError(t, b.Decide(inc.ID, report.ChoiceRebuild, "me"))
			b.wait(t, "all committed again", func(s Status) bool { return s.State == StateRunning && s.Committed == 500 })
			require.NoError(t, b.stop(t))
			b.requireExact(t, reference(t, log))
		})
	}
}

// What an interrupted commit left may hide that entries are gone. It shows when they have been read again.
func TestLossHiddenByNewerEntries(t *testing.T) {
	ctx := context.Background()
	st, redis := testStore(t)
	p := mustProgram(t)
	p.Spec.Lane.ChunkFields = 4
	meta, owner := takeOver(t, st, p)
	s := fold.NewState(p, testLane, "id", 0, meta.Cursor)
	c := &fold.Commit{}
	s.Fold(batch(eventAt(0, "lost", kafkaTime-600_000, 1), eventAt(1, "kept", kafkaTime-600_000, 1)))
	s.Snapshot(c, fold.Control{IdleAt: -1, SealBefore: none, DropBefore: none})
	_, err := st.Apply(ctx, testLane, p.StateID, owner, c.Calls)
	require.NoError(t, err)
	begin(t, st, p, s, owner, 40, fold.Control{IdleAt: -1, SealBefore: none, DropBefore: none})
	gone := 0
	for _, key := range redis.Keys() {
		if !strings.HasPrefix(key, laneKeys+"s:") {
			continue
		}
		fields, err := redis.HKeys(key)
		require.NoError(t, err)
		for _, field := range fields {
			if strings.HasSuffix(field, "lost") {
				redis.HDel(key, field)
				gone++
			}
		}
	}
	require.Equal(t, 1, gone)
	_, owner = takeOver(t, st, p)
	s, _, err = Restore(ctx, st, p, testLane, owner)
	require.NoError(t, err, "newer entries make up for it")
	for i := int64(2); i < 40; i++ {
		require.NoError(t, s.Lost())
		s.Fold(batch(eventAt(i, string(rune('a'+i%26)), kafkaTime-600_000+i, 1)))
	}
	require.ErrorIs(t, s.Lost(), store.ErrPartialLoss)
}

// fakeLedger is what the ledger says of a lane of topic id "id".
type fakeLedger Published

func (l fakeLedger) Published(_ context.Context, _ store.LaneID, topicID string) (Published, error) {
	if topicID != "id" {
		return Published{}, nil
	}
	return Published(l), nil
}

// Redis empty and the group's offset expired: only the ledger knows that the lane is not new.
func TestLedgerKnowsALaneThatIsNotNew(t *testing.T) {
	log := randomLog(rand.New(rand.NewPCG(23, 23)), 300)
	for _, tt := range []struct {
		name   string
		ledger Published
		start  int64
		choice string // "" for no incident
	}{
		{"never published", Published{}, 0, ""},
		{"all is in the log", Published{Windows: 3, Offset: 250}, 0, report.ChoiceRebuild},
		{"rows were given up", Published{Offset: 250}, 0, report.ChoiceRebuild},
		{"the head is trimmed", Published{Windows: 3, Offset: 250}, 100, report.ChoiceRestart},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st, redis := testStore(t)
			partition := newFakeLog(log)
			partition.ends.Start = tt.start
			b := start(t, partition, st, redis, func(d *Deps) { d.Ledger = fakeLedger(tt.ledger) })
			if tt.choice != "" {
				b.wait(t, "parked", func(s Status) bool { return s.State == StateParked })
				inc := b.Status().Incident
				require.Equal(t, report.IncidentStateLost, inc.Kind)
				require.Contains(t, inc.Detail, "the ledger says that its records up to offset 250 were read")
				require.Equal(t, tt.choice, inc.Choices[0].Name)
				require.False(t, inc.Choices[0].Exact)
				require.NoError(t, b.Decide(inc.ID, tt.choice, "me"))
			}
			b.wait(t, "all committed", func(s Status) bool { return s.Committed == 300 })
			require.NoError(t, b.stop(t))
			if tt.start == 0 {
				b.requireExact(t, reference(t, log))
			}
		})
	}
}
