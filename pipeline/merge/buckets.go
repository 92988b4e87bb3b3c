package merge

import (
	"context"
	"errors"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
	"millrace/pipeline/store"
)

// byBucket merges a window of which lanes keep some in fields: groups of buckets, one after the
// other, as fields are stored.
type byBucket struct {
	*Opened
	group
	buckets int
	from    int            // the first bucket that was not emitted
	width   int            // buckets that are read and merged together
	held    [][]*page.Page // of parts that have pages as well, once they were read
}

// mergeBuckets merges such a window. It returns the events in the entries, by part.
func (o *Opened) mergeBuckets(ctx context.Context, exact bool, emit func(*ledger.Rows) error,
) (counted []int64, isExact bool, err error) {
	w := &byBucket{
		Opened: o, group: o.newGroup(exact), buckets: o.merger.spec.Lane.Buckets,
		held: make([][]*page.Page, len(o.parts)),
	}
	defer w.free()
	// Small windows are read in one call for each part, large ones bucket by bucket.
	w.width = int(min(int64(w.buckets), max(1, int64(w.buckets)*groupEntries/(1+o.Events()))))
	rows, b := o.newRenderer(w.buckets), o.merger.newBatch()
	pass := func(b *batch) (*batch, error) {
		err := emit(&b.Rows)
		b.reset()
		return b, err
	}
	for w.from < w.buckets {
		err := w.mergeGroup(ctx)
		if errors.Is(err, errWide) {
			w.width = max(1, w.width/2)
			w.reset()
			continue
		}
		if err == nil {
			b, err = rows.render(&w.group, b, pass)
		}
		if err != nil {
			return nil, false, err
		}
		w.from += w.width
		w.done()
	}
	if len(b.Content) > 0 {
		if b, err = pass(b); err != nil {
			return nil, false, err
		}
	}
	o.merger.freeBatch(b)
	return w.counted, !w.ahead, nil
}

// mergeGroup merges the next group of buckets.
func (w *byBucket) mergeGroup(ctx context.Context) error {
	to := min(w.from+w.width, w.buckets)
	for i := range w.parts {
		err := w.add(i, to-w.from > 1, func(fn func(hash uint64, key, entry []byte) error) (store.Guard, error) {
			return w.readGroup(ctx, i, w.from, to, fn)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// readGroup passes the entries that a part has in the buckets from ≤ b < to to fn.
func (w *byBucket) readGroup(ctx context.Context, i, from, to int, fn func(hash uint64, key, entry []byte) error,
) (guard store.Guard, err error) {
	p := &w.parts[i]
	l := &w.View.Lanes[p.lane]
	fields := func(fn func(key, entry []byte) error) (err error) {
		guard, err = w.merger.cfg.Reader.ReadSlice(ctx, l.ID, w.merger.stateID, p.slice, from, to,
			func(_ int, key, entry []byte) error { return fn(key, entry) })
		return err
	}
	if !p.paged {
		err = fields(func(key, entry []byte) error { return fn(agg.Hash(key), key, entry) })
		return guard, err
	}
	guard = l.Meta.Guard()
	if w.held[i] == nil && len(p.pages) > 0 {
		if guard, err = w.hold(ctx, i); err != nil {
			return guard, err
		}
	}
	beneath := fields
	if !p.beneath {
		beneath = nil
	}
	err = page.MergeOver(w.held[i], beneath, func(key, entry []byte) error {
		hash := agg.Hash(key)
		if b := agg.Bucket(hash, w.buckets); b < from || b >= to {
			return nil
		}
		return fn(hash, key, entry)
	})
	return guard, err
}

// hold reads all pages of a part.
func (w *byBucket) hold(ctx context.Context, i int) (store.Guard, error) {
	p := &w.parts[i]
	wanted := make([]store.SlicePage, len(p.pages))
	for k := range p.pages {
		wanted[k] = store.SlicePage{Slice: p.slice, StoredPage: p.pages[k]}
	}
	id := w.View.Lanes[p.lane].ID
	return w.merger.cfg.Reader.ReadPages(ctx, id, w.merger.stateID, wanted, func(_ int, got *page.Page) error {
		w.held[i] = append(w.held[i], got)
		return nil
	})
}
