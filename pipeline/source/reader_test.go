package source

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestReaderReadsEveryCodecInOrder(t *testing.T) {
	k := anyKafka(t)
	for _, codec := range []sarama.CompressionCodec{
		sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD,
	} {
		t.Run(codec.String(), func(t *testing.T) {
			topic := k.topic(t, 1)
			p := k.producer(t, func(c *sarama.Config) { c.Producer.Compression = codec })
			want := numbers("v", 1000)
			produce(t, p, topic, want...)
			r := k.open(t, topic, 0, nil)
			got, next := readTo(t, r, 1000)
			require.Equal(t, want, got)
			require.EqualValues(t, 1000, next)

			got, _ = readTo(t, k.open(t, topic, 700, nil), 1000) // in the middle of a batch
			require.Equal(t, want[700:], got)
		})
	}
}

func TestReaderKeepsNilApartFromEmptyAndTellsTimestamps(t *testing.T) {
	k := anyKafka(t)
	topic := k.topic(t, 1)
	at := time.UnixMilli(978307200123)
	p := k.producer(t, nil)
	require.NoError(t, p.SendMessages([]*sarama.ProducerMessage{
		{Topic: topic, Key: sarama.StringEncoder("k"), Timestamp: at},
		{Topic: topic, Value: sarama.StringEncoder(""), Timestamp: at.Add(time.Second)},
	}))
	r := k.open(t, topic, 0, nil)
	b := await(t, "a batch", r.Batches())
	require.Len(t, b.Records, 2)
	require.Nil(t, b.Records[0].Value)
	require.Equal(t, at.UnixMilli(), b.Records[0].Timestamp)
	require.Nil(t, b.Records[1].Key)
	require.NotNil(t, b.Records[1].Value)
	require.Equal(t, at.UnixMilli()+1000, b.Records[1].Timestamp)
}

func TestReaderTellsLogAppendTime(t *testing.T) {
	k := anyKafka(t)
	if k.fake != nil {
		t.Skip("the embedded Kafka keeps the producer's timestamps; see TestDecode")
	}
	topic, err := k.cluster.EnsureTopic(t.Context(), TopicSpec{
		Name: unique("t"), Replication: 1, Config: map[string]string{"message.timestamp.type": "LogAppendTime"},
	})
	require.NoError(t, err)
	before := time.Now().Add(-time.Second).UnixMilli()
	require.NoError(t, k.producer(t, nil).SendMessages([]*sarama.ProducerMessage{
		{Topic: topic.Name, Value: sarama.StringEncoder("v"), Timestamp: time.UnixMilli(1000)},
	}))
	b := await(t, "a batch", k.open(t, topic.Name, 0, nil).Batches())
	require.Greater(t, b.Records[0].Timestamp, before)
}

// The end of a log is often a transaction's marker, which is never delivered. The position must pass it all the same.
func TestReaderPassesAbortedTransactionsAndMarkers(t *testing.T) {
	k := anyKafka(t)
	topic := k.topic(t, 1)
	p := k.producer(t, func(c *sarama.Config) { c.Producer.Transaction.ID = unique("tx") })
	plain := k.producer(t, nil)

	var want []string
	for i, commit := range []bool{false, true, false, false, true, false} {
		require.NoError(t, p.BeginTxn())
		values := numbers(strings.Repeat("x", i+1), 10)
		produce(t, p, topic, values[:5]...)
		produce(t, plain, topic, "between")
		produce(t, p, topic, values[5:]...)
		if commit {
			require.NoError(t, p.CommitTxn())
			want = append(append(append(want, values[:5]...), "between"), values[5:]...)
		} else {
			require.NoError(t, p.AbortTxn())
			want = append(want, "between")
		}
	}
	// Kafka answers the end of a transaction before its markers are written.
	require.Eventually(t, func() bool { return k.ends(t, topic).End == 6*12 }, patience, 10*time.Millisecond)
	end := k.ends(t, topic)

	r := k.open(t, topic, 0, nil)
	got, next := readTo(t, r, end.End)
	require.Equal(t, want, got)
	require.Equal(t, end.End, next)

	// An aborted transaction that begins below the place where reading starts.
	got, next = readTo(t, k.open(t, topic, 3, func(c *ReaderConfig) { c.FetchBytes = 200 }), end.End)
	require.Equal(t, want, got)
	require.Equal(t, end.End, next)

	// An open transaction holds the reader at its first record.
	require.NoError(t, p.BeginTxn())
	produce(t, p, topic, "open")
	produce(t, plain, topic, "after")
	ends := k.ends(t, topic)
	require.Equal(t, end.End, ends.End)
	require.Equal(t, end.End+2, ends.HighWatermark)
	require.NoError(t, p.CommitTxn())
	got, _ = readTo(t, r, end.End+3)
	require.Equal(t, []string{"open", "after"}, got)
}

func (k *kafka) ends(t *testing.T, topic string) Ends {
	t.Helper()
	tp := TopicPartition{Topic: topic}
	ends, err := k.cluster.Ends(within(t), tp)
	require.NoError(t, err)
	return ends[tp]
}

func TestReaderReadsRecordsLargerThanAFetch(t *testing.T) {
	k := anyKafka(t)
	topic := k.topic(t, 1)
	p := k.producer(t, func(c *sarama.Config) { c.Producer.Compression = sarama.CompressionNone })
	big := strings.Repeat("b", 500_000)
	produce(t, p, topic, "a")
	produce(t, p, topic, big)
	produce(t, p, topic, "c")
	got, _ := readTo(t, k.open(t, topic, 0, func(c *ReaderConfig) { c.FetchBytes = 100 }), 3)
	require.Equal(t, []string{"a", big, "c"}, got)
}

func TestReaderEndsWhenItsOffsetIsGone(t *testing.T) {
	k := fakeKafka(t)
	topic := k.topic(t, 1)
	produce(t, k.producer(t, nil), topic, numbers("v", 10)...)

	behind := k.open(t, topic, 0, func(c *ReaderConfig) { c.FetchBatches = 1 })
	readTo(t, behind, 10)
	require.NoError(t, k.fake.DeleteRecords(topic, 0, 6))

	t.Run("deleted below the position changes nothing", func(t *testing.T) {
		produce(t, k.producer(t, nil), topic, "more")
		got, _ := readTo(t, behind, 11)
		require.Equal(t, []string{"more"}, got)
	})
	for name, offset := range map[string]int64{"a gap": 5, "truncated": 50} {
		t.Run(name, func(t *testing.T) {
			_, err := readError(t, k.open(t, topic, offset, nil))
			require.ErrorIs(t, err, ErrOffsetOutOfRange)
			var out *OutOfRangeError
			require.ErrorAs(t, err, &out)
			require.Equal(t, offset, out.Offset)
			require.Equal(t, Ends{Start: 6, End: 11, HighWatermark: 11}, out.Ends)
		})
	}
	t.Run("the very start and the very end are fine", func(t *testing.T) {
		got, _ := readTo(t, k.open(t, topic, 6, nil), 11)
		require.Len(t, got, 5)
		r := k.open(t, topic, 11, nil)
		produce(t, k.producer(t, nil), topic, "last")
		got, _ = readTo(t, r, 12)
		require.Equal(t, []string{"last"}, got)
	})
}

func TestReaderNoticesAnotherTopicOfTheSameName(t *testing.T) {
	k := fakeKafka(t)
	topic := k.topic(t, 1)
	id, err := k.cluster.TopicID(t.Context(), topic)
	require.NoError(t, err)
	require.NotEmpty(t, id)
	produce(t, k.producer(t, nil), topic, "a", "b")
	r := k.open(t, topic, 0, func(c *ReaderConfig) { c.TopicID = id })
	readTo(t, r, 2)

	require.NoError(t, k.fake.DeleteTopic(topic))
	require.NoError(t, k.fake.CreateTopic(topic, 1, nil))
	_, err = readError(t, r)
	require.ErrorIs(t, err, ErrOtherTopic)
	var other *OtherTopicError
	require.ErrorAs(t, err, &other)
	require.Equal(t, id, other.Want)
	require.NotEqual(t, id, other.Have)
}

func TestReaderFollowsTheLeader(t *testing.T) {
	k := fakeKafka(t, kfake.NumBrokers(3))
	topic := k.topic(t, 1)
	p := k.producer(t, nil)
	r := k.open(t, topic, 0, nil)
	for i := range 6 {
		produce(t, p, topic, "v")
		got, _ := readTo(t, r, int64(i+1))
		require.Equal(t, []string{"v"}, got)
		require.NoError(t, k.fake.MoveTopicPartition(topic, 0, int32((int(k.fake.LeaderFor(topic, 0))+1)%3)))
	}
}

// persistentKafka starts a broker that finds its topics again on the same port.
func persistentKafka(t *testing.T, dir string, port int) (*kfake.Cluster, int) {
	t.Helper()
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.DataDir(dir), kfake.GroupMinSessionTimeout(time.Second))
	require.NoError(t, err)
	_, text, err := net.SplitHostPort(fake.ListenAddrs()[0])
	require.NoError(t, err)
	port, err = strconv.Atoi(text)
	require.NoError(t, err)
	return fake, port
}

func TestReaderOutlivesBrokerRestarts(t *testing.T) {
	dir := t.TempDir()
	fake, port := persistentKafka(t, dir, 0)
	k := connect(t, &kafka{cfg: testConfig(fake.ListenAddrs()...), fake: fake})
	topic := k.topic(t, 1)
	produce(t, k.producer(t, nil), topic, "before")

	troubles := make(chan error, 1000)
	r := k.open(t, topic, 0, func(c *ReaderConfig) { c.OnTrouble = func(err error) { troubles <- err } })
	readTo(t, r, 1)

	fake.Close()
	require.Error(t, await(t, "trouble", troubles))
	require.Positive(t, r.Status().Retries)
	fake, _ = persistentKafka(t, dir, port)
	defer fake.Close()
	produce(t, k.producer(t, nil), topic, "after")
	got, _ := readTo(t, r, 2)
	require.Equal(t, []string{"after"}, got)
	for await(t, "the end of the trouble", troubles) != nil {
	}
	require.NoError(t, r.Status().Trouble)
	require.Zero(t, r.Status().Retries)
}

// A neighbour that does not take its batches stalls nobody.
func TestReaderIsIndependentOfItsNeighbours(t *testing.T) {
	k := anyKafka(t)
	topic := k.topic(t, 2)
	p := k.producer(t, nil)
	for i := range 2000 {
		require.NoError(t, p.SendMessages([]*sarama.ProducerMessage{
			{Topic: topic, Partition: 0, Value: sarama.StringEncoder(strings.Repeat("x", 1000))},
			{Topic: topic, Partition: 1, Value: sarama.StringEncoder("y")},
		}))
		if i == 200 {
			break
		}
	}
	blocked := k.open(t, topic, 0, func(c *ReaderConfig) { c.FetchBytes, c.FetchBatches = 1000, 1 })
	await(t, "the first batch", blocked.Batches())
	got, _ := readTo(t, k.open(t, topic, 0, func(c *ReaderConfig) { c.Partition = 1 }), 201)
	require.Len(t, got, 201)
	got, _ = readTo(t, blocked, 201)
	require.NotEmpty(t, got)
}

func TestReaderPauses(t *testing.T) {
	k := anyKafka(t)
	topic := k.topic(t, 1)
	p := k.producer(t, nil)
	r := k.open(t, topic, 0, nil)
	produce(t, p, topic, "a")
	readTo(t, r, 1)

	r.Pause()
	r.Pause()
	require.True(t, r.Status().Paused)
	produce(t, p, topic, "b") // the fetch under way may still bring it
	_, _ = readToOrQuiet(r, 2, 3*fetchWait)
	produce(t, p, topic, "c")
	_, next := readToOrQuiet(r, 3, 2*fetchWait)
	require.Less(t, next, int64(3))
	r.Resume()
	r.Resume()
	require.False(t, r.Status().Paused)
	readTo(t, r, 3)
}

// readToOrQuiet reads until end or until nothing came for a while.
func readToOrQuiet(r Reader, end int64, quiet time.Duration) (n int, next int64) {
	for next < end {
		select {
		case b := <-r.Batches():
			n, next = n+len(b.Records), b.Next
		case <-time.After(quiet):
			return n, next
		}
	}
	return n, next
}

// What a hung broker must not do is hold up a lane that has to go.
func TestReaderClosesAtOnceWhenBrokersHang(t *testing.T) {
	closed := make(chan struct{})
	t.Cleanup(func() { close(closed) }) // when the fake is closed: one that is woken meanwhile can wait for itself, too
	k := fakeKafka(t)
	topic := k.topic(t, 1)
	asked := make(chan struct{}, 10)
	k.fake.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.fake.KeepControl()
		asked <- struct{}{}
		k.fake.SleepControl(func() { <-closed })
		return nil, nil, false
	})
	r := k.open(t, topic, 0, nil)
	await(t, "a fetch", asked)
	_, err := k.cluster.Ends(t.Context(), TopicPartition{Topic: topic})
	require.NoError(t, err, "an answer of the fake says that the fetch sleeps: closed before, it can wait for itself")
	begun := time.Now()
	require.NoError(t, r.Close())
	require.Less(t, time.Since(begun), 2*time.Second)
	_, open := <-r.Batches()
	require.False(t, open)
	require.NoError(t, r.Err())
	require.NoError(t, r.Close())
}

func TestReaderClosesWhileNobodyIsThere(t *testing.T) {
	k := fakeKafka(t)
	topic := k.topic(t, 1)
	k.fake.Close()
	troubles := make(chan error, 1000)
	r := k.open(t, topic, 0, func(c *ReaderConfig) { c.OnTrouble = func(err error) { troubles <- err } })
	err := await(t, "trouble", troubles)
	require.ErrorContains(t, err, "refused")
	require.NotContains(t, err.Error(), "\n")
	begun := time.Now()
	require.NoError(t, r.Close())
	require.Less(t, time.Since(begun), 2*time.Second)
}

// rewriteFetch lets change alter every answer of the broker to a fetch that begins at or after offset 0.
func rewriteFetch(k *kafka, change func(req *kmsg.FetchRequest) *kmsg.FetchResponseTopicPartition) {
	k.fake.ControlKey(int16(kmsg.Fetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		k.fake.KeepControl()
		req := kreq.(*kmsg.FetchRequest)
		p := change(req)
		if p == nil {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.FetchResponse)
		resp.Topics = []kmsg.FetchResponseTopic{{Topic: req.Topics[0].Topic, Partitions: []kmsg.FetchResponseTopicPartition{*p}}}
		return resp, nil, true
	})
}

func TestReaderNamesTheBatchThatCannotBeDecoded(t *testing.T) {
	k := fakeKafka(t)
	topic := k.topic(t, 1)
	p := k.producer(t, nil)
	for _, v := range numbers("v", 5) {
		produce(t, p, topic, v)
	}
	rewriteFetch(k, func(req *kmsg.FetchRequest) *kmsg.FetchResponseTopicPartition {
		rp := req.Topics[0].Partitions[0]
		if rp.PartitionMaxBytes < 400 && rp.FetchOffset != 3 {
			return nil // small fetches below the bad batch are fine
		}
		sp := kmsg.NewFetchResponseTopicPartition()
		sp.HighWatermark, sp.LastStableOffset = 5, 5
		sp.RecordBatches = recordBatch(3, 1, func(raw []byte) { raw[len(raw)-1] ^= 1 })
		return &sp
	})
	values, err := readError(t, k.open(t, topic, 0, nil))
	require.Equal(t, []string{"v0", "v1", "v2"}, values)
	var bad *DecodeError
	require.ErrorAs(t, err, &bad)
	require.EqualValues(t, 3, bad.Offset)
	require.Contains(t, err.Error(), topic+"/0: the record batch at offset 3 cannot be decoded")
}

// Whoever gives a batch up has to know where the next one begins, though nothing of the batch can be read.
func TestReaderNamesTheEndOfABadBatch(t *testing.T) {
	for _, c := range []struct {
		name       string
		from, size int64
		more       int64 // records behind the batch
	}{{"one record", 3, 1, 2}, {"many records", 3, 100, 50}, {"at the log's end", 3, 7, 0}, {"a pair", 0, 2, 1}} {
		t.Run(c.name, func(t *testing.T) {
			k := fakeKafka(t)
			topic := k.topic(t, 1)
			p := k.producer(t, nil)
			for _, v := range numbers("v", int(c.from+c.size+c.more)) {
				produce(t, p, topic, v)
			}
			rewriteFetch(k, func(req *kmsg.FetchRequest) *kmsg.FetchResponseTopicPartition {
				rp := req.Topics[0].Partitions[0]
				if at := rp.FetchOffset; at < c.from && rp.PartitionMaxBytes < 400 || at >= c.from+c.size {
					return nil
				}
				sp := kmsg.NewFetchResponseTopicPartition()
				sp.HighWatermark, sp.LastStableOffset = c.from+c.size+c.more, c.from+c.size+c.more
				sp.RecordBatches = recordBatch(c.from, int32(c.size), func(raw []byte) { raw[len(raw)-1] ^= 1 })
				return &sp
			})
			_, err := readError(t, k.open(t, topic, 0, nil))
			var bad *DecodeError
			require.ErrorAs(t, err, &bad)
			require.Equal(t, []int64{c.from, c.from + c.size}, []int64{bad.Offset, bad.Next})
			if c.more > 0 {
				got, _ := readTo(t, k.open(t, topic, bad.Next, nil), c.from+c.size+c.more)
				require.Len(t, got, int(c.more))
			}
		})
	}
}

func TestReaderGoesOnAfterADecodeErrorThatPasses(t *testing.T) {
	k := fakeKafka(t)
	topic := k.topic(t, 1)
	produce(t, k.producer(t, nil), topic, "a", "b")
	left := decodeTries
	rewriteFetch(k, func(*kmsg.FetchRequest) *kmsg.FetchResponseTopicPartition {
		if left == 0 {
			return nil
		}
		left--
		sp := kmsg.NewFetchResponseTopicPartition()
		sp.RecordBatches = recordBatch(0, 1, func(raw []byte) { raw[len(raw)-1] ^= 1 })
		return &sp
	})
	got, _ := readTo(t, k.open(t, topic, 0, nil), 2)
	require.Equal(t, []string{"a", "b"}, got)
}

// Compaction leaves batches without records behind; a whole answer may consist of them.
func TestReaderPassesBatchesEmptiedByCompaction(t *testing.T) {
	k := fakeKafka(t)
	topic := k.topic(t, 1)
	produce(t, k.producer(t, nil), topic, numbers("v", 10)...)
	rewriteFetch(k, func(req *kmsg.FetchRequest) *kmsg.FetchResponseTopicPartition {
		if req.Topics[0].Partitions[0].FetchOffset >= 7 {
			return nil
		}
		sp := kmsg.NewFetchResponseTopicPartition()
		sp.HighWatermark, sp.LastStableOffset = 10, 10
		sp.RecordBatches = append(emptyBatch(0, 3), emptyBatch(4, 2)...)
		return &sp
	})
	r := k.open(t, topic, 0, nil)
	b := await(t, "a batch", r.Batches())
	require.Empty(t, b.Records)
	require.EqualValues(t, 7, b.Next)
	got, _ := readTo(t, r, 10)
	require.Equal(t, []string{"v7", "v8", "v9"}, got)
}

func TestReaderReadsCompactedTopics(t *testing.T) {
	k := fakeKafka(t)
	topic, err := k.cluster.EnsureTopic(t.Context(), TopicSpec{Name: unique("t"), Replication: 1, Compacted: true})
	require.NoError(t, err)
	p := k.producer(t, nil)
	for range 5 {
		produce(t, p, topic.Name, "a", "b", "c", "b", "a")
	}
	k.fake.Compact()
	ends := k.ends(t, topic.Name) // kfake moves the start to the first record left; Kafka does not
	require.EqualValues(t, 25, ends.End)
	got, next := readTo(t, k.open(t, topic.Name, ends.Start, nil), ends.End)
	require.EqualValues(t, 25, next)
	require.Less(t, len(got), 25)
}

func TestReaderRefusesLegacyRecords(t *testing.T) {
	k := fakeKafka(t)
	topic := k.topic(t, 1)
	rewriteFetch(k, func(*kmsg.FetchRequest) *kmsg.FetchResponseTopicPartition {
		sp := kmsg.NewFetchResponseTopicPartition()
		sp.HighWatermark, sp.LastStableOffset = 1, 1
		sp.RecordBatches = legacyMessage()
		return &sp
	})
	_, err := readError(t, k.open(t, topic, 0, nil))
	require.ErrorIs(t, err, ErrLegacyFormat)
	var bad *DecodeError
	require.ErrorAs(t, err, &bad, "so that it can be given up")
}

func TestReaderWaitsWhileTheTopicIsAway(t *testing.T) {
	k := fakeKafka(t)
	topic := unique("t")
	troubles := make(chan error, 1000)
	r := k.open(t, topic, 0, func(c *ReaderConfig) { c.OnTrouble = func(err error) { troubles <- err } })
	require.ErrorIs(t, await(t, "trouble", troubles), ErrUnknownTopic)
	require.NoError(t, k.fake.CreateTopic(topic, 1, nil))
	produce(t, k.producer(t, nil), topic, "v")
	readTo(t, r, 1)
}

func TestReaderCloseCancelsNothingElse(t *testing.T) {
	k := anyKafka(t)
	topic := k.topic(t, 1)
	for range 20 {
		r := k.open(t, topic, 0, nil)
		require.NoError(t, r.Close())
	}
	_, err := k.cluster.Topic(t.Context(), topic)
	require.NoError(t, err)
	require.False(t, errors.Is(err, context.Canceled))
}
