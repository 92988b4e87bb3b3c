// Package stage keeps where the time of a goroutine goes: in which stage of its work it is, and on whom it waits. The goroutine
// says so when it goes from one stage to the next, once a batch or a commit and never once an event.
package stage

import (
	"sync"
	"time"
)

// Stage is what a goroutine does or waits for.
type Stage int

// Stages. A goroutine that is in none of the others is in Rest.
const (
	Rest Stage = iota

	// Of lanes.
	Acquire  // takes the lane over and restores it
	Fetch    // waits for records
	Decode   // records become events
	Fold     // events go into slices
	Encode   // what changed becomes a commit
	Commit   // waits for commits that are in flight
	Memory   // waits at the memory limit
	Throttle // waits because intake is throttled
	Paused   // by the operator
	Parked   // waits for a decision

	// Of readers.
	Broker // waits for a broker's answer
	Unpack // record batches become records
	Lane   // waits for the lane to take a batch, or an answer

	// Of committers.
	Idle    // has nothing to do
	Sides   // waits for Kafka to take late and dead-letter records
	Redis   // waits for Redis
	Journal // waits for the write-ahead log
	Pause   // waits between two tries

	// Of closers.
	Look    // asks how the lanes stand
	Merge   // reads entries and merges them
	Publish // waits for Kafka to take a revision
	Show    // writes the view

	count
)

var names = [count]string{
	"rest", "acquire", "fetch", "decode", "fold", "encode", "commit", "memory", "throttle", "paused", "parked",
	"broker", "unpack", "lane", "idle", "sides", "redis", "journal", "pause", "look", "merge", "publish", "show",
}

func (s Stage) String() string { return names[s] }

// Spent is the time by stage.
type Spent [count]time.Duration

// Seconds returns the stages that took any time, by name.
func (s *Spent) Seconds() map[string]float64 {
	out := make(map[string]float64)
	for i, d := range s {
		if d > 0 {
			out[names[i]] = d.Seconds()
		}
	}
	return out
}

// Clock books the time of one goroutine: at any moment it is in one stage. The goroutine alone enters stages; any may read. A nil
// Clock books nothing.
type Clock struct {
	mu    sync.Mutex // guards what follows
	in    Stage
	since time.Duration // on the monotonic clock
	total Spent
	past  past
}

// NewClock returns a clock of a goroutine that is in a stage.
func NewClock(in Stage) *Clock {
	return &Clock{in: in, since: monotonic()}
}

var started = time.Now()

// monotonic is cheaper than time.Now, which reads two clocks.
func monotonic() time.Duration { return time.Since(started) }

// Enter ends the stage that the goroutine is in, which it returns, and begins another.
func (c *Clock) Enter(next Stage) (before Stage) {
	if c == nil {
		return Rest
	}
	c.mu.Lock()
	now := monotonic()
	before = c.in
	c.total[before] += now - c.since
	c.in, c.since = next, now
	c.mu.Unlock()
	return before
}

// Part is a stage's share of a time that was measured as a whole.
type Part struct {
	Stage  Stage
	Weight time.Duration
}

// EnterDividing is Enter for a time that belongs to several stages, as their weights say; without any weight it is the current one's.
func (c *Clock) EnterDividing(next Stage, parts ...Part) {
	if c == nil {
		return
	}
	weights := time.Duration(0)
	for _, p := range parts {
		weights += p.Weight
	}
	if weights <= 0 {
		c.Enter(next)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := monotonic()
	whole, left := now-c.since, now-c.since
	for _, p := range parts[1:] {
		share := time.Duration(float64(whole) * float64(p.Weight) / float64(weights))
		c.total[p.Stage] += share
		left -= share
	}
	c.total[parts[0].Stage] += left
	c.in, c.since = next, now
}

// Account is what a clock has booked: in all, and in the last minute or the shorter time since its first stage.
type Account struct {
	Total  Spent
	Minute Spent
	Span   time.Duration // that Minute is about; longer than a minute for a goroutine that nobody has asked for long
}

// Account may be called from any goroutine, and should be every few seconds.
func (c *Clock) Account() Account {
	if c == nil {
		return Account{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := monotonic()
	out := Account{Total: c.total}
	out.Total[c.in] += now - c.since
	from := c.past.minuteAgo(now)
	out.Minute, out.Span = out.Total, now-from.at
	if from.at == 0 { // before the first mark
		out.Span = 0
		for _, d := range out.Total {
			out.Span += d
		}
	}
	for i := range out.Minute {
		out.Minute[i] -= from.total[i]
	}
	c.past.mark(now, &out.Total)
	return out
}

// Marks are kept so that a minute can be looked back on.
const (
	marks     = 8
	markEvery = 10 * time.Second
	minute    = time.Minute
)

type mark struct {
	at    time.Duration
	total Spent
}

// past is a ring of marks, the latest at last.
type past struct {
	ring [marks]mark
	last int
}

func (p *past) mark(now time.Duration, total *Spent) {
	if now-p.ring[p.last].at < markEvery && p.ring[p.last].at != 0 {
		return
	}
	p.last = (p.last + 1) % marks
	p.ring[p.last] = mark{now, *total}
}

// minuteAgo returns the latest mark that is about a minute old, or the oldest; a zero one when there are none.
func (p *past) minuteAgo(now time.Duration) mark {
	best := mark{}
	for i := range marks {
		m := p.ring[(p.last+marks-i)%marks]
		if m.at == 0 {
			break
		}
		best = m
		if now-m.at >= minute-markEvery/2 {
			break
		}
	}
	return best
}
