package lane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// fakeLog is a partition, its reader and its coordinator in memory.
type fakeLog struct {
	mu       sync.Mutex
	records  []source.Record
	ends     source.Ends
	topicID  string
	hint     source.Committed
	assigned bool
	marks    []int64
	reset    string // metadata of the last hint that was set back
	readers  []*fakeReader
	measured int              // how often the log's ends were asked for
	named    int              // how often the topic's id was
	name     func()           // when set, called under mu before each such answer
	traced   map[int64]string // trace contexts of records, by offset
}

func newFakeLog(records []source.Record) *fakeLog {
	return &fakeLog{
		records: records, topicID: "id", assigned: true, hint: source.Committed{Offset: -1},
		ends: source.Ends{End: int64(len(records)), HighWatermark: int64(len(records))},
	}
}

func (f *fakeLog) Ends(context.Context, ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.measured++
	return map[source.TopicPartition]source.Ends{{Topic: "orders"}: f.ends}, nil
}

func (f *fakeLog) Committed(context.Context, string, ...source.TopicPartition) (map[source.TopicPartition]source.Committed, error) {
	return map[source.TopicPartition]source.Committed{{Topic: "orders"}: f.hint}, nil
}

func (f *fakeLog) TopicID(context.Context, string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.named++
	if f.name != nil {
		f.name()
	}
	return f.topicID, nil
}

func (f *fakeLog) Topic() string     { return "orders" }
func (f *fakeLog) Partition() int32  { return 0 }
func (f *fakeLog) Generation() int32 { return 1 }
func (f *fakeLog) MemberID() string  { return "m" }
func (f *fakeLog) StillAssigned(context.Context) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.assigned, nil
}
func (f *fakeLog) StillMember(ctx context.Context) (bool, error) { return f.StillAssigned(ctx) }
func (f *fakeLog) MarkHint(offset int64, _ string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.marks = append(f.marks, offset)
}
func (f *fakeLog) ResetHint(_ int64, metadata string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reset = metadata
}

// fakeReader delivers the log in batches of ten, then waits; fail ends it.
type fakeReader struct {
	out  chan source.Batch
	stop chan struct{}
	once sync.Once
	fail error
}

func (f *fakeLog) open(cfg source.ReaderConfig) source.Reader {
	r := &fakeReader{out: make(chan source.Batch), stop: make(chan struct{})}
	f.mu.Lock()
	f.readers = append(f.readers, r)
	records := f.records
	f.mu.Unlock()
	go func() {
		defer close(r.out)
		for at := cfg.Offset; at < int64(len(records)); at += 10 {
			to := min(at+10, int64(len(records)))
			b := source.Batch{Records: records[at:to], Next: to, HighWatermark: int64(len(records)), Asked: time.Now(), Fetched: time.Now()}
			for i, rec := range b.Records {
				if parent, ok := f.traced[rec.Offset]; ok && cfg.Traces {
					b.Traced = append(b.Traced, source.Traced{Index: i, Parent: parent})
				}
			}
			select {
			case r.out <- b:
			case <-r.stop:
				return
			}
		}
		<-r.stop
	}()
	return r
}

func (r *fakeReader) Batches() <-chan source.Batch { return r.out }
func (r *fakeReader) Err() error                   { return r.fail }
func (r *fakeReader) Status() source.ReaderStatus  { return source.ReaderStatus{} }
func (r *fakeReader) Pause()                       {}
func (r *fakeReader) Resume()                      {}
func (r *fakeReader) Close() error {
	r.once.Do(func() { close(r.stop) })
	return nil
}

// bench is one lane that runs over fakes and a real store.
type bench struct {
	*Lane
	log    *fakeLog
	store  *store.Store
	redis  *miniredis.Miniredis
	side   *sideLog
	cancel context.CancelFunc
	done   chan error
}

func start(t *testing.T, log *fakeLog, st *store.Store, redis *miniredis.Miniredis, change ...func(*Deps)) *bench {
	t.Helper()
	return startWith(t, mustProgram(t), log, st, redis, change...)
}

func startWith(t *testing.T, p *fold.Program, log *fakeLog, st *store.Store, redis *miniredis.Miniredis, change ...func(*Deps)) *bench {
	t.Helper()
	side := &sideLog{}
	deps := &Deps{
		Store: st, Side: side, Cluster: log, Open: log.open, Group: "g",
		Budget: NewBudget(1 << 30), Desired: NewDesired(), Log: quiet,
	}
	for _, fn := range change {
		fn(deps)
	}
	b := startLane(t, New(deps, p, log), log, st, redis)
	b.side = side
	return b
}

func startLane(t *testing.T, l *Lane, log *fakeLog, st *store.Store, redis *miniredis.Miniredis) *bench {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	b := &bench{Lane: l, log: log, store: st, redis: redis, cancel: cancel, done: make(chan error, 1)}
	go func() { b.done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-b.done
	})
	return b
}

func (b *bench) stop(t *testing.T) error {
	t.Helper()
	b.cancel()
	err := <-b.done
	b.done <- err
	return err
}

func (b *bench) wait(t *testing.T, what string, cond func(Status) bool) {
	t.Helper()
	eventually(t, what, func() bool { return cond(b.Status()) })
}

func reference(t *testing.T, log []source.Record) *fold.State {
	t.Helper()
	s := fold.NewState(mustProgram(t), testLane, "id", 0, store.Cursor{})
	s.Fold(batch(log...))
	return s
}

func (b *bench) requireExact(t *testing.T, want *fold.State) {
	t.Helper()
	b.requireExactBut(t, want, store.Counters{})
}

// requireExactBut wants the lane to have counted more than the state, and otherwise to hold what it holds.
func (b *bench) requireExactBut(t *testing.T, want *fold.State, more store.Counters) {
	t.Helper()
	ctx := context.Background()
	meta, found, err := b.store.ReadMeta(ctx, testLane)
	require.NoError(t, err)
	require.True(t, found)
	got, _, err := Restore(ctx, b.store, mustProgram(t), testLane, meta.Owner)
	require.NoError(t, err)
	held, counted := contents(want), want.Counters()
	counted = store.Counters{
		Read: counted.Read + more.Read, Invalid: counted.Invalid + more.Invalid, Ahead: counted.Ahead + more.Ahead,
		Past: counted.Past + more.Past, Jumped: counted.Jumped + more.Jumped, Filtered: counted.Filtered + more.Filtered,
		Duplicate: counted.Duplicate + more.Duplicate, Late: counted.Late + more.Late, Folded: counted.Folded + more.Folded,
		Skipped: counted.Skipped + more.Skipped,
	}
	held["counters"] = fmt.Sprint(counted)
	require.Equal(t, held, contents(got))
}

// sidesOf is what late and dead-letter records the state has collected. It takes them.
func sidesOf(s *fold.State) []source.SideRecord {
	c := new(fold.Commit)
	s.Snapshot(c, fold.Control{SealBefore: none, DropBefore: none, IdleAt: store.NotIdle})
	return c.Side
}

func TestRunCommitsEverythingAndReleases(t *testing.T) {
	log := randomLog(rand.New(rand.NewPCG(3, 3)), 500)
	st, redis := testStore(t)
	b := start(t, newFakeLog(log), st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 })
	require.NoError(t, b.stop(t))
	b.requireExact(t, reference(t, log))
	require.NotEmpty(t, b.log.marks)
	require.Equal(t, int64(500), b.log.marks[len(b.log.marks)-1])
	conserve(t, b.Status().Counters)
}

func TestRunSurvivesFlushAll(t *testing.T) {
	log := randomLog(rand.New(rand.NewPCG(4, 4)), 500)
	st, redis := testStore(t)
	b := start(t, newFakeLog(log), st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 })
	redis.FlushAll()
	b.wait(t, "re-seeded though the source is quiet", func(s Status) bool {
		return s.Reseeds == 1 && redis.HGet("mr:{orders/orders/0}:meta", "offset") == "500"
	})
	require.NoError(t, b.stop(t))
	b.requireExact(t, reference(t, log))
}

// Where a lane's first state began is known to its memory too.
func TestWhereALaneBeganSurvivesFlushAll(t *testing.T) {
	log := randomLog(rand.New(rand.NewPCG(19, 19)), 500)
	st, redis := testStore(t)
	require.NoError(t, st.Begin(t.Context(), testLane, mustProgram(t).StateID, store.BeginToken("a"), 200, "id", false))
	b := start(t, newFakeLog(log), st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 })
	redis.FlushAll()
	b.wait(t, "re-seeded", func(s Status) bool { return s.Reseeds == 1 && redis.HGet(testMeta, "offset") == "500" })
	meta, _, err := st.ReadMeta(t.Context(), testLane)
	require.NoError(t, err)
	require.Equal(t, []int64{200, 300}, []int64{meta.Begun, meta.Counters.Read})
	require.NoError(t, b.stop(t))
}

func TestReleaseWritesAStateThatRedisForgot(t *testing.T) {
	log := randomLog(rand.New(rand.NewPCG(16, 16)), 500)
	st, redis := testStore(t)
	b := start(t, newFakeLog(log), st, redis)
	b.wait(t, "all read", func(s Status) bool { return s.Offset == 500 })
	redis.FlushAll()
	require.NoError(t, b.stop(t))
	b.requireExact(t, reference(t, log))
}

// absent is a log whose coordinator does not say whether a lane is still assigned until the lane must go.
type absent struct {
	*fakeLog
	asked chan struct{}
}

func (a *absent) StillAssigned(ctx context.Context) (bool, error) {
	close(a.asked)
	<-ctx.Done()
	return false, ctx.Err()
}

func TestALaneThatMustGoWhileItsChainIsBrokenHandsItsStateOver(t *testing.T) {
	records := randomLog(rand.New(rand.NewPCG(17, 17)), 500)
	st, redis := testStore(t)
	log := &absent{fakeLog: newFakeLog(records), asked: make(chan struct{})}
	deps := &Deps{
		Store: st, Side: &sideLog{}, Cluster: log, Open: log.open, Group: "g",
		Budget: NewBudget(1 << 30), Desired: NewDesired(), Log: quiet,
	}
	b := startLane(t, New(deps, mustProgram(t), log), log.fakeLog, st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 500 })
	redis.FlushAll()
	<-log.asked
	require.NoError(t, b.stop(t))
	b.requireExact(t, reference(t, records))
}

func TestRunBlocksWhileRedisIsAwayAndGoesOn(t *testing.T) {
	log := randomLog(rand.New(rand.NewPCG(5, 5)), 20_000)
	st, redis := testStore(t)
	b := start(t, newFakeLog(log), st, redis)
	b.wait(t, "something committed", func(s Status) bool { return s.Committed > 0 })
	redis.SetError("LOADING Redis is loading the dataset in memory")
	b.wait(t, "all read or blocked", func(s Status) bool { return s.State == StateBlocked || s.Offset == 20_000 })
	redis.SetError("")
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 20_000 })
	require.NoError(t, b.stop(t))
	b.requireExact(t, reference(t, log))
}

func TestFencedLaneEndsAndChangesNothing(t *testing.T) {
	log := randomLog(rand.New(rand.NewPCG(6, 6)), 200)
	st, redis := testStore(t)
	b := start(t, newFakeLog(log), st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 200 })
	ctx := context.Background()
	meta, _, err := st.ReadMeta(ctx, testLane)
	require.NoError(t, err)
	_, _, err = st.Acquire(ctx, testLane, b.program.StateID, meta.Owner, store.NextToken(meta.Owner))
	require.NoError(t, err)
	err = <-b.done
	b.done <- err
	require.ErrorIs(t, err, store.ErrFenced)
	b.requireExact(t, reference(t, log))
}

func TestIncidentsPark(t *testing.T) {
	tests := []struct {
		name  string
		setup func(*fakeLog)
		meta  bool // the lane has committed offset 200 before
		kind  string
	}{
		{"gap", func(f *fakeLog) { f.ends.Start = 300; f.ends.HighWatermark = 400 }, true, report.IncidentGap},
		{"truncated", func(f *fakeLog) { f.ends.HighWatermark = 100 }, true, report.IncidentTruncated},
		{"other log", func(f *fakeLog) { f.topicID = "another" }, true, report.IncidentOtherLog},
		{"state lost", func(f *fakeLog) { f.hint.Offset = 77 }, false, report.IncidentStateLost},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := newFakeLog(randomLog(rand.New(rand.NewPCG(8, 8)), 200))
			st, redis := testStore(t)
			if tt.meta {
				b := start(t, log, st, redis)
				b.wait(t, "all committed", func(s Status) bool { return s.Committed == 200 })
				require.NoError(t, b.stop(t))
			}
			tt.setup(log)
			b := start(t, log, st, redis)
			b.wait(t, "parked", func(s Status) bool { return s.State == StateParked })
			require.Equal(t, tt.kind, b.Status().Incident.Kind)
			select {
			case err := <-b.done:
				t.Fatalf("a parked lane returned: %v", err)
			default:
			}
			require.NoError(t, b.stop(t))
		})
	}
}

func TestReaderIncidentParksAndStaysAlive(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(9, 9)), 100))
	st, redis := testStore(t)
	b := start(t, log, st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 100 })
	log.readers[0].fail = &source.OutOfRangeError{Offset: 100, Ends: source.Ends{Start: 150, HighWatermark: 200}}
	log.readers[0].Close()
	b.wait(t, "parked", func(s Status) bool { return s.State == StateParked })
	inc := *b.Status().Incident
	inc.ID, inc.Choices = "", nil
	require.Equal(t, report.Incident{Kind: report.IncidentGap, From: 100, To: 150, Detail: log.readers[0].fail.Error()}, inc)
	before := b.Status().Commits
	b.wait(t, "a sign of life", func(s Status) bool { return s.Commits > before })
	require.NoError(t, b.stop(t))
}

// The control plane hears of an incident when it arises, under the token under which it can be decided: also when Redis forgets
// the lane afterwards, which then has a new one.
func TestIncidentOfARunningLaneIsTold(t *testing.T) {
	records := randomLog(rand.New(rand.NewPCG(41, 41)), 200)
	log := newFakeLog(records[:100])
	st, redis := testStore(t)
	gate := &fakeGate{}
	b := start(t, log, st, redis, func(d *Deps) { d.Gate = gate })
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 100 })
	log.mu.Lock()
	log.records, log.ends = records, source.Ends{Start: 150, End: 200, HighWatermark: 200}
	log.mu.Unlock()
	log.readers[0].fail = &source.OutOfRangeError{Offset: 100, Ends: log.ends}
	log.readers[0].Close()
	eventually(t, "told", func() bool { return len(gate.parkings()) == 1 })
	first := gate.parkings()[0]
	require.Equal(t, []any{testLane, int64(100), report.IncidentGap}, []any{first.Lane, first.Committed, first.Incident.Kind})

	redis.FlushAll()
	eventually(t, "told again", func() bool { return len(gate.parkings()) == 2 })
	second := gate.parkings()[1]
	require.NotEqual(t, first.Token, second.Token)
	require.ErrorIs(t, b.Decide(first.Incident.ID, report.ChoiceSkip, "me"), ErrOtherIncident)
	require.Equal(t, StateParked, b.Status().State)
	require.NoError(t, b.Decide(second.Incident.ID, report.ChoiceSkip, "me"))
	b.wait(t, "goes on", func(s Status) bool { return s.State == StateRunning && s.Committed == 200 })
	require.Len(t, gate.parkings(), 2)
	require.NoError(t, b.stop(t))
	require.Len(t, gate.seen, 2, "acquired once more, to go on as decided")

	want := reference(t, records[:100])
	want.ReadFrom("id", 150)
	want.Fold(batch(records[150:]...))
	b.requireExactBut(t, want, store.Counters{Skipped: 50})
}

func TestPauseStopsReadingAndIsWritten(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(10, 10)), 100_000))
	st, redis := testStore(t)
	b := start(t, log, st, redis)
	b.deps.Desired.Set(store.PipelineCtl{Gen: 4, Paused: true})
	b.wait(t, "paused and committed", func(s Status) bool { return s.State == StatePaused && s.CtlGen == 4 })
	offset := b.Status().Offset
	commits := b.Status().Commits
	b.wait(t, "a sign of life", func(s Status) bool { return s.Commits > commits+1 })
	require.Equal(t, offset, b.Status().Offset)
	b.deps.Desired.Set(store.PipelineCtl{Gen: 5})
	b.wait(t, "reads on", func(s Status) bool { return s.Offset > offset && s.CtlGen == 5 })
}

func TestPauseHoldsOverAMoveAndWhenRedisForgets(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(14, 14)), 100))
	st, redis := testStore(t)
	paused := true
	_, _, err := st.SetPipelineCtl(context.Background(), "orders", store.CtlChange{RequestID: "r", Above: 6, Paused: &paused})
	require.NoError(t, err)
	b := start(t, log, st, redis) // its desired state was read before the pause
	b.wait(t, "paused and committed", func(s Status) bool { return s.State == StatePaused && s.CtlGen == 7 })
	require.Zero(t, b.Status().Offset)
	redis.FlushAll()
	ctl, err := st.PipelineCtl(context.Background(), "orders")
	require.NoError(t, err)
	b.deps.Desired.Set(ctl)
	b.wait(t, "re-seeded", func(s Status) bool { return s.Reseeds == 1 && s.State == StatePaused })
	require.Zero(t, b.Status().Offset)
}

func TestErrorsNoRetryMendsBecomeIncidents(t *testing.T) {
	require.ErrorIs(t, lossIncident(errors.Join(store.ErrOwnerChanged)), store.ErrOwnerChanged)
	var inc *report.Incident
	require.ErrorAs(t, lossIncident(&store.FormatError{Found: 9, Want: 1}), &inc)
	require.Equal(t, report.IncidentFormat, inc.Kind)
	require.ErrorAs(t, lossIncident(&store.StateIDError{}), &inc)
	require.Equal(t, report.IncidentOtherSpec, inc.Kind)
}

func TestBudgetStopsTheHighestWatermarkFirst(t *testing.T) {
	b := NewBudget(100)
	low, mid, high := b.Join(), b.Join(), b.Join()
	low.Report(40, 10, false)
	mid.Report(40, 20, false)
	require.False(t, mid.Stopped())
	high.Report(40, 30, false)
	require.Equal(t, []bool{false, false, true}, []bool{low.Stopped(), mid.Stopped(), high.Stopped()}, "at once")
	low.Report(40, 11, false)
	require.False(t, mid.Stopped(), "nothing grew")
	for range 5 {
		b.Review()
	}
	require.Equal(t, []bool{false, true, true}, []bool{low.Stopped(), mid.Stopped(), high.Stopped()}, "the lowest is never stopped")
	mid.Report(1, 20, false)
	high.Report(1, 30, false)
	b.Review()
	require.Equal(t, []bool{false, false, true}, []bool{low.Stopped(), mid.Stopped(), high.Stopped()})
	b.Review()
	require.False(t, high.Stopped())
	low.Report(400, 10, false)
	high.Leave()
	mid.Leave()
	b.Review()
	require.False(t, low.Stopped())
}

func TestBudgetNeverStopsAllButIdleLanes(t *testing.T) {
	b := NewBudget(100)
	empty, dense, ahead := b.Join(), b.Join(), b.Join()
	empty.Report(0, none, true)
	dense.Report(400, 10, false)
	ahead.Report(400, 20, false)
	for range 5 {
		b.Review()
	}
	require.Equal(t, []bool{false, false, true}, []bool{empty.Stopped(), dense.Stopped(), ahead.Stopped()})
	empty.Report(1, 5, false) // a record came: now it is what the windows wait for
	b.Review()
	b.Review()
	require.Equal(t, []bool{false, true, true}, []bool{empty.Stopped(), dense.Stopped(), ahead.Stopped()})
}

func TestParkedLaneIsNotIdle(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(15, 15)), 50))
	st, redis := testStore(t)
	start(t, log, st, redis)
	idleEnd := func() int64 {
		m, _, err := st.ReadMeta(context.Background(), testLane)
		require.NoError(t, err)
		return m.IdleEnd
	}
	eventually(t, "idle", func() bool { return idleEnd() == 50 })
	log.readers[0].fail = &source.OutOfRangeError{Offset: 50, Ends: source.Ends{HighWatermark: 20}}
	log.readers[0].Close()
	// The log may grow to the same end again, with records that nobody has read.
	eventually(t, "not idle", func() bool { return idleEnd() == store.NotIdle })
}

func TestIdleLaneProvesItselfAndAdoptsTheSeal(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(11, 11)), 50))
	log.ends.HighWatermark = 51 // a record waits that the reader does not bring yet
	st, redis := testStore(t)
	b := start(t, log, st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 50 })
	meta := func() store.Meta {
		m, _, err := st.ReadMeta(context.Background(), testLane)
		require.NoError(t, err)
		return m
	}
	_, err := st.SetSeal(context.Background(), testLane, meta().Owner, kafkaTime)
	require.NoError(t, err)
	commits := b.Status().Commits
	b.wait(t, "asked the broker", func(s Status) bool { return s.Commits > commits+2 })
	require.Equal(t, int64(store.NotIdle), meta().IdleEnd, "a lane that has not read everything is not idle")
	log.mu.Lock()
	log.ends.HighWatermark = 50
	log.mu.Unlock()
	eventually(t, "idle", func() bool { return meta().IdleEnd == 50 })
	eventually(t, "sealed", func() bool { return meta().Sealed == kafkaTime })
}

func TestIdlenessAtAnotherLogsEndProvesNothing(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(17, 17)), 50))
	log.ends.HighWatermark = 51
	st, redis := testStore(t)
	b := start(t, log, st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 50 })
	log.mu.Lock()
	log.topicID, log.ends.HighWatermark = "another", 50 // the new log ends just where the lane stands in the old one
	asked := log.measured
	log.mu.Unlock()
	eventually(t, "two answers", func() bool {
		log.mu.Lock()
		defer log.mu.Unlock()
		return log.measured >= asked+3
	})
	commits := b.Status().Commits
	b.wait(t, "what was decided is committed", func(s Status) bool { return s.Commits > commits+1 })
	meta, _, err := st.ReadMeta(context.Background(), testLane)
	require.NoError(t, err)
	require.Equal(t, int64(store.NotIdle), meta.IdleEnd)
}

// A lane that starts from nothing would otherwise skip what the new log holds below the old one's start.
func TestNewLaneOfATopicMadeAgainMeanwhile(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(18, 18)), 50))
	log.ends.Start = 20
	log.name = func() {
		if log.named == 2 {
			log.topicID, log.ends.Start = "another", 0
		}
	}
	st, redis := testStore(t)
	b := start(t, log, st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 50 })
	require.Equal(t, int64(50), b.Status().Counters.Read)
	meta, _, err := st.ReadMeta(context.Background(), testLane)
	require.NoError(t, err)
	require.Equal(t, "another", meta.TopicID)
}

func TestNewLaneRespectsFinalWindows(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(12, 12)), 100))
	st, redis := testStore(t)
	_, err := st.SetDrop(context.Background(), testLane, "", kafkaTime)
	require.NoError(t, err)
	b := start(t, log, st, redis)
	b.wait(t, "all committed", func(s Status) bool { return s.Committed == 100 })
	require.Zero(t, b.Status().Counters.Folded)
	require.NotZero(t, b.Status().Counters.Late)
	require.NoError(t, b.stop(t))
}

func TestGoroutinesCarryLabels(t *testing.T) {
	log := newFakeLog(randomLog(rand.New(rand.NewPCG(3, 3)), 50))
	st, redis := testStore(t)
	l := start(t, log, st, redis)
	l.wait(t, "all committed", func(s Status) bool { return s.Committed == 50 })
	var text bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&text, 1))
	require.Regexp(t, `labels: \{"part":"committer", "partition":"0", "pipeline":"[a-z]+", "topic":"orders"\}`, text.String())
	require.NoError(t, l.stop(t))
}
