package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/IBM/sarama"
)

// ErrGroupInUse means that a group has members and therefore cannot be deleted.
var ErrGroupInUse = errors.New("consumer group has members")

// Member is one member of a consumer group, as the coordinator describes it.
type Member struct {
	ID       string
	Instance string // static member id, "" for a dynamic member
	ClientID string
	Host     string
	Assigned []TopicPartition // by topic and partition; nil while the group rebalances

	unread error // why Assigned is not known; a client of another kind may assign what it likes
}

// stateStable is the state of a group that has divided its partitions.
const stateStable = "Stable"

// Members asks the coordinator for the members of a group, ordered by id. exists is false when it does not know the group:
// there are neither members nor committed offsets.
func (c *Cluster) Members(ctx context.Context, group string) (members []Member, exists bool, err error) {
	members, state, err := c.describe(ctx, group)
	return members, state != "" && state != "Dead", err
}

// describe asks the coordinator for the members of a group, ordered by id, and for its state, which is "" when it does not
// know the group.
func (c *Cluster) describe(ctx context.Context, group string) (members []Member, state string, err error) {
	err = c.askCoordinator(ctx, group, "describe_group", func(b *sarama.Broker) (sarama.KError, error) {
		members, state = nil, ""
		resp, err := b.DescribeGroups(&sarama.DescribeGroupsRequest{Version: 5, Groups: []string{group}})
		if err != nil {
			return sarama.ErrNoError, err
		}
		if len(resp.Groups) != 1 {
			return sarama.ErrNoError, sarama.ErrIncompleteResponse
		}
		g := resp.Groups[0]
		if g.Err == sarama.ErrGroupIDNotFound {
			return sarama.ErrNoError, nil
		}
		if g.Err != sarama.ErrNoError {
			return g.Err, nil
		}
		state = g.State
		for _, m := range g.Members {
			member := Member{ID: m.MemberId, ClientID: m.ClientId, Host: m.ClientHost}
			if m.GroupInstanceId != nil {
				member.Instance = *m.GroupInstanceId
			}
			if state == stateStable {
				assigned, err := m.GetMemberAssignment()
				member.Assigned, member.unread = assignedTo(assigned), err
			}
			members = append(members, member)
		}
		return sarama.ErrNoError, nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("describe: %w", err)
	}
	slices.SortFunc(members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return members, state, nil
}

func assignedTo(of *sarama.ConsumerGroupMemberAssignment) (assigned []TopicPartition) {
	if of == nil {
		return nil
	}
	for topic, partitions := range of.Topics {
		for _, p := range partitions {
			assigned = append(assigned, TopicPartition{Topic: topic, Partition: p})
		}
	}
	slices.SortFunc(assigned, func(a, b TopicPartition) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return assigned
}

// GroupExists reports whether the coordinator knows the group: it has members or committed offsets.
func (c *Cluster) GroupExists(ctx context.Context, group string) (bool, error) {
	_, exists, err := c.Members(ctx, group)
	return exists, err
}

// DeleteGroup makes the coordinator forget a group and its offsets. A group that is not there is fine; one with members is
// ErrGroupInUse.
func (c *Cluster) DeleteGroup(ctx context.Context, group string) error {
	err := c.askCoordinator(ctx, group, "delete_group", func(b *sarama.Broker) (sarama.KError, error) {
		resp, err := b.DeleteGroups(&sarama.DeleteGroupsRequest{Version: 2, Groups: []string{group}})
		if err != nil {
			return sarama.ErrNoError, err
		}
		code, answered := resp.GroupErrorCodes[group]
		switch {
		case !answered:
			return sarama.ErrNoError, sarama.ErrIncompleteResponse
		case code == sarama.ErrGroupIDNotFound:
			return sarama.ErrNoError, nil
		}
		return code, nil
	})
	if errors.Is(err, sarama.ErrNonEmptyGroup) {
		return fmt.Errorf("delete group %s: %w", group, ErrGroupInUse)
	}
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}

// Topics asks for the names of all topics, in ascending order.
func (c *Cluster) Topics(ctx context.Context) ([]string, error) {
	var names []string
	err := c.again(ctx, func(ctx context.Context) error {
		names = nil
		return c.askAny(ctx, "metadata", func(b *sarama.Broker) error {
			resp, err := b.GetMetadata(sarama.NewMetadataRequest(c.conf.Version, nil))
			if err != nil {
				return err
			}
			for _, t := range resp.Topics {
				if !t.IsInternal {
					names = append(names, t.Name)
				}
			}
			return nil
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	slices.Sort(names)
	return names, nil
}

// DeleteTopic deletes a topic and returns when the brokers do not know it any more. A topic that is not there is fine.
func (c *Cluster) DeleteTopic(ctx context.Context, name string) error {
	err := c.again(ctx, func(ctx context.Context) error {
		if _, err := c.Topic(ctx, name); errors.Is(err, ErrUnknownTopic) {
			return nil
		} else if err != nil {
			return err
		}
		if err := c.deleteTopic(ctx, name); err != nil {
			return err
		}
		return sarama.ErrRequestTimedOut // look again
	})
	if err != nil {
		return fmt.Errorf("delete topic %s: %w", name, err)
	}
	return nil
}

func (c *Cluster) deleteTopic(ctx context.Context, name string) error {
	c.mu.Lock()
	addr, ok := c.known.brokers[c.known.controller]
	c.mu.Unlock()
	if !ok {
		return sarama.ErrNotController
	}
	req := sarama.NewDeleteTopicsRequest(c.conf.Version, []string{name}, c.cfg.RequestTimeout)
	var resp *sarama.DeleteTopicsResponse
	err := c.ask(ctx, addr, "delete_topic", func(b *sarama.Broker) (err error) {
		resp, err = b.DeleteTopics(req)
		return err
	})
	if err != nil {
		return err
	}
	code, answered := resp.TopicErrorCodes[name]
	switch {
	case !answered:
		return sarama.ErrIncompleteResponse
	case code == sarama.ErrNoError, code == sarama.ErrUnknownTopicOrPartition:
		return nil
	}
	return code
}
