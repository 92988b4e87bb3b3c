package lane

import (
	"context"
	"errors"
	"fmt"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/page"
	"millrace/pipeline/store"
)

// entryReader is what a restore needs of the store.
type entryReader interface {
	WholeIndex(ctx context.Context, id store.LaneID, stateID string) (store.LaneIndex, error)
	ReadPages(ctx context.Context, id store.LaneID, stateID string, pages []store.SlicePage, fn func(i int, p *page.Page) error) (store.Guard, error)
	ReadSlice(ctx context.Context, id store.LaneID, stateID string, sl store.SliceID, from, to int,
		fn func(bucket int, key, entry []byte) error) (store.Guard, error)
	Load(ctx context.Context, id store.LaneID, stateID string, slices []store.SliceID, buckets int,
		fn func(slice int, key, entry []byte) error) (sizes []int, guard store.Guard, err error)
}

// loadFrom is from how many folded events on a state is read ahead while it is decoded. A small one takes a few calls.
const loadFrom = 1 << 14

// Restore reads a lane's committed state back into memory. The caller owns the lane (its token is owner), so nothing
// moves underneath unless Redis itself goes back or another owner takes over: that is store.ErrFenced or
// store.ErrLostWrites, and the caller acquires again. With store.ErrPartialLoss comes what is left of a state of which a
// part is gone: it says where the lane stood, and nothing may go on from it.
func Restore(ctx context.Context, st entryReader, p *fold.Program, id store.LaneID, owner store.Token) (*fold.State, fold.Restored, error) {
	found, err := st.WholeIndex(ctx, id, p.StateID)
	if err == nil && found.Meta.Owner != owner {
		err = store.ErrFenced
	}
	if err != nil {
		return nil, fold.Restored{}, fmt.Errorf("restore lane %s: %w", id, err)
	}
	loader, err := fold.NewLoader(p, id, found)
	if err == nil {
		err = readEntries(ctx, st, p, id, found.Meta, loader)
	}
	if err != nil {
		return nil, fold.Restored{}, fmt.Errorf("restore lane %s: %w", id, err)
	}
	return loader.Done()
}

// readEntries reads the entries of all slices that loader wants.
func readEntries(ctx context.Context, st entryReader, p *fold.Program, id store.LaneID, meta store.Meta, loader *fold.Loader) error {
	folded := int64(0)
	for _, x := range loader.Slices() {
		folded += x.Folded
	}
	switch {
	case meta.Done != store.NoCommit:
		return readPages(ctx, st, p, id, meta, loader, folded < loadFrom)
	case folded < loadFrom:
		return readSlices(ctx, st, p, id, meta, loader)
	default:
		return loadSlices(ctx, st, p, id, meta, loader)
	}
}

// pagesAhead is how many pages are read ahead of the one that is being taken in.
const pagesAhead = 8

// readPages reads the pages of all slices, newest first, and then the fields of those slices that have any.
func readPages(ctx context.Context, st entryReader, p *fold.Program, id store.LaneID, meta store.Meta, loader *fold.Loader, small bool) error {
	var pages []store.SlicePage
	var of []int // slice of each page
	for i, x := range loader.Slices() {
		for _, stored := range x.Pages {
			pages, of = append(pages, store.SlicePage{Slice: x.SliceID, StoredPage: stored}), append(of, i)
		}
	}
	add := func(i int, got *page.Page) error {
		if err := loader.AddPage(of[i], got); err != nil {
			return fmt.Errorf("slice %s: %w", pages[i].Slice, err)
		}
		return nil
	}
	var guard store.Guard
	var err error
	if small {
		guard, err = st.ReadPages(ctx, id, p.StateID, pages, add)
	} else {
		guard, err = readAhead(ctx, st, id, p.StateID, pages, add)
	}
	switch {
	case errors.Is(err, store.ErrPageGone):
		return fmt.Errorf("%w: %w", store.ErrLostWrites, err) // only this owner deletes pages
	case err == nil:
		err = unmoved(guard, meta)
	}
	if err != nil {
		return err
	}
	for i, x := range loader.Slices() {
		if x.Paged {
			continue
		}
		guard, err := st.ReadSlice(ctx, id, p.StateID, x.SliceID, 0, p.Spec.Lane.Buckets, func(_ int, key, entry []byte) error {
			return loader.AddBeneath(i, key, entry)
		})
		if err == nil {
			err = unmoved(guard, meta)
		}
		if err != nil {
			return fmt.Errorf("slice %s: %w", x.SliceID, err)
		}
	}
	return nil
}

// readAhead is ReadPages that reads the next pages while fn takes the last ones in.
func readAhead(ctx context.Context, st entryReader, id store.LaneID, stateID string, pages []store.SlicePage,
	fn func(i int, p *page.Page) error) (store.Guard, error) {
	ctx, cancel := context.WithCancel(ctx)
	read := make(chan *page.Page, pagesAhead)
	defer func() {
		cancel()
		for range read { // until the goroutine has ended
		}
	}()
	var guard store.Guard
	var failed error
	go func() {
		defer close(read)
		guard, failed = st.ReadPages(ctx, id, stateID, pages, func(_ int, p *page.Page) error {
			select {
			case read <- p:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	n := 0
	for got := range read {
		if err := fn(n, got); err != nil {
			return store.Guard{}, err
		}
		n++
	}
	return guard, failed
}

// readSlices reads one slice after the other.
func readSlices(ctx context.Context, st entryReader, p *fold.Program, id store.LaneID, meta store.Meta, loader *fold.Loader) error {
	for i, stat := range loader.Slices() {
		guard, err := st.ReadSlice(ctx, id, p.StateID, stat.SliceID, 0, p.Spec.Lane.Buckets, func(_ int, key, entry []byte) error {
			return loader.Add(i, key, entry)
		})
		if err == nil {
			err = unmoved(guard, meta)
		}
		if err != nil {
			return fmt.Errorf("slice %s: %w", stat.SliceID, err)
		}
	}
	return nil
}

// loadSlices reads all slices, the next pages while the last ones are decoded.
func loadSlices(ctx context.Context, st entryReader, p *fold.Program, id store.LaneID, meta store.Meta, loader *fold.Loader) error {
	ids := make([]store.SliceID, len(loader.Slices()))
	for i, stat := range loader.Slices() {
		ids[i] = stat.SliceID
	}
	sizes, guard, err := st.Load(ctx, id, p.StateID, ids, p.Spec.Lane.Buckets, loader.Add)
	if err != nil {
		return err
	}
	for i, n := range sizes {
		if got := loader.Entries(i); got != n {
			return fmt.Errorf("slice %s: %w: %d entries of %d", ids[i], store.ErrLaneMoved, got, n)
		}
	}
	return unmoved(guard, meta)
}

// unmoved returns nil if what was read together with guard is the state that meta speaks of.
func unmoved(guard store.Guard, meta store.Meta) error {
	switch {
	case guard == store.Guard{}: // nothing was read
		return nil
	case guard.Owner != meta.Owner:
		return store.ErrFenced
	case guard.Cursor != meta.Cursor:
		return store.ErrLostWrites
	}
	return nil
}
