package publish_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/dev"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/source"
)

// requireHidden reads from behind a record of an open transaction: nothing comes yet, and that is no error. Behind the log there is
// nothing to come.
func requireHidden(t *testing.T, cluster *source.Cluster, r publish.Record) {
	t.Helper()
	tp := source.TopicPartition{Topic: r.Topic, Partition: r.Partition}
	none := func(found source.Record) error {
		t.Errorf("offset %d of %s was read", found.Offset, tp)
		return nil
	}
	next, err := cluster.ReadCommitted(t.Context(), tp, r.Offset+1, none)
	require.NoError(t, err)
	require.Equal(t, r.Offset+1, next)
	_, err = cluster.ReadCommitted(t.Context(), tp, r.Offset+1000, none)
	require.ErrorIs(t, err, source.ErrOffsetOutOfRange)
}

// Over a real client a correction, its states and its certificate stand where the ledger says, also beside a transaction that is
// open and with markers at the end of the partitions.
func TestACorrectionOverARealClient(t *testing.T) {
	ctx := t.Context()
	broker, err := dev.StartKafka(ctx, dev.KafkaConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { broker.Close() })
	cfg := source.Config{Brokers: []string{broker.Addr()}}
	cluster, err := source.NewCluster(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { cluster.Close() })
	for _, topic := range []source.TopicSpec{
		{Name: "p.ledger", Compacted: true, Partitions: 2}, {Name: "out", Partitions: 3}, {Name: ledger.StatesTopic("p"), Partitions: 2},
	} {
		_, err := cluster.EnsureTopic(ctx, topic)
		require.NoError(t, err)
	}
	d := newDesk(t)
	client := publish.NewClient(cfg, cluster, "p")
	slot := func() *publish.Slot {
		s := publish.New(publish.Config{
			Pipeline: "p", Families: []string{"hour"}, Spec: "v", Kafka: client, State: d.store, Keep: d.keep,
			Now: func() time.Time { return d.now },
		})
		t.Cleanup(s.Close)
		return s
	}
	results, err := cluster.Topic(ctx, "out")
	require.NoError(t, err)
	states, err := cluster.Topic(ctx, ledger.StatesTopic("p"))
	require.NoError(t, err)
	s := slot()
	was := d.publish(s, 1, true, before)
	c := withStates(d.correction(was, "x", after), after)
	c.Topics = publish.TopicIDs{Results: results.ID, States: states.ID}
	require.Equal(t, publish.VerdictPublished, d.correct(s, c).Verdict)
	s = slot() // another process
	require.Equal(t, publish.VerdictDone, d.correct(s, c).Verdict)
	rows, err := ledger.Latest(ctx, cluster, "p")
	require.NoError(t, err)
	row := &rows[0]
	require.Equal(t, 2, row.Revision)
	require.Equal(t, publish.VerdictPublished, d.certify(s, d.certificate(row, "y")))

	open, err := client.Open(ctx, 1)
	require.NoError(t, err)
	require.NoError(t, open.Begin())
	var held []publish.Record
	for key := range after {
		held = append(held, publish.Record{Topic: "out", Key: []byte(key), Value: []byte(`{}`)})
	}
	require.NoError(t, publish.Send(ctx, open, held))
	requireHidden(t, cluster, held[0])
	reader := &publish.Contents{Kafka: cluster, Render: renderTest}
	content, err := reader.Read(ctx, row)
	require.NoError(t, err)
	require.Equal(t, after.without(), asRows(content))
	require.NotEmpty(t, content[0].State)
	reader.Render = nil // from the result topic
	content, err = reader.Read(ctx, row)
	require.NoError(t, err)
	require.Equal(t, after.without(), asRows(content))

	// What is published behind the open transaction is seen once that is over.
	later := d.publish(s, 2, true, other.without())
	done := make(chan error, 1)
	go func() {
		_, err := reader.Read(context.WithoutCancel(ctx), later)
		done <- err
	}()
	require.NoError(t, open.Commit())
	require.NoError(t, open.Close())
	require.NoError(t, <-done)
	certified := 0
	require.NoError(t, ledger.Read(ctx, cluster, "p", func(rec ledger.Record) error {
		if rec.Certificate != nil {
			certified++
		}
		return nil
	}))
	require.Equal(t, 1, certified)
}
