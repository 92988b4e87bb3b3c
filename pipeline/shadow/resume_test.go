package shadow_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

// process is one attempt at running the shadow, with a connection of its own that breaks for good when it dies.
type process struct {
	w      *world
	store  *store.Store
	faults *storetest.Faults
	dead   atomic.Bool
	cancel context.CancelFunc
	ctx    context.Context
}

func (w *world) newProcess() *process {
	client := storetest.Client(w.t, w.server.Addr(), false)
	p := &process{w: w, faults: storetest.NewFaults(storetest.Client(w.t, w.server.Addr(), false))}
	client.AddHook(p.faults)
	p.store = store.New(client)
	p.ctx, p.cancel = context.WithCancel(w.ctx)
	w.t.Cleanup(p.cancel)
	return p
}

// dieAt kills the process at its n-th write, before or after Redis has it.
func (p *process) dieAt(n int64, outcome storetest.Outcome) {
	var writes atomic.Int64
	p.faults.Plan(func(op storetest.Op) storetest.Outcome {
		if p.dead.Load() {
			return storetest.FailBefore
		}
		if op.Write() && writes.Add(1) == n {
			p.dead.Store(true)
			p.cancel()
			return outcome
		}
		return storetest.Pass
	})
}

func (p *process) config() shadow.RunConfig {
	cfg := p.w.runConfig()
	cfg.Store = p.store
	return cfg
}

// TestShadowGoesOnFromItsOwnCommits: a runner that is killed at a write, whichever, leaves what the next one goes on from.
func TestShadowGoesOnFromItsOwnCommits(t *testing.T) {
	for _, lateness := range []plan.Lateness{plan.AsRead, plan.None} {
		t.Run(string(lateness), func(t *testing.T) {
			w := newWorld(t, 5, summing("v", families), 3)
			w.live(500)
			replayed := summing("v2", families)
			p := w.begin(w.ask(lateness, replayed))
			require.NoError(t, shadow.SetRate(w.ctx, w.store, "orders", "r1", 3000))
			opened := &openings{kafka: w.kafka, at: map[int32][]int64{}}
			kills := 0
			for n := int64(1); ; n++ {
				run := w.newProcess()
				outcome := storetest.FailBefore
				if n%2 == 0 {
					outcome = storetest.FailAfter
				}
				run.dieAt(5+n%11, outcome) // taking guard and lanes over are five writes
				cfg := run.config()
				cfg.Open = opened.open
				_, err := shadow.Run(run.ctx, cfg)
				if err == nil {
					break
				}
				require.True(t, run.dead.Load(), "%v", err)
				kills++
				opened.requireCommitted(w)
				require.Less(t, kills, 200)
			}
			t.Logf("killed %d times", kills)
			require.Greater(t, kills, 10)
			content, differ := w.found(p)
			was, is := within(p, w.counted(summing("v", families), plan.AsRead)), within(p, w.counted(replayed, lateness))
			require.Equal(t, is, content)
			w.requireDifference(was, is, differ)
		})
	}
}

// TestNothingIsFoldedBesideACommit: while a write of a lane is under way the lane takes no further batch, so that a death
// costs it what one commit holds.
func TestNothingIsFoldedBesideACommit(t *testing.T) {
	w := newWorld(t, 5, summing("v", families), 3)
	w.live(500)
	w.begin(w.ask(plan.AsRead, summing("v2", families)))
	require.NoError(t, shadow.SetRate(w.ctx, w.store, "orders", "r1", 3000))
	run := w.newProcess()
	lane := regexp.MustCompile(`orders@r1/orders/(\d)}`)
	var delivered [8]atomic.Int64 // batches that lanes have taken, by partition
	var held, beside atomic.Int64
	run.faults.Gate(func(ctx context.Context, op storetest.Op) {
		found := lane.FindStringSubmatch(strings.Join(op.Args, " "))
		if found == nil || !op.Write() {
			return
		}
		taken := &delivered[found[1][0]-'0']
		rest := func(d time.Duration) {
			select {
			case <-time.After(d):
			case <-ctx.Done():
			}
		}
		rest(5 * time.Millisecond) // a batch that was taken before may still be uncounted
		before := taken.Load()
		rest(20 * time.Millisecond)
		held.Add(1)
		beside.Add(taken.Load() - before)
	})
	cfg := run.config()
	cfg.Open = func(cfg source.ReaderConfig) source.Reader {
		return w.kafka.OpenReader(cfg, func(int64) { delivered[cfg.Partition].Add(1) })
	}
	_, err := shadow.Run(run.ctx, cfg)
	require.NoError(t, err)
	require.Greater(t, held.Load(), int64(10))
	require.LessOrEqual(t, beside.Load(), held.Load()/10, "of %d writes", held.Load())
	t.Logf("%d writes, %d batches beside them", held.Load(), beside.Load())
}

// openings notes from where lanes are read.
type openings struct {
	kafka *publishtest.Kafka
	mu    sync.Mutex
	at    map[int32][]int64
}

func (o *openings) open(cfg source.ReaderConfig) source.Reader {
	o.mu.Lock()
	o.at[cfg.Partition] = append(o.at[cfg.Partition], cfg.Offset)
	o.mu.Unlock()
	return o.kafka.OpenReader(cfg, nil)
}

// requireCommitted requires that no lane was read from below what an earlier attempt had begun with, nor from above what is
// committed: nothing but what no commit holds is read again.
func (o *openings) requireCommitted(w *world) {
	w.t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	for p, offsets := range o.at {
		meta, found, err := w.store.ReadMeta(w.ctx, store.LaneID{Pipeline: "orders@r1", Topic: "orders", Partition: p})
		require.NoError(w.t, err)
		require.True(w.t, found)
		for i, offset := range offsets {
			require.LessOrEqual(w.t, offset, meta.Offset)
			if i > 0 {
				require.GreaterOrEqual(w.t, offset, offsets[i-1])
			}
		}
	}
}

// TestEndedShadowIsNotWrittenTo: a runner that is frozen at a write, whichever, while the shadow is ended, writes nothing
// when it goes on; no key is left.
func TestEndedShadowIsNotWrittenTo(t *testing.T) {
	w := newWorld(t, 9, summing("v", families), 3)
	w.live(400)
	replayed := summing("v2", families)
	for n := int64(1); n < 40; n += 3 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			w.t = t
			w.begin(w.ask(plan.AsRead, replayed))
			require.NotEmpty(t, w.keysOf())
			run := w.newProcess()
			frozen, thaw := make(chan struct{}), make(chan struct{})
			var writes atomic.Int64
			run.faults.Gate(func(ctx context.Context, op storetest.Op) {
				if op.Write() && writes.Add(1) >= n {
					if writes.Load() == n {
						close(frozen)
					}
					select {
					case <-thaw:
					case <-ctx.Done():
					}
				}
			})
			done := make(chan error, 1)
			go func() {
				_, err := shadow.Run(run.ctx, run.config())
				done <- err
			}()
			var err error
			select {
			case <-frozen:
			case err = <-done:
				require.NoError(t, err) // it was faster
			}
			require.NoError(t, shadow.End(w.ctx, w.store, "orders", "r1", time.UnixMilli(w.clock), nil))
			require.Empty(t, w.keysOf())
			close(thaw)
			if err == nil && writes.Load() >= n {
				err = <-done
				require.Error(t, err)
				require.True(t, isEnded(err), "%v", err)
			}
			require.Empty(t, w.keysOf())
			ids, err := shadow.List(w.ctx, w.store, "orders")
			require.NoError(t, err)
			require.Empty(t, ids)
			_, err = shadow.Run(w.ctx, w.runConfig())
			require.ErrorIs(t, err, store.ErrNoShadow)
		})
	}
}

// TestEndFencesBeforeItDeletes: from then on nobody can take the shadow or its lanes, or steer it.
func TestEndFencesBeforeItDeletes(t *testing.T) {
	w := newWorld(t, 12, summing("v", hourly), 2)
	w.live(200)
	w.begin(w.ask(plan.AsRead, summing("v", hourly)))
	ending := w.newProcess()
	scanning, thaw := make(chan struct{}), make(chan struct{})
	var once sync.Once
	ending.faults.Gate(func(_ context.Context, op storetest.Op) {
		if op.Args[0] == "scan" {
			once.Do(func() { close(scanning) })
			<-thaw
		}
	})
	done := make(chan error, 1)
	go func() { done <- shadow.End(w.ctx, ending.store, "orders", "r1", time.UnixMilli(w.clock), nil) }()
	<-scanning
	require.ErrorIs(t, shadow.SetRate(w.ctx, w.store, "orders", "r1", 1), store.ErrShadowEnds)
	_, err := shadow.Run(w.ctx, w.runConfig())
	require.ErrorIs(t, err, store.ErrShadowEnds)
	for n := range int32(2) {
		meta, found, err := w.store.ReadMeta(w.ctx, store.LaneID{Pipeline: "orders@r1", Topic: "orders", Partition: n})
		require.NoError(t, err)
		require.True(t, found && meta.Owner.Removed())
	}
	close(thaw)
	require.NoError(t, <-done)
	require.Empty(t, w.keysOf())
}

func isEnded(err error) bool {
	for _, want := range []error{
		store.ErrNoShadow, store.ErrShadowEnds, store.ErrFenced, store.ErrNoMeta, store.ErrRemoved, store.ErrOwnerChanged, shadow.ErrLost,
	} {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}

// TestFrozenBeginLeavesNothing: a worker that is frozen while it makes the shadow's keys, and goes on after the end, cleans
// up what it makes.
func TestFrozenBeginLeavesNothing(t *testing.T) {
	w := newWorld(t, 11, summing("v", hourly), 2)
	w.live(200)
	for n := int64(1); n < 12; n++ {
		p, err := w.prepare(w.ask(plan.AsRead, summing("v", hourly)))
		require.NoError(t, err)
		run := w.newProcess()
		frozen, thaw := make(chan struct{}), make(chan struct{})
		var writes atomic.Int64
		run.faults.Gate(func(_ context.Context, op storetest.Op) {
			if op.Write() && writes.Add(1) == n {
				close(frozen)
				<-thaw
			}
		})
		done := make(chan error, 1)
		go func() {
			_, err := shadow.Begin(run.ctx, run.store, p, 0, time.UnixMilli(w.clock))
			done <- err
		}()
		select {
		case <-frozen:
		case err := <-done:
			require.NoError(t, err)
			require.NoError(t, shadow.End(w.ctx, w.store, "orders", "r1", time.UnixMilli(w.clock), nil))
			require.Greater(t, n, int64(5))
			require.Empty(t, w.keysOf())
			return
		}
		require.NoError(t, shadow.End(w.ctx, w.store, "orders", "r1", time.UnixMilli(w.clock), nil))
		close(thaw)
		if err := <-done; err == nil { // it was frozen before it had registered the shadow
			require.Equal(t, int64(1), n)
			require.NoError(t, shadow.End(w.ctx, w.store, "orders", "r1", time.UnixMilli(w.clock), nil))
		}
		require.Empty(t, w.keysOf(), n)
	}
	require.Fail(t, "it never came through")
}
