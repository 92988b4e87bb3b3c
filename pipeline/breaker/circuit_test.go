package breaker

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

func (r *rig) asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.probes
}

// breakerAt requires the breaker's own state.
func (r *rig) breakerAt(state string) {
	r.t.Helper()
	require.Equal(r.t, state, r.Status().Breaker)
}

func TestClosesAfterFiveProbes(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.open()
		r.breakerAt("open")
		r.at(report.LevelPaused, false)
		r.pass(59 * time.Second)
		r.breakerAt("open")
		r.pass(2 * time.Second)
		r.breakerAt("half-open")
		r.at(report.LevelPaused, false)
		r.pass(500 * time.Millisecond)
		r.breakerAt("half-open") // not before the fifth
		r.pass(500 * time.Millisecond)
		r.breakerAt("closed")
		r.at(report.LevelNormal, true, "5 probes in a row succeeded")
		require.Len(t, r.Changes(0), 2)
	})
}

func TestOneFailedProbeOpensAgain(t *testing.T) {
	for failing := range 5 {
		inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
			r.open()
			r.pass(60100 * time.Millisecond)
			r.breakerAt("open")
			first := r.asked() // the next is the first of the five
			r.answer(func(_ context.Context, n int) error {
				if n == first+failing {
					return errRefused
				}
				return nil
			})
			r.pass(1850 * time.Millisecond)
			r.breakerAt("open")
			require.Equal(t, first+failing+1, r.asked(), "it stops at the one that failed")
			require.Equal(t, "connection refused", r.Status().Signals.PingError)
			require.Len(t, r.Changes(0), 1, "the level has not changed")
			r.back()
			r.pass(58 * time.Second)
			r.breakerAt("open")
			r.pass(6 * time.Second)
			r.breakerAt("closed")
			r.at(report.LevelNormal, true)
		})
	}
}

// What lanes began before the breaker opened comes back late. It neither closes nor opens it.
func TestLateOutcomesAreNoProbes(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.open()
		r.pass(61100 * time.Millisecond)
		r.breakerAt("half-open")
		r.reports(10, nil)
		r.breakerAt("half-open")
		r.reports(10, errRefused)
		r.breakerAt("half-open")
		require.Equal(t, Totals{Succeeded: 10, Failed: 10, LastError: "connection refused"}, untimed(r.Status().Totals))
		r.pass(time.Second)
		r.breakerAt("closed")
		require.Equal(t, Window{}, r.Status().Window)
	})
}

func untimed(t Totals) Totals {
	t.LastErrorAt = nil
	return t
}

// A probe that answers with a cancellation of its own (a client that was closed) has failed.
func TestProbeCancelledByItself(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.answer(func(context.Context, int) error { return context.Canceled })
		r.open()
		r.pass(62 * time.Second)
		r.breakerAt("open")
		require.Equal(t, "context canceled", r.Status().Signals.PingError)
	})
}

// While it is away, the machine goes on probing, once every OpenFor, for as long as it takes.
func TestLongOutage(t *testing.T) {
	inBubble(t, Thresholds{OpenFor: 10 * time.Second}, func(t *testing.T, r *rig) {
		r.away()
		r.pass(time.Hour)
		r.at(report.LevelPaused, false, "connection refused")
		require.Len(t, r.Changes(0), 1)
		r.back()
		r.pass(13 * time.Second)
		r.at(report.LevelNormal, true)
	})
}

func TestEndsInTheMiddleOfProbes(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.answer(func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() })
		r.pass(1100 * time.Millisecond) // a round is under way; the rig cancels Run and waits
	})
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.open()
		r.pass(61300 * time.Millisecond)
		r.breakerAt("half-open")
	})
}
