package shadow_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/found"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/verify"
)

func TestWhatCannotBeReadAgainIsRefused(t *testing.T) {
	text := summing("v", hourly)
	first := source.TopicPartition{Topic: "orders", Partition: 0}
	for name, test := range map[string]struct {
		change func(w *world)
		all    bool // nothing is left
		reason string
	}{
		"compacted topic": {func(w *world) {
			w.kafka.SetTopicSetting("orders", "cleanup.policy", "compact,delete")
		}, true, plan.ReasonCompacted},
		"topic made again": {func(w *world) { w.kafka.SetTopicID("orders", "another") }, true, plan.ReasonOtherTopic},
		"log trimmed":      {func(w *world) { w.kafka.Trim(first, 40) }, false, plan.ReasonTrimmed},
		"log gone":         {func(w *world) { w.kafka.Trim(first, int64(len(w.lanes[0].log))) }, false, plan.ReasonTrimmed},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 3, text, 2)
			w.live(300)
			test.change(w)
			p, err := w.prepare(w.ask(plan.AsRead, text))
			if test.all {
				require.Equal(t, test.reason, isRefused(t, err).Reason())
				require.Empty(t, w.keysOf())
				return
			}
			require.NoError(t, err)
			require.NotEmpty(t, p.Windows)
			reasons := map[string]int{}
			earliest := int64(0)
			for _, r := range p.Refused {
				reasons[r.Reason]++
				earliest = max(earliest, r.Earliest)
			}
			require.NotZero(t, reasons[test.reason])
			require.NotZero(t, reasons[plan.ReasonNotFinal], "the range ends in the future")
			if name == "log gone" { // windows that had nothing of that lane are left
				require.Zero(t, earliest)
				require.Equal(t, plan.FromFirstOffset, p.Scope)
				require.Zero(t, p.Lanes[0].Offsets())
			} else {
				require.Greater(t, earliest, base)
			}
			p, err = shadow.Begin(w.ctx, w.store, p, 0, time.UnixMilli(w.clock))
			require.NoError(t, err)
			_, err = shadow.Run(w.ctx, w.runConfig())
			require.NoError(t, err)
			_, differ := w.found(p)
			require.Empty(t, differ)
		})
	}
	w := newWorld(t, 3, text, 2)
	ask := w.ask(plan.AsRead, text)
	ask.ID = "a/b"
	_, err := w.prepare(ask)
	require.ErrorContains(t, err, "letters, digits")
}

// TestLogTrimmedWhileItIsReadEndsTheShadow: what the plan counted on is gone.
func TestLogTrimmedWhileItIsReadEndsTheShadow(t *testing.T) {
	text := summing("v", hourly)
	w := newWorld(t, 4, text, 2)
	w.live(300)
	w.begin(w.ask(plan.AsRead, text))
	w.kafka.Trim(source.TopicPartition{Topic: "orders", Partition: 1}, 60)
	_, err := shadow.Run(w.ctx, w.runConfig())
	require.ErrorIs(t, err, source.ErrOffsetOutOfRange)
}

// TestBeginKeepsTheFirstPlan: a second attempt, with a plan of its own, goes on with what is there.
func TestBeginKeepsTheFirstPlan(t *testing.T) {
	text := summing("v", hourly)
	w := newWorld(t, 6, text, 2)
	w.live(300)
	p := w.begin(w.ask(plan.AsRead, text))
	other := w.begin(w.ask(plan.None, text))
	require.Equal(t, p, other)
	ids, err := shadow.List(w.ctx, w.store, "orders")
	require.NoError(t, err)
	require.Equal(t, []string{"r1"}, ids)
	require.Error(t, shadow.SetRate(w.ctx, w.store, "orders", "r1", -1))
	require.ErrorIs(t, shadow.SetRate(w.ctx, w.store, "orders", "r2", 1), store.ErrNoShadow)

	// Nobody runs it any more: a sweep ends it, and what a later worker leaves of an ended one.
	ended, err := shadow.Sweep(w.ctx, w.store, "orders", func(string) bool { return true }, time.UnixMilli(w.clock), nil)
	require.NoError(t, err)
	require.Empty(t, ended)
	ended, err = shadow.Sweep(w.ctx, w.store, "orders", func(string) bool { return false }, time.UnixMilli(w.clock), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"r1"}, ended)
	require.Empty(t, w.keysOf())
	_, err = w.store.BeginShadow(w.ctx, store.ShadowID{Pipeline: "orders", ID: "r1"}, 5, 0, []byte("{}"), "x")
	require.NoError(t, err)
	ended, err = shadow.Sweep(w.ctx, w.store, "orders", func(string) bool { return true }, time.UnixMilli(w.clock), nil)
	require.NoError(t, err)
	require.Equal(t, []string{"r1"}, ended)
	require.Empty(t, w.keysOf())
}

// TestLostStateIsNoResult: a Redis that was emptied in between leaves nothing to go on from, and nothing is made anew.
func TestLostStateIsNoResult(t *testing.T) {
	text := summing("v", hourly)
	w := newWorld(t, 7, text, 2)
	w.live(300)
	w.begin(w.ask(plan.AsRead, text))
	require.NoError(t, w.redis.Del(w.ctx, "mr:{orders@r1/orders/1}:meta").Err())
	_, err := shadow.Run(w.ctx, w.runConfig())
	require.ErrorIs(t, err, shadow.ErrLost)
	require.Zero(t, w.redis.Exists(w.ctx, "mr:{orders@r1/orders/1}:meta").Val())
	w.server.FlushAll()
	_, err = shadow.Run(w.ctx, w.runConfig())
	require.ErrorIs(t, err, store.ErrNoShadow)
	require.Empty(t, w.keysOf())
}

// TestShadowIsBoundedInMemory: the windows of a long range do not fit where nothing can be compared before the end.
func TestShadowIsBoundedInMemory(t *testing.T) {
	text := summing("v", families)
	w := newWorld(t, 8, text, 3)
	w.live(400)
	w.begin(w.ask(plan.None, text))
	cfg := w.runConfig()
	cfg.MemoryLimit = 10_000
	require.NoError(t, shadow.SetRate(w.ctx, w.store, "orders", "r1", 500)) // the watch comes four times a second
	_, err := shadow.Run(w.ctx, cfg)
	var memory *shadow.MemoryError
	require.ErrorAs(t, err, &memory)
	require.Greater(t, memory.Used, memory.Limit)
}

// TestCorrectedWindowsCanBeCountedAgain: the rows that an approval publishes are what a later replay compares with and begins
// from.
func TestCorrectedWindowsCanBeCountedAgain(t *testing.T) {
	text, replayed := summing("v", families), summing("v2", families)
	w := newWorld(t, 2, text, 3)
	w.live(600)
	p := w.begin(w.ask(plan.AsRead, replayed))
	_, err := shadow.Run(w.ctx, w.runConfig())
	require.NoError(t, err)
	content, differ := w.found(p)
	require.NotEmpty(t, differ)
	w.approve()
	require.NoError(t, shadow.End(w.ctx, w.store, "orders", "r1", time.UnixMilli(w.clock), nil))
	v, err := verify.Run(w.ctx, verify.Config{
		Spec: w.spec, State: w.store, Kafka: w.kafka, Now: func() time.Time { return time.UnixMilli(w.clock) },
	})
	require.NoError(t, err)
	require.Empty(t, v.Problems)

	for _, next := range []struct {
		text  string
		equal bool
	}{{replayed, true}, {text, false}} {
		again := w.begin(w.ask(plan.AsRead, next.text))
		require.Len(t, again.Windows, len(p.Windows), "%v", again.Refused)
		res, err := shadow.Run(w.ctx, w.runConfig())
		require.NoError(t, err)
		got, differs := w.found(again)
		if next.equal {
			require.Equal(t, len(p.Windows), res.Equal)
			require.Equal(t, content, got)
		} else {
			require.Equal(t, within(p, w.counted(text, plan.AsRead)), got)
			require.Len(t, differs, len(differ))
		}
		require.NoError(t, shadow.End(w.ctx, w.store, "orders", "r1", time.UnixMilli(w.clock), nil))
	}
}

// approve publishes what the shadow has found, as a closer would.
func (w *world) approve() {
	w.t.Helper()
	reader := shadow.NewReader(w.store, "orders", "r1")
	m, err := reader.Manifest(w.ctx)
	require.NoError(w.t, err)
	for _, h := range m.Headers {
		if h.Equal {
			continue
		}
		rows, err := reader.Rows(w.ctx, h)
		require.NoError(w.t, err)
		row := h.Row
		row.Replay = &ledger.ReplayOrigin{
			ID: "r1", BaseRevision: h.BaseRevision, BaseChecksum: h.BaseChecksum, Lateness: h.Lateness, Diff: m.Checksum,
		}
		of := w.latest(row.ID())
		content, err := w.contents().Read(w.ctx, of)
		require.NoError(w.t, err)
		base := &publish.Base{Rows: content}
		slot := publish.New(publish.Config{
			Slot: row.ID().Slot(ledger.DefaultSlots), Pipeline: "orders", Families: []string{"hourly", "daily"}, Spec: w.spec.Version(),
			Kafka: w.kafka, State: w.store, Keep: w.spec.Retention, Now: func() time.Time { return time.UnixMilli(w.clock) },
		})
		require.NoError(w.t, slot.Do(func(held *publish.Held) error {
			done, err := held.Correct(w.ctx, &publish.Correction{
				Row: &row, BaseRevision: h.BaseRevision, BaseChecksum: h.BaseChecksum, Checksum: row.Checksum, Keys: row.Keys,
				Content: publish.NewPatch(row.Events, found.Changes(rows)), Base: base,
			})
			if err != nil {
				return err
			}
			require.Equal(w.t, publish.VerdictPublished, done.Verdict)
			return held.ShowRows(w.ctx)
		}))
		slot.Close()
	}
}

// TestWindowThatWasPublishedMeanwhileIsLeftOut: what was compared with is not what stands there any more.
func TestWindowThatWasPublishedMeanwhileIsLeftOut(t *testing.T) {
	text, replayed := summing("v", hourly), summing("v2", hourly)
	w := newWorld(t, 2, text, 3)
	w.live(500)
	ask := w.ask(plan.AsRead, replayed)
	w.begin(ask)
	ask.ID = "r2"
	second, err := w.prepare(ask)
	require.NoError(t, err)
	_, err = shadow.Begin(w.ctx, w.store, second, 0, time.UnixMilli(w.clock))
	require.NoError(t, err)
	first, err := shadow.Run(w.ctx, w.runConfig())
	require.NoError(t, err)
	w.approve()
	cfg := w.runConfig()
	cfg.ID = "r2"
	res, err := shadow.Run(w.ctx, cfg)
	require.NoError(t, err)
	require.Equal(t, first.Equal, res.Equal)
	require.Zero(t, res.Differ)
	require.Equal(t, first.Differ+first.Refused, res.Refused)
}
