package dev

import (
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// answerUnknownGroups makes the broker answer OffsetFetch for a group it has never seen as Kafka does: no error and
// offset -1 for every partition. kfake answers GROUP_ID_NOT_FOUND, which clients take for a failure.
func answerUnknownGroups(cluster *kfake.Cluster) {
	cluster.ControlKey(int16(kmsg.OffsetFetch), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		req := kreq.(*kmsg.OffsetFetchRequest)
		if req.Version <= 7 {
			if cluster.GroupInfo(req.Group) != nil {
				return nil, nil, false
			}
			cluster.KeepControl()
			return nothingCommitted(req), nil, true
		}
		for _, g := range req.Groups {
			if cluster.GroupInfo(g.Group) != nil {
				return nil, nil, false
			}
		}
		cluster.KeepControl()
		return nothingCommittedByAny(req), nil, true
	})
}

// defaultRebalanceWait is long for members on one machine to let go of their lanes, and much shorter than they wait for the
// answer to a join.
const defaultRebalanceWait = 15 * time.Second

// boundRebalances makes the broker wait for the members of a group no longer than limit, whatever they ask for. kfake begins
// to wait anew with every join: members that gave their joins up, each at its own time, and came again could make it wait
// for ever for one that is gone. Kafka's wait begins once.
func boundRebalances(cluster *kfake.Cluster, limit time.Duration) {
	cluster.ControlKey(int16(kmsg.JoinGroup), func(kreq kmsg.Request) (kmsg.Response, error, bool) {
		req := kreq.(*kmsg.JoinGroupRequest)
		req.RebalanceTimeoutMillis = min(req.RebalanceTimeoutMillis, int32(limit.Milliseconds()))
		return nil, nil, false
	})
}

func nothingCommitted(req *kmsg.OffsetFetchRequest) *kmsg.OffsetFetchResponse {
	resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
	for _, t := range req.Topics {
		topic := kmsg.NewOffsetFetchResponseTopic()
		topic.Topic = t.Topic
		for _, p := range t.Partitions {
			partition := kmsg.NewOffsetFetchResponseTopicPartition()
			partition.Partition, partition.Offset, partition.LeaderEpoch = p, -1, -1
			topic.Partitions = append(topic.Partitions, partition)
		}
		resp.Topics = append(resp.Topics, topic)
	}
	return resp
}

func nothingCommittedByAny(req *kmsg.OffsetFetchRequest) *kmsg.OffsetFetchResponse {
	resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
	for _, g := range req.Groups {
		group := kmsg.NewOffsetFetchResponseGroup()
		group.Group = g.Group
		for _, t := range g.Topics {
			topic := kmsg.NewOffsetFetchResponseGroupTopic()
			topic.Topic, topic.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				partition := kmsg.NewOffsetFetchResponseGroupTopicPartition()
				partition.Partition, partition.Offset, partition.LeaderEpoch = p, -1, -1
				topic.Partitions = append(topic.Partitions, partition)
			}
			group.Topics = append(group.Topics, topic)
		}
		resp.Groups = append(resp.Groups, group)
	}
	return resp
}
