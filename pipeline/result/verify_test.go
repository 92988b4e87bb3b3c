package result_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/verify"
)

// published is a world with one final window of two revisions.
func published(t *testing.T) *world { return publishedWith(t, hourly) }

func publishedWith(t *testing.T, spec string) *world {
	w := newWorld(t, spec, 1)
	c := w.closer()
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("y", 11, 1)
	l.event("x", 61, 1)
	l.commit()
	w.round(c)
	l.event("x", 12, 1)
	l.event("x", 95, 1)
	l.commit()
	w.round(c)
	require.Equal(t, []string{"r1 watermark", "r2 final final"}, w.history("hourly", base))
	return w
}

func TestVerifyCounts(t *testing.T) {
	w := published(t)
	v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.store, Kafka: w.kafka, Now: atBase, Input: true})
	require.NoError(t, err)
	require.True(t, v.OK())
	require.Equal(t, store.Counters{Read: 5, Folded: 5}, v.Totals)
	require.Equal(t, []verify.LaneCheck{{
		Lane: "orders/orders/0", Offset: 5, End: 5, Counters: store.Counters{Read: 5, Folded: 5}, Slices: 2, Entries: 3, Records: 5, Late: -1,
	}}, v.Lanes)
	require.Equal(t, []int{1, 1, 2}, []int{v.Windows, v.Final, v.Revisions})
	require.Equal(t, int64(3), v.Rows)
}

func TestVerifyFinds(t *testing.T) {
	slot := func() int32 { return int32(result.SlotOf("hourly", base, ledger.DefaultSlots)) }
	row := func(w *world, change func(*ledger.Row)) {
		r := w.ledger()[0]
		change(&r)
		w.kafka.Append(source.TopicPartition{Topic: "orders.ledger", Partition: slot()}, source.Record{Value: []byte(mustJSON(w.t, r))})
	}
	for _, c := range []struct {
		name string
		do   func(w *world)
		want string
	}{
		{"lost entries", func(w *world) {
			keys, err := w.redis.Keys(w.ctx, "*:p:*").Result()
			require.NoError(w.t, err)
			require.NoError(w.t, w.redis.Del(w.ctx, keys...).Err())
		}, "entries: slice 3600000:1699920000000:0: the entries count 0 events, the lane folded 3"},
		{"a topic made again", func(w *world) { w.kafka.SetTopicID("orders", "made again") },
			"the cluster's topic orders has id made again: it was deleted and made again"},
		{"a row twice", func(w *world) {
			r := w.results()[0]
			w.kafka.Append(source.TopicPartition{Topic: "orders.windows"}, source.Record{Value: []byte(mustJSON(w.t, r))})
		}, "results: revision 2 of key"},
		{"a changed value", func(w *world) {
			r := w.results()[0]
			r.Revision, r.Values = 1, json.RawMessage(`{"n":7}`)
			r.Key = json.RawMessage(`{"k":"z"}`)
			w.kafka.Append(source.TopicPartition{Topic: "orders.windows"}, source.Record{Value: []byte(mustJSON(w.t, r))})
		}, "results: revision 1 has 3 rows with checksum"},
		{"a revision that the ledger lacks", func(w *world) {
			r := w.results()[0]
			r.Revision = 3
			w.kafka.Append(source.TopicPartition{Topic: "orders.windows"}, source.Record{Value: []byte(mustJSON(w.t, r))})
		}, "results: revision 3 has no ledger row"},
		{"a revision after the final one", func(w *world) {
			row(w, func(r *ledger.Row) { r.Revision, r.Checksum = 3, "other" })
		}, "ledger: revision 3 follows the final one"},
		{"a gap", func(w *world) {
			row(w, func(r *ledger.Row) { r.Revision, r.Checksum = 4, "other" })
		}, "results: revision 3 is in the ledger's range and has no rows"},
		{"a lower revision", func(w *world) {
			row(w, func(r *ledger.Row) { r.Revision = 1 })
		}, "ledger: revision 1 follows revision 2"},
		{"another content", func(w *world) {
			row(w, func(r *ledger.Row) { r.Checksum = "other" })
		}, "ledger: revision 2 has checksums"},
		{"the same content again", func(w *world) {
			row(w, func(r *ledger.Row) { r.Revision = 3 })
		}, "ledger: revisions 2 and 3 have the same content"},
		{"a lost view", func(w *world) {
			keys, err := w.redis.Keys(w.ctx, "*:ledger").Result()
			require.NoError(w.t, err)
			require.NoError(w.t, w.redis.Del(w.ctx, keys...).Err())
		}, "view: Redis does not show it: it is missing, not expired, and was to stay until 2023-11-21T00:00:00Z; the ledger has revision 2"},
		{"records nobody read", func(w *world) {
			require.NoError(w.t, w.redis.HSet(w.ctx, "mr:{orders/orders/0}:meta", "read", "4").Err())
		}, "conservation: read 4, but invalid+ahead+past+jumped+filtered+duplicate+late+folded is 5"},
		{"records that were read twice", func(w *world) {
			require.NoError(w.t, w.redis.HSet(w.ctx, "mr:{orders/orders/0}:meta", "read", "6", "filtered", "1").Err())
		}, "input: read 6 records, the log holds 5 from offset 0 up to 5"},
		{"state of a newer release", func(w *world) {
			require.NoError(w.t, w.redis.HSet(w.ctx, "mr:{orders/orders/0}:meta", "format", "9").Err())
		}, "state: mr:{orders/orders/0}:meta: format 9 found"},
		{"state of another spec", func(w *world) {
			require.NoError(w.t, w.redis.HSet(w.ctx, "mr:{orders/orders/0}:meta", "state", "ffff").Err())
		}, "state: lane orders/orders/0: state id ffff found"},
		{"state that somebody has overwritten", func(w *world) {
			require.NoError(w.t, w.redis.HSet(w.ctx, "mr:{orders/orders/0}:meta", "offset", "many").Err())
		}, `corrupt value in redis: field offset is "many"`},
		{"a page of a newer release", func(w *world) {
			keys, err := w.redis.Keys(w.ctx, "*:p:*").Result()
			require.NoError(w.t, err)
			for _, key := range keys {
				for name, page := range w.redis.HGetAll(w.ctx, key).Val() {
					require.NoError(w.t, w.redis.HSet(w.ctx, key, name, "\xf0"+page[1:]).Err())
				}
			}
		}, "slice 3600000:1699920000000:0: state page of a newer format"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := published(t)
			c.do(w)
			v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.store, Kafka: w.kafka, Now: atBase, Input: true})
			require.NoError(t, err)
			var found []string
			for _, p := range v.Problems {
				found = append(found, p.Kind+": "+p.Detail)
			}
			require.Contains(t, strings.Join(found, "\n"), c.want)
		})
	}
}

// badBatch is a cluster whose orders cannot be decoded from one offset up to another.
type badBatch struct {
	verify.Kafka
	from, to int64
}

func (b badBatch) ReadCommitted(ctx context.Context, tp source.TopicPartition, from int64, fn func(source.Record) error) (int64, error) {
	if tp.Topic != "orders" || from >= b.to {
		return b.Kafka.ReadCommitted(ctx, tp, from, fn)
	}
	at, err := b.Kafka.ReadCommitted(ctx, tp, from, func(r source.Record) error {
		if r.Offset >= b.from {
			return nil
		}
		return fn(r)
	})
	if err == nil {
		err = &source.DecodeError{TopicPartition: tp, Offset: b.from, Next: b.to, Err: source.ErrLegacyFormat}
	}
	return at, err
}

func TestVerifyPassesBatchesThatCannotBeDecoded(t *testing.T) {
	w := published(t)
	counts := func(from, to int64) (records int64, problems []verify.Problem) {
		v, err := verify.Run(w.ctx, verify.Config{
			Spec: w.spec, State: w.store, Kafka: badBatch{w.kafka, from, to}, Now: atBase, Input: true,
		})
		require.NoError(t, err)
		return v.Lanes[0].Records, v.Problems
	}
	records, problems := counts(5, 8) // the lane has not come to it
	require.EqualValues(t, 5, records)
	require.Empty(t, problems)
	records, problems = counts(2, 4) // it was sound when the lane read it
	require.EqualValues(t, 3, records)
	require.Equal(t, "read 5 records, the log holds 3 from offset 0 up to 5", problems[0].Detail)
	meta := "mr:{orders/orders/0}:meta" // an operator gave it up
	require.NoError(t, w.redis.HSet(w.ctx, meta, "read", "3", "folded", "3", "skipped", "2").Err())
	records, problems = counts(2, 4)
	require.EqualValues(t, 3, records)
	for _, p := range problems {
		require.NotEqual(t, verify.ProblemInput, p.Kind, p.Detail)
	}
}

func TestViewIsShownAgainAfterRedisWasEmptied(t *testing.T) {
	w := published(t)
	c := w.closer()
	w.lanes[0].event("z", 121, 1)
	w.lanes[0].commit()
	w.round(c)
	state := w.lanes[0].state
	require.NoError(t, w.redis.FlushAll(w.ctx).Err())

	// The live lane takes a new token and writes its memory anew.
	l := w.lanes[0]
	l.token = store.NextToken(l.token)
	meta, _, err := w.store.Acquire(w.ctx, l.id, l.program.StateID, "", l.token)
	require.NoError(t, err)
	commit := newCommit()
	state.Reseed(commit, store.LaneIndex{Meta: meta})
	l.deliver(commit)
	w.settle(c)
	w.sound()
	require.Equal(t, []string{"r1 watermark", "r2 final final"}, w.history("hourly", base))
	require.Equal(t, []string{"r1 watermark"}, w.history("hourly", at(60)))
}

// A replica that takes over lacks only what it had not received. The first look afterwards may be a round's or a drain's.
func TestViewIsShownAgainAfterAFailOver(t *testing.T) {
	for _, first := range []string{"round", "drain"} {
		t.Run(first, func(t *testing.T) {
			w := newWorld(t, hourly, 1)
			c := w.closer()
			l := w.lanes[0]
			for i := range int64(20) {
				l.event("a", float64(60*i), 1)
				l.commit()
				w.round(c)
			}
			received := len(w.faults.Log(""))
			for i := range int64(20) {
				l.event("a", float64(60*(20+i)), 1)
				l.commit()
				w.settle(c)
			}
			require.NoError(t, w.faults.Rewind(w.ctx, "", received))
			meta, found, err := w.store.ReadMeta(w.ctx, l.id)
			require.NoError(t, err)
			require.True(t, found)
			l.token = store.NextToken(l.token)
			_, _, err = w.store.Acquire(w.ctx, l.id, l.program.StateID, meta.Owner, l.token)
			require.NoError(t, err)
			stored, err := w.store.WholeIndex(w.ctx, l.id, l.program.StateID)
			require.NoError(t, err)
			commit := newCommit()
			l.state.Reseed(commit, stored)
			l.deliver(commit)
			if first == "round" {
				w.round(c)
			} else {
				receipt, err := c.Drain(w.ctx, nil)
				require.NoError(t, err)
				require.True(t, receipt.Done)
			}
			w.sound()
		})
	}
}
