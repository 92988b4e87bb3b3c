package breaker

import (
	"maps"
	"time"

	"millrace/pipeline/report"
)

// Status is a snapshot of a machine for people and metrics. Breaker is the breaker's state, whatever the override.
type Status struct {
	Pipeline   string `json:"pipeline,omitempty"`
	Replica    int    `json:"replica"`
	Dependency string `json:"dependency"`
	report.LevelStatus
	Order   *report.LevelOrder     `json:"order,omitempty"` // the override in force
	Direct  bool                   `json:"direct"`          // the dependency is tried
	Turned  time.Time              `json:"breaker_since"`   // since when the breaker is in its state
	Window  Window                 `json:"window"`
	Totals  Totals                 `json:"totals"`
	Storage Storage                `json:"storage"`
	Signals Signals                `json:"signals"`
	Intake  float64                `json:"intake,omitempty"` // events per second allowed at level throttled, 0 for no limit
	Entered map[report.Level]int64 `json:"entered"`          // how often each level was entered
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
		LevelStatus: m.levelStatus(), Order: m.levelOrder(), Direct: m.Direct(), Turned: m.stateAt,
		Window: Window{
			Tries: int64(counts.TotalSuccesses) + int64(counts.TotalFailures), Failed: int64(counts.TotalFailures),
			Cancelled: int64(counts.TotalExclusions),
		},
		Totals:  m.totals.status(),
		Storage: m.storage,
		Entered: maps.Clone(m.entered),
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

// LevelStatus returns where the machine stands.
func (m *Machine) LevelStatus() report.LevelStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.levelStatus()
}

// levelStatus is LevelStatus under the lock.
func (m *Machine) levelStatus() report.LevelStatus {
	return report.LevelStatus{
		Level: m.Level(), Since: m.since, Seq: m.history.last(), Reason: m.reason, Override: m.order.override, Breaker: m.state.String(),
	}
}

// levelOrder is the override in force, nil without one. The lock is held.
func (m *Machine) levelOrder() *report.LevelOrder {
	o := m.order
	if o.override == report.OverrideNone {
		return nil
	}
	return &report.LevelOrder{Dependency: m.cfg.Dependency, Override: o.override, By: o.by, Reason: o.reason, At: o.at}
}

// DependencyStatus returns where the machine stands while that is worth to be told: nil at normal without an override. An override
// is told with who gave it, why and when. worker is the process that the machine is in.
func (m *Machine) DependencyStatus(worker string) *report.DependencyStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := m.levelOrder()
	if m.Level() == report.LevelNormal && o == nil {
		return nil
	}
	out := &report.DependencyStatus{Dependency: m.cfg.Dependency, Level: m.Level(), Since: m.since, Reason: m.reason, Worker: worker}
	if o != nil {
		out.Override, out.Since, out.Reason = o.Override, o.At, o.Reason
		switch {
		case o.Reason == "":
			out.Reason = o.By
		case o.By != "":
			out.Reason += " (" + o.By + ")"
		}
	}
	return out
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
