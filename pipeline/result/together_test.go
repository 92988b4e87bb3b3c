package result_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/result"
	"millrace/pipeline/store"
)

// startsOfOneSlot are the starts, in minutes, of the first hourly windows that share a slot with the one at 0.
func (w *world) startsOfOneSlot(n int) (starts []float64) {
	for next := 0.0; len(starts) < n; next += 60 {
		if w.slotOf("hourly", at(next)) == w.slotOf("hourly", at(0)) {
			starts = append(starts, next)
		}
	}
	return starts
}

// A round that has many small windows to close needs a transaction for each slot, not for each
// window.
func TestSmallWindowsOfASlotShareATransaction(t *testing.T) {
	w := newWorld(t, hourly, 2)
	c := w.closer()
	const windows = 40
	for i := range windows {
		w.lanes[i%2].event(fmt.Sprintf("key-%d", i%7), float64(60*i+5), int64(i))
	}
	for _, l := range w.lanes {
		l.event("x", 60*windows, 0)
		l.commit()
	}
	commits := 0
	w.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
		if s.Name == "commit" {
			commits++
		}
		return publishtest.Pass
	})
	require.Len(t, w.round(c).Closed, windows)
	slots := map[int]bool{}
	for i := range windows {
		slots[result.SlotOf("hourly", at(60*float64(i)), ledger.DefaultSlots)] = true
	}
	require.Equal(t, len(slots)+ledger.DefaultSlots, commits, "those of windows, and one for the floors of each slot")
	w.sound()
}

// Windows that take long do not wait for each other.
func TestWindowsThatTakeLongDoNotShareATransaction(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer(func(cfg *result.Config) {
		now := cfg.Now
		late := time.Duration(0)
		cfg.Now = func() time.Time {
			late += 150 * time.Millisecond
			return now().Add(late)
		}
		cfg.Parallel = 1
	})
	const windows = 6
	for i := range windows {
		w.lanes[0].event("x", float64(60*i+5), int64(i))
	}
	w.lanes[0].event("x", 60*windows, 0)
	w.lanes[0].commit()
	commits := 0
	w.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
		if s.Name == "commit" {
			commits++
		}
		return publishtest.Pass
	})
	require.Len(t, w.round(c).Closed, windows)
	require.Equal(t, windows+ledger.DefaultSlots, commits, "those of windows, and one for the floors of each slot")
	w.sound()
}

// Whoever asks for a window, and does not wait for it any more, is not told that there is nothing to publish.
func TestAWindowThatIsNotWaitedForIsNotClosed(t *testing.T) {
	w := newWorld(t, hourly, 1)
	w.lanes[0].event("x", 5, 1)
	w.lanes[0].event("x", 60, 1)
	w.lanes[0].commit()
	stopped := 0
	for n := 1; ; n++ {
		ctx, cancel := context.WithCancel(w.ctx)
		steps := 0
		w.kafka.Plan(func(publishtest.Step) publishtest.Outcome {
			if steps++; steps == n {
				cancel()
			}
			return publishtest.Pass
		})
		row, _, err := w.closer().CloseWindow(ctx, ref(0, 0), "")
		if cancel(); err == nil {
			require.Equal(t, 1, row.Revision, "step %d", n)
		} else {
			stopped++
		}
		if steps < n {
			break
		}
	}
	require.Positive(t, stopped)
}

// A lane goes back while windows wait for their transaction, and another closer takes their slot over meanwhile: those that
// count what the lane has lost wait for it, whatever was proved of the others.
func TestEachWindowThatWaitsIsProved(t *testing.T) {
	w := newWorld(t, hourly, 1)
	l := w.lanes[0]
	starts := w.startsOfOneSlot(2)
	// The first was published before, so they are not opened together.
	c := w.closer()
	l.event("x", 5, 0)
	l.event("y", 62, 0)
	l.commit()
	w.round(c)
	l.event("x", 6, 1)
	l.event("x", starts[1]+5, 1)
	l.event("x", starts[1]+60, 0)
	l.commit()
	lane := l.id.String()
	kept := len(w.faults.Log(lane))
	first := store.WindowID{Pipeline: "orders", Window: "hourly", Start: at(starts[0])}.String()
	committed := false
	w.faults.Gate(func(_ context.Context, op storeOp) {
		if op.Tag == first && !committed { // the first window was opened, the second was not
			committed = true
			l.event("x", starts[1]+6, 7)
			l.commit()
		}
	})
	rewound := false
	w.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
		if s.Name != "begin" || rewound || !committed {
			return publishtest.Pass
		}
		rewound = true
		require.NoError(t, w.faults.Rewind(w.ctx, lane, kept))
		return publishtest.FailBefore
	})
	w.round(c)
	require.True(t, rewound)
	meta, _, err := w.store.ReadMeta(w.ctx, l.id)
	require.NoError(t, err)
	rows := w.ledger()
	require.GreaterOrEqual(t, len(rows), 3)
	for i := range rows {
		require.LessOrEqual(t, rows[i].Lanes[0].Offset, meta.Offset, rows[i].ID().String())
	}
}

// Windows that are ready do not wait until one has been merged that takes long: all of its pages are to be read.
func TestWindowsDoNotWaitForALargeOne(t *testing.T) {
	w := newWorld(t, strings.Replace(hourly, "max_future: 1000h", "max_future: 1000h\n  max_key_bytes: 60000", 1), 1)
	l := w.lanes[0]
	large := w.startsOfOneSlot(2)[1]
	l.event("x", 5, 1)
	for i := range 90 {
		l.event(fmt.Sprint(i)+strings.Repeat("x", 50<<10), large+5, 1)
	}
	l.event("x", large+60, 1)
	l.commit()
	looked := false
	id := store.WindowID{Pipeline: "orders", Window: "hourly", Start: at(large)}.String()
	w.faults.Gate(func(_ context.Context, op storeOp) {
		if op.Tag == id && !looked {
			looked = true
			require.Len(t, w.ledger(), 1)
		}
	})
	told := w.round(w.closer())
	require.Empty(t, told.Failed)
	require.Len(t, told.Closed, 2)
	require.True(t, looked)
	w.sound()
}

// A window that is published by itself is shown before the next one of its slot is merged.
func TestALargeWindowIsShownBeforeTheNext(t *testing.T) {
	w := newWorld(t, strings.Replace(hourly, "max_future: 1000h", "max_future: 1000h\n  max_key_bytes: 60000", 1), 1)
	l := w.lanes[0]
	starts := w.startsOfOneSlot(3)
	for _, start := range starts {
		for i := range 90 {
			l.event(fmt.Sprint(i)+strings.Repeat("x", 50<<10), start+5, 1)
		}
	}
	l.event("x", starts[2]+60, 1)
	l.commit()
	id := func(start float64) store.WindowID {
		return store.WindowID{Pipeline: "orders", Window: "hourly", Start: at(start)}
	}
	looked := map[string]bool{}
	w.faults.Gate(func(ctx context.Context, op storeOp) {
		for i, start := range starts[1:] {
			if tag := id(start).String(); op.Tag == tag && !looked[tag] {
				looked[tag] = true
				_, found, err := w.store.Published(ctx, id(starts[i]))
				require.NoError(t, err)
				require.True(t, found, "window %d", i)
			}
		}
	})
	require.Len(t, w.round(w.closer()).Closed, 3)
	require.Len(t, looked, 2)
	w.sound()
}

// callsState counts the calls that windows are opened with, and fails those that ask for a slice.
type callsState struct {
	result.State
	indexes, pages int
	fails          int64 // the start of a window whose index cannot be read, 0 for none
}

func (s *callsState) Index(ctx context.Context, id store.LaneID, stateID string, spans store.Spans, known []store.SliceStat,
) (store.LaneIndex, error) {
	s.indexes++
	for _, span := range spans {
		if span.After == s.fails {
			return store.LaneIndex{}, store.ErrCorrupt
		}
	}
	return s.State.Index(ctx, id, stateID, spans, known)
}

func (s *callsState) ReadPages(ctx context.Context, id store.LaneID, stateID string, pages []store.SlicePage,
	fn func(i int, p *page.Page) error) (store.Guard, error) {
	s.pages++
	return s.State.ReadPages(ctx, id, stateID, pages, fn)
}

// Small windows of a slot are opened together: each lane is asked for its index once, and for its
// pages once. A window that cannot be opened takes the others of its slot down to a call each.
func TestSmallWindowsOfASlotAreOpenedTogether(t *testing.T) {
	const windows = 40
	closed := func(t *testing.T, state *callsState) (w *world, told result.RoundReport) {
		w = newWorld(t, hourly, 2)
		state.State = w.store
		c := w.closer(func(cfg *result.Config) { cfg.State = state })
		for i := range windows {
			w.lanes[i%2].event(fmt.Sprintf("key-%d", i%7), float64(60*i+5), int64(i))
		}
		for _, l := range w.lanes {
			l.event("x", 60*windows, 0)
			l.commit()
		}
		return w, w.round(c)
	}
	slots := map[int]int{}
	for i := range windows {
		slots[result.SlotOf("hourly", at(60*float64(i)), ledger.DefaultSlots)]++
	}
	state := &callsState{}
	w, told := closed(t, state)
	require.Len(t, told.Closed, windows)
	require.LessOrEqual(t, state.indexes, 2*len(slots))
	require.LessOrEqual(t, state.pages, 2*len(slots))
	w.sound()

	bad := at(60)
	state = &callsState{fails: bad}
	w, told = closed(t, state)
	require.Len(t, told.Closed, windows-1)
	require.Len(t, told.Failed, 1)
	require.Equal(t, bad, told.Failed[0].Start)
	of := slots[result.SlotOf("hourly", bad, ledger.DefaultSlots)]
	require.LessOrEqual(t, state.indexes, 2*len(slots)+2*of)
	state.fails = 0
	require.Len(t, w.round(w.closer()).Closed, 1)
	w.sound()
}

// agingState has no page any more that was named more than two seconds ago, as of a lane that has
// replaced all of them since.
type agingState struct {
	result.State
	now   func() time.Time
	named map[store.SliceID]time.Time
}

func (s *agingState) Index(ctx context.Context, id store.LaneID, stateID string, spans store.Spans, known []store.SliceStat,
) (store.LaneIndex, error) {
	x, err := s.State.Index(ctx, id, stateID, spans, known)
	for i := range x.Slices {
		s.named[x.Slices[i].SliceID] = s.now()
	}
	return x, err
}

func (s *agingState) ReadPages(ctx context.Context, id store.LaneID, stateID string, pages []store.SlicePage,
	fn func(i int, p *page.Page) error) (store.Guard, error) {
	for i := range pages {
		if s.now().Sub(s.named[pages[i].Slice]) > 2*time.Second {
			return store.Guard{}, store.ErrPageGone
		}
	}
	return s.State.ReadPages(ctx, id, stateID, pages, fn)
}

// Publishing may take long, and lanes replace pages meanwhile: a window that was opened together with
// others is opened again when its turn comes too late.
func TestWindowsOpenedTogetherAreOpenedAgainAfterAWhile(t *testing.T) {
	w := newWorld(t, strings.Replace(hourly, "max_future: 1000h", "max_future: 1000h\n  max_key_bytes: 60000", 1), 1)
	l := w.lanes[0]
	starts := w.startsOfOneSlot(8)
	for _, start := range starts {
		for i := range 60 { // one of them is kept, two are too large together
			l.event(fmt.Sprint(i)+strings.Repeat("x", 50<<10), start+5, 1)
		}
	}
	l.event("x", starts[len(starts)-1]+60, 1)
	l.commit()
	late := time.Duration(0)
	now := func() time.Time { return atBase().Add(late) }
	w.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
		if s.Name == "commit" {
			late += 3 * time.Second
		}
		return publishtest.Pass
	})
	state := &agingState{State: w.store, now: now, named: make(map[store.SliceID]time.Time)}
	told := w.round(w.closer(func(cfg *result.Config) { cfg.State, cfg.Now = state, now }))
	require.Empty(t, told.Pending)
	require.Empty(t, told.Failed)
	require.Len(t, told.Closed, len(starts))
	w.sound()
}
