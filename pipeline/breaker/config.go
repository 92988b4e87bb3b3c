package breaker

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"
)

// Config says what to guard and how.
type Config struct {
	// Pipeline and Replica name whose machine this is, in the status and in metrics.
	Pipeline string
	Replica  int
	// Dependency is what is guarded, such as "redis" or "results". Required.
	Dependency string
	// Thresholds are the numbers; zero values are their defaults.
	Thresholds Thresholds
	// Prober asks the dependency for a sign of life. Machines of one process that guard the same dependency share one. Required.
	Prober *Prober
	// Storage says what the journal says. It is called several times a second under the machine's lock, so it must be quick and
	// must not call the machine. Default: there is no journal.
	Storage func() Storage
	// Log gets one line for each change. Default: nothing is logged.
	Log *slog.Logger
}

// Storage is what the journal says: how full it is and what waits in it. The zero value is no journal.
type Storage struct {
	Journal        bool  `json:"journal"`    // policy: is there a journal at all
	Soft           bool  `json:"soft"`       // over the soft limit
	Hard           bool  `json:"hard"`       // at the hard limit, out of space or failed
	Used           int64 `json:"used"`       // bytes in the journal
	SoftLimit      int64 `json:"soft_limit"` // bytes
	HardLimit      int64 `json:"hard_limit"` // bytes
	PendingCommits int64 `json:"pending_commits"`
	PendingBytes   int64 `json:"pending_bytes"`
}

// Thresholds are all numbers the machine decides by. A zero is the default.
type Thresholds struct {
	// AssignmentTime: a partition assignment that took longer opens the breaker. Default 5 s.
	AssignmentTime time.Duration

	// A probe round is Pings pings (default 5), begun every PingEvery (default 1 s), each given PingTimeout (default 500 ms, at most
	// PingEvery). PingRounds rounds in a row (default 3) in which at least the share PingFailing (default 0.6) failed open the breaker.
	PingEvery   time.Duration
	Pings       int
	PingTimeout time.Duration
	PingFailing float64
	PingRounds  int

	// Throughput over a sliding ThroughputWindow (default 10 s) down by at least the share ThroughputDrop (default 0.4) against the
	// window before opens the breaker if lag grows meanwhile: its mean over the window's second half exceeds that over its first half
	// by more than the share LagGrowth (default 0.05) of the events of the window before. Windows before with fewer than
	// ThroughputMin events (default 100) say nothing.
	ThroughputWindow time.Duration
	ThroughputDrop   float64
	LagGrowth        float64
	ThroughputMin    int64

	// At least ErrorMin tries (default 5) within ErrorWindow (default 10 s, counted in steps of ErrorStep, default 1 s) of which at
	// least the share ErrorRate (default 0.8) failed open the breaker.
	ErrorWindow time.Duration
	ErrorStep   time.Duration
	ErrorMin    int
	ErrorRate   float64

	// OpenFor is how long the breaker stays open before it is probed (default 60 s); Probes probes (default 5), one after the other and
	// spread over PingEvery, must all succeed to close it.
	OpenFor time.Duration
	Probes  int

	// ReviewEvery is how often the journal is looked at. Default 200 ms.
	ReviewEvery time.Duration
	// Calm is how long the journal must have been empty, or below a limit, before that counts. Default 1 s.
	Calm time.Duration
	// Margin is how far the journal must fall below a limit before that counts: as a share of the soft limit, and of the room
	// between the limits. Default 0.1.
	Margin float64
	// FloorRate is the least intake at level throttled, in events per second. Default 100.
	FloorRate float64
}

// DefaultThresholds are those of a zero Thresholds.
func DefaultThresholds() Thresholds { return Thresholds{}.withDefaults() }

// Validate reports every threshold that cannot be, zeros taken for their defaults.
func (t Thresholds) Validate() error {
	t = t.withDefaults()
	var errs []error
	t.validate(func(option string, value any, want string) {
		errs = append(errs, fmt.Errorf("breaker: %s is %v; want %s", option, value, want))
	})
	return errors.Join(errs...)
}

func (t Thresholds) withDefaults() Thresholds {
	orElse(&t.AssignmentTime, 5*time.Second)
	orElse(&t.PingEvery, time.Second)
	orElse(&t.Pings, 5)
	orElse(&t.PingTimeout, min(500*time.Millisecond, t.PingEvery))
	orElse(&t.PingFailing, 0.6)
	orElse(&t.PingRounds, 3)
	orElse(&t.ThroughputWindow, 10*time.Second)
	orElse(&t.ThroughputDrop, 0.4)
	orElse(&t.LagGrowth, 0.05)
	orElse(&t.ThroughputMin, 100)
	orElse(&t.ErrorWindow, 10*time.Second)
	orElse(&t.ErrorStep, time.Second)
	orElse(&t.ErrorMin, 5)
	orElse(&t.ErrorRate, 0.8)
	orElse(&t.OpenFor, time.Minute)
	orElse(&t.Probes, 5)
	orElse(&t.ReviewEvery, 200*time.Millisecond)
	orElse(&t.Calm, time.Second)
	orElse(&t.Margin, 0.1)
	orElse(&t.FloorRate, 100)
	return t
}

func orElse[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (c Config) withDefaults() Config {
	c.Thresholds = c.Thresholds.withDefaults()
	if c.Storage == nil {
		c.Storage = func() Storage { return Storage{} }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Validate reports every option that cannot be.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	bad := func(option string, value any, want string) {
		errs = append(errs, fmt.Errorf("breaker: %s is %v; want %s", option, value, want))
	}
	if c.Dependency == "" {
		bad("Dependency", `""`, "a name")
	}
	if c.Replica < 0 {
		bad("Replica", c.Replica, "0 or more")
	}
	if c.Prober == nil {
		bad("Prober", "nil", "one that asks the dependency for a sign of life")
	}
	c.Thresholds.validate(bad)
	return errors.Join(errs...)
}

func (t *Thresholds) validate(bad func(option string, value any, want string)) {
	durations := []struct {
		name  string
		value time.Duration
	}{
		{"AssignmentTime", t.AssignmentTime}, {"PingEvery", t.PingEvery}, {"PingTimeout", t.PingTimeout},
		{"ThroughputWindow", t.ThroughputWindow}, {"ErrorWindow", t.ErrorWindow}, {"ErrorStep", t.ErrorStep},
		{"OpenFor", t.OpenFor}, {"ReviewEvery", t.ReviewEvery}, {"Calm", t.Calm},
	}
	for _, d := range durations {
		if d.value <= 0 {
			bad("Thresholds."+d.name, d.value, "a positive duration")
		}
	}
	if t.PingTimeout > t.PingEvery {
		bad("Thresholds.PingTimeout", t.PingTimeout, fmt.Sprintf("at most PingEvery (%v), so that a round ends before the next", t.PingEvery))
	}
	if t.ErrorStep > t.ErrorWindow || t.ErrorStep < t.ErrorWindow/1000 {
		bad("Thresholds.ErrorStep", t.ErrorStep, fmt.Sprintf("at most ErrorWindow (%v) and at least a thousandth of it", t.ErrorWindow))
	}
	counts := []struct {
		name  string
		value int64
		limit int64
	}{
		{"Pings", int64(t.Pings), 100}, {"PingRounds", int64(t.PingRounds), 1000}, {"Probes", int64(t.Probes), 100},
		{"ThroughputMin", t.ThroughputMin, 1 << 40}, {"ErrorMin", int64(t.ErrorMin), 1 << 30},
	}
	for _, n := range counts {
		if n.value < 1 || n.value > n.limit {
			bad("Thresholds."+n.name, n.value, fmt.Sprintf("1 to %d", n.limit))
		}
	}
	shares := []struct {
		name  string
		value float64
	}{
		{"PingFailing", t.PingFailing}, {"ThroughputDrop", t.ThroughputDrop}, {"LagGrowth", t.LagGrowth},
		{"ErrorRate", t.ErrorRate}, {"Margin", t.Margin},
	}
	for _, s := range shares {
		if s.value <= 0 || s.value > 1 || math.IsNaN(s.value) {
			bad("Thresholds."+s.name, s.value, "a share above 0 and up to 1")
		}
	}
	if t.FloorRate < 1 || t.FloorRate > 1e9 || math.IsNaN(t.FloorRate) {
		bad("Thresholds.FloorRate", t.FloorRate, "1 to 1e9 events per second")
	}
}
