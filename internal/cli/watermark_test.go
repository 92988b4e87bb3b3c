package cli

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
	"millrace/pipeline/window"
	"millrace/tests/long"
)

// TestStatusAndCloserShowTheSameWatermark compares what status prints with what a round of the closer waits for, in random
// states: transactions open on partitions that claim to be idle, claims that are true, outdated or made for another
// incarnation of the topic, seals ahead of watermarks, lanes parked far behind, lanes that have committed nothing or were
// never there.
func TestStatusAndCloserShowTheSameWatermark(t *testing.T) {
	s := ordersHourly(t)
	server := miniredis.RunT(t)
	state := store.New(storetest.Client(t, server.Addr(), false))
	idleUnderTransaction := 0
	for seed := range long.Seeds(300, 1000) {
		server.FlushAll()
		rng := rand.New(rand.NewPCG(seed, 5))
		kafka := publishtest.New()
		partitions := 1 + rng.IntN(4)
		kafka.AddTopic("orders", partitions)
		kafka.AddTopic("orders.windows", 1)
		kafka.AddTopic(ledger.Topic("orders"), ledger.DefaultSlots)
		kafka.SetTopicID("orders", []string{"", "one", "two"}[rng.IntN(3)])
		for p := range partitions {
			tp := source.TopicPartition{Topic: "orders", Partition: int32(p)}
			for range rng.IntN(4) {
				kafka.Append(tp, source.Record{})
			}
		}
		if rng.IntN(2) == 0 { // an open transaction, in whatever partition its key falls
			p, err := kafka.Open(t.Context(), 100)
			require.NoError(t, err)
			require.NoError(t, p.Begin())
			require.NoError(t, publish.Send(t.Context(), p, []publish.Record{{Topic: "orders", Key: []byte{byte(rng.IntN(4))}}}))
		}
		for p := range partitions {
			tp := source.TopicPartition{Topic: "orders", Partition: int32(p)}
			all, err := kafka.Ends(t.Context(), tp)
			require.NoError(t, err)
			if commitRandomLane(t, state, s, rng, p, all[tp]) && all[tp].End < all[tp].HighWatermark {
				idleUnderTransaction++
			}
		}
		closer, err := result.NewCloser(result.Config{Spec: s, State: state, Kafka: kafka, Parallel: 1})
		require.NoError(t, err)
		round, err := closer.Round(t.Context())
		require.NoError(t, err)
		require.NoError(t, closer.Close())
		view, err := readLanes(t.Context(), state, kafka, s, nil)
		require.NoError(t, err)
		shown := view.Watermark
		if shown == window.NoTime { // a report leaves out what is not there
			shown = 0
		}
		require.Equal(t, round.Waiting.Watermark, shown, "seed %d: %+v\n%+v", seed, round.Waiting, view.Lanes)
	}
	require.Greater(t, idleUnderTransaction, 10)
}

func ordersHourly(t *testing.T) *spec.Spec {
	t.Helper()
	s, err := spec.Parse("test.yaml", []byte(`
name: orders
source: {topics: [orders], format: json}
event: {key: [k], time: {field: t, unit: ms}}
aggregates: {n: {func: count}}
windows: [{name: hourly, size: 1h}]
watermark: {out_of_orderness: 0s, idle_timeout: 5s}
results: {kafka: {topic: orders.windows}}
`))
	require.NoError(t, err)
	return s
}

// A lane whose state cannot be read is no server that is away: what there is of it and the other lanes show, and no watermark.
func TestLaneWhoseStateCannotBeRead(t *testing.T) {
	s := ordersHourly(t)
	server := miniredis.RunT(t)
	state := store.New(storetest.Client(t, server.Addr(), false))
	kafka := publishtest.New()
	kafka.AddTopic("orders", 3)
	for p := range int32(3) {
		kafka.Append(source.TopicPartition{Topic: "orders", Partition: p}, source.Record{})
		id := store.LaneID{Pipeline: s.Name, Topic: "orders", Partition: p}
		token := store.NextToken("")
		meta, _, err := state.Acquire(t.Context(), id, s.StateID(), "", token)
		require.NoError(t, err)
		update := &store.MetaUpdate{Offset: 1, Watermark: 3_600_000, MaxTime: 3_600_000, Sealed: store.NoTime, IdleEnd: store.NotIdle}
		next := meta.Cursor.NextCommit()
		_, err = state.Apply(t.Context(), id, s.StateID(), token, []store.Call{{Prev: meta.Cursor, Next: next, Meta: update}})
		require.NoError(t, err)
	}
	server.HSet("mr:{orders/orders/1}:meta", "format", "9")
	server.HSet("mr:{orders/orders/2}:meta", "offset", "many")
	view, err := readLanes(t.Context(), state, kafka, s, nil)
	require.NoError(t, err)
	require.EqualValues(t, store.NoTime, view.Watermark)
	require.Equal(t, []string{stateCommitted, stateBad, stateBad}, []string{view.Lanes[0].State, view.Lanes[1].State, view.Lanes[2].State})
	require.Contains(t, view.Lanes[1].Reason, "format 9 found")
	require.Contains(t, view.Lanes[2].Reason, `field offset is "many"`)
	server.SetError("away")
	_, err = readLanes(t.Context(), state, kafka, s, nil)
	require.ErrorContains(t, err, "away")
}

// commitRandomLane gives a lane some past, and reports whether it claims to be idle.
func commitRandomLane(t *testing.T, state *store.Store, s *spec.Spec, rng *rand.Rand, partition int, ends source.Ends) bool {
	t.Helper()
	id := store.LaneID{Pipeline: s.Name, Topic: "orders", Partition: int32(partition)}
	if rng.IntN(8) == 0 {
		return false // never there
	}
	token := store.NextToken("")
	meta, _, err := state.Acquire(t.Context(), id, s.StateID(), "", token)
	require.NoError(t, err)
	if rng.IntN(8) == 0 {
		return false // acquired, and nothing committed
	}
	update := &store.MetaUpdate{
		Offset: rng.Int64N(ends.HighWatermark + 1), Watermark: store.NoTime, MaxTime: store.NoTime, Sealed: store.NoTime,
		IdleEnd: store.NotIdle, TopicID: []string{"", "one"}[rng.IntN(2)],
	}
	if rng.IntN(6) > 0 {
		update.Watermark = 3_600_000 * rng.Int64N(50)
	}
	if rng.IntN(3) == 0 {
		update.Sealed = 3_600_000 * rng.Int64N(80)
	}
	switch rng.IntN(4) {
	case 0:
		update.IdleEnd = ends.HighWatermark
	case 1:
		update.IdleEnd = ends.End
	case 2:
		update.IdleEnd = rng.Int64N(ends.HighWatermark + 1)
	}
	next := meta.Cursor.NextCommit()
	_, err = state.Apply(t.Context(), id, s.StateID(), token, []store.Call{{Prev: meta.Cursor, Next: next, Meta: update}})
	require.NoError(t, err, fmt.Sprint(id))
	return update.IdleEnd >= 0
}
