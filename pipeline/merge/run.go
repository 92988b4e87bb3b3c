package merge

import (
	"context"
	"errors"

	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
	"millrace/pipeline/store"
)

// run merges ranges of a window that is kept in pages.
type run struct {
	*Opened
	units []unit
	pages *pageReader
	exact bool
}

// mergePages merges ranges of a window in pages and passes the rows to emit, in the caller's
// goroutine. It returns the events in the entries, by part.
func (o *Opened) mergePages(ctx context.Context, ranges []page.HashRange, exact bool, emit func(*ledger.Rows) error,
) (counted []int64, isExact bool, err error) {
	units := o.cut(ranges)
	r := &run{Opened: o, units: units, pages: o.newPageReader(units), exact: exact}
	ctx, cancel := context.WithCancel(ctx)
	defer r.pages.reading.Wait()
	defer cancel()
	if n := min(o.merger.workers(), len(units)); n > 1 {
		return r.inParallel(ctx, cancel, n, emit)
	}
	return r.inline(ctx, emit)
}

// inline merges unit after unit without other goroutines.
func (r *run) inline(ctx context.Context, emit func(*ledger.Rows) error) (counted []int64, isExact bool, err error) {
	w := r.newWorker()
	defer w.free()
	w.pass = func(b *batch) (*batch, error) {
		err := emit(&b.Rows)
		b.reset()
		return b, err
	}
	for u := range r.units {
		if err := w.mergeUnit(ctx, u); err != nil {
			return nil, false, err
		}
	}
	r.merger.freeBatch(w.batch)
	return w.counted, !w.ahead, nil
}

// worker merges units. It belongs to one goroutine.
type worker struct {
	*run
	group
	rows  renderer
	batch *batch // being filled
	pass  func(*batch) (*batch, error)
	found []*page.Page
}

func (r *run) newWorker() *worker {
	return &worker{run: r, group: r.newGroup(r.exact), rows: r.newRenderer(0), batch: r.merger.newBatch()}
}

// mergeUnit merges a unit and passes its rows on.
func (w *worker) mergeUnit(ctx context.Context, u int) error {
	if err := w.pages.load(ctx, u); err != nil {
		return err
	}
	if err := w.mergeRanges(ctx, u, w.units[u]); err != nil {
		return err
	}
	w.pages.release(u)
	if len(w.batch.Content) == 0 {
		return nil
	}
	b, err := w.pass(w.batch)
	w.batch = b
	return err
}

// mergeRanges merges ranges of a unit, in smaller steps when they are too wide.
func (w *worker) mergeRanges(ctx context.Context, u int, ranges unit) error {
	err := w.mergeParts(ctx, u, ranges)
	if errors.Is(err, errWide) {
		w.reset()
		low, high := ranges.split()
		if err := w.mergeRanges(ctx, u, low); err != nil {
			return err
		}
		return w.mergeRanges(ctx, u, high)
	}
	if err == nil {
		w.batch, err = w.rows.render(&w.group, w.batch, w.pass)
	}
	if err != nil {
		return err
	}
	w.done()
	return nil
}

// mergeParts merges all parts, as far as they lie in ranges of a unit.
func (w *worker) mergeParts(ctx context.Context, u int, ranges unit) error {
	for i := range w.parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		w.found = w.pages.pagesOf(w.found[:0], i, u)
		if len(w.found) == 0 {
			continue
		}
		err := w.add(i, ranges.mayNarrow(), func(fn func(hash uint64, key, entry []byte) error) (store.Guard, error) {
			err := page.MergeIn(w.found, ranges, func(e *page.Entry) error { return fn(e.Hash, e.Key, e.Entry) })
			return w.View.Lanes[w.parts[i].lane].Meta.Guard(), err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
