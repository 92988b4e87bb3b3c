package shadow

import (
	"sync"
	"time"
)

// pace bounds how many records all lanes of a shadow read per second, and holds them while they are to yield. It is safe for
// concurrent use.
type pace struct {
	now func() time.Time

	mu     sync.Mutex
	rate   int64     // records a second, 0: open
	held   string    // why nothing is read now, "" when it is
	free   time.Time // when the next records may be read
	total  int64
	marked time.Time // since when marks counts
	marks  int64
	recent float64 // records per second, lately
}

func newPace(rate int64, now func() time.Time) *pace {
	return &pace{now: now, rate: rate, marked: now()}
}

// setRate changes the rate.
func (p *pace) setRate(rate int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate != rate {
		p.rate, p.free = rate, time.Time{}
	}
}

// hold keeps lanes from reading for the reason, "" lets them.
func (p *pace) hold(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = reason
}

// moments is how many times a second a lane may read at the least.
const moments = 10

// Without a rate a shadow is considerate: of a processor it takes a twentieth for folding, and an eighth for comparing, and of Redis
// a quarter for commits. What it does at once is short, because a commit of the pipeline may wait behind it.
const (
	foldRest    = 19  // rests are this many times as long as the folding before
	compareRest = 7   // likewise, comparing a window
	callRest    = 3   // likewise, a call of a commit
	foldMost    = 512 // records at once
)

// atOnce is how many records a lane may read before it asks again: a batch can hold many seconds' worth of them.
func (p *pace) atOnce() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate <= 0 {
		return foldMost
	}
	return int(max(1, p.rate/moments))
}

// isConsiderate reports whether nobody has asked for a rate.
func (p *pace) isConsiderate() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate <= 0
}

// calledFor returns how long to rest after a call of a commit of that length.
func (p *pace) calledFor(took time.Duration) time.Duration { return min(callRest*took, time.Second) }

// comparedFor returns how long to rest after a comparison of that length.
func (p *pace) comparedFor(took time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate > 0 {
		return 0
	}
	return min(compareRest*took, time.Second)
}

// spent counts n records that a lane has read and folded in the given time, and returns how long the lane waits before it reads on. A
// rate that somebody asked for is all that bounds it.
func (p *pace) spent(n int, took time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.total += int64(n)
	if since := now.Sub(p.marked); since >= time.Second {
		p.recent = float64(p.total-p.marks) / since.Seconds()
		p.marked, p.marks = now, p.total
	}
	rest := foldRest * took
	if p.rate > 0 {
		rest = time.Duration(float64(n) / float64(p.rate) * float64(time.Second))
	}
	if p.free.Before(now) {
		p.free = now
	}
	p.free = p.free.Add(rest)
	return p.free.Sub(now)
}

// limitedBy is why a lane waits that has read what it may, "" where that is as it should be.
func (p *pace) limitedBy() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate > 0 {
		return "the rate limit is reached"
	}
	return ""
}

// heldBecause is why nothing is read now, "" when it is.
func (p *pace) heldBecause() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

// standing returns the rate that bounds reading, and the records per second that were read lately.
func (p *pace) standing() (limit int64, recent float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate, p.recent
}
