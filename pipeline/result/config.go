package result

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/measure"
	"millrace/pipeline/merge"
	"millrace/pipeline/spec"
	"millrace/pipeline/survey"
)

// Defaults of Config.
const (
	DefaultParallel    = 4
	DefaultReadAhead   = 8
	DefaultMaxPerRound = 200
	DefaultPatience    = 5
)

// Config says what a Closer closes and how. The zero value of an optional field is its default.
type Config struct {
	Spec  *spec.Spec
	State State
	Kafka Kafka
	// By names the closer in ledger rows, for people.
	By string
	// Build names the program in ledger rows; "" when it is not known.
	Build string
	// Slots is the number of partitions of the ledger topic. It is fixed for the life of a pipeline: a window's slot is
	// where its ledger is looked for.
	Slots int
	// Parallel is how many windows are closed at a time, at most one per slot, and how many lanes are read at a time.
	// With 1 everything happens in the calling goroutine, in a fixed order.
	Parallel int
	// ReadAhead is of how many lanes the pages of one window are read at a time. With 1 none is read ahead.
	ReadAhead int
	// Cache keeps merged slices for the windows that overlap, of all closers of a process. Nil: every window is merged from the
	// lanes alone.
	Cache *merge.Cache
	// ViewPage is as of publish.Config.
	ViewPage int64
	// KeepsWhole is as of publish.Config.
	KeepsWhole func() string
	// MaxPerRound bounds the windows one Round closes.
	MaxPerRound int
	// Patience is after how many looks a window's first revision goes out although a lane is always in the middle of a
	// commit (exact: false). Revisions after the first, drained and final ones wait.
	Patience int
	// TrustEnds is how long an end of a lane's log proves that a lane which has reached it has nothing waiting. The default
	// follows from the spec's commit interval.
	TrustEnds time.Duration
	// Jobs are the kinds of jobs that CarryOut carries out, by name.
	Jobs map[string]JobKind
	// Tracing continues the traces of records. Nil: windows are traced only where whoever asks for them is.
	Tracing *Tracing
	// Now is the clock for closed_at, for the pace of late revisions and for TrustEnds; what a revision holds never depends on it.
	Now func() time.Time
	Log *slog.Logger
	// Measure is told how long closing takes and what it publishes. Nil: nothing is measured.
	Measure *measure.Pipeline
}

// Validate applies defaults and names every option that is not valid.
func (c *Config) Validate() error {
	var errs []error
	if c.Spec == nil {
		errs = append(errs, errors.New("result: Spec is missing"))
	}
	if c.State == nil {
		errs = append(errs, errors.New("result: State is missing"))
	}
	if c.Kafka == nil {
		errs = append(errs, errors.New("result: Kafka is missing"))
	}
	for _, o := range []struct {
		name  string
		value *int
		def   int
	}{
		{"Slots", &c.Slots, ledger.DefaultSlots}, {"Parallel", &c.Parallel, DefaultParallel},
		{"ReadAhead", &c.ReadAhead, DefaultReadAhead}, {"MaxPerRound", &c.MaxPerRound, DefaultMaxPerRound},
		{"Patience", &c.Patience, DefaultPatience},
	} {
		if *o.value == 0 {
			*o.value = o.def
		}
		if *o.value < 1 {
			errs = append(errs, fmt.Errorf("result: %s is %d, want at least 1", o.name, *o.value))
		}
	}
	if c.TrustEnds == 0 && c.Spec != nil {
		c.TrustEnds = survey.TrustEnds(c.Spec.Lane.CommitInterval.Std())
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Measure == nil {
		c.Measure = measure.Nothing
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}
