package app

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/breaker"
	"millrace/pipeline/lane"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// guarded is the guard of a hot path in virtual time, over a journal that the test plays.
func guarded(t *testing.T, storage func() breaker.Storage, test func(t *testing.T, g guard)) {
	synctest.Test(t, func(t *testing.T) {
		prober, err := breaker.NewProber(func(context.Context) error { return nil }, breaker.Thresholds{})
		require.NoError(t, err)
		m, err := breaker.New(breaker.Config{
			Pipeline: "orders", Replica: 2, Dependency: report.DependencyRedis, Storage: storage, Prober: prober,
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { m.Run(ctx) })
		defer running.Wait()
		defer cancel()
		test(t, guard{m})
	})
}

func withJournal() breaker.Storage { return breaker.Storage{Journal: true} }

func TestLevelAsTheControlPlaneSeesIt(t *testing.T) {
	guarded(t, withJournal, func(t *testing.T, g guard) {
		l := g.Machine
		require.Equal(t, report.LevelNormal, l.LevelStatus().Level)
		require.Empty(t, l.Changes(0))
		limited, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := l.Await(limited, 0)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		g.assigned([]report.RecoveredLane{
			timed(4000, report.StepAcquire, 1500, report.StepVerify, 9, report.StepRestore), timed(60_000, report.StepRestore),
		})
		changes, err := l.Await(t.Context(), 0)
		require.NoError(t, err)
		require.Len(t, changes, 1)
		require.Equal(t, report.LevelNormal, changes[0].From)
		require.Equal(t, report.LevelJournal, changes[0].To)
		require.Equal(t, 2, changes[0].Replica)
		require.Equal(t, report.DependencyRedis, changes[0].Dependency)
		require.EqualValues(t, 1, changes[0].Seq)
		require.Contains(t, changes[0].Reason, "assignment took 5.5s")
		require.NotEmpty(t, changes[0].Numbers)
		require.IsIncreasing(t, names(changes[0].Numbers))
		s := l.LevelStatus()
		require.Equal(t, report.LevelStatus{Level: report.LevelJournal, Since: s.Since, Seq: 1, Reason: s.Reason, Breaker: "open"}, s)

		require.NoError(t, l.Override(report.OverrideClose, "operator", "I know better"))
		require.Equal(t, report.OverrideClose, l.LevelStatus().Override)
		require.Equal(t, "I know better (operator)", l.DependencyStatus("w").Reason)
		require.NoError(t, l.Override(report.OverrideHold, "update u", ""))
		require.Equal(t, "update u", l.DependencyStatus("w").Reason, "an order without a reason is named by its request")
		require.NoError(t, l.Override("", "operator", ""))
		require.Empty(t, l.LevelStatus().Override)
		require.ErrorContains(t, l.Override("ajar", "operator", ""), "ajar")
		require.EqualValues(t, 2, l.Changes(1)[0].Seq)
	})
}

func names(numbers []report.LevelNumber) (all []string) {
	for _, n := range numbers {
		all = append(all, n.Name)
	}
	return all
}

// timed is a lane with steps that took some milliseconds each: numbers and steps in turns.
func timed(tookAndStep ...any) (l report.RecoveredLane) {
	for i := 0; i < len(tookAndStep); i += 2 {
		l.Steps = append(l.Steps, report.StepTime{Step: tookAndStep[i+1].(string), Took: int64(tookAndStep[i].(int)) * 1000})
	}
	return l
}

// How long a state took to read says nothing of Redis being away.
func TestRestoringIsNoTrouble(t *testing.T) {
	guarded(t, withJournal, func(t *testing.T, g guard) {
		g.assigned([]report.RecoveredLane{timed(5, report.StepAcquire, 60_000, report.StepRestore)})
		g.assigned(nil)
		synctest.Wait()
		require.Equal(t, report.LevelNormal, g.Level())
	})
}

// Lanes with a journal do what the machine says. Those without one only tell it what they see: they have nowhere else to go.
func TestRoutes(t *testing.T) {
	fail := func(r deliver.Route) {
		for range 20 {
			r.Report(errors.New("connection refused"))
		}
		synctest.Wait()
	}
	guarded(t, withJournal, func(t *testing.T, g guard) {
		r := g.route(&spec.Spec{Lane: spec.Lane{Overflow: spec.OverflowJournal}})
		require.True(t, r.Direct())
		fail(r)
		require.False(t, r.Direct())
		require.Equal(t, report.LevelJournal, g.Level())
	})
	guarded(t, nil, func(t *testing.T, g guard) {
		r := g.route(&spec.Spec{Lane: spec.Lane{Overflow: spec.OverflowBlock}})
		fail(r)
		require.False(t, g.Direct())
		require.Equal(t, report.LevelPaused, g.Level())
		require.True(t, r.Direct())
		require.Zero(t, r.Admit(1000))
		require.EqualValues(t, 20, g.Status().Totals.Failed)
	})
}

// Only a pipeline that wants a journal on a worker that has one gets its state machine one.
func TestWhoHasAJournal(t *testing.T) {
	s := newShelf(t)
	owner := s.acquire(orders)
	tail := s.Tail(orders, stateID, owner)
	defer tail.Close()
	c := calls(store.Cursor{}, 1)[0]
	require.NoError(t, tail.Append(t.Context(), c.Meta.Offset, []store.Call{c}, nil))
	for _, tt := range []struct {
		overflow string
		disk     *disk
		journal  bool
	}{
		{spec.OverflowBlock, s.disk, false},
		{spec.OverflowJournal, s.disk, true},
		{spec.OverflowJournal, nil, false},
	} {
		e := &engines{disk: tt.disk, log: quiet, store: s.store, prober: new(breaker.Prober)}
		synctest.Test(t, func(t *testing.T) {
			g, err := e.newGuard(&spec.Spec{Name: "orders", Lane: spec.Lane{Overflow: tt.overflow}}, 1)
			require.NoError(t, err)
			g.Override(report.OverrideOpen, "test", "")
			status := g.Status()
			require.Equal(t, tt.journal, status.Storage.Journal)
			require.Equal(t, tt.journal, status.Storage.PendingCommits == 1)
			require.Equal(t, tt.journal, g.Level() == report.LevelJournal)
			require.Equal(t, "orders", status.Pipeline)
			require.Equal(t, 1, status.Replica)
		})
	}
}

func TestProgressOf(t *testing.T) {
	read, lag, paused := progressOf([]lane.Status{
		{Counters: store.Counters{Read: 5}, Offset: 10, End: 30}, {Counters: store.Counters{Read: 7}, Offset: 10, End: -1},
	})
	require.EqualValues(t, 12, read)
	require.EqualValues(t, 20, lag, "an end that is not known yet is no lag")
	require.False(t, paused)
	_, _, paused = progressOf([]lane.Status{{State: lane.StateRunning}, {State: lane.StatePaused}})
	require.True(t, paused)
}
