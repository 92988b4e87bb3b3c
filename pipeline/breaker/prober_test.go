package breaker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

// crowd runs a number of machines on one prober in virtual time, begun one after the other within a second.
func crowd(t *testing.T, machines int, probe func(context.Context) error, test func(all []*Machine)) {
	synctest.Test(t, func(t *testing.T) {
		prober, err := NewProber(probe, Thresholds{})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		var all []*Machine
		for n := range machines {
			m, err := New(Config{Pipeline: fmt.Sprintf("p%d", n), Dependency: "redis", Prober: prober})
			require.NoError(t, err)
			running.Go(func() { m.Run(ctx) })
			all = append(all, m)
			<-time.After(time.Second / time.Duration(machines))
		}
		test(all)
	})
}

// However many machines there are, a dependency is asked as for one of them: a round of five about once a second, and one probe
// after the other while breakers are half-open.
func TestMachinesShareProbes(t *testing.T) {
	for _, machines := range []int{1, 50} {
		t.Run(fmt.Sprint(machines), func(t *testing.T) {
			var sent atomic.Int64
			var away atomic.Bool
			probe := func(context.Context) error {
				sent.Add(1)
				if away.Load() {
					return errRefused
				}
				return nil
			}
			crowd(t, machines, probe, func(all []*Machine) {
				sent.Store(0)
				<-time.After(time.Minute)
				require.InDelta(t, 5*60, sent.Load(), 40, "rounds while all is well")
				away.Store(true)
				<-time.After(10 * time.Second)
				for _, m := range all {
					require.Equal(t, report.LevelPaused, m.Level(), "every machine sees the outage")
				}
				away.Store(false)
				<-time.After(58 * time.Second)
				sent.Store(0)
				<-time.After(7 * time.Second)
				for _, m := range all {
					require.Equal(t, report.LevelNormal, m.Level(), "every machine sees that it is over")
				}
				require.Less(t, sent.Load(), int64(7*5+20), "probes of half-open breakers are shared too")
			})
		})
	}
}

// A machine that looks twice at the same round counts it once.
func TestARoundCountsOnce(t *testing.T) {
	var sent atomic.Int64
	crowd(t, 10, func(context.Context) error { sent.Add(1); return errRefused }, func(all []*Machine) {
		synctest.Wait()
		for range 5 {
			rounds := (sent.Load() + 4) / 5
			for _, m := range all {
				require.LessOrEqual(t, int64(m.Status().Signals.FailedRounds), rounds)
			}
			<-time.After(300 * time.Millisecond)
		}
	})
}

// What ends with the last machine is not the answer that the next one gets.
func TestAProberOutlivesItsMachines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		prober, err := NewProber(func(ctx context.Context) error {
			select {
			case <-time.After(300 * time.Millisecond):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}, Thresholds{})
		require.NoError(t, err)
		for range 5 {
			m, err := New(Config{Dependency: "redis", Prober: prober})
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(context.Background(), 3100*time.Millisecond)
			m.Run(ctx) // it ends in the middle of a round
			cancel()
			require.Zero(t, m.Status().Signals.FailedRounds, m.Status().Signals.PingError)
		}
	})
}

// What the level's reason says is the dependency's own words.
func TestReasonsHoldTheLastError(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.reports(5, fmt.Errorf("redis refuses with OOM: raise maxmemory"))
		r.at(report.LevelPaused, false, "5 of 5 tries failed within 10s; the last: redis refuses with OOM: raise maxmemory")
		r.away()
		r.pass(62 * time.Second)
		require.Equal(t, "open", r.Status().Breaker)
		require.Contains(t, r.why.text, "a probe failed: connection refused")
	})
}
