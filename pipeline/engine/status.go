package engine

import (
	"cmp"
	"slices"
	"time"

	"millrace/pipeline/lane"
	"millrace/pipeline/report"
)

// Status is a snapshot of a replica for people and metrics.
type Status struct {
	Pipeline    string        `json:"pipeline"`
	Replica     int           `json:"replica"`
	Since       time.Time     `json:"since"`
	Lanes       []lane.Status `json:"lanes"`
	MemoryUsed  int64         `json:"memory_used"`     // bytes of lane state
	MemoryLimit int64         `json:"memory_limit"`    // bytes
	Storm       *report.Storm `json:"storm,omitempty"` // the rebalance storm that goes on
	Error       string        `json:"error,omitempty"`
	Unread      string        `json:"unread,omitempty"` // why the desired state could not be read at the last try: the one before holds
}

// Status may be called at any time, also after the engine ended.
func (e *Engine) Status() Status {
	s := Status{
		Pipeline: e.cfg.Spec.Name, Replica: e.cfg.Replica, Since: e.started,
		MemoryUsed: e.deps.Budget.Used(), MemoryLimit: e.cfg.Spec.Lane.MemoryLimit,
	}
	s.Storm, s.Error = e.storms.current(), e.group.current()
	if text := e.ctlError.Load(); text != nil {
		s.Unread = *text
	}
	if err := e.Err(); err != nil {
		s.Error = err.Error()
	}
	e.mu.Lock()
	for _, l := range e.lanes {
		s.Lanes = append(s.Lanes, l.Status())
	}
	e.mu.Unlock()
	slices.SortFunc(s.Lanes, func(a, b lane.Status) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return s
}
