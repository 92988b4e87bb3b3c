package source

import (
	"context"
	"fmt"

	"github.com/IBM/sarama"
)

// Committed asks the coordinator for a group's offsets with their metadata. Partitions without one have Offset -1.
func (c *Cluster) Committed(ctx context.Context, group string, tps ...TopicPartition) (map[TopicPartition]Committed, error) {
	byTopic := map[string][]int32{}
	for _, tp := range tps {
		byTopic[tp.Topic] = append(byTopic[tp.Topic], tp.Partition)
	}
	committed := make(map[TopicPartition]Committed, len(tps))
	err := c.askCoordinator(ctx, group, "fetch_offset", func(b *sarama.Broker) (sarama.KError, error) {
		req := sarama.NewOffsetFetchRequest(c.conf.Version, group, byTopic)
		resp, err := b.FetchOffset(req)
		if err != nil {
			return sarama.ErrNoError, err
		}
		if resp.Err == sarama.ErrGroupIDNotFound {
			for _, tp := range tps {
				committed[tp] = Committed{Offset: -1}
			}
			return sarama.ErrNoError, nil
		}
		if resp.Err != sarama.ErrNoError {
			return resp.Err, nil
		}
		for _, tp := range tps {
			block := resp.GetBlock(tp.Topic, tp.Partition)
			if block == nil {
				return sarama.ErrNoError, sarama.ErrIncompleteResponse
			}
			if block.Err != sarama.ErrNoError {
				return block.Err, nil
			}
			committed[tp] = Committed{Offset: block.Offset, Metadata: block.Metadata}
		}
		return sarama.ErrNoError, nil
	})
	if err != nil {
		return nil, fmt.Errorf("committed offsets: %w", err)
	}
	return committed, nil
}

// Commit gives a group without members its offsets with their metadata, all of them in one request.
func (c *Cluster) Commit(ctx context.Context, group string, offsets map[TopicPartition]Committed) error {
	err := c.askCoordinator(ctx, group, "commit_offset", func(b *sarama.Broker) (sarama.KError, error) {
		req := sarama.NewOffsetCommitRequest(c.conf, group)
		for tp, o := range offsets {
			req.AddBlockWithLeaderEpoch(tp.Topic, tp.Partition, o.Offset, -1, 0, o.Metadata)
		}
		resp, err := b.CommitOffset(req)
		if err != nil {
			return sarama.ErrNoError, err
		}
		for tp := range offsets {
			code, answered := resp.Errors[tp.Topic][tp.Partition]
			if !answered {
				return sarama.ErrNoError, sarama.ErrIncompleteResponse
			}
			if code != sarama.ErrNoError {
				return code, nil
			}
		}
		return sarama.ErrNoError, nil
	})
	if err != nil {
		return fmt.Errorf("commit offsets: %w", err)
	}
	return nil
}

// RemoveMember makes the coordinator forget a static member, so that its lanes move at once instead of after the session
// timeout. sarama itself never leaves a group with an instance id. A member or group that is not there is fine.
func (c *Cluster) RemoveMember(ctx context.Context, group, instanceID string) error {
	return c.leave(ctx, group, instanceID, "", "the replica was removed")
}

// leave is RemoveMember with the reason that the coordinator logs. With a member id it leaves a successor alone, which has
// another one under the same instance id.
func (c *Cluster) leave(ctx context.Context, group, instanceID, memberID, reason string) error {
	err := c.askCoordinator(ctx, group, "leave_group", func(b *sarama.Broker) (sarama.KError, error) {
		resp, err := b.LeaveGroup(&sarama.LeaveGroupRequest{
			Version: 5,
			GroupId: group,
			Members: []sarama.MemberIdentity{{MemberId: memberID, GroupInstanceId: &instanceID, Reason: &reason}},
		})
		if err != nil {
			return sarama.ErrNoError, err
		}
		code := resp.Err
		for _, m := range resp.Members {
			if code == sarama.ErrNoError {
				code = m.Err
			}
		}
		switch code {
		case sarama.ErrUnknownMemberId, sarama.ErrFencedInstancedId, sarama.ErrGroupIDNotFound:
			code = sarama.ErrNoError
		}
		return code, nil
	})
	if err != nil {
		return fmt.Errorf("remove member %s: %w", instanceID, err)
	}
	return nil
}

// heartbeat sends one heartbeat for a member and returns the coordinator's verdict.
func (c *Cluster) heartbeat(ctx context.Context, group, instanceID, memberID string, generation int32) (sarama.KError, error) {
	var verdict sarama.KError
	err := c.askCoordinator(ctx, group, "heartbeat", func(b *sarama.Broker) (sarama.KError, error) {
		req := &sarama.HeartbeatRequest{Version: 4, GroupId: group, MemberId: memberID, GenerationId: generation}
		if instanceID != "" {
			req.GroupInstanceId = &instanceID
		}
		resp, err := b.Heartbeat(req)
		if err != nil {
			return sarama.ErrNoError, err
		}
		switch resp.Err {
		case sarama.ErrNotCoordinatorForConsumer, sarama.ErrConsumerCoordinatorNotAvailable, sarama.ErrOffsetsLoadInProgress:
			return resp.Err, nil
		}
		verdict = resp.Err
		return sarama.ErrNoError, nil
	})
	return verdict, err
}

// askCoordinator runs one request against the group's coordinator and looks for another one on any trouble. request
// returns the code the broker answered with, or why there was no answer.
func (c *Cluster) askCoordinator(ctx context.Context, group, operation string,
	request func(*sarama.Broker) (sarama.KError, error)) error {
	err := c.again(ctx, func(ctx context.Context) error {
		addr, err := c.coordinator(ctx, group)
		if err != nil {
			return err
		}
		var code sarama.KError
		err = c.ask(ctx, addr, operation, func(b *sarama.Broker) (err error) {
			code, err = request(b)
			return err
		})
		if err == nil && code == sarama.ErrNoError {
			return nil
		}
		c.mu.Lock()
		delete(c.coords, group)
		c.mu.Unlock()
		if err == nil {
			return code
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("group %s: %w", group, err)
	}
	return nil
}

func (c *Cluster) coordinator(ctx context.Context, group string) (string, error) {
	c.mu.Lock()
	addr, ok := c.coords[group]
	c.mu.Unlock()
	if ok {
		return addr, nil
	}
	var resp *sarama.FindCoordinatorResponse
	err := c.askAny(ctx, "find_coordinator", func(b *sarama.Broker) (err error) {
		resp, err = b.FindCoordinator(&sarama.FindCoordinatorRequest{Version: 2, CoordinatorKey: group, CoordinatorType: sarama.CoordinatorGroup})
		return err
	})
	switch {
	case err != nil:
		return "", err
	case resp.Err != sarama.ErrNoError:
		return "", resp.Err
	}
	addr = resp.Coordinator.Addr()
	c.mu.Lock()
	c.coords[group] = addr
	c.mu.Unlock()
	return addr, nil
}
