package activities

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
)

// process is one worker process over shared fakes.
type process struct {
	temporal *fakeTemporal
	redis    *fakeRedis
	engines  *fakeEngines
	host     *Host
	stopping chan struct{}
}

func newProcess(redis *fakeRedis, name string) *process {
	p := &process{temporal: new(fakeTemporal), redis: redis, engines: new(fakeEngines), stopping: make(chan struct{})}
	p.host = NewHost(name, contract.HostQueue(name), p.engines, redis, p.temporal, quiet)
	return p
}

// outcome is what an attempt of Run answered.
type outcome struct {
	result *contract.RunResult
	err    error
}

// run begins one attempt of Run; its beats are answered by the process's Temporal.
func (p *process) run() <-chan outcome { return p.runWith(p.temporal, 3600*24*30) }

func (p *process) runWith(beats Heartbeats, renew int64) <-chan outcome {
	answer := make(chan outcome, 1)
	a := &attempt{beats: beats, token: []byte("t"), every: contract.BeatEvery, stopping: p.stopping}
	go func() {
		var o outcome
		o.err = a.hold(context.Background(), func() any { return "status" }, func(ctx context.Context) error {
			var err error
			o.result, err = p.host.stay(ctx, contract.RunInput{Pipeline: "orders", Spec: []byte(specJSON), RenewSeconds: renew},
				func(*tenant) {})
			return err
		})
		answer <- o
	}()
	return answer
}

func (p *process) drain(t *testing.T) { require.NoError(t, p.host.Drain(context.Background())) }

func isRunning(answer <-chan outcome) bool {
	select {
	case <-answer:
		return false
	default:
		return true
	}
}

func requireType(t *testing.T, err error, kind string) {
	t.Helper()
	var app *temporal.ApplicationError
	require.ErrorAs(t, err, &app)
	require.Equal(t, kind, app.Type(), err)
}

func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // virtual time of a synctest bubble
	synctest.Wait()
}

func TestTemporalAwayStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		answer := p.run()
		pass(5 * time.Second)
		require.Equal(t, 1, p.engines.count())
		p.temporal.setAway(serviceerror.NewUnavailable("gone"))
		pass(48 * time.Hour)
		require.True(t, isRunning(answer))
		require.True(t, p.engines.get(0).running())
		p.temporal.setAway(nil)
		pass(time.Minute)
		require.True(t, isRunning(answer))
		p.drain(t)
		o := <-answer
		requireType(t, o.err, contract.ErrorMoved)
	})
}

func TestNothingIsTouchedBeforeTheFirstBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		p.temporal.set(serviceerror.NewNotFound("no such attempt"))
		o := <-p.run()
		requireType(t, o.err, contract.ErrorAttemptOver)
		require.Zero(t, p.engines.count())
		require.Empty(t, p.redis.leases)

		p.temporal.set(errUnavailable)
		answer := p.run()
		pass(time.Hour)
		require.True(t, isRunning(answer), "asks until it knows")
		require.Zero(t, p.engines.count())
		p.temporal.set(nil)
		pass(2 * time.Second)
		require.Equal(t, 1, p.engines.count())
		p.drain(t)
		<-answer
	})
}

func TestOrphanIsAdoptedByTheNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		first := p.run()
		pass(3 * time.Second)
		p.temporal.set(serviceerror.NewNotFound("timed out"))
		pass(2 * time.Second)
		o := <-first
		requireType(t, o.err, contract.ErrorAttemptOver)
		require.True(t, p.engines.get(0).running())
		lease, found, err := p.redis.ReadLease(context.Background(), "orders", 0)
		require.NoError(t, err)
		require.True(t, found, "the orphan keeps its lease, so the claim is answered with this process")
		require.Equal(t, "a", lease.Worker)

		pass(9 * time.Minute)
		p.temporal.set(nil)
		second := p.run()
		pass(20 * time.Minute)
		require.Equal(t, 1, p.engines.count(), "adopted, not started again")
		require.True(t, isRunning(second))
		p.drain(t)
		<-second
	})
}

func TestOrphanStopsAfterTheGraceTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		answer := p.run()
		pass(3 * time.Second)
		p.temporal.set(serviceerror.NewNotFound("timed out"))
		<-answer
		pass(contract.OrphanGrace - time.Minute)
		require.True(t, p.engines.get(0).running())
		pass(2 * time.Minute)
		require.False(t, p.engines.get(0).running())
		require.Empty(t, p.redis.leases, "the lease is given up")
	})
}

func TestOrphanGraceDoesNotCountWhileTemporalIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		answer := p.run()
		pass(3 * time.Second)
		p.temporal.set(serviceerror.NewNotFound("timed out"))
		<-answer
		p.temporal.setAway(errUnavailable)
		pass(24 * time.Hour)
		require.True(t, p.engines.get(0).running())
		p.temporal.setAway(nil)
		pass(contract.OrphanGrace + time.Minute)
		require.False(t, p.engines.get(0).running())
	})
}

// An attempt that is over must not make an orphan of what a newer attempt has adopted.
func TestOldAttemptDoesNotDetachANewOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		old := new(fakeTemporal)
		first := p.runWith(old, 1<<30)
		pass(3 * time.Second)
		second := p.run()
		pass(3 * time.Second)
		old.set(serviceerror.NewNotFound("timed out"))
		<-first
		pass(contract.OrphanGrace * 2)
		require.True(t, p.engines.get(0).running())
		require.True(t, isRunning(second))
		p.drain(t)
		<-second
	})
}

func TestCancelPauseAndResetStopGracefully(t *testing.T) {
	tests := []struct {
		name   string
		answer error
		check  func(*testing.T, outcome)
	}{
		{"cancel", temporal.NewCanceledError(), func(t *testing.T, o outcome) {
			require.NoError(t, o.err)
			require.Equal(t, contract.OutcomeStopped, o.result.Outcome)
		}},
		{"pause", activity.ErrActivityPaused, func(t *testing.T, o outcome) { requireType(t, o.err, contract.ErrorSuspended) }},
		{"reset", activity.ErrActivityReset, func(t *testing.T, o outcome) { requireType(t, o.err, contract.ErrorSuspended) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProcess(newFakeRedis(), "a")
				p.engines.slowEnd = 15 * time.Second
				answer := p.run()
				pass(3 * time.Second)
				p.temporal.set(tt.answer)
				pass(2 * time.Second)
				before := p.temporal.count()
				pass(10 * time.Second)
				require.Greater(t, p.temporal.count(), before+5, "it beats while it commits and releases")
				tt.check(t, <-answer)
				require.True(t, p.engines.get(0).stopped)
				require.Empty(t, p.redis.leases)
			})
		})
	}
}

func TestLeaseOfAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		redis := newFakeRedis()
		a, b := newProcess(redis, "a"), newProcess(redis, "b")
		first := a.run()
		pass(3 * time.Second)
		o := <-b.run()
		requireType(t, o.err, contract.ErrorLeaseHeld)
		require.Zero(t, b.engines.count())

		// a freezes: its lease runs out, b takes over, a thaws and finds out.
		redis.mu.Lock()
		redis.leases[tenantKey{"orders", 0}] = Lease{Worker: "b", Token: "theirs"}
		redis.until[tenantKey{"orders", 0}] = time.Now().Add(time.Hour)
		redis.mu.Unlock()
		pass(2 * time.Second)
		o = <-first
		requireType(t, o.err, contract.ErrorLeaseHeld)
		require.True(t, a.engines.get(0).stopped)
		require.Equal(t, "theirs", redis.leases[tenantKey{"orders", 0}].Token, "the other's lease is left alone")
	})
}

func TestRedisAwayStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		answer := p.run()
		pass(3 * time.Second)
		p.redis.setAway(errUnavailable)
		pass(time.Hour)
		require.True(t, isRunning(answer))
		p.redis.setAway(nil)
		pass(2 * time.Second)
		_, found, err := p.redis.ReadLease(context.Background(), "orders", 0)
		require.NoError(t, err)
		require.True(t, found, "the lease ran out meanwhile and is taken again")
		p.drain(t)
		<-answer
	})
}

// A process that was frozen has lost its lease, and its pipeline may be gone: nothing is written
// before Temporal has said that it is not.
func TestAnExpiredLeaseIsTakenAgainOnlyWhileItIsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		answer := p.run()
		pass(3 * time.Second)
		p.redis.setAway(errUnavailable)
		pass(2 * contract.LeaseTTL)
		p.temporal.setAway(errUnavailable)
		p.redis.setAway(nil)
		pass(3 * time.Second)
		_, found, err := p.redis.ReadLease(context.Background(), "orders", 0)
		require.NoError(t, err)
		require.False(t, found, "nobody knows whether it is wanted")
		require.True(t, isRunning(answer), "which is no reason to stop")
		p.temporal.setAway(nil)
		pass(3 * time.Second)
		_, found, err = p.redis.ReadLease(context.Background(), "orders", 0)
		require.NoError(t, err)
		require.True(t, found)
		p.drain(t)
		<-answer
	})
}

func TestClosedPipelineIsNoticedAtTheSecondLook(t *testing.T) {
	for _, id := range []string{contract.PipelineID("orders"), contract.ReplicaID("orders", 0)} {
		t.Run(id, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProcess(newFakeRedis(), "a")
				answer := p.run()
				pass(3 * time.Second)
				p.temporal.setClosed(id)
				pass(65 * time.Second)
				require.True(t, isRunning(answer), "one miss may be a moment between two runs")
				pass(65 * time.Second)
				o := <-answer
				require.NoError(t, o.err)
				require.Equal(t, contract.OutcomePipelineGone, o.result.Outcome)
				require.True(t, p.engines.get(0).stopped)
			})
		})
	}
}

// Nobody waits for an orphan whose workflow is closed: it does not hold its lanes for minutes.
func TestOrphanOfAClosedPipelineEndsSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		answer := p.run()
		pass(3 * time.Second)
		p.temporal.set(serviceerror.NewNotFound("timed out"))
		<-answer
		pass(5 * time.Minute)
		require.True(t, p.engines.get(0).running())
		p.temporal.setClosed(contract.PipelineID("orders"))
		pass(3 * orphanLook)
		require.False(t, p.engines.get(0).running())
		require.Empty(t, p.redis.leases, "the lease is given up")
	})
}

func TestEngineThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		answer := p.run()
		pass(3 * time.Second)
		p.engines.get(0).fail(errUnavailable)
		o := <-answer
		requireType(t, o.err, contract.ErrorEngineFailed)
		require.ErrorContains(t, o.err, "connection refused")
		require.Empty(t, p.redis.leases)
		answer = p.run()
		pass(3 * time.Second)
		require.Equal(t, 2, p.engines.count(), "the next attempt starts another")
		p.drain(t)
		<-answer
	})
}

func TestStartThatFailsGivesTheLeaseUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		p.engines.err = errUnavailable
		o := <-p.run()
		require.ErrorContains(t, o.err, "start replica 0 of orders: connection refused")
		require.Empty(t, p.redis.leases)
	})
}

func TestAttemptThatEndsDuringAStartLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		p.engines.slow = time.Minute
		answer := p.run()
		pass(5 * time.Second)
		require.Greater(t, p.temporal.count(), 3, "it beats while it starts")
		p.temporal.set(serviceerror.NewNotFound("timed out"))
		o := <-answer
		requireType(t, o.err, contract.ErrorAttemptOver)
		require.Empty(t, p.redis.leases)
	})
}

func TestWorkerBuiltAnewKeepsTheHotPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		answer := p.run()
		pass(3 * time.Second)
		close(p.stopping)
		o := <-answer
		requireType(t, o.err, contract.ErrorDetached)
		require.True(t, p.engines.get(0).running())
		p.drain(t)
		require.True(t, p.engines.get(0).stopped)
	})
}

func TestRenewLeavesTheHotPathRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		o := <-p.runWith(p.temporal, 60)
		require.NoError(t, o.err)
		require.Equal(t, contract.OutcomeRenew, o.result.Outcome)
		require.True(t, p.engines.get(0).running())
		p.drain(t)
	})
}

func TestDrainTakesNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		p.drain(t)
		o := <-p.run()
		requireType(t, o.err, contract.ErrorMoved)
		var app *temporal.ApplicationError
		require.ErrorAs(t, o.err, &app)
		require.False(t, app.NonRetryable())
		require.Equal(t, time.Millisecond, app.NextRetryDelay())
	})
}

func TestDrainGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(newFakeRedis(), "a")
		p.engines.slowEnd = time.Hour
		answer := p.run()
		pass(3 * time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		require.ErrorContains(t, p.host.Drain(ctx), "replica 0 of orders has not ended")
		o := <-answer
		requireType(t, o.err, contract.ErrorMoved)
	})
}
