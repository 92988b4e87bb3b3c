package publish

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// TestSlot is a slot without a closer. Its windows last an hour each and are named by their number.
type TestSlot struct{ s *Slot }

const testHour = 3_600_000

// emptyState is a Redis that has nothing and takes everything.
type emptyState struct{ State }

func (emptyState) ExpireWindow(context.Context, store.WindowID, int, time.Duration) (bool, error) {
	return true, nil
}

// NewTestSlot returns slot 0 of the pipeline p.
func NewTestSlot(kafka Kafka, keep spec.Retention, now func() time.Time) *TestSlot {
	return &TestSlot{New(Config{
		Pipeline: "p", Families: []string{"hour"}, Spec: "v", Kafka: kafka, State: emptyState{}, Keep: keep, Now: now,
	})}
}

// Publish writes the row of window n.
func (t *TestSlot) Publish(tb testing.TB, n int64, final bool) {
	tb.Helper()
	h := &t.s.held
	require.NoError(tb, h.TakeOver(tb.Context()))
	row := &ledger.Row{
		Version: ledger.RowVersion, Edition: ledger.Edition, Pipeline: "p", Window: "hour", Start: n * testHour,
		End: (n + 1) * testHour, Revision: 1, Final: final, Exact: true, ClosedAt: h.keep.now().UnixMilli(),
		Lanes: []ledger.Cover{{Topic: "t", Offset: n}}, Keys: 1, Events: 1, Checksum: "00", Algorithm: ledger.ChecksumAlgorithm,
	}
	require.NoError(tb, h.PublishRevision(tb.Context(), &Revision{Row: row, amends: true}))
	clear(h.pending)
}

// KeepFloors raises the floor to end (ms) and gives up what is due.
func (t *TestSlot) KeepFloors(tb testing.TB, end int64) {
	tb.Helper()
	final := &Finality{Edition: ledger.Edition, End: end, Lanes: []ledger.FloorLane{{Topic: "t"}}}
	require.NoError(tb, t.s.MaintainFloors(tb.Context(), final))
}

// GiveUp publishes n final windows and lets their rows be given up. It moves the clock.
func (t *TestSlot) GiveUp(tb testing.TB, n int, now *time.Time) {
	tb.Helper()
	for i := range n {
		t.Publish(tb, int64(i), true)
	}
	*now = now.Add(t.s.held.keep.Ledger.Std())
	for len(t.s.held.index.entries) > 0 {
		*now = now.Add(floorPause)
		t.KeepFloors(tb, int64(n)*testHour)
	}
}

// CatchUp reads the ledger as a closer does that takes over.
func (t *TestSlot) CatchUp(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, t.s.held.TakeOver(tb.Context()))
}

// Forget makes the slot remember no more of each row than where it stands.
func (t *TestSlot) Forget() {
	for _, e := range t.s.held.index.entries {
		t.s.held.index.forgetRow(e)
	}
}

// Latest reads the row of window n.
func (t *TestSlot) Latest(ctx context.Context, n int64) (*ledger.Row, error) {
	return t.s.held.LatestRow(ctx, ledger.WindowID{Window: "hour", Start: n * testHour})
}

// Close gives the slot's producer up.
func (t *TestSlot) Close() { t.s.Close() }

// Windows lists the windows that have a row.
func (t *TestSlot) Windows() []int64 {
	var all []int64
	for id := range t.s.held.index.entries {
		all = append(all, id.Start/testHour)
	}
	return all
}
