package app

import (
	"context"
	"fmt"
	"sync"
	"time"

	"millrace/internal/contract"
	"millrace/pipeline/store"
)

// closerTrust is how long a closer writes to Redis after it has last seen a lane of its pipeline. A process that was frozen
// for longer reads it again: the pipeline may have been removed. After a shorter freeze its turn is still leased, which a
// removal waits for.
const closerTrust = contract.LeaseTTL - 2*contract.LeaseEvery

// closerStore is the store as a closer uses it. Windows have no owner that a removal could fence, but a window without lanes
// is none: the meta of a living lane is read before every write. It is safe for concurrent use.
type closerStore struct {
	*store.Store
	now func() time.Time

	mu   sync.Mutex
	lane store.LaneID // the one that was seen last
	seen time.Time    // when; zero before the first
}

func newCloserStore(s *store.Store) *closerStore { return &closerStore{Store: s, now: time.Now} }

// note takes what was read of a lane as evidence that its pipeline exists, unless a removal owns it.
func (s *closerStore) note(id store.LaneID, meta store.Meta) error {
	if meta.Owner.Removed() {
		return fmt.Errorf("close windows of %s: %w", id.Pipeline, store.ErrRemoved)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lane, s.seen = id, s.now()
	return nil
}

// stale reports whether no lane was seen for too long. s.mu is held.
func (s *closerStore) stale() bool { return !s.seen.IsZero() && s.now().Sub(s.seen) > closerTrust }

// prove reads the lane that was seen last again if that was long ago.
func (s *closerStore) prove(ctx context.Context) error {
	s.mu.Lock()
	id, stale := s.lane, s.stale()
	s.mu.Unlock()
	if !stale {
		return nil
	}
	_, found, err := s.ReadMeta(ctx, id)
	if err == nil && !found {
		err = fmt.Errorf("close windows of %s: lane %s: %w", id.Pipeline, id, store.ErrNoMeta)
	}
	return err
}

// LaneView implements result.State.
func (s *closerStore) LaneView(ctx context.Context, id store.LaneID, stateID string) (store.Meta, []store.SliceStat, error) {
	meta, stats, err := s.Store.LaneView(ctx, id, stateID)
	if err != nil {
		return meta, stats, err
	}
	return meta, stats, s.note(id, meta)
}

// ReadMeta implements result.State.
func (s *closerStore) ReadMeta(ctx context.Context, id store.LaneID) (store.Meta, bool, error) {
	meta, found, err := s.Store.ReadMeta(ctx, id)
	if err != nil || !found {
		return meta, found, err
	}
	return meta, found, s.note(id, meta)
}

// SetSeal implements result.State.
func (s *closerStore) SetSeal(ctx context.Context, id store.LaneID, owner store.Token, before int64) (store.Ctl, error) {
	if err := s.prove(ctx); err != nil {
		return store.Ctl{}, err
	}
	return s.Store.SetSeal(ctx, id, owner, before)
}

// SetDrop implements result.State.
func (s *closerStore) SetDrop(ctx context.Context, id store.LaneID, owner store.Token, before int64) (store.Ctl, error) {
	if err := s.prove(ctx); err != nil {
		return store.Ctl{}, err
	}
	return s.Store.SetDrop(ctx, id, owner, before)
}

// WriteDraft implements publish.State.
func (s *closerStore) WriteDraft(ctx context.Context, id store.WindowID, v store.Version, attempt string, written int,
	fields []store.ViewField) error {
	if err := s.prove(ctx); err != nil {
		return err
	}
	return s.Store.WriteDraft(ctx, id, v, attempt, written, fields)
}

// DiscardDraft implements publish.State.
func (s *closerStore) DiscardDraft(ctx context.Context, id store.WindowID, v store.Version, attempt string) error {
	if err := s.prove(ctx); err != nil {
		return err
	}
	return s.Store.DiscardDraft(ctx, id, v, attempt)
}

// WriteView implements publish.State.
func (s *closerStore) WriteView(ctx context.Context, id store.WindowID, v store.Version, view store.View,
	fields []store.ViewField) error {
	if err := s.prove(ctx); err != nil {
		return err
	}
	return s.Store.WriteView(ctx, id, v, view, fields)
}

// Flip implements publish.State.
func (s *closerStore) Flip(ctx context.Context, id store.WindowID, v store.Version, final bool, row []byte,
	view store.View, fields []store.ViewField, gone []string, rows *store.Rows) error {
	if err := s.prove(ctx); err != nil {
		return err
	}
	return s.Store.Flip(ctx, id, v, final, row, view, fields, gone, rows)
}

// StageRows implements publish.State.
func (s *closerStore) StageRows(ctx context.Context, id store.WindowID, v store.Version, token string, written int, end bool,
	rows []store.ViewField) error {
	if err := s.prove(ctx); err != nil {
		return err
	}
	return s.Store.StageRows(ctx, id, v, token, written, end, rows)
}

// Trim implements publish.State.
func (s *closerStore) Trim(ctx context.Context, id store.WindowID) (int, error) {
	if err := s.prove(ctx); err != nil {
		return 0, err
	}
	return s.Store.Trim(ctx, id)
}

// ExpireWindow implements publish.State.
func (s *closerStore) ExpireWindow(ctx context.Context, id store.WindowID, v store.Version, d time.Duration) (bool, error) {
	if err := s.prove(ctx); err != nil {
		return false, err
	}
	return s.Store.ExpireWindow(ctx, id, v, d)
}
