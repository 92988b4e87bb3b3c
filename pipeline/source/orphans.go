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

	// grownLooks is orphanLooks where a topic has grown. The leader's client finds that out by itself, as
	// long as it knows that it is the leader, and no lane has to stop for it: it looks every metadataAge at
	// what it has learned in the last metadataAge.
	grownLooks = int(2*metadataAge/orphanLook) + 3

	// mostOrphanLooks bounds for how many looks members wait when joining anew has not helped, as while
	// the leader does not know of new partitions yet: the number doubles each time.
	mostOrphanLooks = 60
)

// watchOrphans looks for partitions that the group has assigned to nobody. The static member that holds
// the least then leaves the group, which joins it again as after any trouble: a member that comes or
// goes makes the group divide everything anew. It returns when ctx ends.
func (m *Membership) watchOrphans(ctx context.Context) {
	ticker := time.NewTicker(m.cfg.orphanLook)
	defer ticker.Stop()
	watch := newOrphanWatch(m.cfg.InstanceID)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		d, err := m.divided(ctx)
		if err != nil { // whoever needs the coordinator reports its trouble
			watch.forget()
			continue
		}
		member, due := watch.look(d)
		if !due {
			continue
		}
		m.trouble(fmt.Errorf("consumer group %s: %d partitions, %s the first, are assigned to nobody; this member joins anew, "+
			"so that they are", m.cfg.Group, len(d.orphans), d.orphans[0]))
		err = m.cfg.Cluster.leave(ctx, m.cfg.Group, m.cfg.InstanceID, member, "partitions are assigned to nobody")
		if err != nil && ctx.Err() == nil {
			m.trouble(err)
		}
	}
}

// division says how a group has divided the partitions of its topics.
type division struct {
	stable     bool // false: it is dividing them, and nothing else is known
	members    []Member
	partitions int // of all topics
	orphans    []TopicPartition
}

// divided asks how the group has divided its partitions.
func (m *Membership) divided(ctx context.Context) (d division, err error) {
	members, state, err := m.cfg.Cluster.describe(ctx, m.cfg.Group)
	if err != nil || state != stateStable {
		return division{}, err
	}
	d = division{stable: true, members: members}
	assigned := make(map[TopicPartition]bool)
	for i := range members {
		if err := members[i].unread; err != nil {
			return division{}, fmt.Errorf("assignment of member %s: %w", members[i].ID, err)
		}
		for _, tp := range members[i].Assigned {
			assigned[tp] = true
		}
	}
	for _, topic := range m.cfg.Topics {
		partitions, err := m.cfg.Cluster.Partitions(ctx, topic)
		if err != nil {
			return division{}, err
		}
		d.partitions += len(partitions)
		for _, p := range partitions {
			if tp := (TopicPartition{Topic: topic, Partition: p}); !assigned[tp] {
				d.orphans = append(d.orphans, tp)
			}
		}
	}
	return d, nil
}

// orphanWatch decides for one member when it is to join anew. All members of a group see the same and
// take turns, so that one of them does.
type orphanWatch struct {
	instance   string
	before     []Member // of the last look; nil: the next one begins anew
	looks      int      // in a row that have found the same
	wanted     int      // looks after which a member joins anew
	partitions int      // when all of them were last assigned; 0: not known
}

func newOrphanWatch(instance string) *orphanWatch {
	return &orphanWatch{instance: instance, wanted: orphanLooks}
}

// forget begins anew after a look that has seen nothing.
func (w *orphanWatch) forget() { w.before, w.looks = nil, 0 }

// look takes what a look has found, and reports whether the member is to join anew, and its id.
func (w *orphanWatch) look(d division) (member string, due bool) {
	switch {
	case !d.stable:
		w.before = nil
		return "", false
	case len(d.orphans) == 0:
		*w = orphanWatch{instance: w.instance, wanted: orphanLooks, partitions: d.partitions}
		return "", false
	case !reflect.DeepEqual(d.members, w.before):
		if w.looks >= w.wanted { // somebody has joined anew, in vain
			w.wanted = min(2*w.wanted, mostOrphanLooks)
		}
		if w.partitions > 0 && d.partitions > w.partitions {
			w.wanted = max(w.wanted, grownLooks)
		}
		w.before, w.looks = d.members, 1
		return "", false
	}
	if w.looks++; w.looks%w.wanted != 0 {
		return "", false
	}
	order := byLoad(d.members)
	if len(order) == 0 {
		return "", false
	}
	// Whoever does not take its turn cannot, or is of a release that does not look.
	next := order[(w.looks/w.wanted-1)%len(order)]
	return next.ID, next.Instance == w.instance
}

// byLoad returns the static members, those with the fewest partitions first, and by instance. Dynamic
// ones do not look.
func byLoad(members []Member) []Member {
	static := slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.Instance == "" })
	slices.SortFunc(static, func(a, b Member) int {
		return cmp.Or(cmp.Compare(len(a.Assigned), len(b.Assigned)), cmp.Compare(a.Instance, b.Instance))
	})
	return static
}
