package source

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
)

const (
	benchRecords = 500_000
	benchBytes   = 100
)

// benchKafka holds benchRecords flight-like records in one partition; with MILLRACE_KAFKA_BROKERS a real Kafka's.
func benchKafka(b *testing.B, codec sarama.CompressionCodec) (Config, *Cluster, string) {
	b.Helper()
	cfg := testConfig(strings.Split(os.Getenv("MILLRACE_KAFKA_BROKERS"), ",")...)
	if os.Getenv("MILLRACE_KAFKA_BROKERS") == "" {
		fake, err := kfake.NewCluster(kfake.NumBrokers(1))
		require.NoError(b, err)
		b.Cleanup(fake.Close)
		cfg = testConfig(fake.ListenAddrs()...)
	}
	cluster, err := NewCluster(b.Context(), cfg)
	require.NoError(b, err)
	b.Cleanup(func() { _ = cluster.Close() })
	topic, err := cluster.EnsureTopic(b.Context(), TopicSpec{Name: unique("bench"), Replication: 1})
	require.NoError(b, err)
	conf, err := NewConfig(cfg)
	require.NoError(b, err)
	conf.Producer.Compression = codec
	p, err := sarama.NewSyncProducer(cfg.Brokers, conf)
	require.NoError(b, err)
	defer p.Close()
	msgs := make([]*sarama.ProducerMessage, 5000)
	for sent := 0; sent < benchRecords; sent += len(msgs) {
		for i := range msgs {
			value := fmt.Sprintf(`{"origin":"ATL","destination":"SAV","scheduled":%d,"delay":%d}`, 978307200+sent+i, i%97)
			msgs[i] = &sarama.ProducerMessage{Topic: topic.Name, Value: sarama.StringEncoder(value + strings.Repeat(" ", benchBytes-len(value)))}
		}
		require.NoError(b, p.SendMessages(msgs))
	}
	return cfg, cluster, topic.Name
}

// BenchmarkReadAndDiscard compares the lane's reader with sarama's partition consumer. One operation is one record.
func BenchmarkReadAndDiscard(b *testing.B) {
	for _, codec := range []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionLZ4} {
		cfg, cluster, topic := benchKafka(b, codec)
		b.Run("reader/"+codec.String(), func(b *testing.B) {
			b.SetBytes(benchBytes)
			b.ReportAllocs()
			for left := b.N; left > 0; {
				r := OpenReader(ReaderConfig{Cluster: cluster, Topic: topic})
				for batch := range r.Batches() {
					left -= len(batch.Records)
					next := batch.Next
					batch.Release()
					if left <= 0 || next >= benchRecords {
						break
					}
				}
				require.NoError(b, r.Close())
			}
		})
		b.Run("sarama/"+codec.String(), func(b *testing.B) {
			b.SetBytes(benchBytes)
			b.ReportAllocs()
			conf, err := NewConfig(cfg)
			require.NoError(b, err)
			for left := b.N; left > 0; {
				consumer, err := sarama.NewConsumer(cfg.Brokers, conf)
				require.NoError(b, err)
				pc, err := consumer.ConsumePartition(topic, 0, 0)
				require.NoError(b, err)
				for msg := range pc.Messages() {
					left--
					if left <= 0 || msg.Offset == benchRecords-1 {
						break
					}
				}
				require.NoError(b, pc.Close())
				require.NoError(b, consumer.Close())
			}
		})
	}
}

// BenchmarkDecode is what the reader does with an answer that sarama has decoded.
func BenchmarkDecode(b *testing.B) {
	const records = 5000
	offsets := make([]int64, records)
	for i := range offsets {
		offsets[i] = int64(i)
	}
	in := block(batch(0, -1, offsets...))
	pool := newRecordPool(1)
	b.ReportAllocs()
	for b.Loop() {
		out, err := decode(in, 0, &pool, wanted{traces: true})
		if err != nil || len(out.Records) != records {
			b.Fatal(err, len(out.Records))
		}
		out.Release()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*records), "ns/record")
}
