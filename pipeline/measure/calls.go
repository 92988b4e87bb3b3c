package measure

import (
	"maps"
	"sync"
	"time"
)

// Outcome is what became of a call.
type Outcome string

// Outcomes.
const (
	OK      Outcome = "ok"
	Refused Outcome = "refused" // the server answered that it will not
	Timeout Outcome = "timeout"
	Failed  Outcome = "error" // anything else
)

// Call is a kind of call.
type Call struct {
	Server    string // kafka, redis or wal
	Operation string // named in the code
	Outcome   Outcome
}

// maxCalls bounds the kinds of calls, so that a mistake about operations cannot fill the memory.
const maxCalls = 400

// Calls counts calls by kind and duration.
type Calls struct {
	mu sync.RWMutex
	by map[Call]*Histogram
}

// of returns the histogram of a kind of call, nil for a new kind beyond maxCalls.
func (c *Calls) of(call Call) *Histogram {
	c.mu.RLock()
	h := c.by[call]
	c.mu.RUnlock()
	if h != nil {
		return h
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h = c.by[call]; h == nil && len(c.by) < maxCalls {
		if c.by == nil {
			c.by = make(map[Call]*Histogram)
		}
		h = newHistogram(coarse)
		c.by[call] = h
	}
	return h
}

// All returns the kinds of calls that were made.
func (c *Calls) All() map[Call]*Histogram {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return maps.Clone(c.by)
}

// Server counts the calls to one server. A nil one counts nothing.
type Server struct {
	calls *Calls
	name  string
}

// Done counts a call.
func (s *Server) Done(operation string, outcome Outcome, took time.Duration) {
	if s != nil {
		s.calls.of(Call{s.name, operation, outcome}).Observe(took)
	}
}
