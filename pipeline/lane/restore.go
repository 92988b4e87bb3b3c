package lane

import (
	"context"
	"fmt"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/store"
)

// entryReader is what a restore needs of the store.
type entryReader interface {
	LaneView(ctx context.Context, id store.LaneID, stateID string) (store.Meta, []store.SliceStat, error)
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
	meta, stats, err := st.LaneView(ctx, id, p.StateID)
	if err == nil && meta.Owner != owner {
		err = store.ErrFenced
	}
	if err != nil {
		return nil, fold.Restored{}, fmt.Errorf("restore lane %s: %w", id, err)
	}
	loader, err := fold.NewLoader(p, id, meta, stats)
	if err == nil {
		err = readEntries(ctx, st, p, id, meta, loader)
	}
	if err != nil {
		return nil, fold.Restored{}, fmt.Errorf("restore lane %s: %w", id, err)
	}
	return loader.Done()
}

// readEntries reads the entries of all slices that loader wants.
func readEntries(ctx context.Context, st entryReader, p *fold.Program, id store.LaneID, meta store.Meta, loader *fold.Loader) error {
	if store.OpenFolded(loader.Slices()) < loadFrom {
		return readSlices(ctx, st, p, id, meta, loader)
	}
	return loadSlices(ctx, st, p, id, meta, loader)
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
