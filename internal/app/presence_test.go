package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/store"
)

// parish is a fleet over a Redis and a Temporal that the test plays, in virtual time.
type parish struct {
	t *testing.T

	mu      sync.Mutex
	away    bool
	beats   map[string]store.Present
	bodies  map[string][]byte
	leases  map[string]activities.Lease // by pipeline-replica
	seats   map[string][]seat           // by queue
	ending  map[string]bool
	refuses map[string]bool // queues that take no offers
	gone    []string        // what Replicas were told
	moves   []string
	stops   map[string]context.CancelFunc
	frozen  map[string]bool
	ready   map[string]*atomic.Bool // by name
	stalled map[string]time.Time
	sees    map[string]*archives // by name
	formats map[string]*fleetFormat
	running sync.WaitGroup
}

func inParish(t *testing.T, test func(p *parish)) {
	synctest.Test(t, func(t *testing.T) {
		p := &parish{
			t: t, beats: make(map[string]store.Present), bodies: make(map[string][]byte), leases: make(map[string]activities.Lease),
			seats: make(map[string][]seat), ending: make(map[string]bool), refuses: make(map[string]bool),
			stops: make(map[string]context.CancelFunc), frozen: make(map[string]bool), stalled: make(map[string]time.Time),
			ready: make(map[string]*atomic.Bool), sees: make(map[string]*archives),
			formats: make(map[string]*fleetFormat),
		}
		defer p.running.Wait()
		defer func() {
			for _, stop := range p.stops {
				stop()
			}
		}()
		test(p)
	})
}

// view is the parish as one process sees it: a frozen one sees nothing and is not seen.
type view struct {
	*parish
	queue string
}

func (v view) reach() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.away || v.frozen[v.queue] {
		return errAway
	}
	return nil
}

func (v view) Beat(_ context.Context, _ string, me store.Present, body []byte) (all []store.Present, err error) {
	if err := v.reach(); err != nil {
		return nil, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.beats[me.ID], v.bodies[me.ID] = me, body
	for _, p := range v.beats {
		all = append(all, p)
	}
	return all, nil
}

func (v view) Bodies(_ context.Context, _ string, ids ...string) (all [][]byte, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, id := range ids {
		all = append(all, v.bodies[id])
	}
	return all, nil
}

func (v view) Bury(_ context.Context, _ string, seen store.Present) (bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.beats[seen.ID] != seen {
		return false, nil
	}
	delete(v.beats, seen.ID)
	return true, nil
}

func (v view) Leave(_ context.Context, _, id string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.frozen[id] { // one that was killed takes no leave
		delete(v.beats, id)
	}
	return nil
}

func (v view) AcquireLease(context.Context, string, int, activities.Lease, time.Duration) (l activities.Lease, held bool, err error) {
	return l, false, errAway
}

func (v view) ReadLease(_ context.Context, pipeline string, replica int) (activities.Lease, bool, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	l, found := v.leases[fmt.Sprint(pipeline, "-", replica)]
	return l, found, nil
}

func (v view) ReleaseLease(_ context.Context, pipeline string, replica int, token string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if key := fmt.Sprint(pipeline, "-", replica); v.leases[key].Token == token {
		delete(v.leases, key)
	}
	return nil
}

func (v view) holderGone(_ context.Context, pipeline string, replica int, in contract.HolderGone) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.gone = append(v.gone, fmt.Sprintf("%s-%d on %s", pipeline, replica, in.Worker))
	return nil
}

func (v view) handOver(_ context.Context, pipeline string, replica int, in contract.HandOver) (contract.PlaceReceipt, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.refuses[in.To] {
		return contract.PlaceReceipt{Note: "no"}, nil
	}
	at := slices.IndexFunc(v.seats[in.From], func(s seat) bool { return s.Pipeline == pipeline && s.Replica == replica })
	if at < 0 {
		return contract.PlaceReceipt{}, errors.New("it is not there")
	}
	s := v.seats[in.From][at]
	v.seats[in.From] = slices.Delete(slices.Clone(v.seats[in.From]), at, at+1)
	v.seats[in.To] = append(slices.Clone(v.seats[in.To]), s)
	v.moves = append(v.moves, fmt.Sprintf("%s-%d to %s", pipeline, replica, in.Worker))
	return contract.PlaceReceipt{Taken: true}, nil
}

// join starts the presence of a process with these hot paths.
func (p *parish) join(name string, seats ...seat) {
	v := view{p, "q-" + name}
	p.mu.Lock()
	p.seats[v.queue] = seats
	for _, s := range seats {
		p.leases[fmt.Sprint(s.Pipeline, "-", s.Replica)] = activities.Lease{Worker: name, Queue: v.queue, Token: "of " + name}
	}
	p.mu.Unlock()
	presence := newPresence(v, v, "default", v.queue, name, true, quiet)
	presence.ready.Store(true)
	ctx, cancel := context.WithCancel(context.Background())
	p.stops[name], p.ready[name], p.sees[name], p.formats[name] = cancel, &presence.ready, presence.archives, presence.format
	p.running.Go(func() {
		presence.run(ctx, func() ([]seat, bool) {
			p.mu.Lock()
			late := time.Until(p.stalled[v.queue])
			p.mu.Unlock()
			<-time.After(late)
			p.mu.Lock()
			defer p.mu.Unlock()
			return slices.Clone(p.seats[v.queue]), p.ending[v.queue]
		}, v)
	})
}

// kill makes a process silent for good, and freeze until it is thawed.
func (p *parish) kill(name string) {
	p.freeze(name, true)
	p.stops[name]()
}

// stall keeps a process from running for a while: it finds out itself.
func (p *parish) stall(name string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled["q-"+name] = time.Now().Add(d)
}

func (p *parish) freeze(name string, frozen bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen["q-"+name] = frozen
}

func (p *parish) redis(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = away
}

func (p *parish) told() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := slices.Clone(p.gone)
	slices.Sort(all)
	return all
}

func (p *parish) moved() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.moves)
}

func hold(pipeline string, replica int) seat {
	return seat{Pipeline: pipeline, Replica: replica, Steady: true}
}

func TestAKilledWorkerIsNoticed(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a", hold("orders", 0), hold("flights", 1))
		p.join("b", hold("orders", 1), hold("flights", 0))
		p.join("c")
		pass(5 * time.Second)
		p.kill("a")
		pass(contract.GoneAfter - contract.PresenceEvery - time.Millisecond)
		require.Empty(t, p.told())
		pass(2*contract.PresenceEvery + time.Millisecond)
		require.Equal(t, []string{"flights-1 on a", "orders-0 on a"}, p.told(), "each once, though two noticed")
		require.NotContains(t, p.leases, "orders-0", "its leases are free")
		require.Contains(t, p.leases, "orders-1")
		pass(time.Minute)
		require.Len(t, p.told(), 2)
	})
}

// A worker that Temporal does not answer could not tell a Replica anything. It leaves the dead to one that can, or to later.
func TestAWorkerWithoutTemporalBuriesNobody(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a", hold("orders", 0))
		p.join("b")
		p.ready["b"].Store(false)
		pass(5 * time.Second)
		p.kill("a")
		pass(contract.StrangerGoneAfter + time.Second)
		require.Empty(t, p.told())
		require.Contains(t, p.leases, "orders-0")
		p.ready["b"].Store(true)
		pass(2 * contract.PresenceEvery)
		require.Equal(t, []string{"orders-0 on a"}, p.told())
	})
}

// The only worker of a fleet is killed, and another one is started: it has never seen the first one beat.
func TestAStrangersRecordIsNoticed(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a", hold("orders", 0))
		pass(5 * time.Second)
		p.kill("a")
		pass(time.Second)
		p.join("b")
		pass(contract.StrangerGoneAfter - time.Second)
		require.Empty(t, p.told())
		pass(1500 * time.Millisecond)
		require.Equal(t, []string{"orders-0 on a"}, p.told())
	})
}

// Redis being away is nobody's death, however long, and neither is a process that finds back to it late.
func TestRedisAwayIsNoDeath(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a", hold("orders", 0))
		p.join("b", hold("orders", 1))
		pass(5 * time.Second)
		for _, d := range []time.Duration{1500 * time.Millisecond, 10 * time.Second, time.Hour} {
			p.redis(true)
			pass(d)
			p.freeze("a", true)
			p.redis(false)
			pass(4 * time.Second)
			p.freeze("a", false)
			pass(10 * time.Second)
			require.Empty(t, p.told(), "after %s", d)
		}
		p.kill("b")
		pass(3 * time.Second)
		require.Equal(t, []string{"orders-1 on b"}, p.told(), "a death is still noticed")
	})
}

// A watcher that was frozen itself draws no conclusions from what it missed.
func TestAFrozenWatcher(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a", hold("orders", 0))
		p.join("b", hold("orders", 1))
		pass(5 * time.Second)
		p.freeze("a", true)
		p.freeze("b", true)
		pass(time.Minute)
		p.freeze("b", false)
		pass(time.Second)
		p.freeze("a", false)
		pass(time.Minute)
		require.Empty(t, p.told())
	})
}

// A worker that is away for too short a time is left alone; one that ends takes its leave.
func TestNeitherHiccupsNorEndsAreDeaths(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a", hold("orders", 0))
		p.join("b", hold("orders", 1))
		pass(5 * time.Second)
		for range 20 {
			p.freeze("a", true)
			pass(contract.GoneAfter - 2*contract.PresenceEvery - 100*time.Millisecond)
			p.freeze("a", false)
			pass(time.Second)
		}
		p.stops["b"]()
		pass(time.Minute)
		require.Empty(t, p.told())
	})
}

func TestHotPathsSpread(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a", hold("orders", 0), hold("orders", 1), hold("orders", 2))
		pass(time.Minute)
		require.Empty(t, p.moved())
		p.join("b")
		p.join("c")
		pass(contract.SpreadAfter - time.Second)
		require.Empty(t, p.moved(), "the fleet has to come to rest first")
		pass(2 * time.Second)
		require.Len(t, p.moved(), 1, "one at a time")
		pass(contract.SpreadAfter + 2*time.Second)
		require.Len(t, p.moved(), 2)
		pass(time.Hour)
		require.Len(t, p.moved(), 2, "and none comes back: %v", p.moved())
	})
}

// A worker that takes none is asked once in a while, and does not keep others from getting some.
func TestOneThatTakesNone(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a", hold("orders", 0), hold("orders", 1), hold("orders", 2), hold("orders", 3))
		p.join("b")
		p.join("c")
		p.mu.Lock()
		p.refuses["q-b"] = true
		p.mu.Unlock()
		pass(2 * time.Minute)
		require.Equal(t, []string{"orders-0 to c", "orders-1 to c"}, p.moved())
		p.mu.Lock()
		p.refuses["q-b"] = false
		p.mu.Unlock()
		pass(contract.RefusedMoveFor)
		require.Equal(t, "orders-0 to b", p.moved()[2])
	})
}

// While a worker misses its beats nothing moves, and the fleet has to come to rest anew: it may be about to be replaced.
func TestNothingMovesWhileAWorkerIsSilent(t *testing.T) {
	w := newFleetWatch("q0")
	members := fleetOf(3, 0)
	start := time.Now()
	at := func(d time.Duration, silent bool) bool {
		t.Helper()
		now := start.Add(d)
		all := []store.Present{{ID: "q0", Beat: int64(d)}, {ID: "q1", Beat: int64(d)}}
		if silent {
			all[1].Beat = w.known["q1"].present.Beat
		}
		for _, id := range w.see(now, all) {
			w.learn(id, members[slices.IndexFunc(members, func(m member) bool { return m.Queue == id })])
		}
		_, ok := w.move(now)
		return ok
	}
	moves := 0
	for d := time.Duration(0); d < time.Minute; d += contract.PresenceEvery {
		phase := d % (8 * time.Second)
		if at(d, phase == 7*time.Second || phase == 7*time.Second+contract.PresenceEvery) {
			moves++
		}
	}
	require.Zero(t, moves)
	for d := time.Minute; d < time.Minute+2*contract.SpreadAfter; d += contract.PresenceEvery {
		if at(d, false) {
			moves++
		}
	}
	require.NotZero(t, moves)
}

// A process that gets little of the processor beats late. Once it has noticed that itself, others are patient with it, but not with
// one that is really gone.
func TestASlowProcessIsNotBuriedAgain(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a", hold("orders", 0))
		p.join("b", hold("orders", 1))
		const between = 100 * time.Millisecond // stalls begin between two beats, so that their order does not matter
		pass(5*time.Second + between)
		stall := func(d time.Duration) {
			p.stall("a", d)
			pass(d.Round(contract.PresenceEvery) + 3*time.Second)
		}
		stall(1400 * time.Millisecond)
		require.Empty(t, p.told())
		stall(2600 * time.Millisecond)
		require.Empty(t, p.told(), "it has said that its beats may take longer")
		p.kill("a")
		pass(contract.StrangerGoneAfter + time.Second)
		require.Equal(t, []string{"orders-0 on a"}, p.told())
	})
}

func TestGapsOfBeats(t *testing.T) {
	var g beatGaps
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	beat := func(after time.Duration) {
		now = now.Add(after)
		g.succeeded(now)
	}
	beat(0)
	beat(contract.PresenceEvery)
	require.Zero(t, g.slow(now))
	beat(1300 * time.Millisecond)
	require.Equal(t, 1500*time.Millisecond, g.slow(now))
	g.failed()
	beat(time.Hour)
	require.Zero(t, g.slow(now), "Redis was away, and what was before is forgotten")
	beat(3 * time.Second)
	beat(contract.PresenceEvery)
	require.Equal(t, 3*time.Second, g.slow(now))
	require.Zero(t, g.slow(now.Add(gapKept+time.Second)))
}
