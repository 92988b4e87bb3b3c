package publish_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
)

// loseAnswer loses the answers of commits.
func (d *desk) loseAnswer() {
	d.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
		if s.Name == "commit" {
			return publishtest.FailAfter
		}
		return publishtest.Pass
	})
}

// The transaction was committed, but the closer does not know. Without a result topic Redis is the only place that has the content.
func TestAContentIsKeptWhenTheOutcomeOfItsTransactionIsUnknown(t *testing.T) {
	for _, sink := range []string{"out", ""} {
		d := newDesk(t)
		d.sink = sink
		s := d.slot()
		now := someRows(50)
		d.loseAnswer()
		require.ErrorIs(t, s.Do(func(h *publish.Held) error {
			_, err := h.Publish(t.Context(), d.draft(h, 1, false), &content{rows: now})
			return err
		}), publishtest.ErrInjected)
		d.kafka.Plan(nil)
		require.NoError(t, s.ShowRows(t.Context(), true, true))
		require.Equal(t, 1, d.latest(1).Revision)
		found, err := d.contents().InView(t.Context(), d.latest(1))
		require.NoError(t, err)
		require.Empty(t, found.Missing, "sink %q", sink)
		require.Equal(t, now, asRows(found.Rows))
	}
}

// Without a result topic nothing but the view holds a content.
func TestWithoutResultTopicAContentOutlivesItsCloser(t *testing.T) {
	d := newDesk(t)
	d.sink = ""
	now := someRows(200)
	d.publish(d.slot(), 1, false, now)
	now = maps.Clone(now)
	now[`{"k":7}`] = `{"n":2}`
	dying := d.slot()
	require.NoError(t, dying.Do(func(h *publish.Held) error { // and is not there any more when the row is to be shown
		_, err := h.Publish(t.Context(), d.draft(h, 1, false), &content{rows: now, touched: []string{`{"k":7}`}})
		return err
	}))
	require.NoError(t, d.slot().ShowRows(t.Context(), true, true))
	require.Equal(t, 2, d.latest(1).Revision)
	_, shown := d.view(1)
	require.Equal(t, now, shown)
}

// A closer of an earlier release has shown a row without the content, which it looked for under another name.
func TestAContentIsShownThoughAnEarlierReleaseHasNotFoundIt(t *testing.T) {
	d := newDesk(t)
	d.sink = ""
	now := someRows(200)
	d.dyingPublish(&content{rows: now})
	text, err := json.Marshal(d.latest(1))
	require.NoError(t, err)
	d.redis.HSet("mr:{p/hour/3600000}:ledger", "row:1", string(text), "current", "1", "final", "0", "edition", "1")
	d.publish(d.slot(), 2, false, someRows(3)) // window 1 is not the latest in the ledger any more
	require.NoError(t, d.slot().ShowRows(t.Context(), true, true))
	_, shown := d.view(1)
	require.Equal(t, now, shown)
}

// overtaken is a content during whose merge something happens.
type overtaken struct {
	content
	meanwhile func()
}

func (c *overtaken) Whole(ctx context.Context, emit func(*ledger.Rows) error) (int64, bool, error) {
	events, exact, err := c.content.Whole(ctx, emit)
	c.meanwhile()
	return events, exact, err
}

// A large content is that of the latest revision, of which another closer has written the final row meanwhile.
func TestARowIsNotWrittenAgainAfterTheFinalOne(t *testing.T) {
	d := newDesk(t)
	s, other := d.slot(), d.slot()
	now := rows{}
	for i := range 60 { // more than is held: it goes out as it comes
		now[fmt.Sprintf(`{"k":%d}`, i)] = `"` + strings.Repeat("v", 100<<10) + `"`
	}
	d.publish(s, 1, false, now)
	d.redis.FlushAll() // so that it is merged as a whole
	c := &overtaken{content{rows: now}, func() {
		d.pass(1e6)
		require.True(t, d.publish(other, 1, true, now).Final)
		require.Equal(t, 1, d.latest(1).Revision)
	}}
	err := s.Do(func(h *publish.Held) error {
		_, err := h.Publish(t.Context(), d.draft(h, 1, false), c)
		return err
	})
	require.True(t, d.latest(1).Final)
	require.ErrorIs(t, err, publish.ErrFenced)
}

// publishAs publishes a revision of window 1 with any content, and shows it.
func (d *desk) publishAs(s *publish.Slot, c publish.Content) (row *ledger.Row) {
	d.t.Helper()
	require.NoError(d.t, s.Do(func(h *publish.Held) error {
		r, err := h.Publish(d.t.Context(), d.draft(h, 1, false), c)
		if err == nil {
			row = r.Row
		}
		return errors.Join(err, h.ShowRows(d.t.Context()))
	}))
	return row
}

// A roll-up was added to the spec after the window was published, without states.
func TestTheFirstRevisionWithStatesHasAllOfThem(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	now := someRows(200)
	d.publish(s, 1, false, now)
	now = maps.Clone(now)
	now[`{"k":7}`] = `{"n":2}`
	row := d.publishAs(s, &content{rows: now, touched: []string{`{"k":7}`}, states: true})
	found, err := d.contents().ReadStates(t.Context(), row)
	require.NoError(t, err)
	require.Equal(t, now, asRows(found))
}

// counted is a content whose keys hold more than one event.
type counted struct {
	content
	more map[string]int64
}

func (c *counted) Events() (int64, bool) {
	n, _ := c.content.Events()
	for _, more := range c.more {
		n += more
	}
	return n, true
}

func (c *counted) Ranges(ctx context.Context, ranges []page.HashRange, _ []publish.BasePage, emit func(*ledger.Rows) error) error {
	return c.content.Ranges(ctx, ranges, nil, func(r *ledger.Rows) error {
		for i := range r.Content {
			r.Events[i] += c.more[string(r.Content[i].Key)]
		}
		return emit(r)
	})
}

func (c *counted) Whole(ctx context.Context, emit func(*ledger.Rows) error) (int64, bool, error) {
	n, _ := c.Events()
	return n, true, c.Ranges(ctx, []page.HashRange{{First: 0, Last: 1<<64 - 1}}, nil, emit)
}

// A late event that changes no value, as one below a maximum, is counted: the next one still costs its key alone.
func TestARevisionAfterAnEventThatChangesNothingIsADifference(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	now := someRows(200)
	d.publish(s, 1, false, now)
	more := map[string]int64{`{"k":8}`: 1}
	require.Equal(t, 1, d.publishAs(s, &counted{content{rows: now, touched: []string{`{"k":8}`}}, more}).Revision)
	now = maps.Clone(now)
	now[`{"k":7}`] = `{"n":2}`
	row := d.publishAs(s, &counted{content{rows: now, touched: []string{`{"k":7}`}}, more})
	require.Equal(t, []int64{2, 1}, []int64{int64(row.Revision), row.Changed})
	_, shown := d.view(1)
	require.Equal(t, now, shown)
}

// Redis was away when a difference was to be shown, and the row was written again before it came back.
func TestADifferenceIsShownThoughItsRowWasWrittenAgain(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	now := someRows(200)
	d.publish(s, 1, false, now)
	now = maps.Clone(now)
	now[`{"k":7}`] = `{"n":2}`
	require.NoError(t, s.Do(func(h *publish.Held) error {
		_, err := h.Publish(t.Context(), d.draft(h, 1, false), &content{rows: now, touched: []string{`{"k":7}`}})
		return err
	}))
	require.Equal(t, 2, d.publish(s, 1, true, now).Revision)
	row, shown := d.view(1)
	require.True(t, row.Final)
	require.Equal(t, now, shown)
}

// opens notes how producers were opened.
type opens struct {
	*publishtest.Kafka
	long []bool
}

func (k *opens) Open(ctx context.Context, slot int) (publish.Producer, error) {
	k.long = append(k.long, false)
	return k.Kafka.Open(ctx, slot)
}

func (k *opens) OpenLong(ctx context.Context, slot int) (publish.Producer, error) {
	k.long = append(k.long, true)
	return k.Kafka.Open(ctx, slot)
}

func (d *desk) slotOver(k publish.Kafka) *publish.Slot {
	s := publish.New(publish.Config{
		Pipeline: "p", Families: []string{"hour"}, Spec: "v", Kafka: k, State: d.store, Keep: d.keep,
		Now: func() time.Time { return d.now },
	})
	d.t.Cleanup(s.Close)
	return s
}

// Nobody knows how large a content is that mends a window, while it goes out as it comes.
func TestACorrectionThatGoesOutAsItComesMayTakeLong(t *testing.T) {
	d := newDesk(t)
	k := &opens{Kafka: d.kafka}
	s := d.slotOver(k)
	now := someRows(10)
	latest := d.publish(s, 1, true, now)
	now = maps.Clone(now)
	for i := range 60 {
		now[fmt.Sprintf(`{"k":"large-%d"}`, i)] = `"` + strings.Repeat("v", 100<<10) + `"`
	}
	c := d.correction(latest, "r", now)
	c.Content = now.inOrder(false)
	require.Equal(t, publish.VerdictPublished, d.correct(s, c).Verdict)
	require.Equal(t, []bool{false, true}, k.long)
	require.Equal(t, now, d.read(d.latest(1)))
}

// huge is a content that says that it is large.
type huge struct{ content }

func (c *huge) Bytes() int64 { return 1 << 30 }

func TestATakeOverForLongThatFailsIsNotKept(t *testing.T) {
	d := newDesk(t)
	k := &opens{Kafka: d.kafka}
	s := d.slotOver(k)
	now := rows{}
	for i := range 60 {
		now[fmt.Sprintf(`{"k":%d}`, i)] = `"` + strings.Repeat("v", 100<<10) + `"`
	}
	moved := errors.New("a lane has moved")
	require.ErrorIs(t, s.Do(func(h *publish.Held) error {
		draft := d.draft(h, 1, false)
		draft.Prove = func(context.Context) error { return moved }
		_, err := h.Publish(t.Context(), draft, &huge{content{rows: now}})
		return err
	}), moved)
	d.publish(s, 2, true, someRows(3))
	require.Equal(t, []bool{false, true, false}, k.long)
}

// Brokers without ids of topics do not say whether the topic of the links was made again.
func TestWithoutIDsOfTopicsEveryRevisionIsWhole(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	now := someRows(200)
	for revision := range 2 {
		now = maps.Clone(now)
		now[`{"k":7}`] = fmt.Sprintf(`{"n":%d}`, revision+7)
		require.NoError(t, s.Do(func(h *publish.Held) error {
			draft := d.draft(h, 1, false)
			draft.Topics = publish.TopicIDs{}
			_, err := h.Publish(t.Context(), draft, &content{rows: now, touched: []string{`{"k":7}`}})
			return errors.Join(err, h.ShowRows(t.Context()))
		}))
	}
	row := d.latest(1)
	require.Equal(t, []int{2, 1}, []int{row.Revision, len(row.Links)})
	require.True(t, row.Links[0].Whole)
	require.Equal(t, now, d.readLinks(row))
}

// A broker that allows less time than a window takes ends its transaction, which looks as if another closer had taken over.
func TestATransactionThatTakesTooLongSaysWhatToRaise(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	all := rows{}
	for i := range 60 { // more than is held: it goes out as it comes
		all[fmt.Sprintf(`{"k":%d}`, i)] = `"` + strings.Repeat("v", 100<<10) + `"`
	}
	d.kafka.Plan(func(step publishtest.Step) publishtest.Outcome {
		if step.Name == "commit" {
			d.now = d.now.Add(2 * time.Minute)
			p, err := d.kafka.Open(t.Context(), 0)
			require.NoError(t, errors.Join(err, p.Close()))
		}
		return publishtest.Pass
	})
	err := s.Do(func(h *publish.Held) error {
		_, err := h.Publish(t.Context(), d.draft(h, 1, false), &content{rows: all})
		return err
	})
	require.ErrorIs(t, err, publish.ErrFenced)
	require.ErrorContains(t, err, "a transaction that took 2m0s: it allows transaction.max.timeout.ms")
}
