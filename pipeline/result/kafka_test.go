package result_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/internal/dev"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/verify"
)

// withKafka replaces the Kafka in memory by a real client of an embedded broker.
func withKafka(t *testing.T, w *world, partitions int32) (result.Kafka, *source.Cluster, source.Config) {
	t.Helper()
	broker, err := dev.StartKafka(w.ctx, dev.KafkaConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { broker.Close() })
	cfg := source.Config{Brokers: []string{broker.Addr()}}
	cluster, err := source.NewCluster(w.ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { cluster.Close() })
	for topic, n := range map[string]int32{"orders": partitions, "orders.windows": 3, "orders.late": 2} {
		_, err := cluster.EnsureTopic(w.ctx, source.TopicSpec{Name: topic, Partitions: n})
		require.NoError(t, err)
	}
	_, err = cluster.EnsureTopic(w.ctx, source.TopicSpec{Name: ledger.Topic("orders"), Partitions: ledger.DefaultSlots, Compacted: true})
	require.NoError(t, err)
	source, err := cluster.Topic(w.ctx, "orders")
	require.NoError(t, err)
	for _, l := range w.lanes { // they have read nothing yet
		l.state = fold.NewState(l.program, l.id, source.ID, 0, l.state.Cursor())
	}
	return publish.NewClient(cfg, cluster, "orders"), cluster, cfg
}

func results(t *testing.T, w *world, k result.Kafka) map[string]string {
	t.Helper()
	rows, err := ledger.Results(w.ctx, k, "orders.windows", "orders")
	require.NoError(t, err)
	out := map[string]string{}
	for _, r := range rows {
		out[string(r.Key)] = fmt.Sprintf("r%d %s", r.Revision, r.Values)
	}
	return out
}

func TestTransactionsOverARealClient(t *testing.T) {
	w := newWorld(t, hourly, 1)
	k, _, _ := withKafka(t, w, 1)
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("y", 11, 2)
	l.event("x", 61, 1)
	l.commit()
	use := func(c *result.Config) { c.Kafka = k }
	c := w.closer(use)
	require.Len(t, w.round(c).Closed, 1)
	l.event("x", 12, 5)
	l.commit()
	require.Len(t, w.round(c).Closed, 1)

	// Another closer takes the slot over; the first one is fenced, takes it back, and goes on where the ledger ends.
	l.event("x", 13, 7)
	l.commit()
	other := w.closer(use)
	require.Len(t, w.round(other).Closed, 1)
	l.event("y", 14, 1)
	l.commit()
	r := w.round(c)
	require.Empty(t, r.Failed)
	require.Len(t, r.Closed, 1)
	require.Empty(t, w.round(c).Closed)
	require.Equal(t, map[string]string{
		`{"k":"x"}`: `r3 {"n":3,"sum":13,"avg":4.333333333333333,"last":7}`,
		`{"k":"y"}`: `r4 {"n":2,"sum":3,"avg":1.5,"last":1}`,
	}, results(t, w, k))
	l.event("x", 95, 1)
	l.commit()
	w.round(c)

	rows, err := ledger.Latest(w.ctx, k, "orders")
	require.NoError(t, err)
	require.Len(t, rows, 1)
	require.True(t, rows[0].Final)
	require.Equal(t, 4, rows[0].Revision)
	v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.store, Kafka: k, Now: atBase})
	require.NoError(t, err)
	require.Empty(t, v.Problems)
	require.Equal(t, 4, v.Revisions)
	require.Equal(t, int64(5), v.Rows)
}

func TestTransactionLeftOpenIsAbortedByTheNextCloser(t *testing.T) {
	w := newWorld(t, hourly, 1)
	k, cluster, _ := withKafka(t, w, 1)
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.commit()
	slot := w.slotOf("hourly", base)
	dead, err := k.Open(w.ctx, slot)
	require.NoError(t, err)
	t.Cleanup(func() { dead.Close() })
	require.NoError(t, dead.Begin())
	require.NoError(t, publish.Send(w.ctx, dead, []publish.Record{
		{Topic: "orders.windows", Key: []byte("k"), Value: []byte("never")},
		{Topic: "orders.ledger", Partition: int32(slot), Key: []byte("k"), Value: []byte("never")},
	}))

	c := w.closer(func(c *result.Config) { c.Kafka = k })
	require.Len(t, w.round(c).Closed, 1)
	require.Equal(t, map[string]string{`{"k":"x"}`: `r1 {"n":1,"sum":1,"avg":1,"last":1}`}, results(t, w, k))
	require.ErrorIs(t, dead.Commit(), publish.ErrFenced)

	// The log ends with a marker; reading to the end does not wait for it.
	tp := source.TopicPartition{Topic: "orders.ledger", Partition: int32(slot)}
	ends, err := cluster.Ends(w.ctx, tp)
	require.NoError(t, err)
	next, err := k.ReadCommitted(w.ctx, tp, 0, func(source.Record) error { return nil })
	require.NoError(t, err)
	require.Equal(t, ends[tp].End, next)
	_, err = k.ReadCommitted(w.ctx, tp, next+1, nil)
	require.ErrorIs(t, err, source.ErrOffsetOutOfRange)
}

func TestLateTopicIsComparedWithTheLanes(t *testing.T) {
	w := newWorld(t, hourly, 1)
	k, cluster, cfg := withKafka(t, w, 1)
	l := w.lanes[0]
	l.event("x", 100, 1)
	l.event("x", 10, 1) // late
	l.event("y", 11, 1) // late
	l.commit()
	send, err := source.NewProducer(w.ctx, cfg)
	require.NoError(t, err)
	defer send.Close()
	late := func(offset string) source.SideRecord {
		return source.SideRecord{Topic: "orders.late", Value: []byte("{}"), Headers: []source.Header{
			{Key: "mr-reason", Value: []byte("late")}, {Key: "mr-topic", Value: []byte("orders")},
			{Key: "mr-partition", Value: []byte("0")}, {Key: "mr-offset", Value: []byte(offset)},
		}}
	}
	check := func() *verify.Report {
		v, err := verify.Run(w.ctx, verify.Config{
			Spec: w.spec, State: w.store, Kafka: k, Late: verify.LateTopic(cluster, "orders.late"),
		})
		require.NoError(t, err)
		return v
	}
	require.NoError(t, send.Send(w.ctx, []source.SideRecord{late("1")}))
	v := check()
	require.Equal(t, []verify.Problem{{Kind: verify.ProblemLate, Where: "orders/orders/0",
		Detail: "2 events were late, the late topic holds 1 of them"}}, v.Problems)
	require.NoError(t, send.Send(w.ctx, []source.SideRecord{late("2"), late("1"), late("77")}))
	v = check()
	require.Empty(t, v.Problems)
	require.Equal(t, int64(2), v.Lanes[0].Late)
	require.Zero(t, v.Lanes[0].Void)
	require.NoError(t, send.Send(w.ctx, []source.SideRecord{late("0")}))
	v = check()
	require.Equal(t, int64(1), v.Lanes[0].Void, "folded after all")
}

func TestUnreachableKafkaIsNotTheWindowsFault(t *testing.T) {
	w := newWorld(t, hourly, 1)
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.commit()
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	c := w.closer(func(c *result.Config) { c.Kafka = noProducers{w.kafka} })
	r, err := c.Round(ctx)
	require.NoError(t, err)
	require.Empty(t, r.Failed)
	require.Len(t, r.Kafka, 1)
	require.Contains(t, r.Kafka[0], "no Kafka broker reachable")
}

type noProducers struct{ result.Kafka }

func (noProducers) Open(context.Context, int) (publish.Producer, error) {
	return nil, source.ErrUnreachable
}
