package publish_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// countSteps counts the steps of a name, and lets before decide about each of them; nil passes all.
func (d *desk) countSteps(name string, before func(n int) publishtest.Outcome) *int {
	n := new(int)
	d.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
		if s.Name != name {
			return publishtest.Pass
		}
		if *n++; before == nil {
			return publishtest.Pass
		}
		return before(*n)
	})
	return n
}

// together checks revisions of windows 1, 2, … and commits them in one call. between happens before
// it.
func (d *desk) together(s *publish.Slot, contents []publish.Content, between func()) (made []*publish.Revision, errs []error) {
	d.t.Helper()
	require.NoError(d.t, s.Do(func(h *publish.Held) error {
		var all []*publish.Checked
		for i, c := range contents {
			checked, err := h.Check(d.t.Context(), d.draft(h, int64(i+1), false), c)
			require.NoError(d.t, err)
			all = append(all, checked)
		}
		if between != nil {
			between()
		}
		h.Commit(d.t.Context(), all...)
		for _, c := range all {
			require.False(d.t, c.Waits())
			r, err := c.Revision()
			made, errs = append(made, r), append(errs, err)
		}
		return h.ShowRows(d.t.Context())
	}))
	return made, errs
}

// windowsOf are contents of windows that have nothing in common but some keys.
func windowsOf(n int) (all []rows, contents []publish.Content) {
	for i := range n {
		r := someRows(20 + 7*i)
		r[fmt.Sprintf(`{"window":%d}`, i)] = `{"n":1}`
		all, contents = append(all, r), append(contents, &content{rows: r})
	}
	return all, contents
}

func TestSmallWindowsShareATransaction(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	all, contents := windowsOf(5)
	commits := d.countSteps("commit", nil)
	made, errs := d.together(s, contents, nil)
	require.Equal(t, 1, *commits)
	for i := range all {
		require.NoError(t, errs[i])
		require.Equal(t, all[i], d.readLinks(made[i].Row))
		shown, seen := d.view(int64(i + 1))
		require.Equal(t, made[i].Row.Links, shown.Links)
		require.Equal(t, all[i], seen)
	}

	// Differences, a row that says more about a content, and a whole content are no different.
	for i := range all[:2] {
		all[i] = maps.Clone(all[i])
		all[i][`{"k":7}`] = `{"n":100}`
		contents[i] = &content{rows: all[i], touched: []string{`{"k":7}`}}
	}
	made, errs = d.together(s, contents, nil)
	require.Equal(t, 2, *commits)
	for i := range all {
		require.NoError(t, errs[i])
		require.Equal(t, i >= 2, made[i].Amends)
		require.Equal(t, all[i], d.readLinks(d.latest(int64(i+1))))
	}
	require.EqualValues(t, 1, made[0].Row.Changed)
}

// limited is a Kafka that takes no record with a larger value.
type limited struct {
	*publishtest.Kafka
	bytes int
}

func (k *limited) Open(ctx context.Context, slot int) (publish.Producer, error) {
	p, err := k.Kafka.Open(ctx, slot)
	return &limiting{p, k.bytes}, err
}

type limiting struct {
	publish.Producer
	bytes int
}

func (p *limiting) Append(ctx context.Context, r *publish.Record) error {
	if len(r.Value) > p.bytes && r.Topic == "out" {
		return &source.TooLargeError{Topic: r.Topic}
	}
	return p.Producer.Append(ctx, r)
}

// A window of which nothing can be published lets the others go.
func TestAWindowThatFailsGoesAlone(t *testing.T) {
	d := newDesk(t)
	s := d.slotOver(&limited{d.kafka, 300})
	all, contents := windowsOf(4)
	all[2][`{"k":7}`] = `"` + strings.Repeat("v", 300) + `"`
	commits := d.countSteps("commit", nil)
	_, errs := d.together(s, contents, nil)
	require.Equal(t, 3, *commits)
	for i := range all {
		if i == 2 {
			var failed *publish.RevisionError
			require.ErrorAs(t, errs[i], &failed)
			require.ErrorIs(t, errs[i], source.ErrRecordTooLarge)
			require.Nil(t, d.latest(3))
			require.Empty(t, d.keysOf(3), "what was written for it is not there any more")
			require.NotEmpty(t, d.keysOf(2))
			continue
		}
		require.NoError(t, errs[i])
		require.Equal(t, all[i], d.readLinks(d.latest(int64(i+1))))
	}
}

// Another closer publishes one of the windows while all of them wait.
func TestAWindowThatWasOvertakenIsLeftOut(t *testing.T) {
	d := newDesk(t)
	s, other := d.slot(), d.slot()
	all, contents := windowsOf(3)
	_, errs := d.together(s, contents, func() { d.publish(other, 2, true, all[1]) })
	require.NoError(t, errs[0])
	require.ErrorIs(t, errs[1], publish.ErrFenced)
	require.NoError(t, errs[2])
	for i := range all {
		require.Equal(t, all[i], d.readLinks(d.latest(int64(i+1))))
		require.Equal(t, []string{"r1 " + ledger.ReasonWatermark}, d.history(int64(i+1)))
	}
}

// What the lanes hold is asked again when the slot was taken over between checking and publishing.
func TestWindowsThatWaitAreProvedAfterATakeOver(t *testing.T) {
	d := newDesk(t)
	s, other := d.slot(), d.slot()
	moved := errors.New("a lane has moved")
	proved := 0
	var made []error
	require.NoError(t, s.Do(func(h *publish.Held) error {
		var all []*publish.Checked
		for i := range 2 {
			draft := d.draft(h, int64(i+1), false)
			draft.Prove = func(context.Context) error {
				if proved++; i == 1 {
					return moved
				}
				return nil
			}
			c, err := h.Check(t.Context(), draft, &content{rows: someRows(9)})
			require.NoError(t, err)
			all = append(all, c)
		}
		h.Commit(t.Context(), all[:0]...)
		require.Zero(t, proved, "nobody has taken the slot over")
		d.publish(other, 5, false, someRows(3))
		h.Commit(t.Context(), all...)
		for _, c := range all {
			_, err := c.Revision()
			made = append(made, err)
		}
		return nil
	}))
	require.Equal(t, []error{nil, moved}, made)
	require.Nil(t, d.latest(2))
}

// Nobody knows whether the transaction was committed. Each window is published once all the same.
func TestTheOutcomeOfASharedTransactionIsUnknown(t *testing.T) {
	for _, outcome := range []publishtest.Outcome{publishtest.FailBefore, publishtest.FailAfter} {
		d := newDesk(t)
		s := d.slot()
		all, contents := windowsOf(3)
		d.countSteps("commit", func(n int) publishtest.Outcome {
			if n == 1 {
				return outcome
			}
			return publishtest.Pass
		})
		_, errs := d.together(s, contents, nil)
		for i := range all {
			if outcome == publishtest.FailAfter {
				require.ErrorIs(t, errs[i], publish.ErrFenced, "it is there by now, and a fresh look finds it")
			} else {
				require.NoError(t, errs[i])
			}
			require.Equal(t, []string{"r1 " + ledger.ReasonWatermark}, d.history(int64(i+1)))
			require.Equal(t, all[i], d.readLinks(d.latest(int64(i+1))))
			_, shown := d.view(int64(i + 1))
			require.Equal(t, all[i], shown)
		}
	}
}

// A slot that cannot be taken over is asked once, whatever waits for it.
func TestASlotThatIsNotThereIsAskedOnce(t *testing.T) {
	d := newDesk(t)
	s, other := d.slot(), d.slot()
	_, contents := windowsOf(3)
	var opens *int
	_, errs := d.together(s, contents, func() {
		d.publish(other, 5, false, someRows(3))
		opens = d.countSteps("open", func(int) publishtest.Outcome { return publishtest.FailBefore })
	})
	var slot *publish.SlotError
	for i := range errs {
		require.ErrorAs(t, errs[i], &slot)
	}
	require.Equal(t, 1, *opens)
}

// A content that is sent as it comes is published before those that wait for others.
func TestALargeWindowDoesNotWaitForOthers(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	large := rows{}
	for i := range 60 {
		large[fmt.Sprintf(`{"k":%d}`, i)] = `"` + strings.Repeat("v", 100<<10) + `"`
	}
	all := []rows{someRows(10), large, someRows(30)}
	contents := make([]publish.Content, len(all))
	for i := range all {
		contents[i] = &content{rows: all[i]}
	}
	commits := d.countSteps("commit", nil)
	_, errs := d.together(s, contents, func() {
		require.Equal(t, 1, *commits)
		require.NotNil(t, d.latest(2))
	})
	require.Equal(t, 2, *commits)
	require.Equal(t, []error{nil, nil, nil}, errs)
	for i := range all {
		require.Equal(t, all[i], d.readLinks(d.latest(int64(i+1))))
	}
}

// Whoever waits for the end of a transaction that rows go out in as they come can be told of it,
// however it ends.
func TestATransactionThatRowsGoOutInIsKnown(t *testing.T) {
	broken := errors.New("the lane has moved")
	for _, fails := range []error{nil, broken} {
		d := newDesk(t)
		s := d.slot()
		large := rows{}
		for i := range 60 {
			large[fmt.Sprintf(`{"k":%d}`, i)] = `"` + strings.Repeat("v", 100<<10) + `"`
		}
		d.publish(s, 1, false, large)
		require.Nil(t, s.OpenTransaction())
		c := &failing{overtaken{content{rows: large}, func() {
			open := s.OpenTransaction()
			require.Equal(t, ledger.WindowID{Window: "hour", Start: 2 * hour}, open.Window)
			require.Equal(t, 1, open.Revision)
			require.Equal(t, d.now, open.Since)
			require.EqualValues(t, 60, open.Rows())
		}}, fails}
		err := s.Do(func(h *publish.Held) error {
			_, err := h.Publish(t.Context(), d.draft(h, 2, false), c)
			return err
		})
		require.ErrorIs(t, err, fails)
		require.Nil(t, s.OpenTransaction())
	}
}

// failing is a content that turns out not to be what it should when all of it has gone out.
type failing struct {
	overtaken
	err error
}

func (c *failing) Whole(ctx context.Context, emit func(*ledger.Rows) error) (int64, bool, error) {
	events, exact, err := c.overtaken.Whole(ctx, emit)
	return events, exact, errors.Join(err, c.err)
}

// Rows that say more of a content are written once, also when their transaction has an outcome that
// nobody knows, and the clock stands still.
func TestAmendmentsOfUnknownOutcomeAreWrittenOnce(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	_, contents := windowsOf(3)
	d.together(s, contents, nil)
	d.countSteps("commit", func(n int) publishtest.Outcome {
		if n == 1 {
			return publishtest.FailAfter
		}
		return publishtest.Pass
	})
	_, errs := d.together(s, contents, nil)
	for i := range contents {
		require.ErrorIs(t, errs[i], publish.ErrFenced)
		require.Len(t, d.history(int64(i+1)), 2)
	}
}

// What a revision holds until it is shown counts: all pages that it has changed, not only the rows.
func TestAllThatIsHeldOfADifferenceCounts(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	all := rows{}
	for i := range 600 {
		all[fmt.Sprintf(`{"k":%d}`, i)] = `"` + strings.Repeat("v", 1000) + `"`
	}
	d.publish(s, 1, false, all)
	all = maps.Clone(all)
	var touched []string
	for i := range 40 {
		key := fmt.Sprintf(`{"k":%d}`, i*15)
		all[key], touched = `{"n":1}`, append(touched, key)
	}
	require.NoError(t, s.Do(func(h *publish.Held) error {
		c, err := h.Check(t.Context(), d.draft(h, 1, false), &content{rows: all, touched: touched})
		require.NoError(t, err)
		require.Greater(t, c.Bytes(), 200<<10)
		h.Commit(t.Context(), c)
		require.Zero(t, c.Bytes(), "the slot has it until it is shown")
		return nil
	}))
}

// All rows of the transaction that a closer died after are shown by the next.
func TestRowsOfASharedTransactionAreShownByTheNextCloser(t *testing.T) {
	d := newDesk(t)
	_, contents := windowsOf(3)
	d.together(d.slot(), contents, nil)
	require.NoError(t, d.slot().Do(func(h *publish.Held) error {
		var all []*publish.Checked
		for i := range contents {
			draft := d.draft(h, int64(i+1), false)
			draft.Row.Lanes[0].Offset = 77
			c, err := h.Check(t.Context(), draft, contents[i])
			require.NoError(t, err)
			all = append(all, c)
		}
		h.Commit(t.Context(), all...)
		return nil
	}))
	s := d.slot()
	require.NoError(t, s.ShowRows(t.Context(), true, true))
	for i := range contents {
		row, _ := d.view(int64(i + 1))
		require.EqualValues(t, 77, d.latest(int64(i + 1)).Lanes[0].Offset)
		require.EqualValues(t, 77, row.Lanes[0].Offset, i)
	}
}

// patient is a Redis that notes until when it may discard something.
type patient struct {
	publish.State
	until []time.Time
}

func (p *patient) DiscardDraft(ctx context.Context, _ store.WindowID, _ store.Version, _ string) error {
	until, _ := ctx.Deadline()
	p.until = append(p.until, until)
	return ctx.Err()
}

// A Redis that does not answer holds the slot up once, whatever waits for it.
func TestWhatIsDiscardedTogetherWaitsForRedisOnce(t *testing.T) {
	d := newDesk(t)
	redis := &patient{State: d.store}
	s := publish.New(publish.Config{
		Pipeline: "p", Families: []string{"hour"}, Spec: "v", Kafka: d.kafka, State: redis, Keep: d.keep, Now: func() time.Time { return d.now },
	})
	t.Cleanup(s.Close)
	_, contents := windowsOf(3)
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, s.Do(func(h *publish.Held) error {
		var all []*publish.Checked
		for i, c := range contents {
			checked, err := h.Check(ctx, d.draft(h, int64(i+1), false), c)
			require.NoError(t, err)
			all = append(all, checked)
		}
		cancel()
		h.Commit(ctx, all...)
		for _, c := range all {
			_, err := c.Revision()
			require.ErrorIs(t, err, context.Canceled)
		}
		return nil
	}))
	require.Len(t, redis.until, 3)
	require.Equal(t, redis.until[0], redis.until[1])
	require.Equal(t, redis.until[0], redis.until[2])
}

// keysOf lists what Redis holds of window n.
func (d *desk) keysOf(n int64) []string {
	return slices.DeleteFunc(d.redis.Keys(), func(key string) bool {
		return !strings.Contains(key, store.WindowID{Pipeline: "p", Window: "hour", Start: n * hour}.String())
	})
}
