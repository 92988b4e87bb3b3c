package dev

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
)

// patience bounds every wait for a server; nothing here should take a tenth of it.
const patience = 30 * time.Second

func startKafka(t *testing.T, cfg KafkaConfig) *Kafka {
	t.Helper()
	k, err := StartKafka(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, k.Close()) })
	return k
}

func saramaConfig() *sarama.Config {
	cfg := sarama.NewConfig()
	cfg.Version = sarama.V4_0_0_0
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	cfg.Consumer.IsolationLevel = sarama.ReadCommitted
	cfg.Consumer.MaxWaitTime = 100 * time.Millisecond
	cfg.Consumer.Return.Errors = true
	cfg.Producer.Return.Successes = true
	cfg.Producer.RequiredAcks = sarama.WaitForAll
	cfg.Metadata.AllowAutoTopicCreation = false
	return cfg
}

func newClient(t *testing.T, k *Kafka, cfg *sarama.Config) sarama.Client {
	t.Helper()
	c, err := sarama.NewClient([]string{k.Addr()}, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func createTopic(t *testing.T, k *Kafka, topic string, partitions int32, configs map[string]string) sarama.ClusterAdmin {
	t.Helper()
	admin, err := sarama.NewClusterAdmin([]string{k.Addr()}, saramaConfig())
	require.NoError(t, err)
	t.Cleanup(func() { admin.Close() })
	entries := map[string]*string{}
	for name, value := range configs {
		entries[name] = &value
	}
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: entries}
	require.NoError(t, admin.CreateTopic(topic, detail, false))
	return admin
}

// produce sends values to one partition in order, with the value as key too.
func produce(t *testing.T, k *Kafka, topic string, partition int32, values ...string) {
	t.Helper()
	cfg := saramaConfig()
	cfg.Producer.Partitioner = sarama.NewManualPartitioner
	cfg.Producer.Idempotent = true
	cfg.Net.MaxOpenRequests = 1
	p, err := sarama.NewSyncProducer([]string{k.Addr()}, cfg)
	require.NoError(t, err)
	defer p.Close()
	for _, v := range values {
		_, _, err := p.SendMessage(&sarama.ProducerMessage{
			Topic: topic, Partition: partition, Key: sarama.StringEncoder(v), Value: sarama.StringEncoder(v),
		})
		require.NoError(t, err)
	}
}

// consume reads n values of a partition from offset.
func consume(t *testing.T, k *Kafka, cfg *sarama.Config, topic string, partition int32, offset int64, n int) []string {
	t.Helper()
	c, err := sarama.NewConsumer([]string{k.Addr()}, cfg)
	require.NoError(t, err)
	defer c.Close()
	pc, err := c.ConsumePartition(topic, partition, offset)
	require.NoError(t, err)
	defer pc.Close()
	var values []string
	for len(values) < n {
		select {
		case m := <-pc.Messages():
			values = append(values, string(m.Value))
		case err := <-pc.Errors():
			require.NoError(t, err)
		case <-time.After(patience):
			require.Failf(t, "too few records", "%d of %d: %v", len(values), n, values)
		}
	}
	return values
}

func TestKafkaProduceAndConsume(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	createTopic(t, k, "events", 2, nil)
	produce(t, k, "events", 0, "a", "b", "c")
	produce(t, k, "events", 1, "x")
	require.Equal(t, []string{"a", "b", "c"}, consume(t, k, saramaConfig(), "events", 0, sarama.OffsetOldest, 3))
	require.Equal(t, []string{"c"}, consume(t, k, saramaConfig(), "events", 0, 2, 1))
	require.Equal(t, []string{"x"}, consume(t, k, saramaConfig(), "events", 1, 0, 1))
}

func TestKafkaRefusesUnknownTopic(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	c := newClient(t, k, saramaConfig())
	_, err := c.Partitions("nowhere")
	require.ErrorIs(t, err, sarama.ErrUnknownTopicOrPartition)
}

func TestKafkaKeepsBatchesOfEveryCodec(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	codecs := map[string]sarama.CompressionCodec{
		"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}
	for name, codec := range codecs {
		t.Run(name, func(t *testing.T) {
			createTopic(t, k, name, 1, nil)
			cfg := saramaConfig()
			cfg.Producer.Compression = codec
			p, err := sarama.NewSyncProducer([]string{k.Addr()}, cfg)
			require.NoError(t, err)
			defer p.Close()
			var messages []*sarama.ProducerMessage
			var want []string
			for i := range 500 {
				v := fmt.Sprintf("value %d", i)
				want = append(want, v)
				messages = append(messages, &sarama.ProducerMessage{Topic: name, Value: sarama.StringEncoder(v)})
			}
			require.NoError(t, p.SendMessages(messages))
			require.Equal(t, want, consume(t, k, saramaConfig(), name, 0, sarama.OffsetOldest, 500))
		})
	}
}

func TestKafkaListOffsets(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	createTopic(t, k, "events", 1, nil)
	cfg := saramaConfig()
	p, err := sarama.NewSyncProducer([]string{k.Addr()}, cfg)
	require.NoError(t, err)
	defer p.Close()
	base := time.UnixMilli(1_700_000_000_000)
	for i := range 5 {
		_, _, err := p.SendMessage(&sarama.ProducerMessage{
			Topic: "events", Value: sarama.StringEncoder("v"), Timestamp: base.Add(time.Duration(i) * time.Second),
		})
		require.NoError(t, err)
	}
	c := newClient(t, k, cfg)
	for name, want := range map[int64]int64{
		sarama.OffsetOldest: 0,
		sarama.OffsetNewest: 5,
		base.UnixMilli():    0,
		base.Add(2500 * time.Millisecond).UnixMilli(): 3,
		base.Add(4 * time.Second).UnixMilli():         4,
		base.Add(time.Hour).UnixMilli():               -1,
	} {
		got, err := c.GetOffset("events", 0, name)
		require.NoError(t, err)
		require.Equal(t, want, got, "offset for %d", name)
	}
}

func TestKafkaDeleteRecords(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	admin := createTopic(t, k, "events", 1, nil)
	produce(t, k, "events", 0, "a", "b", "c", "d")
	require.NoError(t, admin.DeleteRecords("events", map[int32]int64{0: 2}))
	c := newClient(t, k, saramaConfig())
	oldest, err := c.GetOffset("events", 0, sarama.OffsetOldest)
	require.NoError(t, err)
	require.Equal(t, int64(2), oldest)
	require.Equal(t, []string{"c", "d"}, consume(t, k, saramaConfig(), "events", 0, sarama.OffsetOldest, 2))

	consumer, err := sarama.NewConsumerFromClient(c)
	require.NoError(t, err)
	defer consumer.Close()
	_, err = consumer.ConsumePartition("events", 0, 1)
	require.ErrorIs(t, err, sarama.ErrOffsetOutOfRange)
}

func TestKafkaCompaction(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	createTopic(t, k, "ledger", 1, map[string]string{"cleanup.policy": "compact"})
	p, err := sarama.NewSyncProducer([]string{k.Addr()}, saramaConfig())
	require.NoError(t, err)
	defer p.Close()
	for i := range 6 {
		_, _, err := p.SendMessage(&sarama.ProducerMessage{
			Topic: "ledger", Key: sarama.StringEncoder(fmt.Sprint("k", i%2)), Value: sarama.StringEncoder(fmt.Sprint("v", i)),
		})
		require.NoError(t, err)
	}
	k.Compact()
	// As in Kafka, the newest batch is never compacted, so an older record of its key may stand.
	require.Equal(t, []string{"v3", "v4", "v5"}, consume(t, k, saramaConfig(), "ledger", 0, sarama.OffsetOldest, 3))
}

func TestKafkaKeepsRecordsOfLongAgo(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	createTopic(t, k, "flights", 1, nil)
	p, err := sarama.NewSyncProducer([]string{k.Addr()}, saramaConfig())
	require.NoError(t, err)
	defer p.Close()
	_, _, err = p.SendMessage(&sarama.ProducerMessage{
		Topic: "flights", Value: sarama.StringEncoder("2001"), Timestamp: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC),
	})
	require.NoError(t, err)
	k.Compact()
	require.Equal(t, []string{"2001"}, consume(t, k, saramaConfig(), "flights", 0, sarama.OffsetOldest, 1))
}

func TestKafkaTopicIDs(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	admin := createTopic(t, k, "events", 1, nil)
	id := func() sarama.Uuid {
		topics, err := admin.DescribeTopics([]string{"events"})
		require.NoError(t, err)
		require.Len(t, topics, 1)
		require.NotZero(t, topics[0].Uuid)
		return topics[0].Uuid
	}
	first := id()
	require.Equal(t, first, id())
	require.NoError(t, admin.DeleteTopic("events"))
	require.NoError(t, admin.CreateTopic("events", &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false))
	require.NotEqual(t, first, id(), "a topic made again is another topic")
	err := admin.CreateTopic("events", &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false)
	require.ErrorIs(t, err, sarama.ErrTopicAlreadyExists)
}

func TestKafkaMaxMessageBytes(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	createTopic(t, k, "small", 1, map[string]string{"max.message.bytes": "2000"})
	p, err := sarama.NewSyncProducer([]string{k.Addr()}, saramaConfig())
	require.NoError(t, err)
	defer p.Close()
	_, _, err = p.SendMessage(&sarama.ProducerMessage{Topic: "small", Value: sarama.ByteEncoder(make([]byte, 4000))})
	require.ErrorIs(t, err, sarama.ErrMessageSizeTooLarge)
}

func TestKafkaSurvivesRestart(t *testing.T) {
	dir := t.TempDir()
	k, err := StartKafka(context.Background(), KafkaConfig{DataDir: dir})
	require.NoError(t, err)
	admin := createTopic(t, k, "events", 3, nil)
	before, err := admin.DescribeTopics([]string{"events"})
	require.NoError(t, err)
	produce(t, k, "events", 2, "a", "b")
	commitOffset(t, k, "group", "events", 2, 1, "half way")
	require.NoError(t, k.Close())
	require.NoError(t, k.Close(), "closing twice is harmless")

	again := startKafka(t, KafkaConfig{DataDir: dir})
	require.Equal(t, []string{"a", "b"}, consume(t, again, saramaConfig(), "events", 2, sarama.OffsetOldest, 2))
	offset, metadata := committedOffset(t, again, "group", "events", 2)
	require.Equal(t, int64(1), offset)
	require.Equal(t, "half way", metadata)
	admin2, err := sarama.NewClusterAdmin([]string{again.Addr()}, saramaConfig())
	require.NoError(t, err)
	defer admin2.Close()
	after, err := admin2.DescribeTopics([]string{"events"})
	require.NoError(t, err)
	require.Equal(t, before[0].Uuid, after[0].Uuid)
}

// A copy of the data directory taken while the broker runs is what a killed process leaves behind.
func TestKafkaSurvivesACrash(t *testing.T) {
	dir, crashed := t.TempDir(), filepath.Join(t.TempDir(), "crashed")
	k := startKafka(t, KafkaConfig{DataDir: dir})
	createTopic(t, k, "events", 1, nil)
	produce(t, k, "events", 0, "a", "b")
	commitOffset(t, k, "group", "events", 0, 1, "half way")
	require.NoError(t, os.CopyFS(crashed, os.DirFS(dir)))

	again := startKafka(t, KafkaConfig{DataDir: crashed})
	produce(t, again, "events", 0, "c")
	require.Equal(t, []string{"a", "b", "c"}, consume(t, again, saramaConfig(), "events", 0, sarama.OffsetOldest, 3))
	offset, _ := committedOffset(t, again, "group", "events", 0)
	require.Equal(t, int64(1), offset)
}

func TestKafkaDirectoryHasOneUser(t *testing.T) {
	dir := t.TempDir()
	startKafka(t, KafkaConfig{DataDir: dir})
	_, err := StartKafka(t.Context(), KafkaConfig{DataDir: dir})
	require.ErrorIs(t, err, ErrInUse)
}
