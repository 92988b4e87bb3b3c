package result

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/store"
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
	slots   []*slot

	turn      sync.Mutex // held by Round, Flush and Drain
	finality  *finality  // nil before a round has found any
	prev      *view
	round     int64
	states    map[window.Ref]state
	failures  map[window.Ref]*failure
	early     map[window.Ref]int      // looks that found the window's lanes in the middle of a commit
	shown     map[window.Ref]struct{} // windows that have a revision
	lateAfter time.Time               // when revisions for late events may go on

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

// task is one window to be closed.
type task struct {
	ref     window.Ref
	view    *view
	reason  string // ledger.ReasonFlush, ledger.ReasonDrain, or "" to close by the watermark
	edition int    // of the slot it is closed in, set when that is open
}

// NewCloser compiles the spec. It connects to nothing before the first use.
func NewCloser(cfg Config) (*Closer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	plan, err := window.NewPlan(cfg.Spec)
	if err != nil {
		return nil, fmt.Errorf("close %s: %w", cfg.Spec.Name, err)
	}
	merger, err := merge.New(merge.Config{
		Spec: cfg.Spec, Plan: plan, Reader: cfg.State, Parallel: cfg.Parallel, ReadAhead: cfg.ReadAhead,
	})
	if err != nil {
		return nil, fmt.Errorf("close %s: %w", cfg.Spec.Name, err)
	}
	c := &Closer{
		cfg: cfg, plan: plan, merger: merger, version: cfg.Spec.Version(),
		states:   make(map[window.Ref]state),
		failures: make(map[window.Ref]*failure), early: make(map[window.Ref]int),
		shown: make(map[window.Ref]struct{}), excluded: make(map[window.Ref]struct{}),
		losses: make(map[store.LaneID]int),
	}
	for n := range cfg.Slots {
		c.slots = append(c.slots, newSlot(n, cfg.Spec.Name, cfg.Kafka, cfg.State, keeper{cfg.Spec.Retention, cfg.Now}))
	}
	return c, nil
}

// Close gives up the producers. What is under way ends first.
func (c *Closer) Close() error {
	for _, s := range c.slots {
		s.mu.Lock()
		s.discard()
		s.mu.Unlock()
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

func (c *Closer) storeID(ref window.Ref) store.WindowID {
	return store.WindowID{Pipeline: c.cfg.Spec.Name, Window: c.cfg.Spec.Windows[ref.Window].Name, Start: ref.Start}
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
		o, err := c.close(ctx, &task{ref: ref, view: v, reason: reason}, try > c.cfg.Patience)
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

// passed is a *NotYetError unless the watermark has passed the window's end.
func (c *Closer) passed(v *view, ref window.Ref) error {
	if v.Watermark < c.plan.End(ref) {
		return &NotYetError{Waiting: v.Waiting(), End: c.plan.End(ref)}
	}
	return nil
}

// outcome is what became of one task.
type outcome struct {
	row       *ledger.Row // the window's latest, nil when there is none
	final     bool        // the window lies at or below a floor, whatever row is
	published bool        // row was written just now
	frozen    bool        // row and content were frozen by an earlier attempt
	stale     bool        // row is older than the task's view, or not exact: the window needs another look
}

// close does one task under its view. early allows a first revision that is not exact.
func (c *Closer) close(ctx context.Context, t *task, early bool) (outcome, error) {
	s := c.slots[c.slotOf(t.ref)]
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.producer != nil
	o, err := c.closeIn(ctx, s, t, early)
	if known && Incident(err) {
		// The ledger may have gone on since it was read: another closer made the window final, and lanes followed.
		s.discard()
		o, err = c.closeIn(ctx, s, t, early)
	}
	return o, err
}

func (c *Closer) closeIn(ctx context.Context, s *slot, t *task, early bool) (outcome, error) {
	if err := c.wholeView(t.view); err != nil {
		return outcome{}, err
	}
	if err := s.open(ctx); err != nil {
		return outcome{}, &SlotError{Slot: s.n, Err: err}
	}
	t.edition = s.index.edition
	id := c.windowID(t.ref)
	if f := s.index.floor(id.Window, c.plan.End(t.ref)); f != nil && !s.index.holdsFinal(id) {
		return c.closeFloored(t, f)
	}
	last, err := s.last(ctx, id)
	if err != nil {
		return outcome{}, &SlotError{Slot: s.n, Err: err}
	}
	n, err := c.need(t.view, t.ref, last)
	if err != nil || last != nil && last.Final {
		return outcome{row: last}, err
	}
	if t.view.Dropped(c.plan.Deadline(t.ref)) {
		return outcome{row: last}, c.grew(t)
	}
	finalise := n.sealed && t.reason == ""
	if !n.changed && last.Exact && !finalise {
		return outcome{row: last}, nil
	}
	if !n.changed && last.Exact {
		row := c.newRow(t, last)
		row.Revision, row.Exact, row.Keys, row.Events, row.Checksum = last.Revision, true, last.Keys, last.Events, last.Checksum
		row.Algorithm, row.Links = last.Algorithm, last.Links
		return c.commit(ctx, s, &prepared{row: row}, true)
	}
	p, err := c.prepare(ctx, t, last, last != nil || finalise || t.reason == ledger.ReasonDrain || !early)
	same := errors.Is(err, errSame)
	if err != nil && !same {
		return outcome{row: last}, err
	}
	return c.commit(ctx, s, p, same)
}

// commit publishes and then shows the row in Redis; only the first decides.
func (c *Closer) commit(ctx context.Context, s *slot, p *prepared, amend bool) (outcome, error) {
	if err := s.publish(ctx, p, amend); err != nil {
		return outcome{}, err
	}
	if err := s.flip(ctx); err != nil {
		c.cfg.Log.Warn("the view in Redis lags behind the ledger", "pipeline", c.cfg.Spec.Name, "error", err)
	}
	return outcome{row: p.row, published: true, frozen: p.frozen, stale: p.frozen || !p.row.Exact}, nil
}

// newRow is the ledger row of the window's next revision under the task's view, without what reading it will tell.
func (c *Closer) newRow(t *task, last *ledger.Row) *ledger.Row {
	id := c.windowID(t.ref)
	row := &ledger.Row{
		Version: ledger.RowVersion, Pipeline: c.cfg.Spec.Name, Window: id.Window, Start: id.Start, End: c.plan.End(t.ref),
		Edition: t.edition, Spec: c.version, Build: c.cfg.Build, Algorithm: ledger.ChecksumAlgorithm,
		Revision: 1, Reason: t.reason, By: c.cfg.By, ClosedAt: c.cfg.Now().UnixMilli(), Lanes: c.covers(t.view, t.ref),
	}
	if sink := c.cfg.Spec.Results.Kafka; sink != nil {
		row.PublishedTo = sink.Topic
	}
	if last != nil {
		row.Revision = last.Revision + 1
	}
	if t.reason != "" {
		return row
	}
	row.Final = t.view.Sealed(c.plan.Deadline(t.ref))
	switch {
	case last == nil || last.Reason == ledger.ReasonFlush || last.Reason == ledger.ReasonDrain:
		row.Reason = ledger.ReasonWatermark
	case row.Final:
		row.Reason = ledger.ReasonFinal
	default:
		row.Reason = ledger.ReasonLate
	}
	return row
}

// grew describes a window that the lanes were told is final, although the ledger has no final row of it.
func (c *Closer) grew(t *task) error {
	ranges := c.plan.SlicesOf(t.ref)
	for i := range t.view.Lanes {
		if _, offset, folded := t.view.Lanes[i].Share(ranges); folded > 0 {
			id := c.windowID(t.ref)
			return &GrewError{Lane: t.view.Lanes[i].ID, Window: id.Window, Start: id.Start, Offset: offset}
		}
	}
	return nil
}
