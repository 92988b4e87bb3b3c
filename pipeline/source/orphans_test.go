package source

import (
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
)

// A leader that dies before what is to move is given to somebody else is followed by a member to which
// the coordinator gives what the dead one had, without a rebalance.
func TestPartitionsThatNobodyIsAssignedAreDividedAnew(t *testing.T) {
	k := anyKafka(t)
	topic, group := k.topic(t, 3), unique("g")
	k.divide(t, group, "a", topic, 0, 1)
	_, state, err := k.cluster.describe(t.Context(), group)
	require.NoError(t, err)
	require.Equal(t, stateStable, state)

	a := k.join(t, group, "a", topic, newLanes())
	a.untilOwned(t, 3)
	require.NoError(t, a.stop())
}

// divide makes a member the leader of a group, lets it assign some partitions to itself and none of the
// others, and leaves it to its fate.
func (k *kafka) divide(t *testing.T, group, instance, topic string, partitions ...int32) {
	t.Helper()
	topics := []string{topic}
	metadata := &sarama.ConsumerGroupMemberMetadata{Version: 1, Topics: topics}
	assignment := &sarama.ConsumerGroupMemberAssignment{Version: 1, Topics: map[string][]int32{topic: partitions}}
	err := k.cluster.askCoordinator(t.Context(), group, "join_group", func(b *sarama.Broker) (sarama.KError, error) {
		join := &sarama.JoinGroupRequest{
			Version: 5, GroupId: group, GroupInstanceId: &instance, ProtocolType: "consumer",
			SessionTimeout: 20_000, RebalanceTimeout: 20_000,
		}
		if err := join.AddGroupProtocolMetadata(sarama.CooperativeStickyBalanceStrategyName, metadata); err != nil {
			return sarama.ErrNoError, err
		}
		joined, err := b.JoinGroup(join)
		if err != nil || joined.Err != sarama.ErrNoError {
			return joined.Err, err
		}
		require.Equal(t, joined.MemberId, joined.LeaderId)
		sync := &sarama.SyncGroupRequest{
			Version: 3, GroupId: group, GenerationId: joined.GenerationId, MemberId: joined.MemberId, GroupInstanceId: &instance,
		}
		if err := sync.AddGroupAssignmentMember(joined.MemberId, assignment); err != nil {
			return sarama.ErrNoError, err
		}
		synced, err := b.SyncGroup(sync)
		if err != nil {
			return sarama.ErrNoError, err
		}
		return synced.Err, nil
	})
	require.NoError(t, err)
}
