package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// transactional opens a producer of a transactional id.
func (k *kafka) transactional(t *testing.T, id string) *TransactionalProducer {
	t.Helper()
	p, err := OpenTransactional(within(t), k.cluster, TransactionConfig{ID: id, Timeout: time.Minute})
	require.NoError(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// smallBatches makes a topic whose batches are full with a few records.
func (k *kafka) smallBatches(t *testing.T, partitions int32) string {
	t.Helper()
	topic, err := k.cluster.EnsureTopic(t.Context(), TopicSpec{
		Name: unique("small"), Partitions: partitions, Replication: 1,
		Config: map[string]string{SettingMaxMessageBytes: "1536"},
	})
	require.NoError(t, err)
	return topic.Name
}

// committed are the values of a partition that readers of committed records see.
func (k *kafka) committed(t *testing.T, topic string, partition int32) (values []string, offsets []int64) {
	t.Helper()
	tp := TopicPartition{Topic: topic, Partition: partition}
	_, err := k.cluster.ReadCommitted(within(t), tp, 0, func(r Record) error {
		values, offsets = append(values, string(r.Value)), append(offsets, r.Offset)
		return nil
	})
	require.NoError(t, err)
	return values, offsets
}

// appendAll appends values to partition 0, each long enough to make a batch of a small topic with
// few others.
func appendAll(t *testing.T, p *TransactionalProducer, topic string, values ...string) {
	t.Helper()
	for _, v := range values {
		_, err := p.Append(within(t), topic, 0, []byte("k"), []byte(v), nil)
		require.NoError(t, err)
	}
}

// long are values of which three fill a batch of a small topic.
func long(prefix string, n int) []string {
	rng := rand.New(rand.NewPCG(uint64(n), 5))
	values := numbers(prefix, n)
	for i := range values {
		noise := make([]byte, 150)
		for j := range noise {
			noise[j] = byte(rng.IntN(256))
		}
		values[i] = fmt.Sprintf("%s-%x", values[i], noise)
	}
	return values
}

// Whatever goes into a transaction stands in order where Flush says, over several transactions of
// one producer.
func TestTransactionsStandWhereFlushSays(t *testing.T) {
	k := anyKafka(t)
	topics := []string{k.smallBatches(t, 3), k.topic(t, 5), k.smallBatches(t, 1)}
	p := k.transactional(t, unique("id"))
	rng := rand.New(rand.NewPCG(3, 4))
	byKey := kgo.StickyKeyPartitioner(nil).ForTopic("any")
	sizes := []int32{3, 5, 1}
	wantValues, wantOffsets := map[TopicPartition][]string{}, map[TopicPartition][]int64{}
	for txn := range 6 {
		require.NoError(t, p.Begin())
		for range rng.IntN(3) {
			for i := range rng.IntN(400) {
				n := rng.IntN(len(topics))
				key, partition := fmt.Appendf(nil, "key-%d", rng.IntN(50)), int32(ByKey)
				tp := TopicPartition{Topic: topics[n], Partition: int32(byKey.Partition(&kgo.Record{Key: key}, int(sizes[n])))}
				if rng.IntN(5) == 0 {
					partition = rng.Int32N(sizes[n])
					tp.Partition = partition
				}
				value := fmt.Sprintf("%d-%d-%s", txn, i, strings.Repeat("x", rng.IntN(300)))
				at, err := p.Append(within(t), tp.Topic, partition, key, []byte(value), nil)
				require.NoError(t, err)
				require.Equal(t, tp.Partition, at)
				wantValues[tp] = append(wantValues[tp], value)
			}
			flushed, err := p.Flush(within(t))
			require.NoError(t, err)
			for _, a := range flushed {
				for i := range a.Records {
					wantOffsets[a.TopicPartition] = append(wantOffsets[a.TopicPartition], a.First+int64(i))
				}
			}
		}
		require.NoError(t, p.Commit())
	}
	require.NoError(t, p.Close())
	for n, topic := range topics {
		for partition := range sizes[n] {
			tp := TopicPartition{Topic: topic, Partition: partition}
			values, offsets := k.committed(t, topic, partition)
			require.Equal(t, wantValues[tp], values)
			require.Equal(t, wantOffsets[tp], offsets)
		}
	}
}

func TestTransactionKeepsNullAndHeaders(t *testing.T) {
	k := anyKafka(t)
	topic := k.topic(t, 1)
	p := k.transactional(t, unique("id"))
	require.NoError(t, p.Begin())
	for _, r := range []struct{ key, value []byte }{{nil, []byte("v")}, {[]byte("k"), nil}, {[]byte{}, []byte{}}} {
		_, err := p.Append(within(t), topic, ByKey, r.key, r.value, []Header{{"a", []byte("b")}, {"null", nil}})
		require.NoError(t, err)
	}
	_, err := p.Flush(within(t))
	require.NoError(t, err)
	require.NoError(t, p.Commit())
	b := await(t, "batch", k.open(t, topic, 0, func(c *ReaderConfig) { c.Headers = true }).Batches())
	require.Len(t, b.Records, 3)
	require.Nil(t, b.Records[0].Key)
	require.Nil(t, b.Records[1].Value)
	require.NotNil(t, b.Records[2].Key)
	require.NotNil(t, b.Records[2].Value)
	for _, headers := range b.Headers {
		require.Equal(t, []Header{{"a", []byte("b")}, {"null", nil}}, headers)
	}
}

// While the broker answers nothing, five requests are in flight and no more, and the bytes that
// wait are bounded.
func TestRequestsInFlight(t *testing.T) {
	k := fakeKafka(t)
	topic := k.smallBatches(t, 1)
	p := k.transactional(t, "id")
	require.NoError(t, p.Begin())
	wake := make(chan struct{})
	k.fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.fake.SleepControl(func() { <-wake })
		return nil, nil, false
	})
	values := long("v", 100)
	appendAll(t, p, topic, values...)
	require.Equal(t, requestsInFlight, p.inFlight)
	close(wake)
	flushed, err := p.Flush(within(t))
	require.NoError(t, err)
	require.Greater(t, len(flushed), 2*requestsInFlight)
	require.NoError(t, p.Commit())
	got, _ := k.committed(t, topic, 0)
	require.Equal(t, values, got)
}

func TestAppendWaitsForBytesThatAreNotAcknowledged(t *testing.T) {
	k := fakeKafka(t)
	topic := k.topic(t, 1)
	p := k.transactional(t, "id")
	require.NoError(t, p.Begin())
	wake := make(chan struct{})
	k.fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.fake.SleepControl(func() { <-wake })
		return nil, nil, false
	})
	noise := make([]byte, 100<<10)
	for i := range noise {
		noise[i] = byte(rand.IntN(256))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var err error
	appended := 0
	for err == nil {
		_, err = p.Append(ctx, topic, 0, nil, noise, nil)
		appended += len(noise)
	}
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, appended, sealedBytesMost+3*batchBytes)
	close(wake)
	require.NoError(t, p.Close())
	got, _ := k.committed(t, topic, 0)
	require.Empty(t, got)
	e := k.ends(t, topic)
	require.Equal(t, e.HighWatermark, e.End, "the transaction was aborted after the answers")
}

// Another producer of the transactional id ends this one at every step, and what this one had
// appended is not published.
func TestAnotherProducerFences(t *testing.T) {
	for _, c := range []struct {
		name  string
		steps int // before the other one
	}{
		{"before the transaction", 0}, {"begun", 1}, {"appended", 2},
		{"flushed", 3}, {"appended behind", 4}, {"flushed behind", 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := anyKafka(t)
			topic, id := k.topic(t, 2), unique("id")
			p := k.transactional(t, id)
			to := func(partition int32) func() error {
				return func() error {
					_, err := p.Append(within(t), topic, partition, nil, []byte("never"), nil)
					return err
				}
			}
			flush := func() error { _, err := p.Flush(within(t)); return err }
			steps := []func() error{p.Begin, to(0), flush, to(1), flush, p.Commit}
			var err error
			for i, step := range steps {
				if i == c.steps {
					other := k.transactional(t, id)
					require.NoError(t, other.Begin())
					appendAll(t, other, topic, "other")
					_, err := other.Flush(within(t))
					require.NoError(t, err)
					require.NoError(t, other.Commit())
				}
				if err = step(); err != nil {
					break
				}
			}
			require.True(t, fenced(err), "%v", err)
			require.True(t, fenced(p.Begin()), "of no use any more")
			require.NoError(t, p.Close())
			got, _ := k.committed(t, topic, 0)
			require.Equal(t, []string{"other"}, got)
			got, _ = k.committed(t, topic, 1)
			require.Empty(t, got)
		})
	}
}

func TestARecordThatIsTooLargeIsNotSent(t *testing.T) {
	k := fakeKafka(t)
	topic := k.smallBatches(t, 1)
	p := k.transactional(t, "id")
	require.NoError(t, p.Begin())
	fits := bytes.Repeat([]byte("x"), RecordLimit(1536)-RecordSize(nil, nil, nil))
	_, err := p.Append(within(t), topic, 0, nil, fits, nil)
	require.NoError(t, err)
	_, err = p.Flush(within(t))
	require.NoError(t, err)
	end := k.ends(t, topic).HighWatermark
	_, err = p.Append(within(t), topic, 0, []byte("key"), append(fits, 'x'), nil)
	var large *TooLargeError
	require.ErrorAs(t, err, &large)
	require.Equal(t, topic, large.Topic)
	require.Equal(t, "key", string(large.Key))
	require.Equal(t, end, k.ends(t, topic).HighWatermark)
	require.NoError(t, p.Close())
	got, _ := k.committed(t, topic, 0)
	require.Empty(t, got)
}

// A transaction that nothing was appended to costs no request, and the steps have an order.
func TestStepsOfATransaction(t *testing.T) {
	k := anyKafka(t)
	topic := k.topic(t, 1)
	p := k.transactional(t, unique("id"))
	require.NoError(t, p.Begin())
	flushed, err := p.Flush(within(t))
	require.NoError(t, err)
	require.Empty(t, flushed)
	require.NoError(t, p.Commit())
	require.NoError(t, p.Begin())
	appendAll(t, p, topic, "never")
	require.ErrorContains(t, p.Commit(), "records were not flushed")
	require.NoError(t, p.Close())
	require.ErrorContains(t, p.Begin(), "records were not flushed", "the first error stays")

	p = k.transactional(t, unique("id"))
	_, err = p.Append(within(t), topic, 0, nil, nil, nil)
	require.ErrorContains(t, err, "no transaction is open")
	p = k.transactional(t, unique("id"))
	require.ErrorContains(t, p.Commit(), "none is open")
	p = k.transactional(t, unique("id"))
	require.NoError(t, p.Begin())
	_, err = p.Append(within(t), topic, 1, nil, nil, nil)
	require.ErrorIs(t, err, ErrUnknownPartition)
	p = k.transactional(t, unique("id"))
	require.NoError(t, p.Begin())
	_, err = p.Append(within(t), unique("none"), 0, nil, nil, nil)
	require.ErrorIs(t, err, ErrUnknownTopic)
	require.NoError(t, p.Close())
	require.ErrorIs(t, k.transactional(t, unique("id")).closeTwice(), ErrClosed)
}

func (p *TransactionalProducer) closeTwice() error {
	return errors.Join(p.Close(), p.Close(), p.Begin())
}

func TestTransactionsWithoutABroker(t *testing.T) {
	k := fakeKafka(t)
	k.cfg.RequestTimeout = time.Second
	k = connect(t, k)
	topic := k.topic(t, 1)
	p := k.transactional(t, "id")
	require.NoError(t, p.Begin())
	appendAll(t, p, topic, "v")
	_, err := p.Flush(within(t))
	require.NoError(t, err)
	k.fake.Close()
	appendAll(t, p, topic, "w")
	began := time.Now()
	_, err = p.Flush(within(t))
	require.Error(t, err)
	require.Less(t, time.Since(began), 10*time.Second)
	require.Error(t, p.Close())
	_, err = OpenTransactional(within(t), k.cluster, TransactionConfig{ID: "id", Timeout: time.Minute})
	require.ErrorIs(t, err, ErrUnreachable)
}

func TestATransactionIsGivenUpWithItsContext(t *testing.T) {
	k := fakeKafka(t)
	topic := k.topic(t, 1)
	p := k.transactional(t, "id")
	require.NoError(t, p.Begin())
	wake := make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("stopped")
	k.fake.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cancel(why)
		k.fake.SleepControl(func() { <-wake })
		return nil, nil, false
	})
	appendAll(t, p, topic, "never")
	_, err := p.Flush(ctx)
	require.ErrorIs(t, err, why)
	close(wake)
	require.NoError(t, p.Close())
	got, _ := k.committed(t, topic, 0)
	require.Empty(t, got)
}
