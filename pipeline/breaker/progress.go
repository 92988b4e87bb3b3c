package breaker

import (
	"fmt"
	"sync"
	"time"
)

type sample struct {
	at        time.Time
	read, lag int64
}

// progress keeps samples of the intake for two windows, and judges it.
type progress struct {
	t *Thresholds

	mu      sync.Mutex
	samples []sample  // oldest first
	steady  time.Time // since when the level has been normal, zero when it is not
	now     throughput
}

// throughput is what the last judgement saw: events per second in the last window and in the one before, and by what share
// of the latter's events the lag grew.
type throughput struct {
	last, before, growth float64
}

func (p *progress) init(t *Thresholds, now time.Time) { p.t, p.steady = t, now }

// normal tells since when lanes depend on the dependency: at any other level throughput says nothing about it.
func (p *progress) normal(now time.Time, is bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steady = time.Time{}
	if is {
		p.steady = now
	}
}

func (p *progress) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.samples, p.now = p.samples[:0], throughput{}
}

// add takes a sample and returns why the breaker is to open, or nil.
func (p *progress) add(now time.Time, read, lag int64) *cause {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.t.ThroughputWindow
	if n := len(p.samples); n > 0 {
		last := p.samples[n-1]
		switch gap := now.Sub(last.at); {
		case gap < w/40:
			return nil
		case gap > w/3, read < last.read: // a pause, or other partitions: nothing to compare with
			p.samples, p.now = p.samples[:0], throughput{}
		}
	}
	old := 0
	for old+1 < len(p.samples) && !p.samples[old+1].at.After(now.Add(-2*w)) {
		old++
	}
	p.samples = append(p.samples[:0], p.samples[old:]...)
	p.samples = append(p.samples, sample{at: now, read: read, lag: lag})
	return p.judge(now, w)
}

func (p *progress) judge(now time.Time, w time.Duration) *cause {
	start, mid := now.Add(-2*w), now.Add(-w)
	if p.samples[0].at.After(start) || p.steady.IsZero() || p.steady.After(start) {
		p.now = throughput{}
		return nil
	}
	before, last := p.readAt(mid)-p.readAt(start), p.readAt(now)-p.readAt(mid)
	first, second := p.meanLag(mid, now.Add(-w/2)), p.meanLag(now.Add(-w/2), now)
	p.now = throughput{last: last / w.Seconds(), before: before / w.Seconds(), growth: (second - first) / max(before, 1)}
	drop := 1 - last/max(before, 1)
	if before < float64(p.t.ThroughputMin) || drop < p.t.ThroughputDrop || p.now.growth <= p.t.LagGrowth {
		return nil
	}
	return &cause{
		text: fmt.Sprintf("throughput fell from %.0f to %.0f events per second while lag grew from %.0f to %.0f",
			p.now.before, p.now.last, first, second),
		numbers: map[string]float64{
			"events_per_second": p.now.last, "events_per_second_before": p.now.before, "drop_limit": p.t.ThroughputDrop,
			"lag": second, "lag_before": first,
		},
	}
}

// readAt is how many events had been read at a moment, on the line between the samples around it.
func (p *progress) readAt(at time.Time) float64 {
	i := 0
	for i < len(p.samples)-1 && p.samples[i].at.Before(at) {
		i++
	}
	b := p.samples[i]
	if i == 0 || !b.at.After(at) {
		return float64(b.read)
	}
	a := p.samples[i-1]
	return float64(a.read) + float64(b.read-a.read)*float64(at.Sub(a.at))/float64(b.at.Sub(a.at))
}

// meanLag is the mean of the samples after from and up to to.
func (p *progress) meanLag(from, to time.Time) float64 {
	sum, n := 0.0, 0.0
	for _, s := range p.samples {
		if s.at.After(from) && !s.at.After(to) {
			sum += float64(s.lag)
			n++
		}
	}
	return sum / max(n, 1)
}

// rate is the intake over the last window, or over what there is of it, in events per second; 0 when it is not known.
func (p *progress) rate() float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.samples)
	if n < 2 {
		return 0
	}
	last := p.samples[n-1]
	from := last.at.Add(-p.t.ThroughputWindow)
	if p.samples[0].at.After(from) {
		from = p.samples[0].at
	}
	return (float64(last.read) - p.readAt(from)) / last.at.Sub(from).Seconds()
}

// Progress takes a sample of the intake, about every second: events read in total, and how many wait in the log. It is not to be
// called while intake rests by order (an operator's pause): after a gap of a third of a window the history starts anew, and until
// there are two whole windows at level normal it says nothing.
func (m *Machine) Progress(read, lag int64) {
	if c := m.progress.add(time.Now(), read, lag); c != nil {
		m.trip(*c)
	}
}

// Assigned takes how long a partition assignment took, from the claim to a lane that runs. Throughput is measured anew, since other
// partitions are read now.
func (m *Machine) Assigned(d time.Duration) {
	m.assigned.Store(int64(d))
	m.progress.forget()
	if d > m.t.AssignmentTime {
		m.trip(cause{
			text:    fmt.Sprintf("a partition assignment took %v, more than %v", d.Round(time.Millisecond), m.t.AssignmentTime),
			numbers: map[string]float64{"assignment_seconds": d.Seconds(), "assignment_limit_seconds": m.t.AssignmentTime.Seconds()},
		})
	}
}
