package source

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/pipeline/credential"
)

func TestEnsureTopicIsIdempotent(t *testing.T) {
	k := anyKafka(t)
	name := unique("t")
	_, err := k.cluster.Topic(t.Context(), name)
	require.ErrorIs(t, err, ErrUnknownTopic)

	made, err := k.cluster.EnsureTopic(t.Context(), TopicSpec{Name: name, Partitions: 3, Replication: 1, Compacted: true})
	require.NoError(t, err)
	require.Equal(t, []int32{0, 1, 2}, made.Partitions)
	require.NotEmpty(t, made.ID)
	again, err := k.cluster.EnsureTopic(t.Context(), TopicSpec{Name: name, Partitions: 7, Replication: 1})
	require.NoError(t, err)
	require.Equal(t, made, again)

	if k.fake == nil { // the embedded one takes any name
		_, err = k.cluster.EnsureTopic(t.Context(), TopicSpec{Name: "no/such name", Replication: 1})
		require.Error(t, err)
		require.NotContains(t, err.Error(), "\n")
	}
}

func TestDeleteTopic(t *testing.T) {
	k := anyKafka(t)
	name, other := k.topic(t, 3), k.topic(t, 1)
	all, err := k.cluster.Topics(t.Context())
	require.NoError(t, err)
	require.Subset(t, all, []string{name, other})
	require.NoError(t, k.cluster.DeleteTopic(t.Context(), name))
	_, err = k.cluster.Topic(t.Context(), name)
	require.ErrorIs(t, err, ErrUnknownTopic)
	require.NoError(t, k.cluster.DeleteTopic(t.Context(), name), "repeating it is fine")
	all, err = k.cluster.Topics(t.Context())
	require.NoError(t, err)
	require.Contains(t, all, other)
	require.NotContains(t, all, name)
}

func TestTopicIDTellsIncarnationsApart(t *testing.T) {
	k := fakeKafka(t)
	name := k.topic(t, 1)
	first, err := k.cluster.TopicID(t.Context(), name)
	require.NoError(t, err)
	require.NoError(t, k.fake.DeleteTopic(name))
	require.NoError(t, k.fake.CreateTopic(name, 2, nil))
	second, err := k.cluster.TopicID(t.Context(), name)
	require.NoError(t, err)
	require.NotEqual(t, first, second)
	partitions, err := k.cluster.Partitions(t.Context(), name)
	require.NoError(t, err)
	require.Equal(t, []int32{0, 1}, partitions)
}

func TestEndsOverBrokers(t *testing.T) {
	k := fakeKafka(t, kfake.NumBrokers(3))
	topic := k.topic(t, 6)
	p := k.producer(t, nil)
	var tps []TopicPartition
	for i := range int32(6) {
		tps = append(tps, TopicPartition{topic, i})
		for range i {
			require.NoError(t, p.SendMessages([]*sarama.ProducerMessage{{Topic: topic, Partition: i, Value: sarama.StringEncoder("v")}}))
		}
	}
	require.NoError(t, k.fake.DeleteRecords(topic, 5, 2))
	requests := 0
	k.fake.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		k.fake.KeepControl()
		requests++
		return nil, nil, false
	})
	ends, err := k.cluster.Ends(within(t), tps...)
	require.NoError(t, err)
	require.Len(t, ends, 6)
	require.LessOrEqual(t, requests, 3*3)
	for i, tp := range tps {
		require.EqualValues(t, i, ends[tp].End)
		require.EqualValues(t, i, ends[tp].HighWatermark)
	}
	require.EqualValues(t, 2, ends[tps[5]].Start)

	for i := range int32(6) { // what is known of leaders is wrong now
		require.NoError(t, k.fake.MoveTopicPartition(topic, i, (k.fake.LeaderFor(topic, i)+1)%3))
	}
	stable, err := k.cluster.StableEnds(within(t), tps...)
	require.NoError(t, err)
	require.EqualValues(t, 4, stable[tps[4]])

	_, err = k.cluster.Ends(t.Context(), TopicPartition{topic, 99})
	require.ErrorIs(t, err, ErrUnknownPartition)
	_, err = k.cluster.Ends(t.Context(), TopicPartition{unique("none"), 0})
	require.ErrorIs(t, err, ErrUnknownTopic)
}

func TestGroupsThatAreNotThere(t *testing.T) {
	k := anyKafka(t)
	topic := k.topic(t, 2)
	group := unique("g")
	exists, err := k.cluster.GroupExists(t.Context(), group)
	require.NoError(t, err)
	require.False(t, exists)
	require.NoError(t, k.cluster.RemoveMember(t.Context(), group, "nobody"))
	committed, err := k.cluster.Committed(t.Context(), group, TopicPartition{topic, 0}, TopicPartition{topic, 1})
	require.NoError(t, err)
	require.Equal(t, map[TopicPartition]Committed{{topic, 0}: {Offset: -1}, {topic, 1}: {Offset: -1}}, committed)
}

func TestUnreachableBrokersAreSaidInOneLine(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := listener.Addr().String()
	require.NoError(t, listener.Close())
	cfg := testConfig(closed, "no-such-host.invalid:9092")
	for name, connect := range map[string]func() error{
		"cluster":  func() error { _, err := NewCluster(t.Context(), cfg); return err },
		"client":   func() error { _, err := NewClient(t.Context(), cfg); return err },
		"producer": func() error { _, err := NewProducer(t.Context(), cfg); return err },
	} {
		t.Run(name, func(t *testing.T) {
			err := connect()
			require.ErrorIs(t, err, ErrUnreachable)
			require.ErrorContains(t, err, closed)
			require.ErrorContains(t, err, "no-such-host.invalid:9092")
			require.NotContains(t, err.Error(), "\n")
		})
	}
}

// A server that takes connections and says nothing.
func TestQueriesEndWithTheirContext(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err = NewCluster(ctx, testConfig(listener.Addr().String()))
	require.Error(t, err)
	require.Less(t, time.Since(begun), 2*time.Second)
}

func TestQueriesGoOnAfterARestart(t *testing.T) {
	k := fakeKafka(t, kfake.NumBrokers(2))
	topic := k.topic(t, 1)
	require.NoError(t, k.fake.RemoveNode(1-k.fake.LeaderFor(topic, 0)))
	_, err := k.cluster.Topic(within(t), topic)
	require.NoError(t, err)
	_, err = k.cluster.Ends(within(t), TopicPartition{topic, 0})
	require.NoError(t, err)

	require.NoError(t, k.cluster.Close())
	_, err = k.cluster.Topic(within(t), topic)
	require.ErrorIs(t, err, ErrClosed)
}

func TestSASL(t *testing.T) {
	for _, mechanism := range []string{mechanismPlain, mechanismSCRAM256, mechanismSCRAM512} {
		t.Run(mechanism, func(t *testing.T) {
			fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(mechanism, "ann", "secret"))
			require.NoError(t, err)
			defer fake.Close()
			cfg := testConfig(fake.ListenAddrs()...)
			cfg.SASL = SASL{Mechanism: mechanism, User: "ann", Password: credential.Text("secret")}
			k := connect(t, &kafka{cfg: cfg, fake: fake})
			topic := k.topic(t, 1)
			produce(t, k.producer(t, nil), topic, "v")
			readTo(t, k.open(t, topic, 0, nil), 1)

			cfg.SASL.Password = credential.Text("wrong")
			_, err = NewCluster(t.Context(), cfg)
			require.Error(t, err)
			require.NotContains(t, err.Error(), "wrong")
		})
	}
}

func TestConfigValidate(t *testing.T) {
	good := Config{Brokers: []string{"localhost:9092"}}
	require.NoError(t, good.Validate())
	for _, test := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"no brokers", func(c *Config) { c.Brokers = nil }, "none given"},
		{"no port", func(c *Config) { c.Brokers = []string{"localhost"} }, `address 1: "localhost" has no port; want host:port`},
		{"heartbeat", func(c *Config) { c.HeartbeatInterval = time.Minute }, "heartbeat interval: 1m0s"},
		{"request timeout", func(c *Config) { c.RequestTimeout = time.Millisecond }, "request timeout: 1ms"},
		{"mechanism", func(c *Config) { c.SASL.Mechanism = "GUESS" }, `mechanism "GUESS" is unknown`},
		{"no password", func(c *Config) { c.SASL.Mechanism, c.SASL.User = "PLAIN", "u" }, "needs user and password"},
		{"password alone", func(c *Config) { c.SASL.Password = credential.Text("p") }, "without a mechanism"},
		{"half a certificate", func(c *Config) { c.TLS.CertFile = "x" }, "go together"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := good
			test.change(&c)
			require.ErrorContains(t, c.Validate(), test.want)
			_, err := NewConfig(c)
			require.Error(t, err)
		})
	}
	c := good
	c.TLS = credential.TLS{Enable: true, CAFile: "/nowhere"}
	_, err := NewConfig(c)
	require.ErrorContains(t, err, "CA file")
}

func TestNewConfigSharesNothing(t *testing.T) {
	cfg := Config{Brokers: []string{"localhost:9092"}}
	one, err := NewConfig(cfg)
	require.NoError(t, err)
	two, err := NewConfig(cfg)
	require.NoError(t, err)
	require.NotSame(t, one.Consumer.Group.Rebalance.GroupStrategies[0], two.Consumer.Group.Rebalance.GroupStrategies[0])
	require.Equal(t, sarama.CooperativeStickyBalanceStrategyName, one.Consumer.Group.Rebalance.GroupStrategies[0].Name())
	require.Equal(t, sarama.ReadCommitted, one.Consumer.IsolationLevel)
	require.Equal(t, sarama.OffsetOldest, one.Consumer.Offsets.Initial)
	require.True(t, one.Consumer.Group.ResetInvalidOffsets)
	require.False(t, one.Consumer.Offsets.AutoCommit.Enable)
	require.Zero(t, one.Consumer.Fetch.Max)
}

func TestProducerSends(t *testing.T) {
	k := anyKafka(t)
	topic := k.topic(t, 1)
	p, err := NewProducer(t.Context(), k.cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	var records []SideRecord
	for _, v := range numbers("v", 500) {
		records = append(records, SideRecord{Topic: topic, Value: []byte(v), Headers: []Header{{"mr-reason", []byte("late")}}})
	}
	records[7].Value = nil // a tombstone stays one
	require.NoError(t, p.Send(within(t), nil))
	require.NoError(t, p.Send(within(t), records))
	require.EqualValues(t, 500, k.ends(t, topic).End)
	got, _ := readTo(t, k.open(t, topic, 0, nil), 500)
	for i, v := range numbers("v", 500) {
		if i != 7 {
			require.Equal(t, v, got[i])
		}
	}

	err = p.Send(within(t), []SideRecord{{Topic: topic, Value: []byte(strings.Repeat("x", 2<<20))}})
	require.ErrorIs(t, err, ErrRecordTooLarge)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Send(ctx, records), context.Canceled)
	require.Error(t, p.Send(within(t), []SideRecord{{Topic: unique("none"), Value: []byte("v")}}))
	require.NoError(t, p.Send(within(t), records[:1]))
}

func TestFeedGoesRoundAllPartitions(t *testing.T) {
	k := anyKafka(t)
	topic := k.topic(t, 3)
	p, err := NewProducer(t.Context(), k.cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	values := numbers("v", 5000)
	i := 0
	progressed := 0
	done, err := p.Feed(within(t), topic, func() ([]byte, []byte, error) {
		if i == len(values) {
			return nil, nil, io.EOF
		}
		i++
		return nil, []byte(values[i-1]), nil
	}, func(FeedProgress) { progressed++ })
	require.NoError(t, err)
	require.EqualValues(t, 5000, done.Records)
	require.Positive(t, done.Bytes)
	require.GreaterOrEqual(t, progressed, 2)
	for partition := range int32(3) {
		r := k.open(t, topic, 0, func(c *ReaderConfig) { c.Partition = partition })
		var want []string
		for i := int(partition); i < len(values); i += 3 {
			want = append(want, values[i])
		}
		got, _ := readTo(t, r, int64(len(want)))
		require.Equal(t, want, got)
	}
}

// An outage makes Send fail, not the producer.
func TestProducerComesBackAfterABrokerRestart(t *testing.T) {
	dir := t.TempDir()
	fake, port := persistentKafka(t, dir, 0)
	k := connect(t, &kafka{cfg: testConfig(fake.ListenAddrs()...), fake: fake})
	topic := k.topic(t, 2)
	p, err := NewProducer(t.Context(), k.cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	record := func(v string) []SideRecord { return []SideRecord{{Topic: topic, Key: []byte("k"), Value: []byte(v)}} }
	require.NoError(t, p.Send(within(t), record("before")))
	fake.Close()
	require.Error(t, p.Send(within(t), record("during")))
	fake, _ = persistentKafka(t, dir, port)
	defer fake.Close()
	require.Eventually(t, func() bool { return p.Send(within(t), record("after")) == nil }, patience, time.Millisecond)
	require.NoError(t, p.Send(within(t), record("last")))
}

// Nothing that asks about a topic, reads it or writes to it makes it, also where the brokers would: a mistyped name is an error.
func TestNobodyMakesATopicByAskingForIt(t *testing.T) {
	k := fakeKafka(t, kfake.AllowAutoTopicCreation())
	ctx := t.Context()
	_, err := k.cluster.Topic(ctx, "typo")
	require.ErrorIs(t, err, ErrUnknownTopic)
	_, err = k.cluster.TopicSettings(ctx, "typo", "retention.ms")
	require.ErrorIs(t, err, ErrUnknownTopic)
	client, err := NewClient(ctx, k.cfg)
	require.NoError(t, err)
	_, err = client.Partitions("typo")
	require.ErrorIs(t, err, sarama.ErrUnknownTopicOrPartition)
	require.NoError(t, client.Close())
	producer, err := NewProducer(ctx, k.cfg)
	require.NoError(t, err)
	require.Error(t, producer.Send(ctx, []SideRecord{{Topic: "typo", Value: []byte("x")}}))
	require.NoError(t, producer.Close())
	require.Nil(t, k.fake.TopicInfo("typo"), "asking makes no topic")
	topics, err := k.cluster.Topics(ctx)
	require.NoError(t, err)
	require.NotContains(t, topics, "typo")
}

func TestOffsetsAtATime(t *testing.T) {
	k := anyKafka(t)
	ctx := t.Context()
	topic := unique("times")
	_, err := k.cluster.EnsureTopic(ctx, TopicSpec{Name: topic, Partitions: 2, Replication: 1})
	require.NoError(t, err)
	conf, err := NewConfig(k.cfg)
	require.NoError(t, err)
	conf.Producer.Partitioner = sarama.NewManualPartitioner
	p, err := sarama.NewSyncProducer(k.cfg.Brokers, conf)
	require.NoError(t, err)
	defer p.Close()
	for i := range int64(5) {
		_, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: topic, Timestamp: time.UnixMilli(1000 * i), Value: sarama.StringEncoder("x")})
		require.NoError(t, err)
	}
	first, second := TopicPartition{Topic: topic}, TopicPartition{Topic: topic, Partition: 1}
	for at, want := range map[int64]int64{0: 0, 1: 1, 3000: 3, 3001: 4, 4001: 5} {
		got, err := k.cluster.OffsetsAt(ctx, at, first, second)
		require.NoError(t, err)
		require.Equal(t, map[TopicPartition]int64{first: want, second: 0}, got, at)
	}
}

func TestCommitForAGroupWithoutMembers(t *testing.T) {
	k := anyKafka(t)
	ctx := t.Context()
	topic, group := unique("commits"), unique("group")
	_, err := k.cluster.EnsureTopic(ctx, TopicSpec{Name: topic, Partitions: 2, Replication: 1})
	require.NoError(t, err)
	first, second := TopicPartition{Topic: topic}, TopicPartition{Topic: topic, Partition: 1}
	want := map[TopicPartition]Committed{first: {Offset: 3, Metadata: "a"}, second: {Offset: 0, Metadata: "b"}}
	require.NoError(t, k.cluster.Commit(ctx, group, want))
	got, err := k.cluster.Committed(ctx, group, first, second)
	require.NoError(t, err)
	require.Equal(t, want, got)
}
