package rollup

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
	"millrace/pipeline/traces"
)

// passes bounds how often a run reads the ledger, because a window was published by somebody else meanwhile.
const passes = 3

// Runner rolls windows of one pipeline up. It is not safe for concurrent use, and any number may run at the same time, in any
// process: what they publish is the same, and the ledger decides who does it.
type Runner struct {
	cfg    Config
	levels []level
	layout *agg.Layout
	table  *agg.Table // of the window being merged
}

// New compiles the roll-ups of the spec. It connects to nothing.
func New(cfg Config) (*Runner, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	levels, err := compileLevels(cfg.Spec)
	if err != nil {
		return nil, err
	}
	layout, err := agg.NewLayout(cfg.Spec)
	if err != nil {
		return nil, fmt.Errorf("roll up %s: %w", cfg.Spec.Name, err)
	}
	return &Runner{cfg: cfg, levels: levels, layout: layout, table: layout.NewTable()}, nil
}

// Run rolls up every window that ends at or before upper (ms), that is not what its children are now, and whose children are
// all final. An error means that ctx has ended, or that Kafka or Redis is in trouble; what goes wrong with one window alone is
// in the report, and the others go on. What was published before an error stays.
func (r *Runner) Run(ctx context.Context, upper int64) (report.Rollup, error) {
	run := &run{
		Runner: r, upper: upper, families: make([]report.RolledFamily, len(r.levels)), published: make(map[ledger.WindowID]bool),
		again: make(map[ledger.WindowID]bool),
	}
	for pass := 1; ; pass++ {
		b, err := readBooks(ctx, r.cfg.Log, r.cfg.Spec.Name, r.cfg.Slots)
		if err != nil {
			return run.summary(), fmt.Errorf("roll up %s: %w", r.cfg.Spec.Name, err)
		}
		if err := run.rollUp(ctx, b); err != nil {
			return run.summary(), err
		}
		if !run.moved || pass == passes {
			return run.summary(), nil
		}
	}
}

// run is one call of Run.
type run struct {
	*Runner
	upper int64
	late  lateCounts // nil before it was needed

	// What the latest pass over the ledger found; what was published is counted over all of them.
	families                   []report.RolledFamily
	waiting, incidents, failed []report.Unfinished
	moved                      bool // somebody else published a window

	published map[ledger.WindowID]bool // by any pass

	// Roll-ups whose states a parent has missed: true while they are published again as a whole, false when that was tried.
	again map[ledger.WindowID]bool
}

func (r *run) summary() report.Rollup {
	return report.Rollup{
		UpperBound: r.upper, Families: slices.Clone(r.families), Waiting: r.waiting, Incidents: r.incidents, Failed: r.failed,
	}
}

// rollUp is one pass over all roll-ups.
func (r *run) rollUp(ctx context.Context, b *books) error {
	r.waiting, r.incidents, r.failed, r.moved = nil, nil, nil, false
	for i := range r.levels {
		l, f := &r.levels[i], &r.families[i]
		f.Name, f.Unchanged, f.Waiting, f.Incidents, f.Failed, f.Floor = l.Name, 0, 0, 0, 0, math.MinInt64
		f.Expired = countExpired(b, l.Name, l.keep, r.cfg.Now())
		limit, known := l.finalUpTo(b, r.upper)
		for _, p := range l.parentsOf(b, r.upper) {
			if err := ctx.Err(); err != nil {
				return context.Cause(ctx)
			}
			final, err := r.rollUpWindow(ctx, b, l, f, p)
			if err != nil {
				return err
			}
			if !final {
				limit = min(limit, p.id.Start)
			}
		}
		if known {
			b.rolled[l.Name] = limit
			f.Floor = max(limit, b.lowestFloor(l.Name))
		}
	}
	return nil
}

func countExpired(b *books, family string, keep spec.Retention, now time.Time) int {
	n := 0
	for id, row := range b.rows {
		if id.Window == family && keep.Left(row.ClosedAt, now) <= 0 {
			n++
		}
	}
	return n
}

// rollUpWindow brings one window up to date, and reports whether it is final now. An error ends the run.
func (r *run) rollUpWindow(ctx context.Context, b *books, l *level, f *report.RolledFamily, p *parent) (final bool, err error) {
	base := b.rows[p.id]
	unfinished := report.Unfinished{Window: p.id.Window, Start: p.id.Start}
	child, open, err := l.openChild(b, p)
	switch {
	case err != nil:
		f.Incidents++
		unfinished.Why = err.Error()
		nameUnfinished(&r.incidents, unfinished)
		return false, nil
	case open:
		f.Waiting++
		unfinished.Child, unfinished.ChildStart, unfinished.Why = child.Window, child.Start, l.openText(b, child)
		nameUnfinished(&r.waiting, unfinished)
		return false, nil
	case base == nil && r.isGivenUp(b, l, p):
		return true, nil
	}
	children := p.provenance(base)
	if base != nil && slices.Equal(children, base.Children) && !r.again[p.id] {
		if !r.published[p.id] {
			f.Unchanged++
		}
		return true, nil
	}
	err = r.publishWindow(ctx, b, l, f, p, children)
	var lost *LostStateError
	for errors.As(err, &lost) {
		remade, failed := r.remakeChild(ctx, b, lost.Child)
		if failed != nil {
			return false, failed
		}
		if !remade {
			break
		}
		p = l.parentOf(b, p.id) // the child has another revision now
		err = r.publishWindow(ctx, b, l, f, p, p.provenance(base))
	}
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &lost):
		f.Incidents++
		unfinished.Child, unfinished.ChildStart, unfinished.Why = lost.Child.Window, lost.Child.Start, err.Error()
		nameUnfinished(&r.incidents, unfinished)
	case errors.Is(err, errMoved):
		r.moved = true
		f.Failed++
		unfinished.Why = err.Error()
		nameUnfinished(&r.failed, unfinished)
		return false, nil // the next pass may do better
	case r.cfg.Alone != nil && r.cfg.Alone(err):
		f.Failed++
		unfinished.Why = err.Error()
		nameUnfinished(&r.failed, unfinished)
	default:
		return false, fmt.Errorf("roll up window %s: %w", p.id, err)
	}
	r.book(Outcome{Window: p.id, Problem: unfinished.Why})
	return false, nil
}

// remakeChild publishes a window again, as a whole, that is a roll-up and whose states are gone, and reports whether it did. A run
// tries that once for a window. An error ends the run.
func (r *run) remakeChild(ctx context.Context, b *books, child ledger.WindowID) (remade bool, err error) {
	at := slices.IndexFunc(r.levels, func(l level) bool { return l.Name == child.Window })
	if _, tried := r.again[child]; tried || at < 0 || b.rows[child] == nil {
		return false, nil
	}
	l := &r.levels[at]
	p := l.parentOf(b, child)
	if p == nil { // the rows that it was made from were given up
		return false, nil
	}
	r.again[child] = true
	defer func() { r.again[child] = false }()
	return r.rollUpWindow(ctx, b, l, &r.families[at], p)
}

func (r *run) book(o Outcome) {
	if r.cfg.Book != nil {
		r.cfg.Book(o)
	}
}

// isGivenUp reports whether a window without a row had one that was given up after its retention. That takes longer than the
// retention since the last of its children was published.
func (r *run) isGivenUp(b *books, l *level, p *parent) bool {
	if !b.isBelowFloor(p.id, p.end) {
		return false
	}
	for _, row := range p.children {
		if r.cfg.Now().Before(time.UnixMilli(row.ClosedAt).Add(l.keep.Ledger.Std())) {
			return false
		}
	}
	return true
}

// errMoved means that a window's row is not the one that this run has read: the next pass reads the ledger anew.
var errMoved = errors.New("the window was published by somebody else meanwhile")

// publishWindow merges a window and publishes it, when its content is not that of its last revision.
func (r *run) publishWindow(ctx context.Context, b *books, l *level, f *report.RolledFamily, p *parent, children []ledger.Child) error {
	ctx, span := traces.Start(ctx, traces.SpanRollUp, traces.Pipeline.String(r.cfg.Spec.Name), traces.Window.String(p.id.String()),
		traces.Windows.Int(len(children)))
	err := r.mergeAndPublish(ctx, b, l, f, p, children)
	traces.End(span, err)
	return err
}

func (r *run) mergeAndPublish(ctx context.Context, b *books, l *level, f *report.RolledFamily, p *parent, children []ledger.Child) error {
	base := b.rows[p.id]
	m, err := r.mergeChildren(ctx, b, l, p, children)
	if err != nil {
		return err
	}
	if r.late == nil {
		if r.late, err = countLate(ctx, r.cfg.Late); err != nil {
			return fmt.Errorf("late topic: %w", err)
		}
	}
	row := r.newRow(b, p, children)
	if r.again[p.id] {
		row.Mends = report.PlaceStates
	}
	row.ChildLate = r.late.within(l.folded, p.id.Start, p.end)
	c := &publish.Correction{Row: row, Content: m, Forgets: true, Topics: r.cfg.Topics, Again: r.again[p.id]}
	if base != nil {
		c.BaseRevision, c.BaseChecksum = base.Revision, base.Checksum
	}
	answer, err := r.cfg.Desk.Correct(ctx, c)
	if err != nil {
		return err
	}
	verdict := answer.Verdict
	switch verdict {
	case publish.VerdictPublished:
		r.published[p.id] = true
		if f.ChildLate += row.ChildLate; base == nil {
			f.Published++
		} else {
			f.Corrected++
		}
		f.Keys, f.Bytes = f.Keys+answer.Row.Keys, f.Bytes+m.bytes
	case publish.VerdictUnchanged:
		answer, err = r.cfg.Desk.AmendLatest(ctx, p.id, base.Revision, base.Checksum, func(latest *ledger.Row) bool {
			latest.Children, latest.ChildLate, latest.Events = children, row.ChildLate, m.events
			return true
		})
		if err != nil {
			return err
		}
		if answer.Verdict != publish.VerdictPublished {
			return errMoved
		}
		f.Unchanged++
	case publish.VerdictDone, publish.VerdictMoved:
		return errMoved
	case publish.VerdictOpen:
		return fmt.Errorf("%w: its row, revision %d, is not final, though no lane folds an event into it", ledger.ErrCorrupt, base.Revision)
	}
	latest := *answer.Row
	b.rows[p.id] = &latest
	r.book(Outcome{Window: p.id, Verdict: verdict, Revision: latest.Revision})
	return nil
}

// newRow is the ledger row of a window's next revision, without what its content will tell.
func (r *run) newRow(b *books, p *parent, children []ledger.Child) *ledger.Row {
	row := &ledger.Row{
		Version: ledger.RowVersion, Pipeline: r.cfg.Spec.Name, Window: p.id.Window, Start: p.id.Start, End: p.end,
		Edition: b.editionOf(p.id), Spec: r.cfg.Spec.Version(), Build: r.cfg.Build, Reason: ledger.ReasonRollup, By: r.cfg.By,
		Children: children,
	}
	if sink := r.cfg.Spec.Results.Kafka; sink != nil {
		row.PublishedTo = sink.Topic
	}
	return row
}

// maxNamed bounds what a report names.
const maxNamed = 100

func nameUnfinished(list *[]report.Unfinished, u report.Unfinished) {
	if len(*list) < maxNamed {
		*list = append(*list, u)
	}
}
