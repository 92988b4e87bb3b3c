package publish

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/measure"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// Config says which slot of which pipeline. All fields but Spec and Measure are required.
type Config struct {
	Slot     int
	Pipeline string
	Families []string                  // the windows of the spec, by name
	Rollups  map[string]spec.Retention // the roll-ups of the spec, by name
	Spec     string                    // version of the spec, written into floors
	Kafka    Kafka
	State    State
	Keep     spec.Retention    // of windows
	Archives bool              // contents expire, and rows are given up, only when they are archived
	Now      func() time.Time  // for what is kept and since when a slot knows of it; what a revision holds never depends on it
	Measure  *measure.Pipeline // is told what was published; nil: nothing is measured

	// PlainRows says that Redis holds a plain hash of the rows beside the pages of every view.
	PlainRows bool

	// KeepsWhole says why corrections, roll-ups and windows with states publish all rows, "" when they may publish what they
	// change: as long as there are closers that cannot read that. Nil: there are none.
	KeepsWhole func() string

	// ViewPage is the size in bytes that pages of views by hash are made for, 0 for the default of 16 KiB.
	ViewPage int64
}

// Slot is one partition of a pipeline's ledger with its transactional producer. What it knows of the ledger is the truth
// as long as its transactions succeed, because whoever else publishes in the slot fences its producer first.
//
// Its methods may be called from any goroutine: each locks the slot while it runs, calls to Kafka and Redis included. Do
// locks it over several steps. Nobody holds two slots at a time.
type Slot struct {
	mu   sync.Mutex
	held Held
}

// Held is a slot that is locked. It is handed out by Slot.Do, and is of no use after that has returned.
type Held struct {
	n         int
	takeOvers atomic.Int64
	open      atomic.Pointer[OpenTransaction] // nil: no rows go out as they come

	pipeline string
	families []string
	rollups  []string              // sorted
	version  string                // of the spec
	topic    source.TopicPartition // of the ledger
	kafka    Kafka
	state    State
	keep     retention
	archives bool
	measure  *measure.Pipeline
	viewPage int64

	plainRows  bool // Redis holds them beside the pages
	keepsWhole func() string

	// The mutex of the Slot guards everything below.

	producer    Producer  // nil before the first use and after a failure
	long        bool      // it is, or is to be, one for a transaction that takes long
	loaded      bool      // the partition was read
	next        int64     // position in the partition up to which index holds everything
	asOf        time.Time // when that was last so
	index       index
	pending     map[ledger.WindowID]*unshown // rows that Redis may not show yet
	doubtful    bool                         // Redis may have forgotten rows that it has shown
	sweep       sweep
	topics      map[string]topicRetention  // by name, as last asked
	maintained  time.Time                  // when floors were last looked after
	keptAtFloor report.Kept                // as of then
	needed      func(ledger.WindowID) bool // as of then; nil: no row is needed beyond its retention
}

// New returns a slot. It connects to nothing before the first use.
func New(cfg Config) *Slot {
	if cfg.Measure == nil {
		cfg.Measure = measure.Nothing
	}
	if cfg.KeepsWhole == nil {
		cfg.KeepsWhole = func() string { return "" }
	}
	return &Slot{held: Held{
		n: cfg.Slot, pipeline: cfg.Pipeline, families: cfg.Families, rollups: slices.Sorted(maps.Keys(cfg.Rollups)),
		version: cfg.Spec, kafka: cfg.Kafka, state: cfg.State, keep: retention{cfg.Keep, cfg.Rollups, cfg.Now},
		archives: cfg.Archives, plainRows: cfg.PlainRows, keepsWhole: cfg.KeepsWhole, measure: cfg.Measure, viewPage: cmp.Or(cfg.ViewPage, pageBytes),
		topic: source.TopicPartition{Topic: ledger.Topic(cfg.Pipeline), Partition: int32(cfg.Slot)},
		index: newIndex(), pending: make(map[ledger.WindowID]*unshown), topics: make(map[string]topicRetention),
	}}
}

// Do runs fn while the slot is locked, and returns its error. fn must not call methods of the Slot.
func (s *Slot) Do(fn func(*Held) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fn(&s.held)
}

// Close gives up the producer. What is under way ends first. A slot that is used again is taken over again.
func (s *Slot) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held.GiveUpProducer()
}

// Edition is the edition of what the slot would publish next, as far as its ledger was read.
func (s *Slot) Edition() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held.Edition()
}

// Floor returns the floor that a window which ends at end (ms) lies at or below, nil when it lies above.
func (s *Slot) Floor(family string, end int64) *ledger.Floor {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held.index.floorAbove(family, end)
}

// LowestFloor is the end (ms) up to which the slot's floors say that every window is final; window.NoTime while a family
// has no floor.
func (s *Slot) LowestFloor() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	low := int64(math.MaxInt64)
	for _, family := range s.held.families {
		f := s.held.index.floors[floorID{family, s.held.index.edition}]
		if f == nil {
			return window.NoTime
		}
		low = min(low, f.End)
	}
	return low
}

// ShowRows shows in Redis the rows that were published and could not be shown then. doubt says that Redis may have
// forgotten what it showed, and lets the slot look. With load, a slot without a producer reads its ledger first, because
// whoever published in it before may have died before the row was shown; it fences nobody.
func (s *Slot) ShowRows(ctx context.Context, doubt, load bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.held
	h.doubtful = h.doubtful || doubt
	var err error
	if load && h.producer == nil {
		err, h.doubtful = h.readLedger(ctx), true
	}
	return errors.Join(err, h.ShowRows(ctx))
}

// TakeOvers is how often the slot was taken over. What was seen of the lanes before the latest time may belong to an
// incarnation of the pipeline that was removed before it; from then on a removal fences the slot.
func (s *Slot) TakeOvers() int64 { return s.held.TakeOvers() }

// TakeOvers is as of the Slot.
func (h *Held) TakeOvers() int64 { return h.takeOvers.Load() }

// ReadOn reads the ledger on, if the slot has read it before and that is long ago.
func (s *Slot) ReadOn(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held.loaded {
		return nil
	}
	return s.held.catchUp(ctx)
}

// Latest reads the ledger on and returns the latest row of a window, nil without one. It fences nobody, so another closer may be
// about to supersede the row.
func (s *Slot) Latest(ctx context.Context, id ledger.WindowID) (*ledger.Row, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.held.readLedger(ctx); err != nil {
		return nil, &SlotError{Slot: s.held.n, Err: err}
	}
	return s.held.LatestRow(ctx, id)
}

// Forget makes the slot one that was never used: its ledger was made again.
func (s *Slot) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.held
	h.GiveUpProducer()
	h.index, h.loaded = newIndex(), false
	clear(h.pending)
	h.sweep, h.maintained, h.keptAtFloor = sweep{}, time.Time{}, report.Kept{}
}

// OpenTransaction is the transaction of a window whose rows go out as they come, nil while there is none. It does not wait for the slot.
func (s *Slot) OpenTransaction() *OpenTransaction { return s.held.open.Load() }

// Edition is the edition of what is published next.
func (h *Held) Edition() int { return h.index.edition }

// FloorInstead returns the floor that answers for a window which ends at end (ms): it lies at or below the floor, and its
// final row is not at hand. nil when the window's row has to be asked for.
func (h *Held) FloorInstead(id ledger.WindowID, end int64) *ledger.Floor {
	if h.index.holdsFinal(id) {
		return nil
	}
	return h.index.floorAbove(id.Window, end)
}

// LatestRow returns the latest row of a window, nil when it was never published or its row was given up. The slot was
// taken over. What fails is a *SlotError.
func (h *Held) LatestRow(ctx context.Context, id ledger.WindowID) (*ledger.Row, error) {
	e := h.index.entries[id]
	if e == nil || h.index.isPast(e) {
		return nil, nil
	}
	row, err := h.readRow(ctx, id, e)
	if err != nil {
		return nil, &SlotError{Slot: h.n, Err: err}
	}
	return row, nil
}

// IsNew reports whether the ledger has no row of a window. The slot was taken over.
func (h *Held) IsNew(id ledger.WindowID) bool { return h.latestEntry(id) == nil }

func (h *Held) storeID(id ledger.WindowID) store.WindowID {
	return store.WindowID{Pipeline: h.pipeline, Window: id.Window, Start: id.Start}
}
