package breaker

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/time/rate"

	"millrace/pipeline/report"
)

// Machine guards one dependency of one replica. All methods are safe for concurrent use; Direct, Admit, Report and Level are made
// for the hot path. A machine that nobody runs stays at level normal.
type Machine struct {
	cfg     Config
	t       Thresholds
	circuit *gobreaker.CircuitBreaker[struct{}]
	turns   chan turn // posted by the breaker, taken by Run

	// What the hot path reads.
	direct atomic.Bool
	level  atomic.Int32                 // its rank
	closed atomic.Bool                  // the breaker, as Run last saw it
	bucket atomic.Pointer[rate.Limiter] // nil but at level throttled
	totals totals

	signals sync.Mutex // held while a signal opens the breaker
	signal  atomic.Pointer[cause]
	tripped cause // why the breaker opens; only under its mutex

	assigned atomic.Int64 // ns, the last assignment
	progress progress
	history  history
	pings    pings
	probed   atomic.Pointer[failure] // the last probe of a half-open breaker that failed

	mu       sync.Mutex
	state    gobreaker.State
	stateAt  time.Time
	why      cause // why the breaker is in this state
	order    order
	latches  latches
	seen     view // at the last look
	storage  Storage
	since    time.Time
	reason   string
	entered  map[report.Level]int64
	baseRate float64 // intake when the soft limit was crossed, 0 unless at or above level throttled
}

// New makes a machine at level normal with the breaker closed.
func New(cfg Config) (*Machine, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	m := &Machine{cfg: cfg, t: cfg.Thresholds, turns: make(chan turn, 4), entered: map[report.Level]int64{}}
	m.circuit = m.newCircuit()
	m.direct.Store(true)
	m.closed.Store(true)
	m.history.news = make(chan struct{})
	m.pings.t = &m.t
	m.progress.init(&m.t, time.Now())
	m.since, m.stateAt = time.Now(), time.Now()
	m.why = cause{text: "the breaker is closed"}
	return m, nil
}

// Run probes, takes signals and changes levels until ctx ends. It is called once. When it has returned, nothing of the machine runs.
func (m *Machine) Run(ctx context.Context) {
	review, probe := time.NewTicker(m.t.ReviewEvery), time.NewTicker(m.t.PingEvery)
	defer review.Stop()
	defer probe.Stop()
	work, leave := m.cfg.Prober.enter()
	defer leave()
	var rounds sync.WaitGroup
	defer rounds.Wait()
	done := make(chan round, 1)
	for busy := false; ; {
		select {
		case <-ctx.Done():
			return
		case t := <-m.turns:
			m.turn(t)
		case <-review.C:
			m.mu.Lock()
			m.settle(nil)
			m.mu.Unlock()
		case <-probe.C:
			// Asking moves the window of counts on, and makes an open breaker half-open when its time has come.
			halfOpen := m.circuit.State() == gobreaker.StateHalfOpen
			if busy {
				continue
			}
			busy = true
			rounds.Go(func() {
				if halfOpen {
					done <- m.tryToClose(ctx, work)
				} else {
					done <- m.pings.round(ctx, m.cfg.Prober, work)
				}
			})
		case r := <-done:
			busy = false
			m.rounded(ctx, r)
		}
	}
}

// Direct reports whether the dependency may be tried now. After the outcome that opens the breaker it may say so for another moment.
func (m *Machine) Direct() bool { return m.direct.Load() }

// ranked are the levels by their rank.
var ranked = report.Levels()

// Level returns the present level.
func (m *Machine) Level() report.Level { return ranked[m.level.Load()] }

// turn takes over a state of the breaker.
func (m *Machine) turn(t turn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state, m.stateAt, m.why = t.to, time.Now(), t.why
	m.closed.Store(t.to == gobreaker.StateClosed)
	m.settle(nil)
}

// settle looks at the journal, decides the level and records what changes, under the lock. by is an order just given, nil
// without one.
func (m *Machine) settle(by *cause) {
	now, from, was := time.Now(), m.Level(), m.seen
	m.storage = m.cfg.Storage()
	is := m.latches.view(now, m.storage, &m.t)
	is.open = m.order.opens(m.state)
	m.seen = is
	to, direct := is.level(), !is.open
	if m.order.override == report.OverrideHold {
		to, direct = from, m.Direct()
	}
	m.adjust(to)
	m.level.Store(int32(to.Rank()))
	m.direct.Store(direct)
	if to == from && by == nil {
		return
	}
	because := explain(from, to, was, is, m.storage, m.whyOpen())
	switch {
	case by != nil && m.order.override == report.OverrideNone && to != from:
		because.text = by.text + "; " + because.text
	case by != nil:
		because.text = by.text
	}
	if to == report.LevelThrottled && m.baseRate > 0 {
		because.numbers["measured_events_per_second"] = m.baseRate
	}
	if to != from {
		m.since, m.reason = now, because.text
		m.entered[to]++
		m.progress.normal(now, to == report.LevelNormal)
	}
	m.record(report.LevelChange{
		At: now, Replica: m.cfg.Replica, Dependency: m.cfg.Dependency, From: from, To: to,
		Reason: because.text, Numbers: because.measured(), Override: m.order.override,
	}, because.numbers)
}

// whyOpen says why the dependency is tried or not.
func (m *Machine) whyOpen() cause {
	if m.order.override == report.OverrideOpen || m.order.override == report.OverrideClose {
		return m.order.cause()
	}
	return m.why
}

// record keeps a change and logs it with its numbers by name.
func (m *Machine) record(c report.LevelChange, numbers map[string]float64) {
	c = m.history.add(c)
	at := slog.LevelInfo
	if c.To.Rank() > c.From.Rank() {
		at = slog.LevelWarn
	}
	m.cfg.Log.Log(context.Background(), at, "degradation level", "pipeline", m.cfg.Pipeline, "replica", m.cfg.Replica,
		"dependency", c.Dependency, "from", c.From, "to", c.To, "reason", c.Reason,
		"override", c.Override, "seq", c.Seq, "numbers", numbers)
}
