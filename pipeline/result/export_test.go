package result

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// SlotOf is a window's slot.
func SlotOf(name string, start int64, slots int) int {
	return ledger.WindowID{Window: name, Start: start}.Slot(slots)
}

// SweepBatch is how many windows of a slot one round looks at.
const SweepBatch = sweepBatch

// TestSlot is a slot without a closer. Its windows last an hour each and are named by their number.
type TestSlot struct{ s *slot }

const testHour = 3_600_000

// emptyState is a Redis that has nothing and takes everything.
type emptyState struct{ State }

func (emptyState) ExpireWindow(context.Context, store.WindowID, int, time.Duration) (bool, error) {
	return true, nil
}

// NewTestSlot returns slot 0 of the pipeline p.
func NewTestSlot(kafka Kafka, keep spec.Retention, now func() time.Time) *TestSlot {
	return &TestSlot{newSlot(0, "p", kafka, emptyState{}, keeper{keep, now})}
}

// Publish writes the row of window n.
func (t *TestSlot) Publish(tb testing.TB, n int64, final bool) {
	tb.Helper()
	require.NoError(tb, t.s.open(tb.Context()))
	row := &ledger.Row{
		Version: ledger.RowVersion, Edition: ledger.Edition, Pipeline: "p", Window: "hour", Start: n * testHour,
		End: (n + 1) * testHour, Revision: 1, Final: final, Exact: true, ClosedAt: t.s.keep.now().UnixMilli(),
		Lanes: []ledger.Cover{{Topic: "t", Offset: n}}, Keys: 1, Events: 1, Checksum: "00", Algorithm: ledger.ChecksumAlgorithm,
	}
	require.NoError(tb, t.s.publish(tb.Context(), &prepared{row: row}, true))
	clear(t.s.views)
}

// KeepFloors raises the floor to end (ms) and gives up what is due.
func (t *TestSlot) KeepFloors(tb testing.TB, end int64) {
	tb.Helper()
	final := &finality{edition: ledger.Edition, end: end, lanes: []ledger.FloorLane{{Topic: "t"}}}
	require.NoError(tb, t.s.keepFloors(tb.Context(), []string{"hour"}, final, "v"))
}

// GiveUp publishes n final windows and lets their rows be given up. It moves the clock.
func (t *TestSlot) GiveUp(tb testing.TB, n int, now *time.Time) {
	tb.Helper()
	for i := range n {
		t.Publish(tb, int64(i), true)
	}
	*now = now.Add(t.s.keep.Ledger.Std())
	for len(t.s.index.entries) > 0 {
		*now = now.Add(floorPause)
		t.KeepFloors(tb, int64(n)*testHour)
	}
}

// CatchUp reads the ledger as a closer does that takes over.
func (t *TestSlot) CatchUp(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, t.s.open(tb.Context()))
}

// Close gives the slot's producer up.
func (t *TestSlot) Close() { t.s.discard() }

// Windows lists the windows that have a row.
func (t *TestSlot) Windows() []int64 {
	var all []int64
	for id := range t.s.index.entries {
		all = append(all, id.Start/testHour)
	}
	return all
}
