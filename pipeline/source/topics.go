package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/IBM/sarama"
)

// Topic asks the brokers about one topic. ErrUnknownTopic when there is none.
func (c *Cluster) Topic(ctx context.Context, name string) (Topic, error) {
	var topic Topic
	err := c.again(ctx, func(ctx context.Context) error {
		v, err := c.topic(ctx, name, time.Now())
		if err != nil {
			return err
		}
		topic = Topic{Name: name, ID: v.id, Partitions: slices.Sorted(maps.Keys(v.partitions))}
		return nil
	})
	if err != nil {
		return Topic{}, fmt.Errorf("topic %s: %w", name, err)
	}
	return topic, nil
}

// Partitions asks for the partitions of a topic as they are now, in ascending order.
func (c *Cluster) Partitions(ctx context.Context, topic string) ([]int32, error) {
	t, err := c.Topic(ctx, topic)
	return t.Partitions, err
}

// TopicID asks for the id of the topic's incarnation of now.
func (c *Cluster) TopicID(ctx context.Context, topic string) (string, error) {
	t, err := c.Topic(ctx, topic)
	return t.ID, err
}

// topic returns a view no older than since, asking the brokers if what is known is older. Callers that wait for each
// other share one answer.
func (c *Cluster) topic(ctx context.Context, name string, since time.Time) (topicView, error) {
	if v, ok := c.recall(name, since); ok {
		return v, nil
	}
	select {
	case c.refreshing <- struct{}{}:
		defer func() { <-c.refreshing }()
	case <-ctx.Done():
		return topicView{}, context.Cause(ctx)
	}
	if v, ok := c.recall(name, since); ok {
		return v, nil
	}
	asked := time.Now()
	var resp *sarama.MetadataResponse
	err := c.askAny(ctx, "metadata", func(b *sarama.Broker) (err error) {
		resp, err = b.GetMetadata(sarama.NewMetadataRequest(c.conf.Version, []string{name}))
		return err
	})
	if err != nil {
		return topicView{}, err
	}
	return c.learn(name, resp, asked)
}

func (c *Cluster) recall(name string, since time.Time) (topicView, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.known.topics[name]
	return v, ok && !v.asked.Before(since)
}

func (c *Cluster) learn(name string, resp *sarama.MetadataResponse, asked time.Time) (topicView, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(resp.Brokers) > 0 {
		brokers := make(map[int32]string, len(resp.Brokers))
		for _, b := range resp.Brokers {
			brokers[b.ID()] = b.Addr()
		}
		c.known.brokers, c.known.controller = brokers, resp.ControllerID
	}
	for _, t := range resp.Topics {
		if t.Name != name {
			continue
		}
		switch t.Err {
		case sarama.ErrNoError, sarama.ErrLeaderNotAvailable:
		case sarama.ErrUnknownTopicOrPartition, sarama.ErrInvalidTopic:
			delete(c.known.topics, name)
			return topicView{}, ErrUnknownTopic
		default:
			return topicView{}, t.Err
		}
		v := topicView{partitions: make(map[int32]leaderView, len(t.Partitions)), asked: asked}
		if t.Uuid != (sarama.Uuid{}) {
			v.id = t.Uuid.String()
		}
		for _, p := range t.Partitions {
			v.partitions[p.ID] = leaderView{broker: p.Leader, epoch: p.LeaderEpoch}
		}
		if old, ok := c.known.topics[name]; !ok || !old.asked.After(asked) {
			c.known.topics[name] = v
		}
		return v, nil
	}
	return topicView{}, errors.New("the broker's answer leaves the topic out")
}

// leader is where to fetch a partition from.
type leader struct {
	addr    string
	epoch   int32
	topicID string
}

// leader looks the partition's leader up in a view no older than since.
func (c *Cluster) leader(ctx context.Context, tp TopicPartition, since time.Time) (leader, error) {
	v, err := c.topic(ctx, tp.Topic, since)
	if err != nil {
		return leader{}, err
	}
	p, ok := v.partitions[tp.Partition]
	if !ok {
		return leader{}, ErrUnknownPartition
	}
	c.mu.Lock()
	addr, ok := c.known.brokers[p.broker]
	c.mu.Unlock()
	if !ok {
		return leader{}, sarama.ErrLeaderNotAvailable
	}
	return leader{addr: addr, epoch: p.epoch, topicID: v.id}, nil
}

// TopicSpec is a topic as it should be made.
type TopicSpec struct {
	Name string
	// Partitions to create (default 1). An existing topic keeps what it has.
	Partitions int32
	// Replication factor; 0 is the broker's default.
	Replication int16
	// Compacted keeps the last record per key instead of the last days.
	Compacted bool
	// Config are further topic settings by their Kafka names.
	Config map[string]string
}

// EnsureTopic creates the topic unless it exists and returns it as it then is, every partition with a leader. An
// existing topic is never altered; compare what is returned where it matters.
func (c *Cluster) EnsureTopic(ctx context.Context, spec TopicSpec) (Topic, error) {
	created := false
	err := c.again(ctx, func(ctx context.Context) error {
		v, err := c.topic(ctx, spec.Name, time.Now())
		switch {
		case errors.Is(err, ErrUnknownTopic) && !created:
			if err := c.createTopic(ctx, spec); err != nil {
				return err
			}
			created = true
			return sarama.ErrLeaderNotAvailable // look again
		case errors.Is(err, ErrUnknownTopic):
			return sarama.ErrLeaderNotAvailable // not every broker knows of it yet
		case err != nil:
			return err
		}
		for _, p := range v.partitions {
			if p.broker < 0 {
				return sarama.ErrLeaderNotAvailable
			}
		}
		return nil
	})
	if err != nil {
		return Topic{}, fmt.Errorf("create topic %s: %w", spec.Name, err)
	}
	return c.Topic(ctx, spec.Name)
}

func (c *Cluster) createTopic(ctx context.Context, spec TopicSpec) error {
	detail := &sarama.TopicDetail{
		NumPartitions:     max(spec.Partitions, 1),
		ReplicationFactor: spec.Replication,
		ConfigEntries:     map[string]*string{},
	}
	if detail.ReplicationFactor == 0 {
		detail.ReplicationFactor = -1
	}
	for name, value := range spec.Config {
		detail.ConfigEntries[name] = &value
	}
	if spec.Compacted {
		compact := "compact"
		detail.ConfigEntries["cleanup.policy"] = &compact
	}
	c.mu.Lock()
	addr, ok := c.known.brokers[c.known.controller]
	c.mu.Unlock()
	if !ok {
		return sarama.ErrNotController
	}
	req := sarama.NewCreateTopicsRequest(c.conf.Version, map[string]*sarama.TopicDetail{spec.Name: detail}, c.cfg.RequestTimeout, false)
	var resp *sarama.CreateTopicsResponse
	err := c.ask(ctx, addr, "create_topic", func(b *sarama.Broker) (err error) {
		resp, err = b.CreateTopics(req)
		return err
	})
	if err != nil {
		return err
	}
	topicErr := resp.TopicErrors[spec.Name]
	if topicErr == nil || topicErr.Err == sarama.ErrNoError || topicErr.Err == sarama.ErrTopicAlreadyExists {
		return nil
	}
	return topicErr
}
