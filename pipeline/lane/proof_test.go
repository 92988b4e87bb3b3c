package lane

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
)

// A worker that thaws when its pipeline is gone must write nothing, whatever it was at: here Redis is empty, and the
// coordinator does not know the member any more.
func TestALaneOfARemovedPipelineWritesNothingBack(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, b *bench){
		"while it runs": func(t *testing.T, b *bench) { require.ErrorIs(t, <-b.done, store.ErrFenced) },
		"while it must go": func(t *testing.T, b *bench) {
			b.cancel()
			<-b.done
		},
	} {
		t.Run(name, func(t *testing.T) {
			st, redis := testStore(t)
			log := newFakeLog(randomLog(rand.New(rand.NewPCG(4, 4)), 500))
			b := start(t, log, st, redis)
			b.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 })
			log.mu.Lock()
			log.assigned = false
			redis.FlushAll()
			log.mu.Unlock()
			change(t, b)
			b.done <- nil
			require.Empty(t, redis.Keys())
		})
	}
}

// The freeze may end between the coordinator's answer and the first write: the write is taken back.
func TestAMetaIsTakenBackFromOneWhoIsNoMember(t *testing.T) {
	st, redis := testStore(t)
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(4, 4)), 500))
	log.assigned = false
	b := start(t, log, st, redis)
	require.ErrorIs(t, <-b.done, store.ErrFenced)
	b.done <- nil
	require.Empty(t, redis.Keys())
}

// unsure is a log whose coordinator does not answer while away is set.
type unsure struct {
	*fakeLog
	away atomic.Bool
}

func (u *unsure) StillMember(ctx context.Context) (bool, error) {
	if u.away.Load() {
		return false, errors.New("no coordinator")
	}
	return u.fakeLog.StillMember(ctx)
}

func TestNobodyBeginsBeforeTheCoordinatorHasAnswered(t *testing.T) {
	st, redis := testStore(t)
	log := &unsure{fakeLog: newFakeLog(randomLog(rand.New(rand.NewPCG(4, 4)), 500))}
	log.away.Store(true)
	deps := &Deps{
		Store: st, Side: &sideLog{}, Cluster: log, Open: log.open, Group: "g",
		Budget: NewBudget(1 << 30), Desired: NewDesired(), Log: quiet,
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &bench{Lane: New(deps, mustProgram(t), log), log: log.fakeLog, store: st, redis: redis, cancel: cancel, done: make(chan error, 1)}
	go func() { b.done <- b.Run(ctx) }()
	b.wait(t, "it waits", func(s Status) bool { return s.Reason == "no coordinator" })
	require.Eventually(t, func() bool { return len(redis.Keys()) == 0 }, 5*time.Second, time.Millisecond, "between two tries")
	log.away.Store(false)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 })
	require.NoError(t, b.stop(t))
}

// A lane that Redis knows nothing of begins only where somebody wants its pipeline: Redis has its desired state, or who wants
// it says so when asked. Redis may have been emptied, and nobody has to wait until something fills it again.
func TestALaneBeginsOnlyInAPipelineThatIsWanted(t *testing.T) {
	st, redis := testStore(t)
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(4, 4)), 500))
	answers := func(wanted bool, err error) func(*Deps) {
		return func(d *Deps) { d.Wanted = func(context.Context) (bool, error) { return wanted, err } }
	}
	b := start(t, log, st, redis, answers(false, nil))
	b.wait(t, "it waits", func(s Status) bool { return s.Reason == errUnwanted.Error() })
	require.Eventually(t, func() bool { return len(redis.Keys()) == 0 }, 5*time.Second, time.Millisecond, "between two tries")
	_, _, err := st.SetPipelineCtl(context.Background(), "orders", store.CtlChange{RequestID: "r"})
	require.NoError(t, err)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 })
	require.NoError(t, b.stop(t))

	st, redis = testStore(t)
	b = start(t, newFakeLog(log.records), st, redis, answers(true, nil))
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 })
	require.NoError(t, b.stop(t))

	st, redis = testStore(t)
	b = start(t, newFakeLog(log.records), st, redis, answers(false, errors.New("Temporal is away")))
	b.wait(t, "it waits", func(s Status) bool { return strings.HasSuffix(s.Reason, "no desired state: Temporal is away") })
	require.Eventually(t, func() bool { return len(redis.Keys()) == 0 }, 5*time.Second, time.Millisecond, "between two tries")
	b.cancel()
	require.NoError(t, <-b.done)
	b.done <- nil
}

// The answer counts only if it was given after the lane's meta was made: a removal that begins later finds it then.
func TestWhoWantsThePipelineIsAskedAfterTheMetaWasMade(t *testing.T) {
	st, redis := testStore(t)
	asked := make(chan []string, 1)
	b := start(t, newFakeLog(randomLog(rand.New(rand.NewPCG(4, 4)), 500)), st, redis, func(d *Deps) {
		d.Wanted = func(context.Context) (bool, error) {
			asked <- redis.Keys()
			return true, nil
		}
	})
	require.Equal(t, []string{"mr:{orders/orders/0}:meta"}, <-asked)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 })
	require.NoError(t, b.stop(t))
}

func TestNobodyAcquiresAFencedLane(t *testing.T) {
	st, redis := testStore(t)
	_, err := st.Fence(context.Background(), testLane, "removed:r")
	require.NoError(t, err)
	b := start(t, newFakeLog(nil), st, redis)
	b.wait(t, "it is refused", func(s Status) bool { return s.State == StateAcquiring && s.Reason != "" })
	require.Contains(t, b.Status().Reason, store.ErrRemoved.Error())
	b.cancel()
	require.NoError(t, <-b.done)
	b.done <- nil
	require.Equal(t, "removed:r", redis.HGet("mr:{orders/orders/0}:meta", "owner"))
}
