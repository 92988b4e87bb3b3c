package activities

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
)

// fakeRecoveries is a hot path that recovers.
type fakeRecoveries struct {
	err     error
	lanes   int
	decided []contract.DecideIncidentInput
	block   bool
}

func (f *fakeRecoveries) RecoverStep(ctx context.Context, in contract.RecoverStepInput) (contract.StepReport, error) {
	if f.block {
		<-ctx.Done()
		return contract.StepReport{}, ctx.Err()
	}
	r := contract.StepReport{Step: in.Step, By: contract.ByInline}
	for n := range f.lanes {
		r.Lanes = append(r.Lanes, contract.RecoveredLane{Topic: "orders", Partition: int32(n), State: contract.LaneRunning})
	}
	if f.lanes > 0 {
		r.Lanes[f.lanes-1].Incident = &contract.LaneIncident{Kind: "gap"}
	}
	return r, f.err
}

func (f *fakeRecoveries) Lane(string, int, int64, contract.BatchLane) (contract.RecoveredLane, bool) {
	return contract.RecoveredLane{Topic: "orders", Partition: 1, State: contract.LaneRunning}, true
}

func (f *fakeRecoveries) Decide(_ context.Context, in contract.DecideIncidentInput) error {
	f.decided = append(f.decided, in)
	return f.err
}

func activityEnv(activity any) *testsuite.TestActivityEnvironment {
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(activity)
	return env
}

// fakeTokens are owners in Redis, and the leases of replicas there.
type fakeTokens struct {
	owners []contract.LaneOwner
	held   map[int]bool
	away   error // of leases
}

func (f *fakeTokens) Owners(context.Context, string, []contract.BatchLane) ([]contract.LaneOwner, error) {
	return slices.Clone(f.owners), nil
}

func (f *fakeTokens) Runs(_ context.Context, _ string, replica int) (bool, error) {
	return f.held[replica], f.away
}

// A lane that Redis does not know is gone only when nothing wants its pipeline any more.
func TestLaneOwners(t *testing.T) {
	hub := new(fakeTemporal)
	tokens := &fakeTokens{owners: []contract.LaneOwner{{Topic: "orders", Token: "1:aa"}, {Topic: "orders", Partition: 1}}}
	a := NewOwnership(tokens, hub)
	look := func() []contract.LaneOwner {
		value, err := activityEnv(a).ExecuteActivity(a.LaneOwners, contract.LaneOwnersInput{Pipeline: "orders"})
		require.NoError(t, err)
		var got contract.LaneOwners
		require.NoError(t, value.Get(&got))
		return got.Lanes
	}
	require.Equal(t, []contract.LaneOwner{{Topic: "orders", Token: "1:aa"}, {Topic: "orders", Partition: 1}}, look())
	hub.setClosed("pipeline:orders")
	require.Equal(t, []contract.LaneOwner{{Topic: "orders", Token: "1:aa"}, {Topic: "orders", Partition: 1, Gone: true}}, look())
	hub.setAway(errors.New("Temporal is away"))
	_, err := activityEnv(a).ExecuteActivity(a.LaneOwners, contract.LaneOwnersInput{Pipeline: "orders"})
	require.ErrorContains(t, err, "Temporal is away")
}

// A pipeline's workflow may be closed while its hot path goes on: only then does the lane's incident still wait for somebody.
func TestLaneOwnersOfAStoppedPipeline(t *testing.T) {
	hub := new(fakeTemporal)
	tokens := &fakeTokens{owners: []contract.LaneOwner{{Topic: "orders", Token: "1:aa"}}, held: map[int]bool{2: true}}
	a := NewOwnership(tokens, hub)
	stopped := func(replica *int) bool {
		value, err := activityEnv(a).ExecuteActivity(a.LaneOwners, contract.LaneOwnersInput{Pipeline: "orders", Replica: replica})
		require.NoError(t, err)
		var got contract.LaneOwners
		require.NoError(t, value.Get(&got))
		return got.Lanes[0].Stopped
	}
	runs, ended := 2, 0
	require.False(t, stopped(&ended), "the pipeline is open")
	hub.setClosed("pipeline:orders")
	require.False(t, stopped(&runs), "its hot path still runs")
	require.True(t, stopped(&ended))
	require.False(t, stopped(nil), "who asked does not say whose lanes they are")
	tokens.away = errUnavailable
	_, err := activityEnv(a).ExecuteActivity(a.LaneOwners, contract.LaneOwnersInput{Pipeline: "orders", Replica: &ended})
	require.ErrorContains(t, err, "does anybody run replica 0 of orders")
}

func TestRecoverStep(t *testing.T) {
	f := &fakeRecoveries{lanes: contract.MaxRecoveryLanes + 20}
	a := NewRecovery(f, new(fakeTemporal))
	value, err := activityEnv(a).ExecuteActivity(a.RecoverStep, contract.RecoverStepInput{Step: contract.StepVerify})
	require.NoError(t, err)
	var report contract.StepReport
	require.NoError(t, value.Get(&report))
	require.Equal(t, contract.ByInline, report.By, "who came first is told, not who asks")
	require.Len(t, report.Lanes, contract.MaxRecoveryLanes)
	require.Equal(t, 20, report.More)
	require.NotNil(t, report.Lanes[0].Incident, "the one with an incident is not left out")

	f.err = fmt.Errorf("batch 3: %w", ErrStale)
	_, err = activityEnv(a).ExecuteActivity(a.RecoverStep, contract.RecoverStepInput{Step: contract.StepVerify})
	requireType(t, err, contract.ErrorStale)
	require.ErrorContains(t, err, "step verify of batch 0")
	f.err = errUnavailable
	_, err = activityEnv(a).ExecuteActivity(a.RecoverStep, contract.RecoverStepInput{})
	require.ErrorContains(t, err, "connection refused")
}

// An attempt that Temporal has given up touches nothing.
func TestHostActivitiesBeatFirst(t *testing.T) {
	gone := new(fakeTemporal)
	gone.set(serviceerror.NewNotFound("no such attempt"))
	f, levels, journal := new(fakeRecoveries), new(fakeLevels), new(fakeJournal)
	recovery, degrading, replaying := NewRecovery(f, gone), NewDegrading(levels, journal, gone), NewReplaying(journal, "w", gone)
	for name, c := range map[string]struct{ role, fn, in any }{
		"RecoverStep":     {recovery, recovery.RecoverStep, contract.RecoverStepInput{}},
		"DecideIncident":  {recovery, recovery.DecideIncident, contract.DecideIncidentInput{}},
		"WatchLevel":      {degrading, degrading.WatchLevel, contract.WatchLevelInput{}},
		"OverrideLevel":   {degrading, degrading.OverrideLevel, contract.OverrideLevelInput{}},
		"OrderLevels":     {degrading, degrading.OrderLevels, contract.OrderLevelsInput{}},
		"JournalAccounts": {degrading, degrading.JournalAccounts, contract.JournalAccountsInput{}},
		"ListChains":      {replaying, replaying.ListChains, contract.ListChainsInput{}},
		"ReplaySegment":   {replaying, replaying.ReplaySegment, contract.ReplaySegmentInput{Chains: make([]contract.ChainRef, 1)}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := activityEnv(c.role).ExecuteActivity(c.fn, c.in)
			requireType(t, err, contract.ErrorAttemptOver)
		})
	}
	require.Empty(t, f.decided)
	require.Zero(t, levels.asked)
	require.Empty(t, levels.ordered)
	require.Zero(t, journal.calls)
}

func TestOrderLevels(t *testing.T) {
	levels := new(fakeLevels)
	a := NewDegrading(levels, nil, new(fakeTemporal))
	in := contract.OrderLevelsInput{
		Pipeline: "orders", Generation: 7, Orders: []contract.LevelOrder{{Dependency: contract.DependencyRedis,
			Override: contract.OverrideHold}},
	}
	value, err := activityEnv(a).ExecuteActivity(a.OrderLevels, in)
	require.NoError(t, err)
	var got contract.OrderedLevels
	require.NoError(t, value.Get(&got))
	require.Equal(t, contract.OverrideHold, got.Levels[0].Override)
	require.Equal(t, int64(7), levels.ordered[0].Generation)
}

func TestDecideIncident(t *testing.T) {
	f := new(fakeRecoveries)
	a := NewRecovery(f, new(fakeTemporal))
	in := contract.DecideIncidentInput{Topic: "orders", Partition: 1, Choice: "skip"}
	value, err := activityEnv(a).ExecuteActivity(a.DecideIncident, in)
	require.NoError(t, err)
	var decided contract.DecidedIncident
	require.NoError(t, value.Get(&decided))
	require.Equal(t, contract.LaneRunning, decided.Lane.State)
	require.Equal(t, []contract.DecideIncidentInput{in}, f.decided)
	f.err = ErrStale
	_, err = activityEnv(a).ExecuteActivity(a.DecideIncident, in)
	requireType(t, err, contract.ErrorStale)
}

// fakeLevels is a process with one state machine, or none.
type fakeLevels struct {
	mu    sync.Mutex
	level *fakeLevel
	asked int

	ordered []contract.OrderLevelsInput
}

func (f *fakeLevels) OrderLevels(in contract.OrderLevelsInput) []contract.OrderedLevel {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ordered = append(f.ordered, in)
	return []contract.OrderedLevel{{Worker: "a", Dependency: contract.DependencyRedis, Override: in.Orders[0].Override}}
}

func (f *fakeLevels) Level(string, int, string) (Level, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.level == nil {
		return nil, false
	}
	return f.level, true
}

func (f *fakeLevels) set(l *fakeLevel) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.level = l
}

type fakeLevel struct {
	mu      sync.Mutex
	changes []contract.LevelChange
	news    chan struct{}
	err     error
}

func newFakeLevel() *fakeLevel { return &fakeLevel{news: make(chan struct{})} }

func (l *fakeLevel) move(to string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, contract.LevelChange{Seq: int64(len(l.changes) + 1), To: to, Numbers: make([]contract.LevelNumber, 40)})
	close(l.news)
	l.news = make(chan struct{})
}

func (l *fakeLevel) Status() contract.LevelStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return contract.LevelStatus{Level: "journal", Seq: int64(len(l.changes))}
}

func (l *fakeLevel) Changes(after int64) []contract.LevelChange {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes[min(int(after), len(l.changes)):]
}

func (l *fakeLevel) Await(ctx context.Context, after int64) error {
	for len(l.Changes(after)) == 0 {
		l.mu.Lock()
		news := l.news
		l.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (l *fakeLevel) Override(override, _, _ string) error { return l.err }

type watched struct {
	result *contract.WatchLevelResult
	err    error
}

func watchLevel(levels *fakeLevels, temporal *fakeTemporal, stopping chan struct{}, in contract.WatchLevelInput) <-chan watched {
	d := NewDegrading(levels, nil, temporal)
	answer := make(chan watched, 1)
	a := &attempt{beats: temporal, every: contract.BeatEvery, stopping: stopping}
	go func() {
		var w watched
		w.err = a.hold(context.Background(), func() any { return nil }, func(ctx context.Context) (err error) {
			w.result, err = d.watch(ctx, in)
			return err
		})
		answer <- w
	}()
	return answer
}

func TestWatchLevel(t *testing.T) {
	in := contract.WatchLevelInput{Pipeline: "orders", Dependency: "redis", RenewSeconds: 3600}
	t.Run("returns what changed, bounded", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			levels := &fakeLevels{level: newFakeLevel()}
			answer := watchLevel(levels, new(fakeTemporal), nil, in)
			pass(10 * time.Minute)
			select {
			case <-answer:
				t.Fatal("nothing has changed")
			default:
			}
			for range contract.MaxChanges + 5 {
				levels.level.move("journal")
			}
			w := <-answer
			require.NoError(t, w.err)
			require.Equal(t, contract.OutcomeChanged, w.result.Outcome)
			require.LessOrEqual(t, len(w.result.Changes), contract.MaxChanges)
			require.Len(t, w.result.Changes[0].Numbers, contract.MaxLevelNumbers)
			told := w.result.Changes[len(w.result.Changes)-1].Seq
			more := in
			more.After = told
			w = <-watchLevel(levels, new(fakeTemporal), nil, more)
			require.Equal(t, told+1, w.result.Changes[0].Seq, "the next watch gets the rest")
		})
	})
	t.Run("goes on while Temporal is away, and nothing is lost", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			levels, temporal := &fakeLevels{level: newFakeLevel()}, new(fakeTemporal)
			answer := watchLevel(levels, temporal, nil, in)
			pass(time.Second)
			temporal.setAway(serviceerror.NewUnavailable("gone"))
			pass(30 * time.Minute)
			levels.level.move("journal")
			w := <-answer
			require.NoError(t, w.err)
			require.Len(t, w.result.Changes, 1)
		})
	})
	t.Run("renews", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := <-watchLevel(&fakeLevels{level: newFakeLevel()}, new(fakeTemporal), nil, in)
			require.Equal(t, contract.OutcomeRenew, w.result.Outcome)
			require.Equal(t, "journal", w.result.Status.Level)
		})
	})
	t.Run("the hot path leaves", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			levels := &fakeLevels{level: newFakeLevel()}
			answer := watchLevel(levels, new(fakeTemporal), nil, in)
			pass(time.Minute)
			levels.set(nil)
			began := time.Now()
			w := <-answer
			require.Equal(t, contract.OutcomeMoved, w.result.Outcome)
			require.Equal(t, "journal", w.result.Status.Level, "the last that was known")
			require.LessOrEqual(t, time.Since(began), levelLook)
		})
	})
	t.Run("the hot path is started anew here", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			levels := &fakeLevels{level: newFakeLevel()}
			levels.level.move("journal")
			later := in
			later.After = 1
			answer := watchLevel(levels, new(fakeTemporal), nil, later)
			pass(time.Minute)
			levels.set(newFakeLevel())
			began := time.Now()
			w := <-answer
			require.Equal(t, contract.OutcomeMoved, w.result.Outcome, "its machine has never left normal, and has nothing to tell")
			require.LessOrEqual(t, time.Since(began), levelLook)
		})
	})
	t.Run("the worker stops", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			stopping := make(chan struct{})
			answer := watchLevel(&fakeLevels{level: newFakeLevel()}, new(fakeTemporal), stopping, in)
			pass(time.Minute)
			close(stopping)
			w := <-answer
			requireType(t, w.err, contract.ErrorMoved)
		})
	})
}

func TestOverrideLevel(t *testing.T) {
	levels := &fakeLevels{level: newFakeLevel()}
	a := NewDegrading(levels, nil, new(fakeTemporal))
	value, err := activityEnv(a).ExecuteActivity(a.OverrideLevel, contract.OverrideLevelInput{Override: contract.OverrideHold})
	require.NoError(t, err)
	var status contract.LevelStatus
	require.NoError(t, value.Get(&status))
	require.Equal(t, "journal", status.Level)
	levels.level.err = errors.New("no such override")
	_, err = activityEnv(a).ExecuteActivity(a.OverrideLevel, contract.OverrideLevelInput{})
	requireType(t, err, contract.ErrorRefused)
	levels.set(nil)
	_, err = activityEnv(a).ExecuteActivity(a.OverrideLevel, contract.OverrideLevelInput{})
	requireType(t, err, contract.ErrorStale)
}

func TestJournalAccounts(t *testing.T) {
	a := NewDegrading(new(fakeLevels), nil, new(fakeTemporal))
	value, err := activityEnv(a).ExecuteActivity(a.JournalAccounts, contract.JournalAccountsInput{})
	require.NoError(t, err)
	var books contract.JournalAccounts
	require.NoError(t, value.Get(&books))
	require.False(t, books.Journal, "a worker without a WAL directory has no books")
	a = NewDegrading(new(fakeLevels), new(fakeJournal), new(fakeTemporal))
	value, err = activityEnv(a).ExecuteActivity(a.JournalAccounts, contract.JournalAccountsInput{})
	require.NoError(t, err)
	require.NoError(t, value.Get(&books))
	require.Equal(t, contract.JournalAccounts{Journal: true, Disk: "d1", Spilled: contract.Account{Commits: 7}}, books)
}

// fakeJournal is a WAL directory.
type fakeJournal struct {
	mu     sync.Mutex
	calls  int
	chains []contract.WALChain
	how    []Settling
	settle func(chain contract.ChainRef, how Settling, progress func(Settled)) (contract.SettledChain, error)
}

func (f *fakeJournal) Disk() string { return "d1" }

func (f *fakeJournal) List(context.Context, string) ([]contract.WALChain, error) {
	f.calls++
	return f.chains, nil
}

func (f *fakeJournal) Settle(_ context.Context, _ string, chain contract.ChainRef, how Settling, progress func(Settled),
) (contract.SettledChain, error) {
	f.mu.Lock()
	f.calls++
	f.how = append(f.how, how)
	f.mu.Unlock()
	return f.settle(chain, how, progress)
}

func (f *fakeJournal) Accounts(string) (contract.JournalAccounts, error) {
	f.calls++
	return contract.JournalAccounts{Spilled: contract.Account{Commits: 7}}, nil
}

func chains(n int) (refs []contract.ChainRef) {
	for i := range n {
		refs = append(refs, contract.ChainRef{Topic: "orders", Partition: int32(i), Chain: "4:aa"})
	}
	return refs
}

func TestListChains(t *testing.T) {
	f := new(fakeJournal)
	for _, ref := range chains(contract.MaxChains + 7) {
		f.chains = append(f.chains, contract.WALChain{ChainRef: ref, Commits: 2, Bytes: 10})
	}
	a := NewReplaying(f, "worker-a", new(fakeTemporal))
	list := func(from int) (listing contract.WALListing) {
		value, err := activityEnv(a).ExecuteActivity(a.ListChains, contract.ListChainsInput{From: from})
		require.NoError(t, err)
		require.NoError(t, value.Get(&listing))
		require.EqualValues(t, 2*(contract.MaxChains+7), listing.Commits, "sums are over all")
		return listing
	}
	first := list(0)
	require.Len(t, first.Chains, contract.MaxChains)
	require.Equal(t, 7, first.More)
	require.Equal(t, "worker-a", first.Host)
	require.Len(t, list(contract.MaxChains).Chains, 7)
	require.Empty(t, list(10_000).Chains)
}

func replaySegment(t *testing.T, f *fakeJournal, before *contract.SegmentProgress, in contract.ReplaySegmentInput,
) (contract.ReplaySegmentResult, *fakeTemporal, error) {
	temporal := new(fakeTemporal)
	a := NewReplaying(f, "worker-a", temporal)
	env := activityEnv(a)
	if before != nil {
		env.SetHeartbeatDetails(before)
	}
	value, err := env.ExecuteActivity(a.ReplaySegment, in)
	var result contract.ReplaySegmentResult
	if err == nil {
		require.NoError(t, value.Get(&result))
	}
	return result, temporal, err
}

func drains(chain contract.ChainRef, _ Settling, progress func(Settled)) (contract.SettledChain, error) {
	progress(Settled{Place: "1/0", Records: 1, Bytes: 5})
	return contract.SettledChain{Outcome: contract.ChainDrained, Commits: 2, Bytes: 10}, nil
}

func TestReplaySegment(t *testing.T) {
	in := contract.ReplaySegmentInput{Segment: "01", Chains: chains(3), BytesPerSecond: 9, Quarantine: chains(2)[1:]}
	t.Run("settles chain by chain", func(t *testing.T) {
		f := &fakeJournal{settle: drains}
		result, _, err := replaySegment(t, f, nil, in)
		require.NoError(t, err)
		require.Len(t, result.Settled, 3)
		require.Equal(t, []Settling{{BytesPerSecond: 9}, {BytesPerSecond: 9, Quarantine: true}, {BytesPerSecond: 9}}, f.how)
	})
	t.Run("goes on where an earlier attempt was", func(t *testing.T) {
		f := &fakeJournal{settle: drains}
		before := &contract.SegmentProgress{Segment: "01", Records: 2, Bytes: 10,
			Settled: []contract.SettledChain{{ChainRef: in.Chains[0], Outcome: contract.ChainDrained, Commits: 2}}}
		result, _, err := replaySegment(t, f, before, in)
		require.NoError(t, err)
		require.Equal(t, 2, f.calls)
		require.Len(t, result.Settled, 3, "what the earlier attempt settled is told too")
	})
	t.Run("details of another segment do not count", func(t *testing.T) {
		f := &fakeJournal{settle: drains}
		_, _, err := replaySegment(t, f, &contract.SegmentProgress{Segment: "00",
			Settled: []contract.SettledChain{{ChainRef: in.Chains[0]}}}, in)
		require.NoError(t, err)
		require.Equal(t, 3, f.calls)
	})
	t.Run("stops at what cannot be read", func(t *testing.T) {
		f := &fakeJournal{settle: func(chain contract.ChainRef, how Settling, progress func(Settled)) (contract.SettledChain, error) {
			if chain.Partition == 1 {
				return contract.SettledChain{}, fmt.Errorf("read: %w", &CorruptError{Range: contract.CorruptRange{Segment: "01", From: 5,
					To: 9, Detail: "checksum"}})
			}
			return drains(chain, how, progress)
		}}
		result, _, err := replaySegment(t, f, nil, in)
		require.NoError(t, err, "it asks, so it is an answer")
		require.Len(t, result.Settled, 1)
		require.Equal(t, in.Chains[1], result.Corrupt.ChainRef)
		require.EqualValues(t, 5, result.Corrupt.From)
	})
	t.Run("leaves live chains", func(t *testing.T) {
		f := &fakeJournal{settle: func(chain contract.ChainRef, how Settling, progress func(Settled)) (contract.SettledChain, error) {
			if chain.Partition == 0 {
				return contract.SettledChain{}, fmt.Errorf("lane: %w", ErrLive)
			}
			return drains(chain, how, progress)
		}}
		result, _, err := replaySegment(t, f, nil, in)
		require.NoError(t, err)
		require.Equal(t, in.Chains[:1], result.Live)
		require.Len(t, result.Settled, 2)
	})
	t.Run("fails, to be tried again", func(t *testing.T) {
		f := &fakeJournal{settle: func(contract.ChainRef, Settling, func(Settled)) (contract.SettledChain, error) {
			return contract.SettledChain{}, errUnavailable
		}}
		_, _, err := replaySegment(t, f, nil, in)
		require.ErrorContains(t, err, "settle chain 4:aa of orders/0: connection refused")
		f.settle = func(contract.ChainRef, Settling, func(Settled)) (contract.SettledChain, error) {
			return contract.SettledChain{}, fmt.Errorf("%w: newer format", ErrPermanent)
		}
		_, _, err = replaySegment(t, f, nil, in)
		requireType(t, err, contract.ErrorPermanent)
	})
}

// The details of a beat are what a further attempt needs, also in the middle of a chain.
func TestReplaySegmentDetails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeJournal{settle: func(chain contract.ChainRef, how Settling, progress func(Settled)) (contract.SettledChain, error) {
			progress(Settled{Place: "7/1", Records: 40, Bytes: 400})
			pass(10 * time.Second)
			return contract.SettledChain{Outcome: contract.ChainDrained, Commits: 50, Bytes: 500}, nil
		}}
		temporal := new(fakeTemporal)
		a := NewReplaying(f, "w", temporal)
		s := &segment{in: contract.ReplaySegmentInput{Segment: "01", Chains: chains(2)}, progress: contract.SegmentProgress{Segment: "01"}}
		beating := &attempt{beats: temporal, every: replayBeat}
		require.NoError(t, beating.hold(context.Background(), s.details, func(ctx context.Context) error { return a.settle(ctx, s) }))
		temporal.mu.Lock()
		defer temporal.mu.Unlock()
		last := temporal.last.(*contract.SegmentProgress)
		require.Len(t, last.Settled, 1)
		require.Equal(t, int32(1), last.Chain.Partition)
		require.Equal(t, "7/1", last.Place)
		require.EqualValues(t, 90, last.Records, "50 of the first chain, 40 of the second")
	})
}
