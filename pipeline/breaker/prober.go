package breaker

import (
	"context"
	"errors"
	"sync"
	"time"
)

var (
	errStuck = errors.New("breaker: not sent, because earlier probes have not returned although their time was over")
	errLate  = errors.New("breaker: no answer in time")
)

// Prober asks a dependency for signs of life on behalf of all machines of a process that guard it: however many machines there
// are, about one round of probes is sent every PingEvery. Safe for concurrent use.
type Prober struct {
	t     Thresholds
	probe func(context.Context) error
	under chan struct{} // a token for each probe under way

	rounds  course // of Pings probes at once
	singles course // of one probe, to close a breaker

	mu    sync.Mutex
	users int // machines that run
	work  *probing
}

// probing is what runs on behalf of machines, from the first that came to the last that left.
type probing struct {
	ctx    context.Context
	cancel context.CancelFunc
	all    sync.WaitGroup
}

// enter is called by a machine before it asks. leave, after which it asks no more, ends what is under way if no other machine is
// left.
func (p *Prober) enter() (work *probing, leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users++; p.users == 1 {
		p.work = new(probing)
		p.work.ctx, p.work.cancel = context.WithCancel(context.Background())
		p.rounds.forget()
		p.singles.forget()
	}
	work = p.work
	return work, func() {
		p.mu.Lock()
		p.users--
		last := p.users == 0
		p.mu.Unlock()
		if last {
			work.cancel()
			work.all.Wait()
		}
	}
}

// NewProber returns a prober that asks by probe: the more a probe resembles what the machines guard, the better. It must return when
// its context ends, may be called several times at once, and must not go through anything that asks a machine.
func NewProber(probe func(context.Context) error, t Thresholds) (*Prober, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	t = t.withDefaults()
	p := &Prober{t: t, probe: probe, under: make(chan struct{}, 2*t.Pings)}
	p.rounds = course{fresh: t.PingEvery * 9 / 10, send: p.sendRound}
	p.singles = course{fresh: t.PingEvery / time.Duration(t.Probes) * 9 / 10, send: func(work *probing) round {
		err := p.ask(work)
		return round{sent: 1, failed: failures(err), err: err}
	}}
	return p, nil
}

// ask probes once. It returns when its time is over even if the probe does not: a probe that hangs must not hide an outage.
func (p *Prober) ask(work *probing) error {
	select {
	case p.under <- struct{}{}:
	default:
		return errStuck
	}
	ctx, cancel := context.WithTimeout(work.ctx, p.t.PingTimeout)
	defer cancel()
	answer := make(chan error, 1)
	work.all.Go(func() {
		answer <- p.probe(ctx)
		<-p.under
	})
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return errLate
	}
}

// sendRound probes several times at once.
func (p *Prober) sendRound(work *probing) round {
	answers := make([]error, p.t.Pings)
	var senders sync.WaitGroup
	for i := range answers {
		senders.Go(func() { answers[i] = p.ask(work) })
	}
	senders.Wait()
	r := round{sent: len(answers), failed: failures(answers...)}
	for _, err := range answers {
		if err != nil {
			r.err = err
		}
	}
	return r
}

func failures(answers ...error) (n int) {
	for _, err := range answers {
		if err != nil {
			n++
		}
	}
	return n
}

// course is a sequence of questions whose answers those who ask at about the same time share.
type course struct {
	send  func(*probing) round
	fresh time.Duration // how old a question may be for its answer to be shared

	mu     sync.Mutex
	latest *question
}

// forget drops the latest question: its answer may be that nobody was left to hear it.
func (c *course) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.latest = nil
}

// question is one round, under way or answered.
type question struct {
	number int64
	began  time.Time
	done   chan struct{} // closed when answer is there
	answer round
}

// ask returns the answer to the latest question, if the caller has not seen it before (it names the number it has seen last) and
// it is fresh; else it asks a new one. It returns early when ctx ends.
func (c *course) ask(ctx context.Context, work *probing, seen int64) (round, int64) {
	c.mu.Lock()
	q := c.latest
	if q == nil || q.number == seen || time.Since(q.began) >= c.fresh {
		next := &question{number: 1, began: time.Now(), done: make(chan struct{})}
		if q != nil {
			next.number = q.number + 1
		}
		q, c.latest = next, next
		work.all.Go(func() {
			next.answer = c.send(work)
			close(next.done)
		})
	}
	c.mu.Unlock()
	select {
	case <-q.done:
		return q.answer, q.number
	case <-ctx.Done():
		return round{}, seen
	}
}
