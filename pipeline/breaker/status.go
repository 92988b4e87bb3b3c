package breaker

import (
	"maps"
	"time"
)

// Status is a snapshot of a machine for people and metrics.
type Status struct {
	Pipeline   string          `json:"pipeline,omitempty"`
	Replica    int             `json:"replica"`
	Dependency string          `json:"dependency"`
	Level      Level           `json:"level"`
	Since      time.Time       `json:"since"` // of the level
	Reason     string          `json:"reason,omitempty"`
	Direct     bool            `json:"direct"`        // the dependency is tried
	Breaker    string          `json:"breaker"`       // closed, half-open or open, whatever the override
	Turned     time.Time       `json:"breaker_since"` // since when it is in that state
	Override   *OverrideStatus `json:"override,omitempty"`
	Window     Window          `json:"window"`
	Totals     Totals          `json:"totals"`
	Storage    Storage         `json:"storage"`
	Signals    Signals         `json:"signals"`
	Intake     float64         `json:"intake,omitempty"` // events per second allowed at level throttled, 0 for no limit
	Changes    int64           `json:"changes"`          // Seq of the last
	Entered    map[Level]int64 `json:"entered"`          // how often each level was entered
}

// OverrideStatus is the order in force.
type OverrideStatus struct {
	Override Override  `json:"override"`
	By       string    `json:"by,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	At       time.Time `json:"at"`
}

// Window counts the tries that the breaker judges, those of the last ErrorWindow. It counts only while closed; half-open, it counts probes.
type Window struct {
	Tries     int64 `json:"tries"`
	Failed    int64 `json:"failed"`
	Cancelled int64 `json:"cancelled,omitempty"`
}

// Totals count the outcomes reported since the start, also while the breaker is open or an override is in force.
type Totals struct {
	Succeeded   int64      `json:"succeeded"`
	Failed      int64      `json:"failed"`
	Cancelled   int64      `json:"cancelled,omitempty"`
	LastError   string     `json:"last_error,omitempty"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
}

// Signals are the present numbers of what opens the breaker.
type Signals struct {
	AssignmentMs  float64 `json:"assignment_ms"`        // the last assignment
	FailedPings   float64 `json:"failed_pings"`         // share in the last round
	FailedRounds  int     `json:"failed_rounds"`        // in a row
	PingError     string  `json:"ping_error,omitempty"` // of the last round
	Throughput    float64 `json:"throughput"`           // events per second in the last window, 0 before there are two
	Before        float64 `json:"throughput_before"`    // the same in the window before
	LagGrowth     float64 `json:"lag_growth"`           // as a share of the events of the window before
	FailedCommits float64 `json:"failed_commits"`       // share of the tries in the window
}

// Status returns what there is to say now.
func (m *Machine) Status() Status {
	counts := m.circuit.Counts()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{
		Pipeline: m.cfg.Pipeline, Replica: m.cfg.Replica, Dependency: m.cfg.Dependency,
		Level: m.Level(), Since: m.since, Reason: m.reason, Direct: m.Direct(),
		Breaker: m.state.String(), Turned: m.stateAt,
		Window: Window{
			Tries: int64(counts.TotalSuccesses) + int64(counts.TotalFailures), Failed: int64(counts.TotalFailures),
			Cancelled: int64(counts.TotalExclusions),
		},
		Totals:  m.totals.status(),
		Storage: m.storage,
		Changes: m.history.last(),
		Entered: maps.Clone(m.entered),
	}
	if o := m.order; o.override != Automatic {
		s.Override = &OverrideStatus{Override: o.override, By: o.by, Reason: o.reason, At: o.at}
	}
	if bucket := m.bucket.Load(); bucket != nil {
		s.Intake = float64(bucket.Limit())
	}
	s.Signals = m.numbers()
	if s.Window.Tries > 0 {
		s.Signals.FailedCommits = float64(s.Window.Failed) / float64(s.Window.Tries)
	}
	return s
}

func (t *totals) status() Totals {
	s := Totals{Succeeded: t.succeeded.Load(), Failed: t.failed.Load(), Cancelled: t.cancelled.Load()}
	if last := t.last.Load(); last != nil {
		s.LastError, s.LastErrorAt = last.text, &last.at
	}
	return s
}

func (m *Machine) numbers() Signals {
	s := Signals{AssignmentMs: float64(m.assigned.Load()) / 1e6}
	m.pings.mu.Lock()
	s.FailedPings, s.FailedRounds = m.pings.last.share(), m.pings.inARow
	if m.pings.last.err != nil {
		s.PingError = m.pings.last.err.Error()
	}
	m.pings.mu.Unlock()
	m.progress.mu.Lock()
	now := m.progress.now
	m.progress.mu.Unlock()
	s.Throughput, s.Before, s.LagGrowth = now.last, now.before, now.growth
	return s
}
