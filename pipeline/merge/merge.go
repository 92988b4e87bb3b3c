// Package merge says what a window holds: it reads the entries that the lanes have of the window's
// slices, merges them range by range of the hash, and renders the rows. Closing publishes what it
// says; the preview of a spec shows it for lanes that exist in memory alone.
//
// Equal entries give equal rows in equal order, so a window that is merged twice has one checksum:
// parts are merged by slice, generation, topic and partition, and rows are sorted by the hash of
// the key and the key. Where some lane keeps its share in fields, the window is merged bucket by
// bucket, as fields are stored, and rows are sorted by bucket and key.
//
// A window in pages is cut into units: ranges of the hash that hold a bounded number of entries.
// Workers take unit after unit, each with a table of its own, and hand over rendered batches; the
// goroutine that asked for the window passes them on in the order of the units. At most one unit
// more than there are workers is ahead of the rows passed on, which bounds the memory.
//
// Windows that overlap are merged from slices that were merged before, as far as they lie in a
// Cache and the lanes still hold what those were made of: see tree.
package merge

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
	"millrace/pipeline/window"
)

// SliceReader is what a merge reads; *store.Store is one.
type SliceReader interface {
	LaneView(ctx context.Context, id store.LaneID, stateID string) (store.Meta, []store.SliceStat, error)
	// ReadGuards returns the zero Guard for a lane without a meta.
	ReadGuards(ctx context.Context, ids ...store.LaneID) ([]store.Guard, error)
	// ReadSlice passes the entries of the buckets from ≤ b < to of a slice to fn; key and entry are
	// valid during the call.
	ReadSlice(ctx context.Context, id store.LaneID, stateID string, slice store.SliceID, from, to int,
		fn func(bucket int, key, entry []byte) error) (store.Guard, error)
	Index(ctx context.Context, id store.LaneID, stateID string, spans store.Spans, known []store.SliceStat) (store.LaneIndex, error)
	ReadPages(ctx context.Context, id store.LaneID, stateID string, pages []store.SlicePage,
		fn func(i int, p *page.Page) error) (store.Guard, error)
}

// Config says what is merged and how.
type Config struct {
	Spec      *spec.Spec
	Plan      *window.Plan // of Spec
	Reader    SliceReader
	Parallel  int // lanes whose indexes are read at a time
	ReadAhead int // lanes of one window whose pages are read at a time; with 1 none is read ahead
	Workers   int // goroutines that merge one window at a time; 0 is GOMAXPROCS
	// Cache keeps merged slices for the windows that overlap. Nil: each window is merged from the
	// lanes alone.
	Cache *Cache
}

// Merger merges windows of one spec. It is safe for concurrent use.
type Merger struct {
	cfg     Config
	spec    *spec.Spec
	plan    *window.Plan
	stateID string
	tables  sync.Pool // of *agg.Table
	batches sync.Pool // of *batch
	panes   []int64   // by window of the spec, see paneOf

	groupBytes int // groupBytes, but in tests
}

// New compiles the spec's aggregates. It reads nothing.
func New(cfg Config) (*Merger, error) {
	layout, err := agg.NewLayout(cfg.Spec)
	if err != nil {
		return nil, fmt.Errorf("merge %s: %w", cfg.Spec.Name, err)
	}
	m := &Merger{cfg: cfg, spec: cfg.Spec, plan: cfg.Plan, stateID: cfg.Spec.StateID(), groupBytes: groupBytes}
	m.tables.New = func() any { return layout.NewTable() }
	m.batches.New = func() any { return new(batch) }
	for i := range cfg.Spec.Windows {
		m.panes = append(m.panes, paneOf(&cfg.Spec.Windows[i]))
	}
	return m, nil
}

// workers is how many goroutines merge one window.
func (m *Merger) workers() int {
	if m.cfg.Workers > 0 {
		return m.cfg.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// Window opens a window under a view and merges it, row by row, as MergeRows does. A row is valid during the call.
func (m *Merger) Window(ctx context.Context, v *survey.View, ref window.Ref, exact bool, emit func(ledger.Content) error,
) (events int64, isExact bool, err error) {
	o, err := m.Open(ctx, v, ref)
	if err != nil {
		return 0, false, err
	}
	return o.MergeRows(ctx, exact, func(rows *ledger.Rows) error {
		for i := range rows.Content {
			if err := emit(rows.Content[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// MergeRows merges the whole window and passes its rows to emit, batch by batch, in one order for
// equal states and from the caller's goroutine. Rows carry their state when a roll-up is made from
// the window. MergeRows returns the events merged and whether the content is exactly the events
// below the offsets of o.View; with exact, anything else is an *AheadError, which only lanes with
// fields can cause. ErrMoved, *CorruptError and *MissingError mean that what was emitted is not the
// window. An error of emit ends the merge and is returned as it is.
//
// Memory is bounded by one unit of groupBytes for each worker, the batches of one unit more, and
// the pages that these units lie in; that of the cache comes on top.
func (o *Opened) MergeRows(ctx context.Context, exact bool, emit func(*ledger.Rows) error,
) (events int64, isExact bool, err error) {
	content, done, err := o.viaCache(ctx)
	if err != nil {
		return 0, false, err
	}
	defer done()
	var counted []int64
	if content.ByHash() {
		counted, isExact, err = content.mergePages(ctx, []page.HashRange{{Last: math.MaxUint64}}, exact, emit)
	} else {
		counted, isExact, err = content.mergeBuckets(ctx, exact, emit)
	}
	if err != nil {
		return 0, false, err
	}
	if err := o.merger.Prove(ctx, o.lanes()); err != nil {
		return 0, false, err
	}
	events, err = content.countEvents(ctx, counted, !isExact)
	return events, isExact, err
}

// errRanges means that MergeRanges was called for what it cannot merge.
var errRanges = errors.New("merge of ranges: they must ascend without overlap, and the window must be in pages alone")

// MergeRanges is MergeRows, exact, for the keys with hashes in some ranges only: ascending, not
// overlapping, of a window that is ByHash. It proves that the lanes are what they were, but nothing
// says how many events the ranges should hold.
func (o *Opened) MergeRanges(ctx context.Context, ranges []page.HashRange, emit func(*ledger.Rows) error) error {
	for i, r := range ranges {
		if r.First > r.Last || i > 0 && r.First <= ranges[i-1].Last {
			return errRanges
		}
	}
	if !o.ByHash() {
		return errRanges
	}
	if _, _, err := o.mergePages(ctx, ranges, true, emit); err != nil {
		return err
	}
	return o.merger.Prove(ctx, o.lanes())
}
