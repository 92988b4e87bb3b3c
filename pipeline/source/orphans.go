package source

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"
)

// A group that rebalances cooperatively divides its partitions in two steps: a member first lets go of
// what is to move, and then joins again so that somebody else gets it. A static member that dies in
// between is taken over by a successor with the same instance id, to which the coordinator gives the
// assignment of the dead one without a rebalance. The successor knows nothing of the second step, and
// partitions stay with nobody. So do partitions that were added to a topic whose group has lost its
// leader in the same way. Nobody but the members can see it.

const (
	// orphanLook is the pause between two looks at what the group has assigned.
	orphanLook = 5 * time.Second

	// orphanLooks is for how many looks in a row the same must be found before a member does anything: a
	// member may take a while to let go of what is to move.
	orphanLooks = 5

	// mostOrphanLooks bounds for how many looks a member waits when joining anew has not helped, as while
	// the leader does not know of new partitions yet: the number doubles each time.
	mostOrphanLooks = 60
)

// watchOrphans looks for partitions that the group has assigned to nobody. The member that holds the
// least then leaves the group, which joins it again as after any trouble: a member that comes or goes
// makes the group divide everything anew. It returns when ctx ends.
func (m *Membership) watchOrphans(ctx context.Context) {
	ticker := time.NewTicker(m.cfg.orphanLook)
	defer ticker.Stop()
	var before []Member
	looks, wanted := 0, orphanLooks
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		members, orphans, err := m.findOrphans(ctx)
		if err != nil { // whoever needs the coordinator reports its trouble
			looks = 0
			continue
		}
		if len(orphans) == 0 {
			looks = 0
			if members != nil { // the group is stable
				wanted = orphanLooks
			}
			continue
		}
		if looks++; looks == 1 || !reflect.DeepEqual(members, before) {
			before, looks = members, 1
			continue
		}
		if looks < wanted || leastLoaded(members) != m.cfg.InstanceID {
			continue
		}
		looks, wanted = 0, min(2*wanted, mostOrphanLooks)
		m.trouble(fmt.Errorf("consumer group %s: %d partitions, %s the first, are assigned to nobody; this member joins anew, "+
			"so that they are", m.cfg.Group, len(orphans), orphans[0]))
		if err := m.cfg.Cluster.leave(ctx, m.cfg.Group, m.cfg.InstanceID, "partitions are assigned to nobody"); err != nil && ctx.Err() == nil {
			m.trouble(err)
		}
	}
}

// findOrphans returns the members of the group with what they are assigned, and the partitions that
// nobody is; none while the group rebalances.
func (m *Membership) findOrphans(ctx context.Context) (members []Member, orphans []TopicPartition, err error) {
	members, state, err := m.cfg.Cluster.describe(ctx, m.cfg.Group)
	if err != nil || state != stateStable {
		return nil, nil, err
	}
	assigned := make(map[TopicPartition]bool)
	for i := range members {
		for _, tp := range members[i].Assigned {
			assigned[tp] = true
		}
	}
	for _, topic := range m.cfg.Topics {
		partitions, err := m.cfg.Cluster.Partitions(ctx, topic)
		if err != nil {
			return nil, nil, err
		}
		for _, p := range partitions {
			if tp := (TopicPartition{Topic: topic, Partition: p}); !assigned[tp] {
				orphans = append(orphans, tp)
			}
		}
	}
	return members, orphans, nil
}

// leastLoaded is the instance of the member with the fewest partitions, the first of several by name.
func leastLoaded(members []Member) string {
	return slices.MinFunc(members, func(a, b Member) int {
		return cmp.Or(cmp.Compare(len(a.Assigned), len(b.Assigned)), cmp.Compare(a.Instance, b.Instance))
	}).Instance
}
