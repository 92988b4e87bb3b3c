package source

import (
	"fmt"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
)

// A leader that dies before what is to move is given to somebody else is followed by a member to which
// the coordinator gives what the dead one had, without a rebalance.
func TestPartitionsThatNobodyIsAssignedAreDividedAnew(t *testing.T) {
	k := anyKafka(t)
	topic, group := k.topic(t, 3), unique("g")
	k.divide(t, group, "a", topic, assignmentOf(topic, 0, 1))
	_, state, err := k.cluster.describe(t.Context(), group)
	require.NoError(t, err)
	require.Equal(t, stateStable, state)

	a := k.join(t, group, "a", topic, newLanes())
	a.untilOwned(t, 3)
	require.NoError(t, a.stop())
}

// Nobody tells a group that has lost its leader that a topic has grown. One member joins anew, and the other one's lanes go on.
func TestPartitionsOfAGrownTopicAreDividedWithoutALeader(t *testing.T) {
	k := anyKafka(t)
	topic, group := k.topic(t, 4), unique("g")
	a := k.join(t, group, "a", topic, newLanes()) // the leader
	a.untilOwned(t, 4)
	b := k.join(t, group, "b", topic, newLanes())
	b.untilOwned(t, 2)
	a.untilOwned(t, 2)
	require.NoError(t, a.stop())
	a = k.join(t, group, "a", topic, newLanes())
	a.untilOwned(t, 2)
	k.grow(t, topic, 6)
	a.untilOwned(t, 3)
	b.untilOwned(t, 3)
	require.NoError(t, a.stop())
	require.NoError(t, b.stop())
	for _, cause := range b.causes {
		require.NotErrorIs(t, cause, sarama.ErrUnknownMemberId)
	}
}

// grow adds partitions to a topic.
func (k *kafka) grow(t *testing.T, topic string, partitions int32) {
	t.Helper()
	err := k.cluster.askAny(t.Context(), "create_partitions", func(b *sarama.Broker) error {
		resp, err := b.CreatePartitions(&sarama.CreatePartitionsRequest{
			TopicPartitions: map[string]*sarama.TopicPartition{topic: {Count: partitions}}, Timeout: patience,
		})
		if err == nil {
			require.Equal(t, sarama.ErrNoError, resp.TopicPartitionErrors[topic].Err)
		}
		return err
	})
	require.NoError(t, err)
}

// A member that assigns something that is no assignment is a member like others for whoever asks whether
// there is a group, and only keeps others from knowing which partitions nobody has.
func TestMembersAreListedWhateverTheyAreAssigned(t *testing.T) {
	k := anyKafka(t)
	topic, group := k.topic(t, 3), unique("g")
	k.divide(t, group, "a", topic, func(sync *sarama.SyncGroupRequest, member string) error {
		sync.AddGroupAssignment(member, []byte{1})
		return nil
	})
	members, exists, err := k.cluster.Members(t.Context(), group)
	require.NoError(t, err)
	require.True(t, exists)
	require.Len(t, members, 1)
	require.Equal(t, "a", members[0].Instance)
	m := &Membership{cfg: MembershipConfig{Cluster: k.cluster, Group: group, Topics: []string{topic}}}
	_, err = m.divided(t.Context())
	require.ErrorContains(t, err, "assignment of member")
}

// assignmentOf gives partitions of a topic to a member.
func assignmentOf(topic string, partitions ...int32) func(*sarama.SyncGroupRequest, string) error {
	return func(sync *sarama.SyncGroupRequest, member string) error {
		return sync.AddGroupAssignmentMember(member,
			&sarama.ConsumerGroupMemberAssignment{Version: 1, Topics: map[string][]int32{topic: partitions}})
	}
}

// divide makes a member the leader of a group, lets it assign what assign says and nothing else, and
// leaves it to its fate.
func (k *kafka) divide(t *testing.T, group, instance, topic string, assign func(sync *sarama.SyncGroupRequest, member string) error) {
	t.Helper()
	metadata := &sarama.ConsumerGroupMemberMetadata{Version: 1, Topics: []string{topic}}
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
		if err := assign(sync, joined.MemberId); err != nil {
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

// divisionOf is a stable division of the topic t among members, each with its partitions.
func divisionOf(partitions int, members ...Member) division {
	d := division{stable: true, members: members, partitions: partitions}
	assigned := map[int32]bool{}
	for _, m := range members {
		for _, tp := range m.Assigned {
			assigned[tp.Partition] = true
		}
	}
	for p := range int32(partitions) {
		if !assigned[p] {
			d.orphans = append(d.orphans, TopicPartition{"t", p})
		}
	}
	return d
}

// memberWith is a member that has joined for the n-th time.
func memberWith(instance string, n int, partitions ...int32) Member {
	m := Member{ID: fmt.Sprint(instance, "#", n), Instance: instance}
	for _, p := range partitions {
		m.Assigned = append(m.Assigned, TopicPartition{"t", p})
	}
	return m
}

// untilDue lets all watches look until one of them is to join anew, and returns which and after how many looks.
func untilDue(t *testing.T, d division, watches ...*orphanWatch) (member string, looks int) {
	t.Helper()
	for looks := 1; looks <= 10*mostOrphanLooks; looks++ {
		var due []string
		for _, w := range watches {
			if id, ok := w.look(d); ok {
				due = append(due, id)
			}
		}
		require.LessOrEqual(t, len(due), 1, "several members at once")
		if len(due) > 0 {
			return due[0], looks
		}
	}
	return "", 0
}

func watchesOf(instances ...string) (watches []*orphanWatch) {
	for _, i := range instances {
		watches = append(watches, newOrphanWatch(i))
	}
	return watches
}

// One member joins anew: the static one with the least, whatever dynamic ones have.
func TestTheLeastLoadedStaticMemberJoinsAnew(t *testing.T) {
	d := divisionOf(7, memberWith("a", 1, 0, 1), memberWith("b", 1, 2), memberWith("c", 1, 3), memberWith("", 1), memberWith("", 2, 4))
	member, looks := untilDue(t, d, watchesOf("a", "b", "c")...)
	require.Equal(t, "b#1", member)
	require.Equal(t, orphanLooks, looks)

	none, _ := untilDue(t, divisionOf(3, memberWith("", 1, 0)), watchesOf("a")...)
	require.Empty(t, none)
	none, _ = untilDue(t, divisionOf(3), watchesOf("a")...)
	require.Empty(t, none)
}

// A member that does not join anew, as one of a release that does not look, does not leave partitions to nobody for good.
func TestAnotherMemberJoinsAnewWhenTheLeastLoadedDoesNot(t *testing.T) {
	d := divisionOf(5, memberWith("a", 1, 0, 1), memberWith("b", 1, 2), memberWith("c", 1, 3))
	member, looks := untilDue(t, d, watchesOf("a", "c")...)
	require.Equal(t, "c#1", member)
	require.Equal(t, 2*orphanLooks, looks)
	watches := watchesOf("a")
	for _, want := range []int{3 * orphanLooks, 3 * orphanLooks} {
		member, looks = untilDue(t, d, watches...)
		require.Equal(t, "a#1", member)
		require.Equal(t, want, looks)
	}
}

// What joining anew does not help is tried less and less often, whoever's turn it is.
func TestMembersThatJoinAnewInVainWaitLonger(t *testing.T) {
	watches, wanted := watchesOf("a", "b"), orphanLooks
	for n := range 6 {
		instance := []string{"a", "b"}[n%2]                                 // the one with the least is another one each time
		d := divisionOf(3, memberWith("a", n, 0), memberWith("b", n, 1, 2)) // n is in the ids: somebody has joined anew
		if instance == "b" {
			d = divisionOf(3, memberWith("a", n, 0, 1), memberWith("b", n))
		}
		if len(d.orphans) == 0 {
			d = divisionOf(4, d.members...)
		}
		for _, w := range watches {
			w.look(division{}) // the group rebalances
		}
		member, looks := untilDue(t, d, watches...)
		require.Equal(t, fmt.Sprint(instance, "#", n), member)
		require.Equal(t, wanted, looks)
		wanted = min(2*wanted, mostOrphanLooks)
	}
	for _, w := range watches {
		w.look(divisionOf(1, memberWith("a", 9, 0), memberWith("b", 9)))
	}
	_, looks := untilDue(t, divisionOf(1, memberWith("a", 10), memberWith("b", 10)), watches...)
	require.Equal(t, orphanLooks, looks)
}

// The leader finds new partitions by itself within twice metadataAge, and nobody stops its lanes before that.
func TestNobodyJoinsAnewForNewPartitionsAtOnce(t *testing.T) {
	w := newOrphanWatch("a")
	w.look(divisionOf(2, memberWith("a", 1, 0, 1)))
	_, looks := untilDue(t, divisionOf(3, memberWith("a", 1, 0, 1)), w)
	require.Equal(t, grownLooks, looks)
	require.Greater(t, grownLooks*int(orphanLook), int(2*metadataAge))

	w.look(divisionOf(2, memberWith("a", 2, 0, 1)))
	_, looks = untilDue(t, divisionOf(2, memberWith("a", 2, 0)), w)
	require.Equal(t, orphanLooks, looks, "a partition that somebody had")
}

// Looks count only in a row that finds the same.
func TestLooksThatFindSomethingElseBeginAnew(t *testing.T) {
	w, d := newOrphanWatch("a"), divisionOf(2, memberWith("a", 1, 0))
	between := []func(){
		func() { w.forget() },
		func() { w.look(division{}) },
		func() { w.look(divisionOf(2, memberWith("a", 1, 1))) },
		func() { w.look(divisionOf(2, memberWith("a", 1, 0, 1))) },
	}
	for i, interrupt := range between {
		for range orphanLooks - 1 {
			_, due := w.look(d)
			require.False(t, due, i)
		}
		interrupt()
	}
	_, looks := untilDue(t, d, w)
	require.Equal(t, orphanLooks, looks)
}
