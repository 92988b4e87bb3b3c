package dev

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
)

// member is one consumer group member that notes its claims.
type member struct {
	group  sarama.ConsumerGroup
	client sarama.Client
	cancel context.CancelFunc
	done   chan error

	mu     sync.Mutex
	claims map[int32]bool
	seen   []string
	setups int
	errs   []error
	poke   chan struct{}
}

func (m *member) Setup(sarama.ConsumerGroupSession) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.setups++
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *member) ConsumeClaim(s sarama.ConsumerGroupSession, c sarama.ConsumerGroupClaim) error {
	m.change(func() { m.claims[c.Partition()] = true })
	defer m.change(func() { delete(m.claims, c.Partition()) })
	for msg := range c.Messages() {
		m.change(func() { m.seen = append(m.seen, string(msg.Value)) })
		s.MarkMessage(msg, "seen")
	}
	return nil
}

func (m *member) change(f func()) {
	m.mu.Lock()
	f()
	m.mu.Unlock()
	select {
	case m.poke <- struct{}{}:
	default:
	}
}

// await returns when ok holds for the member's state.
func (m *member) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		m.mu.Lock()
		held := ok()
		m.mu.Unlock()
		if held {
			return
		}
		select {
		case <-m.poke:
		case <-deadline:
			m.mu.Lock()
			defer m.mu.Unlock()
			require.Failf(t, "never happened", "%s: claims %v, seen %v, errors %v", what, slices.Sorted(maps.Keys(m.claims)), m.seen, m.errs)
		}
	}
}

func (m *member) stop() error {
	m.cancel()
	err := <-m.done
	return errors.Join(err, m.group.Close(), m.client.Close())
}

func join(t *testing.T, k *Kafka, group, instance, topic string) *member {
	t.Helper()
	cfg := saramaConfig()
	cfg.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyCooperativeSticky()}
	cfg.Consumer.Group.InstanceId = instance
	cfg.Consumer.Group.Session.Timeout = 6 * time.Second
	cfg.Consumer.Group.Heartbeat.Interval = 200 * time.Millisecond
	client, err := sarama.NewClient([]string{k.Addr()}, cfg)
	require.NoError(t, err)
	g, err := sarama.NewConsumerGroupFromClient(group, client)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	m := &member{
		group: g, client: client, cancel: cancel, done: make(chan error, 1),
		claims: map[int32]bool{}, poke: make(chan struct{}, 1),
	}
	go func() {
		for err := range g.Errors() {
			m.change(func() { m.errs = append(m.errs, err) })
		}
	}()
	go func() {
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{topic}, m); err != nil && ctx.Err() == nil {
				m.change(func() { m.errs = append(m.errs, err) })
				m.done <- err
				return
			}
		}
		m.done <- nil
	}()
	return m
}

func commitOffset(t *testing.T, k *Kafka, group, topic string, partition int32, offset int64, metadata string) {
	t.Helper()
	cfg := saramaConfig()
	cfg.Consumer.Offsets.AutoCommit.Enable = false
	c := newClient(t, k, cfg)
	om, err := sarama.NewOffsetManagerFromClient(group, c)
	require.NoError(t, err)
	pom, err := om.ManagePartition(topic, partition)
	require.NoError(t, err)
	pom.MarkOffset(offset, metadata)
	om.Commit()
	pom.AsyncClose()
	require.NoError(t, om.Close()) // closes pom's channel of errors
	for err := range pom.Errors() {
		require.NoError(t, err)
	}
}

func committedOffset(t *testing.T, k *Kafka, group, topic string, partition int32) (int64, string) {
	t.Helper()
	admin, err := sarama.NewClusterAdmin([]string{k.Addr()}, saramaConfig())
	require.NoError(t, err)
	defer admin.Close()
	resp, err := admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
	require.NoError(t, err)
	block := resp.GetBlock(topic, partition)
	require.NotNil(t, block)
	require.Equal(t, sarama.ErrNoError, block.Err)
	return block.Offset, block.Metadata
}

func TestKafkaUnknownGroupHasNoOffsets(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	createTopic(t, k, "events", 1, nil)
	for _, version := range []sarama.KafkaVersion{sarama.V2_4_0_0, sarama.V4_0_0_0} {
		cfg := saramaConfig()
		cfg.Version = version
		admin, err := sarama.NewClusterAdmin([]string{k.Addr()}, cfg)
		require.NoError(t, err)
		defer admin.Close()
		for range 2 {
			resp, err := admin.ListConsumerGroupOffsets("never seen", map[string][]int32{"events": {0}})
			require.NoError(t, err)
			require.Equal(t, sarama.ErrNoError, resp.Err)
			require.Equal(t, int64(-1), resp.GetBlock("events", 0).Offset)
		}
	}
}

func TestKafkaOffsetCommitWithMetadata(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	createTopic(t, k, "events", 1, nil)
	produce(t, k, "events", 0, "a", "b")
	commitOffset(t, k, "group", "events", 0, 2, `{"epoch":7}`)
	offset, metadata := committedOffset(t, k, "group", "events", 0)
	require.Equal(t, int64(2), offset)
	require.Equal(t, `{"epoch":7}`, metadata)
}

func TestKafkaCooperativeGroup(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	createTopic(t, k, "events", 4, nil)
	for p := range int32(4) {
		produce(t, k, "events", p, string('a'+p))
	}
	first := join(t, k, "group", "", "events")
	first.await(t, "first member owns everything", func() bool { return len(first.claims) == 4 && len(first.seen) == 4 })

	second := join(t, k, "group", "", "events")
	second.await(t, "second member gets half", func() bool { return len(second.claims) == 2 })
	first.await(t, "first member keeps half", func() bool { return len(first.claims) == 2 })
	require.Equal(t, 1, first.setups, "a cooperative rebalance keeps the session")

	require.NoError(t, second.stop())
	first.await(t, "first member gets the rest back", func() bool { return len(first.claims) == 4 })
	require.NoError(t, first.stop())
	for p := range int32(4) {
		offset, _ := committedOffset(t, k, "group", "events", p)
		require.Equal(t, int64(1), offset)
	}
}

func TestKafkaStaticMembership(t *testing.T) {
	k := startKafka(t, KafkaConfig{})
	admin := createTopic(t, k, "events", 4, nil)
	zero := join(t, k, "group", "pipeline-0", "events")
	zero.await(t, "all four", func() bool { return len(zero.claims) == 4 })
	one := join(t, k, "group", "pipeline-1", "events")
	one.await(t, "two", func() bool { return len(one.claims) == 2 })
	zero.await(t, "two", func() bool { return len(zero.claims) == 2 })
	setups := zero.setups

	// A successor with the same instance id takes the member over: nobody else is rebalanced, the predecessor is fenced.
	successor := join(t, k, "group", "pipeline-1", "events")
	successor.await(t, "the member's two", func() bool { return len(successor.claims) == 2 })
	one.await(t, "fenced", func() bool {
		return slices.ContainsFunc(one.errs, func(err error) bool { return errors.Is(err, sarama.ErrFencedInstancedId) })
	})
	require.Len(t, zero.claims, 2)
	require.Equal(t, setups, zero.setups)
	_ = one.stop()

	// A static member that stops does not leave: its partitions wait until it is removed or its session ends.
	require.NoError(t, successor.stop())
	groups, err := admin.DescribeConsumerGroups([]string{"group"})
	require.NoError(t, err)
	require.Len(t, groups[0].Members, 2)
	_, err = admin.RemoveMemberFromConsumerGroup("group", []string{"pipeline-1"})
	require.NoError(t, err)
	zero.await(t, "everything again", func() bool { return len(zero.claims) == 4 })
	require.NoError(t, zero.stop())
}
