package result

import (
	"context"
	"errors"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/page"
	"millrace/pipeline/publish"
	"millrace/pipeline/store"
	"millrace/pipeline/traces"
)

// rowGrowth is how many times as long as an entry a row is, about: names and numbers are text in it.
const rowGrowth = 2

// windowContent is what lanes hold of a window that is to be published. A lane whose entries do not add up or cannot be read
// is asked to write them again.
type windowContent struct {
	*merge.Opened
	closer *Closer
	exact  bool
	latest *ledger.Row
	took   time.Duration // merging, and what took the rows meanwhile
}

// Bytes implements publish.Content.
func (w *windowContent) Bytes() int64 { return rowGrowth * w.Opened.Bytes() }

// Whole implements publish.Content.
func (w *windowContent) Whole(ctx context.Context, emit func(*ledger.Rows) error) (events int64, exact bool, err error) {
	err = w.merge(ctx, func(ctx context.Context) (err error) {
		events, exact, err = w.MergeRows(ctx, w.exact, emit)
		return err
	})
	return events, exact, err
}

// Events implements publish.Content.
func (w *windowContent) Events() (n int64, counted bool) { return w.Opened.Events(), true }

// Ranges implements publish.Content.
func (w *windowContent) Ranges(ctx context.Context, ranges []page.HashRange, _ []publish.BasePage, emit func(*ledger.Rows) error) error {
	return w.merge(ctx, func(ctx context.Context) error { return w.MergeRanges(ctx, ranges, emit) })
}

// Changed implements publish.Content. What a lane with another past holds is not compared by offsets.
func (w *windowContent) Changed(ctx context.Context, limit int) (hashes []uint64, all bool, err error) {
	covered := func(id store.LaneID) (int64, bool) {
		c, known := w.latest.Cover(id.Topic, id.Partition)
		if !known {
			return -1, true
		}
		for i := range w.View.Lanes {
			if l := &w.View.Lanes[i]; l.ID == id {
				return c.Offset, l.Meta.Era == c.Era && (c.TopicID == "" || l.Meta.TopicID == c.TopicID)
			}
		}
		return 0, false
	}
	err = w.merge(ctx, func(ctx context.Context) (err error) {
		hashes, all, err = w.ChangedHashes(ctx, covered, limit)
		return err
	})
	return hashes, all, err
}

func (w *windowContent) merge(ctx context.Context, do func(context.Context) error) error {
	began := time.Now()
	ctx, span := traces.Start(ctx, traces.SpanMerge, traces.Lanes.Int(len(w.View.Lanes)))
	err := do(ctx)
	traces.End(span, err)
	w.took += time.Since(began)
	var missing *merge.MissingError
	var corrupt *merge.CorruptError
	switch {
	case errors.As(err, &missing):
		return w.closer.askForEntries(ctx, missing.Lane, missing)
	case errors.As(err, &corrupt):
		return w.closer.askForEntries(ctx, corrupt.Lane, corrupt)
	}
	return err
}
