package cli

import (
	"context"
	"math"
	"time"
)

const (
	mostRate = 1e9 // records/s; the time of one is a nanosecond
	// paceStep is the shortest wait: timers are no finer, so at high rates events leave in bursts of this much time.
	paceStep = time.Millisecond
	// paceDebt is how far a sender may fall behind and still catch up. Anything beyond is given up: sending at once all that a
	// stalled broker has held back would exceed the rate that was asked for.
	paceDebt = time.Second
)

// pace spreads events evenly over time. It is not safe for concurrent use.
type pace struct {
	gap  time.Duration // between two events; 0: none
	next time.Time     // when the next event is due
}

// newPace returns a pace of rate events per second; 0 is as fast as possible.
func newPace(rate float64) *pace {
	if rate == 0 {
		return &pace{}
	}
	return &pace{gap: time.Duration(math.Min(float64(time.Second)/rate, math.MaxInt64/2)), next: time.Now()}
}

// wait returns when the next event is due, or false when ctx ends before that.
func (p *pace) wait(ctx context.Context) bool {
	if p.gap == 0 {
		return ctx.Err() == nil
	}
	ahead := time.Until(p.next)
	if ahead < -paceDebt {
		p.next = p.next.Add(-ahead - paceDebt)
	}
	p.next = p.next.Add(p.gap)
	if ahead < paceStep {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(ahead)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
