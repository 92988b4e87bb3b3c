package source

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"go.uber.org/goleak"
)

// patience bounds every wait; nothing should take a tenth of it.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	// sarama counts fetches in go-metrics' default registry, which keeps one goroutine for the life of the process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// kafka is the Kafka of one test: an embedded one, or with MILLRACE_KAFKA_BROKERS set a real one.
type kafka struct {
	cfg     Config
	cluster *Cluster
	fake    *kfake.Cluster // nil with a real one
}

// anyKafka is for tests that need nothing but a Kafka.
func anyKafka(t *testing.T) *kafka {
	t.Helper()
	brokers := os.Getenv("MILLRACE_KAFKA_BROKERS")
	if brokers == "" {
		return fakeKafka(t)
	}
	return connect(t, &kafka{cfg: testConfig(strings.Split(brokers, ",")...)})
}

// fakeKafka is for tests that reach into the broker.
func fakeKafka(t *testing.T, opts ...kfake.Opt) *kafka {
	t.Helper()
	opts = append([]kfake.Opt{kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second)}, opts...)
	fake, err := kfake.NewCluster(opts...)
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	return connect(t, &kafka{cfg: testConfig(fake.ListenAddrs()...), fake: fake})
}

func testConfig(brokers ...string) Config {
	return Config{Brokers: brokers, SessionTimeout: 6 * time.Second, HeartbeatInterval: 100 * time.Millisecond, RebalanceTimeout: 20 * time.Second}
}

func connect(t *testing.T, k *kafka) *kafka {
	t.Helper()
	c, err := NewCluster(t.Context(), k.cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	k.cluster = c
	return k
}

var names atomic.Int64

func unique(what string) string {
	return fmt.Sprintf("%s-%d-%d", what, time.Now().UnixNano(), names.Add(1))
}

// topic makes a topic of its own for the test.
func (k *kafka) topic(t *testing.T, partitions int32) string {
	t.Helper()
	topic, err := k.cluster.EnsureTopic(t.Context(), TopicSpec{Name: unique("t"), Partitions: partitions, Replication: 1})
	require.NoError(t, err)
	return topic.Name
}

// producer is a bare sarama producer with manual partitions.
func (k *kafka) producer(t *testing.T, change func(*sarama.Config)) sarama.SyncProducer {
	t.Helper()
	conf, err := NewConfig(k.cfg)
	require.NoError(t, err)
	conf.Producer.Partitioner = sarama.NewManualPartitioner
	if change != nil {
		change(conf)
	}
	p, err := sarama.NewSyncProducer(k.cfg.Brokers, conf)
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// produce appends values to partition 0, one record batch each call.
func produce(t *testing.T, p sarama.SyncProducer, topic string, values ...string) {
	t.Helper()
	var msgs []*sarama.ProducerMessage
	for _, v := range values {
		msgs = append(msgs, &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder("k-" + v), Value: sarama.StringEncoder(v)})
	}
	require.NoError(t, p.SendMessages(msgs))
}

// numbers is prefix0, prefix1, ...
func numbers(prefix string, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return s
}

// open opens a reader on partition 0.
func (k *kafka) open(t *testing.T, topic string, offset int64, change func(*ReaderConfig)) Reader {
	t.Helper()
	cfg := ReaderConfig{Cluster: k.cluster, Topic: topic, Offset: offset}
	if change != nil {
		change(&cfg)
	}
	r := OpenReader(cfg)
	t.Cleanup(func() { require.NoError(t, r.Close()) })
	return r
}

// readTo reads until the position is at least end and returns the values, each with its offset checked to grow.
func readTo(t *testing.T, r Reader, end int64) (values []string, next int64) {
	t.Helper()
	deadline := time.After(patience)
	last := int64(-1)
	for next < end {
		select {
		case b, ok := <-r.Batches():
			require.True(t, ok, "reader ended: %v", r.Err())
			for _, rec := range b.Records {
				require.Greater(t, rec.Offset, last)
				require.Less(t, rec.Offset, b.Next)
				last = rec.Offset
				values = append(values, string(rec.Value))
			}
			next = b.Next
			b.Release()
		case <-deadline:
			require.FailNowf(t, "position never reached", "%d of %d: %+v", next, end, r.Status())
		}
	}
	return values, next
}

// readError reads until the reader ends and returns why.
func readError(t *testing.T, r Reader) (values []string, err error) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case b, ok := <-r.Batches():
			if !ok {
				return values, r.Err()
			}
			for _, rec := range b.Records {
				values = append(values, string(rec.Value))
			}
		case <-deadline:
			require.FailNowf(t, "reader never ended", "%+v", r.Status())
		}
	}
}

// await receives from ch in time.
func await[T any](t *testing.T, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		require.FailNow(t, "never happened: "+what)
		panic("unreachable")
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}
