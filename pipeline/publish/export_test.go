package publish

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// TestSlot is a slot without a closer. Its windows last an hour each and are named by their number.
type TestSlot struct {
	s     *Slot
	redis *emptyState
}

const testHour = 3_600_000

// emptyState is a Redis that has nothing and takes everything.
type emptyState struct {
	State
	writes []string
}

func (s *emptyState) Flip(_ context.Context, id store.WindowID, _ store.Version, _ bool, text []byte, _ store.View,
	_ []store.ViewField, _ []string, _ *store.Rows) error {
	var row ledger.Row
	if err := json.Unmarshal(text, &row); err != nil {
		return err
	}
	s.writes = append(s.writes, fmt.Sprintf("show %d of %d", id.Start/testHour, row.ClosedAt))
	return nil
}

func (s *emptyState) ExpireWindow(_ context.Context, id store.WindowID, _ store.Version, _ time.Duration) (bool, error) {
	s.writes = append(s.writes, fmt.Sprintf("expire %d", id.Start/testHour))
	return true, nil
}

func (s *emptyState) WriteDraft(context.Context, store.WindowID, store.Version, string, int, []store.ViewField) error {
	s.writes = append(s.writes, "write")
	return nil
}

func (s *emptyState) DiscardDraft(context.Context, store.WindowID, store.Version, string) error {
	return nil
}

// NewTestSlot returns slot 0 of the pipeline p.
func NewTestSlot(kafka Kafka, keep spec.Retention, now func() time.Time) *TestSlot {
	redis := &emptyState{}
	return &TestSlot{New(Config{
		Pipeline: "p", Families: []string{"hour"}, Spec: "v", Kafka: kafka, State: redis, Keep: keep, Now: now,
	}), redis}
}

// Publish writes the row of window n, as if it were shown then.
func (t *TestSlot) Publish(tb testing.TB, n int64, final bool) {
	tb.Helper()
	t.PublishUnshown(tb, n, final)
	clear(t.s.held.pending)
}

// PublishUnshown writes the row of window n.
func (t *TestSlot) PublishUnshown(tb testing.TB, n int64, final bool) {
	tb.Helper()
	h := &t.s.held
	require.NoError(tb, h.TakeOver(tb.Context()))
	_, err := h.Say(tb.Context(), &Draft{Row: t.row(n, final)})
	require.NoError(tb, err)
}

func (t *TestSlot) row(n int64, final bool) *ledger.Row {
	h := &t.s.held
	return &ledger.Row{
		Version: ledger.RowVersion, Edition: h.Edition(), Pipeline: "p", Window: "hour", Start: n * testHour,
		End: (n + 1) * testHour, Revision: 1, Final: final, Exact: true, ClosedAt: h.keep.now().UnixMilli(),
		Lanes: []ledger.Cover{{Topic: "t", Offset: n}}, Keys: 1, Events: 1, Checksum: "00", Algorithm: ledger.ChecksumAlgorithm,
	}
}

// Show shows what was published, goes on with the sweep, and returns what both wrote to Redis.
func (t *TestSlot) Show(tb testing.TB) []string {
	tb.Helper()
	t.redis.writes = nil
	require.NoError(tb, t.s.ShowRows(tb.Context(), false, false))
	_, err := t.s.Sweep(tb.Context())
	require.NoError(tb, err)
	return t.redis.writes
}

// Draft is what a closer makes of window n, to be published later.
func (t *TestSlot) Draft(n int64) *Draft { return &Draft{Row: t.row(n, true)} }

// PublishDraft publishes a draft without content.
func (t *TestSlot) PublishDraft(ctx context.Context, d *Draft) error {
	none := func(context.Context, func(ledger.Content) error) (int64, error) { return 0, nil }
	_, err := t.s.held.Publish(ctx, d, InOrder{Rows: none})
	return err
}

// KeepFloors raises the floor to end (ms) and gives up what is due.
func (t *TestSlot) KeepFloors(tb testing.TB, end int64) {
	tb.Helper()
	final := &Finality{Edition: t.s.Edition(), End: end, Lanes: []ledger.FloorLane{{Topic: "t"}}}
	require.NoError(tb, t.s.MaintainFloors(tb.Context(), final, func(context.Context, *Held) error { return nil }))
}

// GiveUp publishes n final windows and lets their rows be given up. It moves the clock.
func (t *TestSlot) GiveUp(tb testing.TB, n int, now *time.Time) {
	tb.Helper()
	for i := range n {
		t.Publish(tb, int64(i), true)
	}
	*now = now.Add(t.s.held.keep.windows.Ledger.Std())
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

// Certify writes a certificate.
func (t *TestSlot) Certify(tb testing.TB, c ledger.Certificate) Verdict {
	tb.Helper()
	done, err := t.s.held.Certify(tb.Context(), c)
	require.NoError(tb, err)
	return done.Verdict
}

// Certified lists the windows that have a certificate.
func (t *TestSlot) Certified() []int64 {
	var all []int64
	for id := range t.s.held.index.certificates {
		all = append(all, id.Start/testHour)
	}
	return all
}
