// Package merge says what a window holds: it reads the entries that the lanes have of the window's slices, merges them
// bucket by bucket, and renders the rows. Closing publishes what it says; the preview of a spec shows it for lanes that exist
// in memory alone.
//
// Equal entries give equal rows in equal order, so a window that is merged twice has one checksum: parts are merged by slice,
// generation, topic and partition, and rows are sorted by bucket and key.
package merge

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
	"millrace/pipeline/window"
)

// SliceReader is what a merge reads; *store.Store is one.
type SliceReader interface {
	LaneView(ctx context.Context, id store.LaneID, stateID string) (store.Meta, []store.SliceStat, error)
	ReadMeta(ctx context.Context, id store.LaneID) (m store.Meta, found bool, err error)
	// ReadSlice passes the entries of the buckets from ≤ b < to of a slice to fn; key and entry are valid during the call.
	ReadSlice(ctx context.Context, id store.LaneID, stateID string, slice store.SliceID, from, to int,
		fn func(bucket int, key, entry []byte) error) (store.Guard, error)
}

// Config says what is merged and how.
type Config struct {
	Spec      *spec.Spec
	Plan      *window.Plan // of Spec
	Reader    SliceReader
	Parallel  int // metas read at a time
	ReadAhead int // pages of entries of one window in flight; with 1 none is read ahead
}

// Merger merges windows of one spec. It is safe for concurrent use.
type Merger struct {
	cfg     Config
	spec    *spec.Spec
	plan    *window.Plan
	stateID string
	tables  sync.Pool // of *agg.Table
}

// New compiles the spec's aggregates. It reads nothing.
func New(cfg Config) (*Merger, error) {
	layout, err := agg.NewLayout(cfg.Spec)
	if err != nil {
		return nil, fmt.Errorf("merge %s: %w", cfg.Spec.Name, err)
	}
	m := &Merger{cfg: cfg, spec: cfg.Spec, plan: cfg.Plan, stateID: cfg.Spec.StateID()}
	m.tables.New = func() any { return layout.NewTable() }
	return m, nil
}

// Window merges a window under a view, group by group of buckets, and passes its rows to emit, by bucket and by key within a
// bucket; a row is valid during the call, and carries its state when a roll-up is made from the window. Window returns the events
// merged and whether the content is exactly the events below the offsets of the view; with exact, anything else is
// an *AheadError. ErrMoved and *MissingError mean that what was emitted is not the window. Memory is bounded by one group of the
// merged window plus ReadAhead groups of single lanes; a group has at most groupBytes, or is a single bucket.
func (m *Merger) Window(ctx context.Context, v *survey.View, ref window.Ref, exact bool, emit func(ledger.Content) error,
) (events int64, isExact bool, err error) {
	r := &reading{Merger: m, view: v, parts: m.partsOf(v, ref), exact: exact, table: m.tables.Get().(*agg.Table)}
	defer func() {
		r.table.Reset()
		m.tables.Put(r.table)
	}()
	r.group = groupSize(r.parts, m.spec.Lane.Buckets)
	rows := &rowRenderer{spec: m.spec, states: m.spec.RolledUp(m.spec.Windows[ref.Window].Name)}
	for r.from < m.spec.Lane.Buckets && len(r.parts) > 0 {
		err := r.eachGroup(ctx, func(f *fetched, last bool) error {
			if err := r.mergeGroup(f); err != nil || !last {
				return err
			}
			return r.emitGroup(rows, emit)
		})
		switch {
		case errors.Is(err, errWide):
			r.narrow()
		case err != nil:
			return 0, false, err
		}
	}
	if err := r.Prove(ctx, r.merged()); err != nil {
		return 0, false, err
	}
	events, err = r.countEvents(ctx)
	return events, r.ahead == nil, err
}
