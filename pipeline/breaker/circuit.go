package breaker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// errSignal is the outcome of the request by which a signal opens the breaker.
var errSignal = errors.New("breaker: a health signal")

// turn is a change of the breaker's state.
type turn struct {
	to  gobreaker.State
	why cause
}

// totals count the outcomes reported since the start, whatever the breaker's state and the override.
type totals struct {
	succeeded, failed, cancelled atomic.Int64
	last                         atomic.Pointer[failure]
}

type failure struct {
	text string
	at   time.Time
}

// lastText is the last error, as a clause to append.
func (t *totals) lastText() string {
	if last := t.last.Load(); last != nil {
		return "; the last: " + last.text
	}
	return ""
}

func (m *Machine) newCircuit() *gobreaker.CircuitBreaker[struct{}] {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name:         m.cfg.Dependency,
		MaxRequests:  uint32(m.t.Probes),
		Interval:     m.t.ErrorWindow,
		BucketPeriod: m.t.ErrorStep,
		Timeout:      m.t.OpenFor,
		ReadyToTrip:  m.readyToTrip,
		IsExcluded:   func(err error) bool { return errors.Is(err, context.Canceled) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			// Under the breaker's mutex. The channel has room: while a turn waits for Run, at most the trip that
			// follows it can happen.
			select {
			case m.turns <- turn{to: to, why: m.turned(from, to)}:
			default:
			}
		},
	})
}

// readyToTrip decides after a failure while closed, under the breaker's mutex: a pending signal suffices, else the counts must.
func (m *Machine) readyToTrip(c gobreaker.Counts) bool {
	if signal := m.signal.Load(); signal != nil {
		m.tripped = *signal
		return true
	}
	tries := c.TotalSuccesses + c.TotalFailures
	if int64(tries) < int64(m.t.ErrorMin) || float64(c.TotalFailures)/float64(tries) < m.t.ErrorRate {
		return false
	}
	m.tripped = cause{
		text:    fmt.Sprintf("%d of %d tries failed within %v%s", c.TotalFailures, tries, m.t.ErrorWindow, m.totals.lastText()),
		numbers: map[string]float64{"tries": float64(tries), "failed": float64(c.TotalFailures), "error_rate_limit": m.t.ErrorRate},
	}
	return true
}

// turned says why the state changed, under the breaker's mutex.
func (m *Machine) turned(from, to gobreaker.State) cause {
	switch {
	case to == gobreaker.StateHalfOpen:
		return cause{text: fmt.Sprintf("open for %v, probing", m.t.OpenFor)}
	case to == gobreaker.StateClosed:
		return cause{text: fmt.Sprintf("%d probes in a row succeeded", m.t.Probes), numbers: map[string]float64{"probes": float64(m.t.Probes)}}
	case from == gobreaker.StateHalfOpen:
		return cause{text: "a probe failed" + m.probeText()}
	}
	return m.tripped
}

// trip opens the breaker for a signal, if it is closed.
func (m *Machine) trip(c cause) {
	m.signals.Lock()
	defer m.signals.Unlock()
	if !m.closed.Load() {
		return
	}
	m.signal.Store(&c)
	m.outcome(errSignal)
	m.signal.Store(nil)
}

// Report takes the outcome of one try on the dependency. An answer that refuses (a fenced lane, say) is an answer: report nil.
// A cancellation (context.Canceled) says nothing of the dependency and only counts as such; a deadline missed is a failure.
func (m *Machine) Report(err error) {
	switch {
	case err == nil:
		m.totals.succeeded.Add(1)
	case errors.Is(err, context.Canceled):
		m.totals.cancelled.Add(1)
	default:
		m.totals.failed.Add(1)
		m.totals.last.Store(&failure{text: err.Error(), at: time.Now()})
	}
	if m.closed.Load() { // or else it would count as one of the probes
		m.outcome(err)
	}
}

// outcome counts a try in the breaker. A breaker that has just opened ignores it.
func (m *Machine) outcome(err error) {
	_, _ = m.circuit.Execute(func() (struct{}, error) { return struct{}{}, err })
}
