package dev

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
)

func txnProducer(t *testing.T, k *Kafka, id string) sarama.SyncProducer {
	t.Helper()
	cfg := saramaConfig()
	cfg.Producer.Idempotent = true
	cfg.Producer.Transaction.ID = id
	cfg.Producer.Transaction.Retry.Backoff = 10 * time.Millisecond
	cfg.Net.MaxOpenRequests = 1
	p, err := sarama.NewSyncProducer([]string{k.Addr()}, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

func send(p sarama.SyncProducer, topic, value string) error {
	_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)})
	return err
}

func TestKafkaTransactions(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	createTopic(t, k, "results", 1, nil)
	createTopic(t, k, "ledger", 1, map[string]string{"cleanup.policy": "compact"})
	p := txnProducer(t, k, "window-1")
	for _, step := range []struct {
		value string
		end   func() error
	}{
		{"first", p.CommitTxn},
		{"dropped", p.AbortTxn},
		{"second", p.CommitTxn},
	} {
		require.NoError(t, p.BeginTxn())
		require.NoError(t, send(p, "results", step.value))
		_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: "ledger", Key: sarama.StringEncoder("w"), Value: sarama.StringEncoder(step.value)})
		require.NoError(t, err)
		require.NoError(t, step.end())
	}
	require.Equal(t, []string{"first", "second"}, consume(t, k, saramaConfig(), "results", 0, sarama.OffsetOldest, 2))
	require.Equal(t, []string{"first", "second"}, consume(t, k, saramaConfig(), "ledger", 0, sarama.OffsetOldest, 2))
	raw := saramaConfig()
	raw.Consumer.IsolationLevel = sarama.ReadUncommitted
	require.Equal(t, []string{"first", "dropped", "second"}, consume(t, k, raw, "results", 0, sarama.OffsetOldest, 3))
}

func TestKafkaReadCommittedStopsAtOpenTransaction(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	createTopic(t, k, "results", 1, nil)
	produce(t, k, "results", 0, "before")
	p := txnProducer(t, k, "slow")
	require.NoError(t, p.BeginTxn())
	require.NoError(t, send(p, "results", "open"))
	produce(t, k, "results", 0, "after")

	consumer, err := sarama.NewConsumer([]string{k.Addr()}, saramaConfig())
	require.NoError(t, err)
	defer consumer.Close()
	pc, err := consumer.ConsumePartition("results", 0, sarama.OffsetOldest)
	require.NoError(t, err)
	defer pc.Close()
	require.Equal(t, "before", string((<-pc.Messages()).Value))
	select {
	case m := <-pc.Messages():
		require.Failf(t, "read past an open transaction", "%s", m.Value)
	case <-time.After(500 * time.Millisecond):
	}
	require.NoError(t, p.CommitTxn())
	require.Equal(t, "open", string((<-pc.Messages()).Value))
	require.Equal(t, "after", string((<-pc.Messages()).Value))
}

func TestKafkaFencesOlderProducer(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	createTopic(t, k, "results", 1, nil)
	old := txnProducer(t, k, "window-1")
	require.NoError(t, old.BeginTxn())
	require.NoError(t, send(old, "results", "zombie"))

	successor := txnProducer(t, k, "window-1")
	require.NoError(t, successor.BeginTxn())
	require.NoError(t, send(successor, "results", "successor"))
	require.NoError(t, successor.CommitTxn())

	require.Error(t, old.CommitTxn(), "the older producer of a transactional id is fenced")
	require.Equal(t, []string{"successor"}, consume(t, k, saramaConfig(), "results", 0, sarama.OffsetOldest, 1))
}

func TestKafkaOffsetsInTransaction(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	createTopic(t, k, "results", 1, nil)
	p := txnProducer(t, k, "loop")
	require.NoError(t, p.BeginTxn())
	require.NoError(t, send(p, "results", "one"))
	metadata := "covered"
	require.NoError(t, p.AddOffsetsToTxn(map[string][]*sarama.PartitionOffsetMetadata{
		"results": {{Partition: 0, Offset: 9, Metadata: &metadata}},
	}, "group"))
	require.NoError(t, p.CommitTxn())
	offset, got := committedOffset(t, k, "group", "results", 0)
	require.Equal(t, int64(9), offset)
	require.Equal(t, metadata, got)
}

func TestKafkaTransactionalIDSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	k, err := StartKafka(t.Context(), KafkaConfig{DataDir: dir})
	require.NoError(t, err)
	createTopic(t, k, "results", 1, nil)
	p := txnProducer(t, k, "window-1")
	require.NoError(t, p.BeginTxn())
	require.NoError(t, send(p, "results", "one"))
	require.NoError(t, p.CommitTxn())
	require.NoError(t, k.Close())

	again := startKafka(t, KafkaConfig{DataDir: dir})
	p = txnProducer(t, again, "window-1")
	require.NoError(t, p.BeginTxn())
	require.NoError(t, send(p, "results", "two"))
	require.NoError(t, p.CommitTxn())
	require.Equal(t, []string{"one", "two"}, consume(t, again, saramaConfig(), "results", 0, sarama.OffsetOldest, 2))
}
