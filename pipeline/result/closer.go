package result

import (
	"context"
	"fmt"
	"sync"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
	"millrace/pipeline/stage"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
	"millrace/pipeline/window"
)

// Closer closes the windows of one pipeline. Any number may exist, also in several processes: they fence each other per
// slot, and what they publish is the same. Its methods may be called from any goroutine; Round, Flush and Drain wait for
// each other.
type Closer struct {
	cfg     Config
	plan    *window.Plan
	version string // of the spec
	merger  *merge.Merger
	slots   []*publish.Slot
	asked   *survey.Asked

	clock     *stage.Clock      // of rounds
	tasks     taskTimes         // of the windows that were closed since it was last asked
	turn      sync.Mutex        // held by Round, Flush and Drain
	began     time.Time         // the latest of them
	known     incarnation       // that they were in
	finality  *publish.Finality // nil before a round has found any
	rolled    rolled            // what the latest run found of roll-ups
	prev      *view
	held      hold
	round     int64
	states    map[window.Ref]state
	failures  map[window.Ref]*failure
	early     map[window.Ref]int       // looks that found the window's lanes in the middle of a commit
	shown     map[window.Ref]struct{}  // windows that have a revision
	lateAfter time.Time                // when revisions for late events may go on
	passedAt  map[window.Ref]time.Time // when the watermark passed the ends of windows that have no revision yet

	mu       sync.Mutex
	excluded map[window.Ref]struct{}
	losses   map[store.LaneID]int // rounds in a row in which a part of the lane's state was missing
}

// state is what a round knows about an open window. It is forgotten when a lane folds into the window.
type state int

const (
	unknown state = iota
	settled       // published, and nothing changed since
	final
)

// NewCloser compiles the spec. It connects to nothing before the first use.
func NewCloser(cfg Config) (*Closer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	plan, err := window.NewPlan(cfg.Spec)
	if err != nil {
		return nil, fmt.Errorf("close %s: %w", cfg.Spec.Name, err)
	}
	workers := 0 // as many as there are processors
	if cfg.Parallel == 1 {
		workers = 1
	}
	merger, err := merge.New(merge.Config{
		Spec: cfg.Spec, Plan: plan, Reader: cfg.State, Parallel: cfg.Parallel, ReadAhead: cfg.ReadAhead, Workers: workers,
		Cache: cfg.Cache,
	})
	if err != nil {
		return nil, fmt.Errorf("close %s: %w", cfg.Spec.Name, err)
	}
	c := &Closer{
		cfg: cfg, clock: stage.NewClock(stage.Idle), plan: plan, merger: merger, version: cfg.Spec.Version(),
		asked:  survey.NewAsked(cfg.TrustEnds, cfg.Now),
		states: make(map[window.Ref]state), passedAt: make(map[window.Ref]time.Time),
		failures: make(map[window.Ref]*failure), early: make(map[window.Ref]int),
		shown: make(map[window.Ref]struct{}), excluded: make(map[window.Ref]struct{}),
		losses: make(map[store.LaneID]int),
	}
	families := make([]string, len(cfg.Spec.Windows))
	for i, w := range cfg.Spec.Windows {
		families[i] = w.Name
	}
	rollups := make(map[string]spec.Retention)
	for i := range cfg.Spec.Rollups {
		name := cfg.Spec.Rollups[i].Name
		rollups[name] = cfg.Spec.Keeps(name)
	}
	for n := range cfg.Slots {
		c.slots = append(c.slots, publish.New(publish.Config{
			Slot: n, Pipeline: cfg.Spec.Name, Families: families, Rollups: rollups, Spec: c.version, Kafka: cfg.Kafka, State: cfg.State,
			Keep: cfg.Spec.Retention, Archives: cfg.Spec.Archive != nil, Now: cfg.Now, Measure: cfg.Measure,
			ViewPage: cfg.ViewPage, PlainRows: cfg.Spec.Results.PlainRows(), KeepsWhole: cfg.KeepsWhole,
		}))
	}
	return c, nil
}

// Close gives up the producers. What is under way ends first.
func (c *Closer) Close() error {
	for _, s := range c.slots {
		s.Close()
	}
	return nil
}

// Exclude leaves a window to somebody else; Round passes it over until Include. The lanes drop nothing of it meanwhile.
func (c *Closer) Exclude(ref window.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.excluded[ref] = struct{}{}
}

// Include ends Exclude.
func (c *Closer) Include(ref window.Ref) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.excluded, ref)
}

func (c *Closer) isExcluded(ref window.Ref) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.excluded[ref]
	return ok
}

// Ref finds a window of the spec by name and start (ms). ErrWindow when the spec has none of that name.
func (c *Closer) Ref(name string, start int64) (window.Ref, error) {
	for i, w := range c.cfg.Spec.Windows {
		if w.Name == name {
			return window.Ref{Window: i, Start: start}, nil
		}
	}
	return window.Ref{}, fmt.Errorf("%w: %q", ErrWindow, name)
}

func (c *Closer) windowID(ref window.Ref) ledger.WindowID {
	return ledger.WindowID{Window: c.cfg.Spec.Windows[ref.Window].Name, Start: ref.Start}
}

func (c *Closer) slotOf(ref window.Ref) int { return c.windowID(ref).Slot(len(c.slots)) }

// CloseWindow looks at the lanes and brings one window up to date: it publishes what it lacks, and makes it final when
// nothing can change it any more. It is idempotent; it returns the latest ledger row and whether anything was published.
// reason is ledger.ReasonFlush, ledger.ReasonDrain, or "" to close by the watermark. See Waits and Incident for its errors.
func (c *Closer) CloseWindow(ctx context.Context, ref window.Ref, reason string) (row ledger.Row, published bool, err error) {
	for try := 1; ; try++ {
		v, err := c.look(ctx)
		if err != nil {
			return ledger.Row{}, false, err
		}
		if reason == "" {
			if err := c.passed(v, ref); err != nil {
				return ledger.Row{}, false, err
			}
		}
		t := &task{ref: ref, view: v, reason: reason, early: try > c.cfg.Patience}
		c.inSlot(c.slotOf(ref), func(s *publish.Held) {
			if c.closeTogether(ctx, s, []*task{t}) == 0 {
				t.err = ctx.Err()
			}
		})
		o, err := t.outcome, t.err
		published = published || o.published
		if (Waits(err) || err == nil && o.stale) && try <= c.cfg.Patience && ctx.Err() == nil {
			continue
		}
		if o.final && err == nil {
			row, err = c.flooredRow(ctx, ref)
			return row, published, err
		}
		if o.row != nil {
			row = *o.row
		}
		return row, published, err
	}
}

// OpenTransaction is the one that has been open for longest among those that rows go out in as they come, nil without one. It may
// be called from any goroutine.
func (c *Closer) OpenTransaction() *report.OpenTransaction {
	var first *publish.OpenTransaction
	for _, s := range c.slots {
		if t := s.OpenTransaction(); t != nil && (first == nil || t.Since.Before(first.Since)) {
			first = t
		}
	}
	if first == nil {
		return nil
	}
	return &report.OpenTransaction{
		Window: report.WindowRef{Window: first.Window.Window, Start: first.Window.Start}, Revision: first.Revision,
		Since: first.Since.UnixMilli(), Rows: first.Rows(),
	}
}

// passed is a *NotYetError unless the watermark has passed the window's end.
func (c *Closer) passed(v *view, ref window.Ref) error {
	if v.Watermark < c.plan.End(ref) {
		return &NotYetError{Waiting: v.Waiting(), End: c.plan.End(ref)}
	}
	return nil
}
