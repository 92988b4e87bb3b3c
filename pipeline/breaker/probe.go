package breaker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// round is the outcome of a round of pings.
type round struct {
	sent, failed int
	err          error // the last
}

// pings remembers how the last rounds of probes went.
type pings struct {
	t *Thresholds

	mu     sync.Mutex
	seen   int64 // number of the last round
	last   round
	inARow int // failed rounds, up to the last
}

// round has a round sent, or shares one that was sent for another machine.
func (p *pings) round(ctx context.Context, prober *Prober, work *probing) round {
	p.mu.Lock()
	seen := p.seen
	p.mu.Unlock()
	r, number := prober.rounds.ask(ctx, work, seen)
	p.mu.Lock()
	p.seen = number
	p.mu.Unlock()
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
func (m *Machine) tryToClose(ctx context.Context, work *probing) round {
	r, seen := round{}, int64(0)
	pause := time.NewTicker(max(1, m.t.PingEvery/time.Duration(m.t.Probes)))
	defer pause.Stop()
	for r.err == nil && ctx.Err() == nil {
		r.sent++
		_, r.err = m.circuit.Execute(func() (struct{}, error) {
			var err error
			seen, err = m.probeOnce(ctx, work, seen)
			return struct{}{}, err
		})
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

// probeOnce asks for one sign of life that this machine has not seen yet. Only the end of ctx is a cancellation; what else the probe
// returns is a failure.
func (m *Machine) probeOnce(ctx context.Context, work *probing, seen int64) (int64, error) {
	answer, seen := m.cfg.Prober.singles.ask(ctx, work, seen)
	err := answer.err
	switch {
	case ctx.Err() != nil:
		err = context.Canceled
	case errors.Is(err, context.Canceled):
		err = errors.New(err.Error())
	}
	if err != nil {
		m.probed.Store(&failure{text: err.Error(), at: time.Now()})
	}
	return seen, err
}

// probeText is why the last probe failed, as a clause to append.
func (m *Machine) probeText() string {
	if last := m.probed.Load(); last != nil {
		return ": " + last.text
	}
	return ""
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
