package app

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/merge"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/spec"
	"millrace/pipeline/window"
)

// workshop hands out closers over windows that only count.
type workshop struct {
	*closers
	made []*fakeWindows
	away atomic.Bool
}

func working(t *testing.T, test func(t *testing.T, w *workshop)) {
	synctest.Test(t, func(t *testing.T) {
		w := &workshop{}
		out := &outlets{
			log: quiet, made: make(map[string]*outlet), wanted: nothingWanted,
			ping: func(context.Context, string) error {
				if w.away.Load() {
					return errors.New("no broker answers")
				}
				return nil
			},
			follow: func(ctx context.Context, _ string, _ activities.Level) { <-ctx.Done() },
		}
		w.closers = &closers{
			outlets: out, merged: merge.NewCache(0), log: quiet, made: make(map[closerKey]*closer),
			upToDate: make(map[string]time.Time),
		}
		w.create = func(s *spec.Spec) (*closer, error) {
			f := &fakeWindows{}
			w.made = append(w.made, f)
			return &closer{windows: f, spec: s, log: quiet, skipped: make(map[window.Ref]struct{})}, nil
		}
		w.start()
		test(t, w)
		require.NoError(t, w.close())
	})
}

// take is an activity of a run that uses the closer of a spec from now on.
func (w *workshop) take(t *testing.T, s *spec.Spec) (*closer, func()) { return w.takeIn(t, s, "run-1") }

func (w *workshop) takeIn(t *testing.T, s *spec.Spec, run string) (*closer, func()) {
	c, done, err := w.Closer(t.Context(), s, run)
	require.NoError(t, err)
	return c.(*closer), done
}

func TestClosersAreSharedAndGivenUp(t *testing.T) {
	working(t, func(t *testing.T, w *workshop) {
		orders, other := &spec.Spec{Name: "orders"}, &spec.Spec{Name: "orders", Where: "true"}
		first, firstDone := w.take(t, orders)
		second, secondDone := w.take(t, orders)
		require.Same(t, first, second)
		third, thirdDone := w.take(t, other)
		require.NotSame(t, first, third, "another spec has a closer of its own")
		require.Same(t, first.outlet, third.outlet, "but not another Kafka")

		pass(time.Hour)
		require.Len(t, w.made, 2)
		require.False(t, w.made[0].given || w.made[1].given, "they are in use")
		firstDone()
		pass(time.Hour)
		require.False(t, w.made[0].given, "one still uses it")
		secondDone()
		pass(idleFor - sweepEvery)
		again, done := w.take(t, orders)
		require.Same(t, first, again, "the next activity comes within seconds")
		done()
		pass(idleFor + sweepEvery)
		require.True(t, w.made[0].given)
		require.False(t, w.made[1].given)
		require.Len(t, w.outlets.statuses(), 1)
		thirdDone()
		pass(idleFor + sweepEvery)
		require.True(t, w.made[1].given)
		require.Empty(t, w.outlets.statuses(), "nobody needs the state machine")

		fresh, done := w.take(t, orders)
		require.NotSame(t, first, fresh)
		done()
	})
}

// The metrics have what the last round counted, as long as the windows are closed here.
func TestWhatIsKeptIsKnownWhileClosing(t *testing.T) {
	working(t, func(t *testing.T, w *workshop) {
		c, done := w.take(t, &spec.Spec{Name: "orders"})
		require.Empty(t, w.kept(), "no round has counted")
		f := w.made[0]
		want := report.Kept{Rows: 3, Results: 2, Oldest: 7, Backlog: 1}
		f.report.Kept = &want
		for range 2 {
			round, err := c.Round(t.Context(), nil)
			require.NoError(t, err)
			if f.rounds == 1 {
				require.Equal(t, &want, round.Kept)
			} else {
				require.Nil(t, round.Kept, "the round did not come to it")
			}
			require.Equal(t, map[string]report.Kept{"orders": want}, w.kept())
			f.report.Kept = nil
		}
		done()
		require.Empty(t, w.kept(), "somebody else closes them now")
	})
}

// Between two runs the pipeline may have been removed, and what a closer remembers is void then: not even one that is still
// in use, by an activity that nobody wants any more, is handed to another run.
func TestAClosersMemoryIsNotHandedToAnotherRun(t *testing.T) {
	working(t, func(t *testing.T, w *workshop) {
		orders := &spec.Spec{Name: "orders"}
		old, oldDone := w.takeIn(t, orders, "run-1")
		fresh, freshDone := w.takeIn(t, orders, "run-2")
		require.NotSame(t, old, fresh)
		require.Same(t, old.outlet, fresh.outlet)
		oldDone()
		freshDone()
		idle, done := w.takeIn(t, orders, "run-3")
		require.NotSame(t, old, idle)
		require.NotSame(t, fresh, idle)
		done()
		pass(idleFor + sweepEvery)
		for i, windows := range w.made {
			require.True(t, windows.given, "closer %d", i)
		}
	})
}

// A state machine that somebody watches ends only when it rests.
func TestOpenBreakersOutliveTheirClosers(t *testing.T) {
	working(t, func(t *testing.T, w *workshop) {
		c, done := w.take(t, &spec.Spec{Name: "orders"})
		for range 8 {
			c.outlet.Report(errors.New("no broker answers"))
		}
		w.away.Store(true)
		pass(time.Second)
		require.False(t, c.outlet.Direct())
		done()
		pass(idleFor + sweepEvery)
		require.True(t, w.made[0].given)
		require.Len(t, w.outlets.statuses(), 1)
		pass(unused)
		require.Equal(t, report.LevelNormal, c.outlet.Level(), "nobody publishes here: Kafka is left alone")
		require.Len(t, w.outlets.statuses(), 1, "who watches may still read how it ended")
		pass(2 * unused)
		require.Empty(t, w.outlets.statuses())
	})
}

func TestUnpublishedWindowsAreCountedInWords(t *testing.T) {
	const start = 1_700_000_400_000
	for _, c := range []struct {
		failed, all int
		want        string
	}{
		{1, 1, "1 window was not published, the first is hourly 2023-11-14T22:20:00Z: no leader"},
		{1, 3, "1 of 3 windows was not published, the first is hourly"},
		{2, 3, "2 of 3 windows were not published, the first is hourly"},
		{2, 0, "2 windows were not published, the first is hourly"},
	} {
		receipt := result.Receipt{Emitted: report.Emitted{Windows: c.all}}
		for range c.failed {
			receipt.Failed = append(receipt.Failed, report.FailedWindow{WindowRef: report.WindowRef{Window: "hourly", Start: start},
				Problem: "no leader"})
		}
		require.ErrorContains(t, unpublished(receipt), c.want)
	}
}

// Which closer of a pipeline has looked last decides, not which one happens to be asked first.
func TestClosersThatDoNotLookHideNothing(t *testing.T) {
	working(t, func(t *testing.T, w *workshop) {
		orders := &spec.Spec{Name: "orders"}
		looks, done := w.takeIn(t, orders, "run-1")
		defer done()
		_, err := looks.Round(t.Context(), []report.WindowRef{{Window: "hourly", Start: 3_600_000}})
		require.NoError(t, err)
		for i := range 20 { // the workflows of single windows
			_, done := w.takeIn(t, orders, fmt.Sprintf("window-%d", i))
			defer done()
		}
		for range 20 {
			require.Len(t, contract.CloserConditions("orders", w.hindered()["orders"], time.Now()), 1)
		}
		pass(time.Second)
		next, done := w.takeIn(t, orders, "run-2")
		defer done()
		_, err = next.Round(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, contract.CloserConditions("orders", w.hindered()["orders"], time.Now()), "the latest round counts")
	})
}

// What a round under way has open is told as it is now.
func TestAnOpenTransactionShowsDuringARound(t *testing.T) {
	working(t, func(t *testing.T, w *workshop) {
		c, done := w.take(t, &spec.Spec{Name: "orders"})
		defer done()
		_, err := c.Round(t.Context(), nil)
		require.NoError(t, err)
		began := time.Now()
		w.made[0].open = &report.OpenTransaction{Window: report.WindowRef{Window: "hourly"}, Since: began.UnixMilli()}
		require.Empty(t, contract.CloserConditions("orders", w.hindered()["orders"], time.Now()))
		pass(contract.LongTransaction)
		require.Equal(t, contract.ConditionLongTransaction,
			contract.CloserConditions("orders", w.hindered()["orders"], time.Now())[0].Kind)
	})
}

// Readers of results wait just as long for a closer that has not looked yet, and for one that closes a single window.
func TestTheLongestOpenTransactionShowsWhoeverHasIt(t *testing.T) {
	working(t, func(t *testing.T, w *workshop) {
		orders := &spec.Spec{Name: "orders"}
		_, done := w.takeIn(t, orders, "run-1")
		defer done()
		began := time.Now()
		w.made[0].open = &report.OpenTransaction{Window: report.WindowRef{Window: "hourly"}, Since: began.UnixMilli()}
		pass(contract.LongTransaction)
		shown := func() int64 {
			found := contract.CloserConditions("orders", w.hindered()["orders"], time.Now())
			require.Len(t, found, 1)
			require.Equal(t, contract.ConditionLongTransaction, found[0].Kind)
			return found[0].Since.UnixMilli()
		}
		for range 20 {
			require.Equal(t, began.UnixMilli(), shown())
		}
		looks, done := w.takeIn(t, orders, "run-2")
		defer done()
		_, err := looks.Round(t.Context(), nil)
		require.NoError(t, err)
		w.made[1].open = &report.OpenTransaction{Window: report.WindowRef{Window: "hourly"}, Since: began.UnixMilli() + 1}
		for range 20 {
			require.Equal(t, began.UnixMilli(), shown())
		}
	})
}

// CloseDue is tried again after up to a minute, and nothing is well in between.
func TestAClosersProblemLastsBetweenTries(t *testing.T) {
	working(t, func(t *testing.T, w *workshop) {
		orders := &spec.Spec{Name: "orders"}
		c, done := w.take(t, orders)
		c.Hindered(errors.New("connection refused"))
		done()
		pass(contract.CloseDueOptions().RetryPolicy.MaximumInterval)
		found := contract.CloserConditions("orders", w.hindered()["orders"], time.Now())
		require.Len(t, found, 1)
		require.Equal(t, contract.ConditionClosingFails, found[0].Kind)
		again, done := w.take(t, orders)
		require.Same(t, c, again)
		_, err := again.Round(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, contract.CloserConditions("orders", w.hindered()["orders"], time.Now()))
		done()
		pass(idleFor + sweepEvery)
		require.True(t, w.made[0].given)
	})
}

// A window that has a workflow of its own is no better than before: /health and the metrics go on counting it.
func TestWindowsWithWorkflowsOfTheirOwnHinder(t *testing.T) {
	working(t, func(t *testing.T, w *workshop) {
		c, done := w.take(t, &spec.Spec{Name: "orders"})
		defer done()
		_, err := c.Round(t.Context(), []report.WindowRef{{Window: "hourly", Start: 3_600_000}})
		require.NoError(t, err)
		found := contract.CloserConditions("orders", w.hindered()["orders"], time.Now())
		require.Len(t, found, 1)
		require.Equal(t, contract.ConditionClosingBlocked, found[0].Kind)
		require.Contains(t, found[0].Reason, "close:orders:hourly:3600000")
		_, err = c.Round(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, contract.CloserConditions("orders", w.hindered()["orders"], time.Now()))
	})
}
