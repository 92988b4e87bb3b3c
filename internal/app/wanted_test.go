package app

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
)

// A closer that was frozen and thaws must not write views of a pipeline that was removed meanwhile.
func TestACloserLooksAgainAfterAFreeze(t *testing.T) {
	ctx := context.Background()
	server, state := startRedis(t)
	now := time.Unix(0, 0)
	s := newCloserStore(state)
	s.now = func() time.Time { return now }
	lane := store.LaneID{Pipeline: "orders", Topic: "orders"}
	window := store.WindowID{Pipeline: "orders", Window: "hourly"}
	first, view := store.Version{Edition: 1, Revision: 1}, store.View{Whole: 1, Attempt: "a"}
	directory := []store.ViewField{{Name: store.DirectoryField(1), Value: []byte("{}")}}
	writes := func() (errs []error) {
		_, seal := s.SetSeal(ctx, lane, "1:aa", 1)
		_, drop := s.SetDrop(ctx, lane, "1:aa", 1)
		draft := s.WriteDraft(ctx, window, first, view.Attempt, 0, directory)
		write := s.WriteView(ctx, window, first, view, nil)
		flip := s.Flip(ctx, window, first, false, []byte("{}"), view, nil, nil, nil)
		_, trim := s.Trim(ctx, window)
		_, expire := s.ExpireWindow(ctx, window, first, 0)
		return []error{seal, drop, draft, write, s.DiscardDraft(ctx, window, first, view.Attempt), flip, trim, expire}
	}
	_, _, err := s.Acquire(ctx, lane, "s", "", "1:aa")
	require.NoError(t, err)
	_, _, err = s.LaneView(ctx, lane, "s")
	require.NoError(t, err)
	for range 2 {
		for _, err := range writes() {
			require.NoError(t, err)
		}
		now = now.Add(closerTrust)
	}
	now = now.Add(time.Minute)
	for _, err := range writes() {
		require.NoError(t, err, "the lane is there: it looks and goes on")
	}

	_, err = s.Fence(ctx, lane, "removed:x")
	require.NoError(t, err)
	_, _, err = s.LaneView(ctx, lane, "")
	require.ErrorIs(t, err, store.ErrRemoved)
	_, _, err = s.ReadMeta(ctx, lane)
	require.ErrorIs(t, err, store.ErrRemoved)
	now = now.Add(time.Minute)
	for _, err := range writes() {
		require.ErrorIs(t, err, store.ErrRemoved)
	}
	require.Equal(t, []string{"mr:{orders/orders/0}:ctl", "mr:{orders/orders/0}:meta"}, server.Keys())
	server.FlushAll()
	for _, err := range writes() {
		require.ErrorIs(t, err, store.ErrNoMeta)
	}
	require.Empty(t, server.Keys())
}
