package activities

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

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
	return []contract.OrderedLevel{{Worker: "a", Dependency: report.DependencyRedis, Override: in.Orders[0].Override}}
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
	changes []report.LevelChange
	news    chan struct{}
	err     error
}

func newFakeLevel() *fakeLevel { return &fakeLevel{news: make(chan struct{})} }

func (l *fakeLevel) move(to report.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes = append(l.changes, report.LevelChange{Seq: int64(len(l.changes) + 1), To: to, Numbers: make([]report.LevelNumber, 40)})
	close(l.news)
	l.news = make(chan struct{})
}

func (l *fakeLevel) LevelStatus() report.LevelStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return report.LevelStatus{Level: "journal", Seq: int64(len(l.changes))}
}

func (l *fakeLevel) Changes(after int64) []report.LevelChange {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changes[min(int(after), len(l.changes)):]
}

func (l *fakeLevel) Await(ctx context.Context, after int64) ([]report.LevelChange, error) {
	for len(l.Changes(after)) == 0 {
		l.mu.Lock()
		news := l.news
		l.mu.Unlock()
		select {
		case <-news:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return l.Changes(after), nil
}

func (l *fakeLevel) Override(report.Override, string, string) error { return l.err }

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
			require.Equal(t, report.LevelJournal, w.result.Status.Level)
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
			require.Equal(t, report.LevelJournal, w.result.Status.Level, "the last that was known")
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
	value, err := activityEnv(a).ExecuteActivity(a.OverrideLevel, contract.OverrideLevelInput{Override: report.OverrideHold})
	require.NoError(t, err)
	var status report.LevelStatus
	require.NoError(t, value.Get(&status))
	require.Equal(t, report.LevelJournal, status.Level)
	levels.level.err = errors.New("no such override")
	_, err = activityEnv(a).ExecuteActivity(a.OverrideLevel, contract.OverrideLevelInput{})
	requireType(t, err, contract.ErrorRefused)
	levels.set(nil)
	_, err = activityEnv(a).ExecuteActivity(a.OverrideLevel, contract.OverrideLevelInput{})
	requireType(t, err, contract.ErrorStale)
}

func TestOrderLevels(t *testing.T) {
	levels := new(fakeLevels)
	a := NewDegrading(levels, nil, new(fakeTemporal))
	in := contract.OrderLevelsInput{
		Pipeline: "orders", Generation: 7, Orders: []report.LevelOrder{{Dependency: report.DependencyRedis,
			Override: report.OverrideHold}},
	}
	value, err := activityEnv(a).ExecuteActivity(a.OrderLevels, in)
	require.NoError(t, err)
	var got contract.OrderedLevels
	require.NoError(t, value.Get(&got))
	require.Equal(t, report.OverrideHold, got.Levels[0].Override)
	require.Equal(t, int64(7), levels.ordered[0].Generation)
}
