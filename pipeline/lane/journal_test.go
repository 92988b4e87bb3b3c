package lane

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/journal"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
)

// segment is small, and takes any commit of these tests.
const segment = 256 << 10

const away = "LOADING Redis is loading the dataset in memory"

// tap is a log whose reader brings records up to a limit that the test raises.
type tap struct {
	*fakeLog
	mu    sync.Mutex
	upto  int64
	moved chan struct{}
}

func newTap(records []source.Record) *tap {
	return &tap{fakeLog: newFakeLog(records), moved: make(chan struct{})}
}

func (p *tap) let(upto int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upto = upto
	close(p.moved)
	p.moved = make(chan struct{})
}

func (p *tap) open(cfg source.ReaderConfig) source.Reader {
	r := &fakeReader{out: make(chan source.Batch), stop: make(chan struct{})}
	go func() {
		defer close(r.out)
		for at := cfg.Offset; ; {
			p.mu.Lock()
			upto, moved := p.upto, p.moved
			p.mu.Unlock()
			next := moved
			var out chan source.Batch
			to := max(at, min(at+10, upto))
			if to > at {
				out = r.out
			}
			select {
			case out <- source.Batch{Records: p.records[at:to], Next: to, HighWatermark: int64(len(p.records))}:
				at = to
			case <-next:
			case <-r.stop:
				return
			}
		}
	}()
	return r
}

// gateway is a route that the test opens and closes.
type gateway struct {
	shut    atomic.Bool
	once    atomic.Bool // the next answer shuts it
	failed  atomic.Int64
	worked  atomic.Int64
	slowing atomic.Int64 // ns
}

func (g *gateway) Direct() bool { return !g.shut.Load() }
func (g *gateway) Report(err error) {
	if g.once.CompareAndSwap(true, false) {
		g.shut.Store(true)
	}
	if err != nil {
		g.failed.Add(1)
	} else {
		g.worked.Add(1)
	}
}
func (g *gateway) Admit(int) time.Duration { return time.Duration(g.slowing.Load()) }

func openJournal(t *testing.T, fs *faultfs.FS, limit int64) *journal.Journal {
	t.Helper()
	j, _, err := journal.Open(journal.Config{Log: wal.Config{
		Dir: "wal", FS: fs, SegmentSize: segment, HardLimit: limit, RetryAfter: time.Millisecond,
	}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = j.Close() })
	return j
}

// course is a lane with a journal, over a log that flows as the test wants.
type course struct {
	*bench
	tap     *tap
	fs      *faultfs.FS
	journal *journal.Journal
	gate    *gateway
	twice   bool // side records may be there more than once: their first try did not come to its end
}

func launch(t *testing.T, seed uint64, n int, change ...func(*Deps)) *course {
	t.Helper()
	st, redis := testStore(t)
	return launchOn(t, st, redis, newTap(randomLog(rand.New(rand.NewPCG(seed, seed)), n)), faultfs.New(0), 1<<30, change...)
}

func launchOn(t *testing.T, st *store.Store, redis *miniredis.Miniredis, p *tap, fs *faultfs.FS, limit int64, change ...func(*Deps)) *course {
	t.Helper()
	c := &course{tap: p, fs: fs, journal: openJournal(t, fs, limit), gate: &gateway{}}
	c.bench = start(t, p.fakeLog, st, redis, append([]func(*Deps){func(d *Deps) {
		d.Open, d.Journal, d.Route = p.open, c.journal, c.gate
	}}, change...)...)
	return c
}

// flow lets records through and waits until they are durable somewhere.
func (c *course) flow(t *testing.T, upto int64) {
	t.Helper()
	c.tap.let(upto)
	c.wait(t, "durable", func(s Status) bool { return s.Journaled == upto })
}

// pour lets records through, as many at a time as make a commit, until the lane is where the test wants it.
func (c *course) pour(t *testing.T, from int64, held func(Status) bool) {
	t.Helper()
	for upto := from; !held(c.Status()); upto += 200 {
		require.Less(t, upto, c.all())
		c.tap.let(upto)
		c.wait(t, "durable or held back", func(s Status) bool { return s.Journaled == upto || held(s) })
	}
}

func (c *course) all() int64 { return int64(len(c.tap.records)) }

// finish lets everything through and compares with a lane that nothing ever happened to.
func (c *course) finish(t *testing.T) {
	t.Helper()
	c.tap.let(c.all())
	c.wait(t, "all committed", func(s Status) bool { return s.Committed == c.all() && s.JournalCommits == 0 })
	require.NoError(t, c.stop(t))
	want := reference(t, c.tap.records)
	c.requireExact(t, want)
	got := places(c.side.records)
	if c.twice {
		got = slices.Compact(got)
	}
	require.Equal(t, places(sidesOf(want)), got, "each side record once")
	c.balanced(t)
}

func (c *course) balanced(t *testing.T) journal.Accounts {
	t.Helper()
	a := c.journal.Accounts()
	require.Equal(t, a.Spilled.Calls, a.Drained.Calls+a.Superseded.Calls+a.Pending.Calls)
	require.Equal(t, a.Spilled.Checksum, a.Drained.Checksum+a.Superseded.Checksum+a.Pending.Checksum)
	return a
}

// places lists the offsets of side records with their reasons.
func places(records []source.SideRecord) (all []string) {
	for _, r := range records {
		all = append(all, headerOf(r, "mr-offset")+" "+headerOf(r, "mr-reason"))
	}
	slices.Sort(all)
	return all
}

func (f *fakeLog) lastMark() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.marks) == 0 {
		return -1
	}
	return f.marks[len(f.marks)-1]
}

func TestJournalCarriesALaneOverAnOutage(t *testing.T) {
	c := launch(t, 21, 6000)
	c.flow(t, 1000)
	c.wait(t, "committed", func(s Status) bool { return s.Committed == 1000 })
	c.redis.SetError(away)
	for upto := int64(1100); upto <= 4000; upto += 100 {
		c.flow(t, upto)
		c.wait(t, "reading on", func(s Status) bool { return s.State == StateRunning })
		require.Equal(t, int64(1000), c.Status().Committed, "only what Redis has is committed")
		require.Equal(t, int64(1000), c.log.lastMark())
	}
	require.NotZero(t, c.Status().JournalBytes)
	require.NotZero(t, c.gate.failed.Load())
	c.redis.SetError("")
	c.finish(t)
	require.Equal(t, c.all(), c.log.lastMark())
	require.True(t, slices.IsSorted(c.log.marks))
	a := c.balanced(t)
	require.NotZero(t, a.Spilled.Commits)
	require.Equal(t, a.Spilled, a.Drained)
}

// A Redis that answers and takes no writes is away as far as commits go: they are failures of Redis, which the route is told of,
// and go to the journal. None of them is taken for a decision or for something corrupt.
func TestJournalCarriesALaneOverRefusedWrites(t *testing.T) {
	for _, refusal := range []string{storetest.ReadOnly, storetest.Full} {
		c := launch(t, 25, 4000)
		c.flow(t, 1000)
		c.wait(t, "committed", func(s Status) bool { return s.Committed == 1000 })
		storetest.RefuseWrites(c.redis, refusal)
		for upto := int64(1100); upto <= 3000; upto += 100 {
			c.flow(t, upto)
			c.wait(t, "reading on", func(s Status) bool { return s.State == StateRunning && s.Incident == nil })
			require.Equal(t, int64(1000), c.Status().Committed)
		}
		require.NotZero(t, c.Status().JournalBytes)
		require.NotZero(t, c.gate.failed.Load(), "the breaker is to count them")
		storetest.RefuseWrites(c.redis, "")
		c.finish(t)
		require.Zero(t, c.Status().Reseeds)
		a := c.balanced(t)
		require.NotZero(t, a.Spilled.Commits)
		require.Equal(t, a.Spilled, a.Drained)
	}
}

func TestShutRouteIsNotTried(t *testing.T) {
	c := launch(t, 22, 3000)
	c.flow(t, 500)
	c.wait(t, "committed", func(s Status) bool { return s.Committed == 500 })
	c.gate.shut.Store(true)
	c.flow(t, 600)
	c.wait(t, "in the journal", func(s Status) bool { return s.JournalCommits > 0 })
	tried := c.gate.worked.Load() + c.gate.failed.Load()
	for upto := int64(700); upto <= 2000; upto += 100 {
		c.flow(t, upto)
	}
	require.Equal(t, tried, c.gate.worked.Load()+c.gate.failed.Load())
	require.Equal(t, int64(500), c.Status().Committed)
	c.gate.shut.Store(false)
	c.finish(t)
}

// No commit may overtake the journal, and none has to wait for the drain to begin.
func TestRouteThatFlaps(t *testing.T) {
	c := launch(t, 23, 8000)
	rng := rand.New(rand.NewPCG(23, 1))
	for upto := int64(50); upto < 8000; upto += rng.Int64N(100) {
		c.gate.shut.Store(rng.IntN(2) == 0)
		c.flow(t, upto)
	}
	c.gate.shut.Store(false)
	c.finish(t)
	require.Zero(t, c.Status().Reseeds)
	a := c.balanced(t)
	require.Equal(t, a.Spilled, a.Drained)
}

func TestRedisComesBackEmpty(t *testing.T) {
	c := launch(t, 24, 5000)
	c.flow(t, 1000)
	c.wait(t, "committed", func(s Status) bool { return s.Committed == 1000 })
	c.redis.SetError(away)
	c.flow(t, 3000)
	c.redis.FlushAll()
	c.redis.SetError("")
	c.wait(t, "written again", func(s Status) bool { return s.Reseeds == 1 && s.Committed >= 3000 })
	c.finish(t)
	require.NotZero(t, c.balanced(t).Superseded.Commits)
	require.Empty(t, c.journal.Chains(), "passed by the lane itself")
}

// The commit that writes everything again may have to go to the journal itself, and Redis may forget once more.
func TestRedisComesBackEmptyAgainAndAgain(t *testing.T) {
	c := launch(t, 25, 6000)
	c.flow(t, 1000)
	c.wait(t, "committed", func(s Status) bool { return s.Committed == 1000 })
	for n := range int64(3) {
		c.gate.shut.Store(true)
		c.flow(t, 2000+1000*n)
		c.redis.FlushAll()
		c.gate.once.Store(true)
		c.gate.shut.Store(false)
		c.wait(t, "found out", func(s Status) bool { return s.Reseeds == int(n)+1 })
		c.flow(t, 2500+1000*n)
		require.Equal(t, int64(1000), c.Status().Committed)
	}
	c.gate.shut.Store(false)
	c.finish(t)
	require.Equal(t, 3, c.Status().Reseeds)
	require.Empty(t, c.journal.Chains())
}

func TestFencedWhileDraining(t *testing.T) {
	c := launch(t, 26, 3000)
	c.flow(t, 1000)
	c.wait(t, "committed", func(s Status) bool { return s.Committed == 1000 })
	c.gate.shut.Store(true)
	c.flow(t, 2000)
	meta, token := takeOver(t, c.store, c.program)
	require.Equal(t, int64(1000), meta.Offset)
	c.gate.shut.Store(false)
	err := <-c.done
	c.done <- err
	require.ErrorIs(t, err, store.ErrFenced)
	chains := c.journal.Chains()
	require.Len(t, chains, 1)
	require.Equal(t, journal.Superseded, chains[0].State)
	after, _, err := c.store.ReadMeta(context.Background(), testLane)
	require.NoError(t, err)
	require.Equal(t, token, after.Owner)
	require.Equal(t, meta.Cursor, after.Cursor)

	// Whoever comes next reads again what the journal held, and lets it go.
	next := start(t, c.log, c.store, c.redis, func(d *Deps) { d.Open, d.Journal, d.Side = c.tap.open, c.journal, c.side })
	next.side = c.side
	c.bench, c.twice = next, true // the drain sends those of its first commit before it is fenced
	c.finish(t)
	require.Empty(t, c.journal.Chains())
}

// crash leaves a lane as it would stand had its process been killed: Redis and the disk as they are now.
func crash(t *testing.T, c *course) *faultfs.FS {
	t.Helper()
	disk := c.fs.Clone()
	c.gate.shut.Store(true)
	require.NoError(t, c.stop(t))
	return disk.Kill()
}

func TestCrashAndResume(t *testing.T) {
	c := launch(t, 27, 5000)
	c.flow(t, 1000)
	c.wait(t, "committed", func(s Status) bool { return s.Committed == 1000 })
	c.gate.shut.Store(true)
	c.flow(t, 3000)
	disk := crash(t, c)
	tap := newTap(c.tap.records)
	next := launchOn(t, c.store, c.redis, tap, disk, 1<<30, func(d *Deps) { d.Side = c.side })
	next.side = c.side
	next.wait(t, "running", func(s Status) bool { return s.State == StateRunning })
	require.Equal(t, int64(3000), next.Status().Committed, "nothing is read again")
	a := next.balanced(t)
	require.NotZero(t, a.Spilled.Commits)
	require.Equal(t, a.Spilled, a.Drained)
	next.finish(t)
}

func TestCrashAndAnotherOwnerInBetween(t *testing.T) {
	c := launch(t, 28, 5000)
	c.flow(t, 1000)
	c.wait(t, "committed", func(s Status) bool { return s.Committed == 1000 })
	c.gate.shut.Store(true)
	c.flow(t, 3000)
	disk := crash(t, c)

	tap := newTap(c.tap.records)
	other := launchOn(t, c.store, c.redis, tap, faultfs.New(0), 1<<30, func(d *Deps) { d.Side = c.side })
	tap.let(1500)
	other.wait(t, "committed", func(s Status) bool { return s.Committed == 1500 })
	require.NoError(t, other.stop(t))

	tap = newTap(c.tap.records)
	next := launchOn(t, c.store, c.redis, tap, disk, 1<<30, func(d *Deps) { d.Side = c.side })
	next.side = c.side
	next.wait(t, "running", func(s Status) bool { return s.State == StateRunning })
	require.Equal(t, int64(1500), next.Status().Committed)
	require.Equal(t, journal.Superseded, next.journal.Chains()[0].State)
	next.flow(t, 2900)
	require.Len(t, next.journal.Chains(), 1, "kept until the lane has passed it")
	next.finish(t)
	require.Empty(t, next.journal.Chains())
}

func TestReleaseWhileRedisIsAway(t *testing.T) {
	for name, same := range map[string]bool{"and come back to the same disk": true, "and go on elsewhere": false} {
		t.Run(name, func(t *testing.T) {
			c := launch(t, 29, 5000)
			c.flow(t, 1000)
			c.wait(t, "committed", func(s Status) bool { return s.Committed == 1000 })
			c.redis.SetError(away)
			c.tap.let(3000)
			c.wait(t, "read", func(s Status) bool { return s.Offset == 3000 })
			began := time.Now()
			require.NoError(t, c.stop(t))
			require.Less(t, time.Since(began), releaseGrace/2)
			require.Equal(t, int64(1000), c.log.lastMark())
			c.redis.SetError("")
			fs, from := c.fs, int64(3000)
			require.NoError(t, c.journal.Close())
			if !same {
				fs, from = faultfs.New(0), 1000
			}
			tap := newTap(c.tap.records)
			next := launchOn(t, c.store, c.redis, tap, fs, 1<<30, func(d *Deps) { d.Side = c.side })
			next.side, next.twice = c.side, true
			next.wait(t, "running", func(s Status) bool { return s.State == StateRunning })
			require.Equal(t, from, next.Status().Committed)
			next.finish(t)
		})
	}
}

func TestRedisIsSlow(t *testing.T) {
	server := miniredis.RunT(t)
	client := storetest.Client(t, server.Addr(), false)
	faults := storetest.NewFaults(storetest.Client(t, server.Addr(), false))
	client.AddHook(faults)
	tap := newTap(randomLog(rand.New(rand.NewPCG(30, 30)), 4000))
	c := launchOn(t, store.New(client), server, tap, faultfs.New(0), 1<<30)
	c.flow(t, 1000)
	c.wait(t, "committed", func(s Status) bool { return s.Committed == 1000 })
	slow := make(chan struct{})
	faults.Gate(func(ctx context.Context, op storetest.Op) {
		if op.Write() {
			select {
			case <-slow:
			case <-ctx.Done():
			}
		}
	})
	c.flow(t, 2000)
	require.NotZero(t, c.Status().JournalCommits)
	for upto := int64(2100); upto <= 3000; upto += 100 {
		c.flow(t, upto)
		c.wait(t, "reading on", func(s Status) bool { return s.State == StateRunning })
	}
	close(slow)
	c.finish(t)
}

func TestFullJournalHoldsTheLaneBack(t *testing.T) {
	tests := []struct {
		name   string
		limit  int64
		space  int64 // of the disk while Redis is away
		reason error
	}{
		{"at its limit", 2 * segment, 0, wal.ErrFull},
		{"no space on the disk", 1 << 30, 2 * segment, wal.ErrNoSpace},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st, redis := testStore(t)
			tap := newTap(randomLog(rand.New(rand.NewPCG(31, 31)), 50_000))
			c := launchOn(t, st, redis, tap, faultfs.New(0), tt.limit)
			c.flow(t, 1000)
			c.wait(t, "committed", func(s Status) bool { return s.Committed == 1000 })
			if tt.space > 0 {
				c.fs.Resize(tt.space)
			}
			c.redis.SetError(away)
			c.pour(t, 1000, func(s Status) bool {
				return s.State == StateBlocked && strings.Contains(s.Reason, tt.reason.Error())
			})
			require.NotZero(t, c.Status().JournalCommits)
			if tt.space > 0 { // it goes on by itself when there is room
				at := c.Status().Journaled
				c.fs.Resize(0)
				c.wait(t, "goes on", func(s Status) bool { return s.Journaled > at })
			}
			c.redis.SetError("")
			c.finish(t)
		})
	}
}

// A log that has failed takes no more, but what it has taken is drained, and nothing is given up.
func TestFailedJournal(t *testing.T) {
	c := launch(t, 32, 8000)
	c.flow(t, 1000)
	c.wait(t, "committed", func(s Status) bool { return s.Committed == 1000 })
	c.redis.SetError(away)
	c.flow(t, 2000)
	c.fs.Inject(faultfs.Fault{Sync: 1})
	c.pour(t, 2000, func(s Status) bool {
		return s.State == StateBlocked && strings.Contains(s.Reason, wal.ErrFailed.Error())
	})
	require.ErrorIs(t, c.journal.Err(), wal.ErrFailed)
	c.redis.SetError("")
	c.finish(t)
}

func TestThrottledIntake(t *testing.T) {
	c := launch(t, 34, 500)
	c.gate.slowing.Store(int64(time.Hour))
	c.tap.let(500)
	c.wait(t, "throttled", func(s Status) bool { return s.State == StateBlocked && s.Reason == "intake is throttled" })
	require.Equal(t, int64(10), c.Status().Offset)
	c.wait(t, "commits all the same", func(s Status) bool { return s.Committed == 10 })
	require.NoError(t, c.stop(t))
	c = launchOn(t, c.store, c.redis, newTap(c.tap.records), faultfs.New(0), 1<<30, func(d *Deps) { d.Side = c.side })
	c.side = c.deps.Side.(*sideLog)
	c.gate.slowing.Store(int64(time.Millisecond))
	c.finish(t)
}
