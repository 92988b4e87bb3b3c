package source

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// lanes is a Handler that notes what it owns.
type lanes struct {
	mu      sync.Mutex
	owned   map[int32]Claim
	calls   map[int32]int
	causes  []error
	changed chan struct{}
	// early makes Own of these partitions return at once, as a lane must not.
	early map[int32]bool
}

func newLanes() *lanes {
	return &lanes{owned: map[int32]Claim{}, calls: map[int32]int{}, changed: make(chan struct{}, 1), early: map[int32]bool{}}
}

func (l *lanes) Own(ctx context.Context, claim Claim) {
	l.change(func() {
		l.owned[claim.Partition()] = claim
		l.calls[claim.Partition()]++
	})
	if l.early[claim.Partition()] {
		return
	}
	<-ctx.Done()
	l.change(func() {
		delete(l.owned, claim.Partition())
		l.causes = append(l.causes, context.Cause(ctx))
	})
}

func (l *lanes) change(f func()) {
	l.mu.Lock()
	f()
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// until waits for a state.
func (l *lanes) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		l.mu.Lock()
		held := ok()
		l.mu.Unlock()
		if held {
			return
		}
		select {
		case <-l.changed:
		case <-deadline:
			l.mu.Lock()
			defer l.mu.Unlock()
			require.FailNowf(t, "never happened: "+what, "owned %v, calls %v, causes %v", slices.Sorted(maps.Keys(l.owned)), l.calls, l.causes)
		}
	}
}

func (l *lanes) untilOwned(t *testing.T, n int) {
	t.Helper()
	l.until(t, "owning", func() bool { return len(l.owned) == n })
}

func (l *lanes) claim(partition int32) Claim {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owned[partition]
}

func (l *lanes) counts() map[int32]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.calls)
}

// member is a running Membership.
type member struct {
	*lanes
	stop func() error // returns what Run returned
	done chan error
	errs chan error
}

func (k *kafka) join(t *testing.T, group, instance, topic string, l *lanes) *member {
	t.Helper()
	errs := make(chan error, 1000)
	m, err := NewMembership(MembershipConfig{
		Config: k.cfg, Cluster: k.cluster, Group: group, InstanceID: instance, Topics: []string{topic},
		HintInterval: 50 * time.Millisecond, orphanLook: 100 * time.Millisecond,
		OnTrouble: func(err error) {
			select {
			case errs <- err:
			default:
			}
		},
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx, l) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return await(t, "the end of Run", done)
	})
	t.Cleanup(func() { _ = stop() })
	return &member{lanes: l, stop: stop, done: done, errs: errs}
}

func TestRetainedClaimsGoOnWhileOthersMove(t *testing.T) {
	k := anyKafka(t)
	topic, group := k.topic(t, 8), unique("g")
	a := k.join(t, group, "a", topic, newLanes())
	a.untilOwned(t, 8)
	b := k.join(t, group, "b", topic, newLanes())
	b.untilOwned(t, 4)
	a.untilOwned(t, 4)
	for partition, n := range a.counts() {
		require.Equal(t, 1, n, "partition %d", partition)
	}
	for _, cause := range a.causes {
		require.ErrorIs(t, cause, ErrRevoked)
	}
	held := slices.Sorted(maps.Keys(a.owned))

	// A static member that stops keeps its claims until somebody removes it.
	require.NoError(t, b.stop())
	require.Len(t, b.causes, 4)
	for _, cause := range b.causes {
		require.ErrorIs(t, cause, ErrSessionEnded)
	}
	exists, err := k.cluster.GroupExists(t.Context(), group)
	require.NoError(t, err)
	require.True(t, exists)
	require.NoError(t, k.cluster.RemoveMember(t.Context(), group, "b"))
	a.untilOwned(t, 8)
	for _, partition := range held {
		require.Equal(t, 1, a.counts()[partition])
	}
	require.NoError(t, a.stop())
}

func TestASuccessorTakesOverAndThePredecessorIsFenced(t *testing.T) {
	k := anyKafka(t)
	topic, group := k.topic(t, 4), unique("g")
	other := k.join(t, group, "other", topic, newLanes())
	other.untilOwned(t, 4)
	first := k.join(t, group, "x", topic, newLanes())
	first.untilOwned(t, 2)
	other.untilOwned(t, 2)
	claims := slices.Collect(maps.Values(first.owned))
	still, err := claims[0].StillAssigned(within(t))
	require.NoError(t, err)
	require.True(t, still)

	second := k.join(t, group, "x", topic, newLanes())
	second.untilOwned(t, 2)
	err = await(t, "the end of the fenced member", first.done)
	first.done <- err
	require.ErrorIs(t, err, ErrFencedInstance)
	still, err = claims[0].StillAssigned(within(t))
	require.NoError(t, err)
	require.False(t, still)
	require.Len(t, other.counts(), 4)
	for partition, n := range other.counts() {
		require.Equal(t, 1, n, "partition %d", partition)
	}
	require.NoError(t, second.stop())
	require.NoError(t, other.stop())
}

// The process whose member was thrown out while it was frozen must not believe it still owns the lane.
func TestStillAssignedAsksTheCoordinator(t *testing.T) {
	k := anyKafka(t)
	topic, group := k.topic(t, 1), unique("g")
	cfg := k.cfg
	k.cfg.HeartbeatInterval = 2 * time.Second // late to notice
	a := k.join(t, group, "a", topic, newLanes())
	k.cfg = cfg
	a.untilOwned(t, 1)
	claim := a.claim(0)
	require.NotEmpty(t, claim.MemberID())
	require.Positive(t, claim.Generation())
	require.NoError(t, k.cluster.RemoveMember(t.Context(), group, "a"))
	still, err := claim.StillAssigned(within(t))
	require.NoError(t, err)
	require.False(t, still)
	a.until(t, "joining again", func() bool { return a.calls[0] == 2 && len(a.owned) == 1 })
	still, err = a.claim(0).StillAssigned(within(t))
	require.NoError(t, err)
	require.True(t, still)
	require.NoError(t, a.stop())
	still, err = claim.StillAssigned(within(t))
	require.NoError(t, err)
	require.False(t, still)
}

// A member that was frozen while its group was deleted does not make the group again.
func TestADeletedGroupIsNotMadeAgain(t *testing.T) {
	k := anyKafka(t)
	topic, group := k.topic(t, 1), unique("g")
	cfg := k.cfg
	k.cfg.HeartbeatInterval = 2 * time.Second // late to notice
	a := k.join(t, group, "a", topic, newLanes())
	k.cfg = cfg
	a.untilOwned(t, 1)
	claim := a.claim(0)
	known, err := claim.StillMember(within(t))
	require.NoError(t, err)
	require.True(t, known)
	require.ErrorIs(t, k.cluster.DeleteGroup(t.Context(), group), ErrGroupInUse)
	members, exists, err := k.cluster.Members(t.Context(), group)
	require.NoError(t, err)
	require.True(t, exists)
	require.Len(t, members, 1)
	require.Equal(t, "a", members[0].Instance)
	require.NotEmpty(t, members[0].ID)
	require.NotEmpty(t, members[0].Host)

	require.NoError(t, k.cluster.RemoveMember(t.Context(), group, "a"))
	require.NoError(t, k.cluster.DeleteGroup(t.Context(), group))
	require.NoError(t, k.cluster.DeleteGroup(t.Context(), group), "repeating it is fine")
	known, err = claim.StillMember(within(t))
	require.NoError(t, err)
	require.False(t, known)
	require.ErrorIs(t, await(t, "the end of Run", a.done), ErrGroupGone)
	exists, err = k.cluster.GroupExists(t.Context(), group)
	require.NoError(t, err)
	require.False(t, exists)
	require.Equal(t, 1, a.counts()[0])
	a.done <- nil // for the end of the test
}

func TestAnEarlyReturnRestartsNobody(t *testing.T) {
	k := anyKafka(t)
	topic, group := k.topic(t, 4), unique("g")
	l := newLanes()
	l.early[2] = true
	a := k.join(t, group, "a", topic, l)
	a.untilOwned(t, 4)
	b := k.join(t, group, "b", topic, newLanes())
	b.untilOwned(t, 2)
	for partition, n := range a.counts() {
		require.Equal(t, 1, n, "partition %d", partition)
	}
	require.NoError(t, b.stop())
	require.NoError(t, a.stop())
}

func TestHintsAreCommittedAndComeBack(t *testing.T) {
	k := anyKafka(t)
	topic, group := k.topic(t, 2), unique("g")
	tps := []TopicPartition{{topic, 0}, {topic, 1}}
	committed := func() map[TopicPartition]Committed {
		c, err := k.cluster.Committed(within(t), group, tps...)
		require.NoError(t, err)
		return c
	}
	a := k.join(t, group, "a", topic, newLanes())
	a.untilOwned(t, 2)
	a.claim(0).MarkHint(100, "meta-100")
	a.claim(1).MarkHint(7, "meta-7")
	require.Eventually(t, func() bool {
		c := committed()
		return c[tps[0]] == Committed{100, "meta-100"} && c[tps[1]] == Committed{7, "meta-7"}
	}, patience, 20*time.Millisecond)
	a.claim(0).MarkHint(99, "no way back like this")
	a.claim(1).ResetHint(3, "meta-3")
	require.Eventually(t, func() bool { return committed()[tps[1]] == Committed{3, "meta-3"} }, patience, 20*time.Millisecond)
	require.Equal(t, Committed{100, "meta-100"}, committed()[tps[0]])
	a.claim(0).MarkHint(200, "last words")
	require.NoError(t, a.stop())
	require.Equal(t, Committed{200, "last words"}, committed()[tps[0]])

	// A hint that is nowhere in the log is harmless.
	b := k.join(t, group, "a", topic, newLanes())
	b.untilOwned(t, 2)
	require.NoError(t, b.stop())
	require.Equal(t, map[int32]int{0: 1, 1: 1}, b.counts())
}

func TestRunWaitsForBrokersAndTopics(t *testing.T) {
	k := fakeKafka(t)
	topic := unique("t")
	a := k.join(t, unique("g"), "a", topic, newLanes())
	require.Error(t, await(t, "trouble", a.errs))
	require.NoError(t, k.fake.CreateTopic(topic, 2, nil))
	a.untilOwned(t, 2)
	require.NoError(t, a.stop())

	k.fake.Close()
	b := k.join(t, unique("g"), "b", topic, newLanes())
	require.ErrorIs(t, await(t, "trouble", b.errs), ErrUnreachable)
	require.NoError(t, b.stop())
}

// A restart of the only broker may end the session, but every claim comes back by itself.
func TestMembersComeBackAfterABrokerRestart(t *testing.T) {
	dir := t.TempDir()
	fake, port := persistentKafka(t, dir, 0)
	k := connect(t, &kafka{cfg: testConfig(fake.ListenAddrs()...), fake: fake})
	topic := k.topic(t, 3)
	a := k.join(t, unique("g"), "a", topic, newLanes())
	a.untilOwned(t, 3)
	a.claim(1).MarkHint(5, "five")
	fake.Close()
	a.until(t, "the end of the session", func() bool { return len(a.causes) == 3 })
	fake, _ = persistentKafka(t, dir, port)
	defer fake.Close()
	a.untilOwned(t, 3)
	require.Eventually(t, func() bool {
		c := a.claim(2)
		if c == nil {
			return false
		}
		still, err := c.StillAssigned(within(t))
		return err == nil && still
	}, patience, 50*time.Millisecond)
	for _, cause := range a.causes {
		require.ErrorIs(t, cause, ErrSessionEnded)
	}
	require.NoError(t, a.stop())
}

func TestMembershipSettings(t *testing.T) {
	k := fakeKafka(t)
	good := MembershipConfig{Config: k.cfg, Cluster: k.cluster, Group: "g", InstanceID: "i", Topics: []string{"t"}}
	for name, change := range map[string]func(*MembershipConfig){
		"no cluster":   func(c *MembershipConfig) { c.Cluster = nil },
		"no group":     func(c *MembershipConfig) { c.Group = "" },
		"no topics":    func(c *MembershipConfig) { c.Topics = nil },
		"bad instance": func(c *MembershipConfig) { c.InstanceID = "white space" },
		"bad config":   func(c *MembershipConfig) { c.Config.Brokers = nil },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			change(&c)
			_, err := NewMembership(c)
			require.Error(t, err)
		})
	}
	_, err := NewMembership(good)
	require.NoError(t, err)
}
