package breaker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

var (
	errStuck = errors.New("breaker: not sent, because earlier probes have not returned although their time was over")
	errLate  = errors.New("breaker: no answer in time")
)

// round is the outcome of a round of pings.
type round struct {
	sent, failed int
	err          error // the last
}

// pings sends probes and remembers how the last rounds went.
type pings struct {
	t     *Thresholds
	probe func(context.Context) error
	under chan struct{}  // a token for each probe under way
	all   sync.WaitGroup // the same, to wait for at the end

	mu     sync.Mutex
	last   round
	inARow int // failed rounds, up to the last
}

func (p *pings) init(t *Thresholds, probe func(context.Context) error) {
	p.t, p.probe, p.under = t, probe, make(chan struct{}, 2*t.Pings)
}

// ping asks once. It returns when its time is over even if the probe does not: a probe that hangs must not hide an outage.
func (p *pings) ping(ctx context.Context) error {
	select {
	case p.under <- struct{}{}:
	default:
		return errStuck
	}
	ctx, cancel := context.WithTimeout(ctx, p.t.PingTimeout)
	defer cancel()
	answer := make(chan error, 1)
	p.all.Go(func() {
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

// round pings several times at once.
func (p *pings) round(ctx context.Context) round {
	answers := make([]error, p.t.Pings)
	var senders sync.WaitGroup
	for i := range answers {
		senders.Go(func() { answers[i] = p.ping(ctx) })
	}
	senders.Wait()
	r := round{sent: len(answers)}
	for _, err := range answers {
		if err != nil {
			r.failed++
			r.err = err
		}
	}
	return r
}

// take keeps a round's outcome and returns why the breaker is to open, or nil.
func (p *pings) take(r round) *cause {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = r
	if r.share() < p.t.PingFailing {
		p.inARow = 0
		return nil
	}
	p.inARow++
	if p.inARow < p.t.PingRounds {
		return nil
	}
	return &cause{
		text: fmt.Sprintf("%d probe rounds in a row failed, %d of %d pings in the last: %v", p.inARow, r.failed, r.sent, r.err),
		numbers: map[string]float64{
			"failed_rounds": float64(p.inARow), "pings": float64(r.sent), "failed_pings": float64(r.failed),
			"failed_share_limit": p.t.PingFailing,
		},
	}
}

func (r round) share() float64 {
	if r.sent == 0 {
		return 0
	}
	return float64(r.failed) / float64(r.sent)
}

// tryToClose probes a half-open breaker, one probe after the other, until all have succeeded or one has failed.
func (m *Machine) tryToClose(ctx context.Context) round {
	r := round{}
	pause := time.NewTicker(max(1, m.t.PingEvery/time.Duration(m.t.Probes)))
	defer pause.Stop()
	for r.err == nil && ctx.Err() == nil {
		r.sent++
		_, r.err = m.circuit.Execute(func() (struct{}, error) { return struct{}{}, m.probeOnce(ctx) })
		if r.sent == m.t.Probes {
			break
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
	}
	if r.err != nil {
		r.failed++
	}
	return r
}

// probeOnce pings. Only the end of ctx is a cancellation; what else the probe returns is a failure.
func (m *Machine) probeOnce(ctx context.Context) error {
	err := m.pings.ping(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Canceled
	case errors.Is(err, context.Canceled):
		return errors.New(err.Error())
	}
	return err
}

// rounded takes the outcome of a round.
func (m *Machine) rounded(ctx context.Context, r round) {
	if ctx.Err() != nil {
		return // the pings were cut off
	}
	if c := m.pings.take(r); c != nil {
		m.trip(*c)
	}
}
