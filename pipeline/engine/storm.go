package engine

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"time"

	"millrace/pipeline/report"
)

// StormLimit says what a rebalance storm is: so many changes of the assignment within so long. Zeros are the defaults.
type StormLimit struct {
	Changes int           // default 5
	Span    time.Duration // default a minute
}

// DefaultStormLimit is a zero StormLimit.
var DefaultStormLimit = StormLimit{Changes: 5, Span: time.Minute}

// How a storm is damped: the delay doubles with every change beyond the limit.
const (
	firstDelay = 500 * time.Millisecond
	maxDelay   = 10 * time.Second
)

// keptChanges bounds the timeline of a storm; the latest stay.
const keptChanges = 50

// storms watches assignments. Safe for concurrent use.
type storms struct {
	limit int           // changes
	span  time.Duration // within which so many make a storm
	log   *slog.Logger

	mu     sync.Mutex
	recent []report.StormEvent // within span
	storm  *report.Storm       // the one that goes on, nil without one
}

func newStorms(cfg *Config) *storms {
	s := &storms{
		limit: cmp.Or(cfg.Storm.Changes, DefaultStormLimit.Changes), span: cmp.Or(cfg.Storm.Span, DefaultStormLimit.Span), log: cfg.Log,
	}
	return s
}

// claimed notes a claim and returns for how long its recovery is held back. Claims within Collect are one change.
func (s *storms) claimed() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if n := len(s.recent); n > 0 && now.Sub(s.recent[n-1].At) < Collect {
		last := &s.recent[n-1]
		last.Lanes++
		if s.storm != nil {
			s.storm.Timeline[len(s.storm.Timeline)-1] = *last
		}
		return time.Duration(last.Delay)*time.Millisecond - now.Sub(last.At)
	}
	s.settle(now)
	c := report.StormEvent{At: now, Lanes: 1}
	delay := s.delay(len(s.recent) + 1)
	c.Delay = delay.Milliseconds()
	s.recent = append(s.recent, c)
	if delay == 0 {
		return 0
	}
	if s.storm == nil {
		s.storm = &report.Storm{Since: s.recent[0].At, Timeline: slices.Clone(s.recent[:len(s.recent)-1])}
		s.storm.Changes = len(s.storm.Timeline)
		s.log.Error("rebalance storm: the recovery of new lanes is held back", "changes", len(s.recent), "within", s.span)
	}
	s.storm.Changes++
	s.storm.Delay = c.Delay
	s.storm.Timeline = append(s.storm.Timeline, c)
	if n := len(s.storm.Timeline); n > keptChanges {
		s.storm.Timeline = s.storm.Timeline[n-keptChanges:]
	}
	return delay
}

// delay is what the n-th change within the span costs.
func (s *storms) delay(n int) time.Duration {
	d := time.Duration(0)
	for i := s.limit; i <= n && d < maxDelay; i++ {
		d = max(firstDelay, 2*d)
	}
	return min(d, maxDelay)
}

// settle forgets changes that are older than the span; a storm is over when fewer than the limit are left.
func (s *storms) settle(now time.Time) {
	s.recent = slices.DeleteFunc(s.recent, func(c report.StormEvent) bool { return now.Sub(c.At) >= s.span })
	if s.storm != nil && len(s.recent) < s.limit {
		s.log.Info("rebalance storm is over", "changes", s.storm.Changes, "lasted", now.Sub(s.storm.Since))
		s.storm = nil
	}
}

// current is the storm that goes on, nil when there is none.
func (s *storms) current() *report.Storm {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle(time.Now())
	if s.storm == nil {
		return nil
	}
	out := *s.storm
	out.Timeline = slices.Clone(out.Timeline)
	return &out
}
