package source

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/IBM/sarama"
)

// TopicSettings asks for settings of a topic by their Kafka names, as they are in force: what the topic does not set is
// the broker's default. A setting that the broker does not know is left out. ErrUnknownTopic when there is no such topic.
func (c *Cluster) TopicSettings(ctx context.Context, topic string, names ...string) (map[string]string, error) {
	entries, err := c.describeTopic(ctx, topic, names...)
	if err != nil {
		return nil, err
	}
	settings := make(map[string]string, len(names))
	for _, entry := range entries {
		settings[entry.Name] = entry.Value
	}
	return settings, nil
}

// TopicSets reports whether a topic has a value of its own for a setting, rather than the broker's default. ErrUnknownTopic when
// there is no such topic.
func (c *Cluster) TopicSets(ctx context.Context, topic, name string) (bool, error) {
	entries, err := c.describeTopic(ctx, topic, name)
	return slices.ContainsFunc(entries, func(e *sarama.ConfigEntry) bool {
		return e.Name == name && e.Source == sarama.SourceTopic
	}), err
}

func (c *Cluster) describeTopic(ctx context.Context, topic string, names ...string) (entries []*sarama.ConfigEntry, err error) {
	req := &sarama.DescribeConfigsRequest{
		Version:   2,
		Resources: []*sarama.ConfigResource{{Type: sarama.TopicResource, Name: topic, ConfigNames: names}},
	}
	err = c.again(ctx, func(ctx context.Context) error {
		var resp *sarama.DescribeConfigsResponse
		err := c.askAny(ctx, "describe_topic", func(b *sarama.Broker) (err error) {
			resp, err = b.DescribeConfigs(req)
			return err
		})
		if err != nil {
			return err
		}
		entries = nil
		for _, r := range resp.Resources {
			switch code := sarama.KError(r.ErrorCode); code {
			case sarama.ErrNoError:
			case sarama.ErrUnknownTopicOrPartition, sarama.ErrInvalidTopic:
				return ErrUnknownTopic
			default:
				return &sarama.DescribeConfigError{Err: code, ErrMsg: r.ErrorMsg}
			}
			entries = append(entries, r.Configs...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("settings of topic %s: %w", topic, err)
	}
	return entries, nil
}

// SetTopic gives one setting of a topic a value of its own and leaves the others as they are.
func (c *Cluster) SetTopic(ctx context.Context, topic, name, value string) error {
	req := &sarama.IncrementalAlterConfigsRequest{
		Version: 1,
		Resources: []*sarama.IncrementalAlterConfigsResource{{
			Type: sarama.TopicResource, Name: topic,
			ConfigEntries: map[string]sarama.IncrementalAlterConfigsEntry{
				name: {Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value},
			},
		}},
	}
	err := c.again(ctx, func(ctx context.Context) error {
		var resp *sarama.IncrementalAlterConfigsResponse
		err := c.askAny(ctx, "alter_topic", func(b *sarama.Broker) (err error) {
			resp, err = b.IncrementalAlterConfigs(req)
			return err
		})
		if err != nil {
			return err
		}
		for _, r := range resp.Resources {
			if code := sarama.KError(r.ErrorCode); code != sarama.ErrNoError {
				return &sarama.AlterConfigError{Err: code, ErrMsg: r.ErrorMsg}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("set %s of topic %s to %s: %w", name, topic, value, err)
	}
	return nil
}

// Denied reports whether the cluster's access rules refused a request.
func Denied(err error) bool {
	for _, code := range []sarama.KError{sarama.ErrTopicAuthorizationFailed, sarama.ErrClusterAuthorizationFailed} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}
