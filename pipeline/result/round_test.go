package result_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

func TestRoundClosesWhatEveryLaneHasPassed(t *testing.T) {
	w := newWorld(t, hourly, 2)
	c := w.closer()
	a, b := w.lanes[0], w.lanes[1]
	a.event("x", 10, 1)
	a.event("y", 20, 2)
	a.event("x", 70, 5)
	a.commit()

	r := w.round(c)
	require.Empty(t, r.Closed)
	require.Zero(t, r.Waiting.Watermark)
	require.Equal(t, "orders/1", r.Waiting.Lane)
	require.Contains(t, r.Waiting.For, "committed nothing")

	b.event("x", 30, 10)
	b.commit()
	r = w.round(c)
	require.Empty(t, r.Closed)
	require.Equal(t, at(30), r.Waiting.Watermark)
	require.Equal(t, at(60), r.Progress.NextEnd)

	b.event("z", 60, 1)
	b.commit()
	r = w.round(c)
	require.Equal(t, []report.ClosedWindow{{
		WindowRef: report.WindowRef{Window: "hourly", Start: base}, End: at(60), Revision: 1, Reason: ledger.ReasonWatermark, Keys: 2, Events: 3,
	}}, r.Closed)
	require.Equal(t, map[string]string{
		`hourly+0m {"k":"x"}`: `{"n":2,"sum":11,"avg":5.5,"last":10}`,
		`hourly+0m {"k":"y"}`: `{"n":1,"sum":2,"avg":2,"last":2}`,
	}, w.values())
	require.Empty(t, w.round(c).Closed)
	w.sound()
}

func TestResultRowsAndLedgerRowAsPublished(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer()
	w.lanes[0].event("x", 10, 1)
	w.lanes[0].event("x", 61, 1)
	w.lanes[0].commit()
	w.round(c)
	require.Equal(t, `{"pipeline":"orders","window":"hourly","start":"2023-11-14T00:00:00Z","end":"2023-11-14T01:00:00Z",`+
		`"key":{"k":"x"},"revision":1,"values":{"n":1,"sum":1,"avg":1,"last":1}}`, mustJSON(t, w.results()[0]))
	row := w.ledger()[0]
	require.Equal(t, `{"version":2,"pipeline":"orders","window":"hourly","start":"2023-11-14T00:00:00Z","end":"2023-11-14T01:00:00Z",`+
		`"edition":1,"spec":"`+w.spec.Version()+`","build":"v0","revision":1,"reason":"watermark","final":false,"exact":true,`+
		`"by":"test","closed_at":"2023-11-14T00:00:00Z","keys":1,"events":1,"checksum":"`+row.Checksum+`",`+
		`"checksum_algorithm":"sha256-sum128","published_to":"orders.windows",`+
		`"links":[{"revision":1,"topic_id":"made-first","whole":true,"partitions":[{"partition":1,"first":0,"last":0}]}],`+
		`"lanes":[{"topic":"orders","partition":0,"offset":2,"last_offset":0,"folded":1,"topic_id":"topic","first_offset":0,`+
		`"basis":{"counters":{"read":0,"invalid":0,"ahead":0,"filtered":0,"duplicate":0,"late":0,"folded":0}},"recountable":true}],`+
		`"view":{"whole":1,"attempt":"`+row.View.Attempt+`"}}`,
		mustJSON(t, row))
}

// TestRowsLinkToTheRowsOfTheirContent: a row that is written again keeps the links of the revision, and each revision has
// its own.
func TestRowsLinkToTheRowsOfTheirContent(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer()
	l := w.lanes[0]
	for i := range 9 {
		l.event(fmt.Sprint("k", i), 10, 1)
	}
	l.event("k0", 61, 1)
	l.commit()
	w.round(c)
	l.event("k0", 12, 1)
	l.commit()
	w.round(c)
	l.event("k0", 95, 1)
	l.commit()
	w.round(c)
	require.Equal(t, []string{"r1 watermark", "r2 late", "r2 final final"}, w.history("hourly", base))
	require.NoError(t, ledger.Read(w.ctx, w.kafka, "orders", func(rec ledger.Record) error {
		if rec.Row.Start != base {
			return nil
		}
		require.Len(t, rec.Row.Links, rec.Row.Revision)
		link := rec.Row.Links[rec.Row.Revision-1]
		require.Equal(t, rec.Row.Revision, link.Revision)
		require.Equal(t, rec.Row.Revision == 1, link.Whole)
		rows := int64(0)
		for _, span := range link.Partitions {
			tp := source.TopicPartition{Topic: "orders.windows", Partition: span.Partition}
			_, err := w.kafka.ReadCommitted(w.ctx, tp, 0, func(r source.Record) error {
				var row ledger.ResultRow
				require.NoError(t, row.UnmarshalJSON(r.Value))
				if within := r.Offset >= span.First && r.Offset <= span.Last; within || row.Revision == link.Revision {
					require.True(t, within && row.Revision == link.Revision, "offset %d, %s", r.Offset, r.Value)
					rows++
				}
				return nil
			})
			require.NoError(t, err)
		}
		require.Equal(t, map[int]int64{1: 9, 2: 1}[rec.Row.Revision], rows)
		return nil
	}))
}

// TestLedgerRowNamesTheSealsInBetween: what a lane adopted between the first event of a window and the offset covered.
func TestLedgerRowNamesTheSealsInBetween(t *testing.T) {
	w := newWorld(t, hourly, 2)
	c := w.closer()
	a, b := w.lanes[0], w.lanes[1]
	a.event("x", 10, 1)
	a.event("x", 130, 1)
	a.commit()
	b.event("y", 70, 1)
	b.idle()
	w.round(c) // asks b, which is idle at 70 minutes, to seal what ends before 130
	b.idle()
	b.event("y", 75, 1)
	b.event("y", 140, 1)
	b.commit()
	a.event("x", 160, 1)
	a.commit()
	w.round(c)
	require.Equal(t, []string{"r1 watermark", "r2 late"}, w.history("hourly", base+hour))
	for _, row := range w.ledger() {
		if row.Start != base+hour {
			continue
		}
		cover, ok := row.Cover("orders", 1)
		require.True(t, ok)
		require.True(t, cover.Recountable)
		require.Equal(t, int64(0), cover.FirstOffset)
		require.Equal(t, []store.Seal{{Offset: 1, Before: at(90)}}, cover.Seals)
	}
}

// TestLedgerRecordsOfOtherTypesArePassedOver: floors, and what later versions may write.
func TestLedgerRecordsOfOtherTypesArePassedOver(t *testing.T) {
	w := newWorld(t, hourly, 1)
	floor := ledger.Floor{Pipeline: "orders", Window: "hourly", Edition: ledger.Edition, End: base}
	for slot := range int32(ledger.DefaultSlots) {
		tp := source.TopicPartition{Topic: "orders.ledger", Partition: slot}
		w.kafka.Append(tp, source.Record{Key: floor.Key(), Value: []byte(mustJSON(t, floor))})
		w.kafka.Append(tp, source.Record{Key: []byte("x"), Value: []byte(`{"type":"decision","version":7}`)})
		w.kafka.Append(tp, source.Record{Key: ledger.WindowID{Window: "hourly", Start: base - hour}.Key()})
	}
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.commit()
	require.Len(t, w.round(w.closer()).Closed, 1)
	require.Len(t, w.ledger(), 1)
	w.sound()
}

func TestLateEventsMakeRevisionsWithoutGaps(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer()
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.commit()
	w.round(c)
	l.event("x", 11, 2) // watermark 61, allowed until 90
	l.commit()
	w.round(c)
	w.round(c)
	l.event("y", 12, 3)
	l.commit()
	w.round(c)
	require.Equal(t, []string{"r1 watermark", "r2 late", "r3 late"}, w.history("hourly", base))

	l.event("x", 90, 0) // the deadline
	l.event("x", 13, 9) // late
	l.commit()
	w.settle(c)
	require.Equal(t, []string{"r1 watermark", "r2 late", "r3 late", "r3 final final"}, w.history("hourly", base))
	require.Equal(t, `{"n":2,"sum":3,"avg":1.5,"last":2}`, w.values()[`hourly+0m {"k":"x"}`])
	require.Equal(t, at(90), l.ctl().DropBefore)
	_, stats, err := w.store.LaneView(w.ctx, l.id, "")
	require.NoError(t, err)
	require.Len(t, stats, 1, "the first hour is dropped")
	w.sound()
}

func TestSameContentIsNoRevision(t *testing.T) {
	const maxOnly = `
name: orders
source: {topics: [orders], format: json}
event: {key: [k], time: {field: t, unit: ms}, max_future: 1000h}
aggregates: {top: {func: max, field: v, type: int}}
results: {kafka: {topic: orders.windows}}
windows: [{name: hourly, size: 1h}]
watermark: {out_of_orderness: 0s, idle_timeout: 5s}
allowed_lateness: 30m
`
	w := newWorld(t, maxOnly, 1)
	c := w.closer()
	l := w.lanes[0]
	l.event("x", 10, 7)
	l.event("x", 61, 1)
	l.commit()
	w.round(c)
	l.event("x", 11, 5)
	l.commit()
	w.round(c)
	require.Empty(t, w.round(c).Closed)
	require.Equal(t, []string{"r1 watermark", "r1 late"}, w.history("hourly", base))
	require.Equal(t, int64(3), w.ledger()[0].Lanes[0].Offset, "the row covers the event all the same")
	require.Equal(t, int64(2), w.ledger()[0].Events)
	require.Len(t, w.results(), 1)
	w.sound()
}

func TestWithoutLatenessTheFirstRevisionIsFinal(t *testing.T) {
	w := newWorld(t, header+`
windows: [{name: hourly, size: 1h}]
watermark: {out_of_orderness: 10m, idle_timeout: 5s}
`, 2)
	c := w.closer()
	for _, l := range w.lanes {
		l.event("x", 10, 1)
		l.event("x", 75, 1)
		l.commit()
	}
	w.settle(c)
	require.Equal(t, []string{"r1 watermark final"}, w.history("hourly", base))
	require.Equal(t, at(60), w.lanes[1].ctl().DropBefore)
	w.sound()
}

func TestIdleLaneNeedsTheBrokersProof(t *testing.T) {
	w := newWorld(t, hourly, 3)
	c := w.closer()
	busy, silent, never := w.lanes[0], w.lanes[1], w.lanes[2]
	silent.event("s", 5, 1)
	silent.idle()
	never.idle()
	busy.event("x", 10, 1)
	busy.event("x", 65, 1)
	busy.commit()

	// An event waits in the partition that claims to be idle.
	w.kafka.Append(silent.tp, source.Record{Value: []byte(`{}`)})
	r := w.round(c)
	require.Empty(t, r.Closed)
	require.Equal(t, "orders/1", r.Waiting.Lane)
	require.Contains(t, r.Waiting.For, "it was idle, and 1 offsets of its log wait to be read (committed 1, end 2)")

	silent.log = append(silent.log, source.Record{Offset: 1, Timestamp: base, Value: []byte(`{}`)})
	silent.catchUp()
	silent.idle()
	r = w.round(c)
	require.Len(t, r.Closed, 1)
	require.Equal(t, int64(2), r.Closed[0].Events)
}

func TestIdlenessOfAnotherLogProvesNothing(t *testing.T) {
	w := newWorld(t, hourly, 2)
	c := w.closer()
	w.kafka.SetTopicID("orders", "made again")
	busy, silent := w.lanes[0], w.lanes[1]
	silent.event("s", 5, 1)
	silent.idle()
	busy.event("x", 65, 1)
	busy.commit()
	r := w.round(c)
	require.Empty(t, r.Closed)
	require.Contains(t, r.Waiting.For, "its topic was deleted and made again")
}

func TestAllIdleTakesTheGreatestWatermark(t *testing.T) {
	w := newWorld(t, hourly, 2)
	c := w.closer()
	w.lanes[0].event("x", 10, 1)
	w.lanes[1].event("x", 70, 1)
	w.lanes[0].idle()
	w.lanes[1].idle()
	r := w.round(c)
	require.Equal(t, at(70), r.Waiting.Watermark)
	require.Len(t, r.Closed, 1)
	w.settle(c)
	require.Equal(t, []string{"r1 watermark"}, w.history("hourly", base), "the second hour is still open")
}

func TestIdleLaneIsSealedBeforeTheWindowIsFinal(t *testing.T) {
	w := newWorld(t, hourly, 2)
	c := w.closer()
	a, b := w.lanes[0], w.lanes[1]
	b.event("x", 5, 1)
	b.idle()
	a.event("x", 95, 1)
	a.commit()

	r := w.round(c)
	require.Equal(t, []string{"r1 watermark"}, w.history("hourly", base))
	require.Equal(t, at(90), r.Progress.SealBefore)
	require.Equal(t, at(90), b.ctl().SealBefore)
	require.Equal(t, int64(store.NoTime), a.ctl().SealBefore, "its own watermark seals it")

	// Events that come before the lane adopts the seal are on time, and in the last revision.
	b.event("x", 6, 1)
	b.commit()
	r = w.round(c)
	require.Equal(t, "orders/1", r.Waiting.Lane)
	require.Empty(t, r.Closed, "the lane is not idle, its watermark is old")
	b.idle()
	w.round(c)
	require.Equal(t, []string{"r1 watermark", "r2 final final"}, w.history("hourly", base))
	require.Equal(t, at(90), b.ctl().DropBefore)
	b.idle()
	b.event("x", 7, 1)
	b.commit()
	meta, _, err := w.store.ReadMeta(w.ctx, b.id)
	require.NoError(t, err)
	require.Equal(t, int64(1), meta.Counters.Late)
	w.settle(c)
	require.Equal(t, []string{"r1 watermark", "r2 final final"}, w.history("hourly", base))
	w.sound()
}

// What a commit has written in pages before its last call is content for nobody: a window is published without it, exactly.
func TestPagesInTheMiddleOfACommitCountForNobody(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer()
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.commit()
	l.event("x", 11, 1)
	l.event("y", 12, 1)
	finish := l.begin() // one page is there, its meta is not
	w.round(c)
	require.Equal(t, []string{"r1 watermark"}, w.history("hourly", base))
	require.Equal(t, int64(1), w.ledger()[0].Events)
	require.Equal(t, int64(2), w.ledger()[0].Lanes[0].Offset)
	finish()
	w.round(c)
	require.Equal(t, []string{"r1 watermark", "r2 late"}, w.history("hourly", base))
	require.Equal(t, int64(3), w.ledger()[0].Events)
	w.sound()
}

// A lane that commits between the look at it and the merge of its windows is covered as far as its pages were read.
func TestCommitAfterTheLookIsCovered(t *testing.T) {
	w := newWorld(t, hourly, 2)
	l := w.lanes[0]
	c := w.closer(func(c *result.Config) {
		c.State = &betweenLookAndIndex{State: w.store, then: func() {
			l.event("y", 13, 1)
			l.commit()
		}}
	})
	for _, lane := range w.lanes {
		lane.event("x", 10, 1)
		lane.event("x", 61, 1)
		lane.commit()
	}
	w.round(c)
	require.Equal(t, []string{"r1 watermark"}, w.history("hourly", base))
	require.Equal(t, int64(3), w.ledger()[0].Events)
	require.Equal(t, int64(3), w.ledger()[0].Lanes[0].Offset, "up to which the pages hold everything")
	require.True(t, w.ledger()[0].Exact)
	w.round(c)
	require.Len(t, w.history("hourly", base), 1, "nothing is left to publish")
	w.sound()
}

// betweenLookAndIndex does something before the first index is taken.
type betweenLookAndIndex struct {
	result.State
	then func()
}

func (s *betweenLookAndIndex) Index(ctx context.Context, id store.LaneID, stateID string, spans store.Spans, known []store.SliceStat,
) (store.LaneIndex, error) {
	if then := s.then; then != nil {
		s.then = nil
		then()
	}
	return s.State.Index(ctx, id, stateID, spans, known)
}

func TestEventInTheMiddleOfACommitIsWaitedFor(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer(func(c *result.Config) { c.Patience = 2 })
	l := w.lanes[0]
	l.fields = true
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.commit()
	l.event("x", 11, 1)
	l.event("y", 12, 1)
	finish := l.begin() // one entry is there, its meta is not

	for range 2 {
		r := w.round(c)
		require.Empty(t, r.Closed)
		require.Len(t, r.Pending, 1)
		require.Contains(t, r.Pending[0].Problem, "in the middle of a commit")
	}
	w.round(c)
	require.Equal(t, []string{"r1 watermark inexact"}, w.history("hourly", base))
	r := w.round(c)
	require.Empty(t, r.Closed, "a second revision must be exact")
	finish()
	w.round(c)
	require.Equal(t, []string{"r1 watermark inexact", "r2 late"}, w.history("hourly", base))
	require.Equal(t, `{"n":2,"sum":2,"avg":1,"last":1}`, w.values()[`hourly+0m {"k":"x"}`])
	w.sound()
}

func TestLaneThatLostWritesIsWaitedFor(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer()
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.commit()
	before := len(w.faults.Log(l.id.String()))
	l.event("x", 11, 1)
	l.commit()
	w.round(c)
	require.NoError(t, w.faults.Rewind(w.ctx, l.id.String(), before))

	r := w.round(c)
	require.Empty(t, r.Closed)
	require.Len(t, r.Pending, 1)
	require.Contains(t, r.Pending[0].Problem, "stands at offset 2, behind 3 which revision 1 covers")
	require.Empty(t, r.Failed)

	l.acquire() // reads the rest of the log again
	l.event("x", 12, 1)
	l.commit()
	w.round(c)
	require.Equal(t, []string{"r1 watermark", "r2 late"}, w.history("hourly", base))
	w.sound()
}

func TestNewPartitionHoldsTheWatermarkBack(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer()
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.commit()
	w.kafka.AddTopic("orders", 2)
	r := w.round(c)
	require.Empty(t, r.Closed)
	require.Equal(t, "orders/1", r.Waiting.Lane)
	require.Contains(t, r.Waiting.For, "committed nothing")
	w.lanes = append(w.lanes, w.newLane(1))
	w.lanes[1].idle()
	require.Len(t, w.round(c).Closed, 1)
}

func TestFoldingIntoAFinalWindowIsAnIncident(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer()
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 95, 1)
	l.commit()
	w.settle(c)
	w.kafka.AddTopic("orders", 2)
	w.lanes = append(w.lanes, w.newLane(1))
	w.lanes[1].event("x", 10, 1)
	w.lanes[1].event("x", 95, 1)
	w.lanes[1].commit()
	r := w.round(c)
	require.Len(t, r.Incidents, 1)
	require.Contains(t, r.Incidents[0].Problem, "incident final-grew: lane orders/orders/1 folded offset 0")
	require.Empty(t, w.round(c).Incidents, "it is reported once")
	require.Equal(t, []string{"r1 watermark final"}, w.history("hourly", base))
}

func TestQuietRoundReadsNoEntries(t *testing.T) {
	w := newWorld(t, hourly, 2)
	c := w.closer()
	for _, l := range w.lanes {
		for m := range 40 {
			l.event("x", float64(m*7), 1)
		}
		l.commit()
	}
	w.settle(c)
	reads := 0
	w.faults.Plan(func(op storeOp) outcome {
		if op.Args[0] == "evalsha_ro" || op.Args[0] == "eval_ro" || op.Args[0] == "evalsha" || op.Args[0] == "hmget" {
			reads++
		}
		return 0
	})
	for range 3 {
		require.Zero(t, w.round(c).Due)
	}
	require.LessOrEqual(t, reads, 3*4, "one view and one ctl per lane and round")
}

func TestExcludedWindowIsLeftAlone(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer()
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 70, 1)
	l.event("x", 155, 1)
	l.commit()
	c.Exclude(ref(0, 0))
	r := w.round(c)
	require.Len(t, r.Closed, 1)
	require.Equal(t, at(60), r.Closed[0].Start)
	require.Equal(t, int64(window.NoTime), r.Progress.DropBefore, "nothing is dropped over its head")

	row, published, err := w.closer().CloseWindow(w.ctx, ref(0, 0), "")
	require.NoError(t, err)
	require.True(t, published)
	require.True(t, row.Final)
	c.Include(ref(0, 0))
	w.settle(c)
	require.Equal(t, at(150), l.ctl().DropBefore)
	w.sound()
}

func TestCloseWindowIsIdempotentAndSaysWhatItWaitsFor(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer()
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.commit()
	_, _, err := c.CloseWindow(w.ctx, ref(0, 0), "")
	require.True(t, result.Waits(err))
	require.ErrorContains(t, err, "the window ends at 2023-11-14T01:00:00Z, the watermark is 2023-11-14T00:10:00Z: lane orders/orders/0")
	l.event("x", 60, 1)
	l.commit()
	row, published, err := c.CloseWindow(w.ctx, ref(0, 0), "")
	require.NoError(t, err)
	require.True(t, published)
	again, published, err := c.CloseWindow(w.ctx, ref(0, 0), "")
	require.NoError(t, err)
	require.False(t, published)
	require.Equal(t, row, again)
	_, err = c.Ref("nothing", 0)
	require.ErrorIs(t, err, result.ErrWindow)
}

func TestLateRevisionsLeaveTimeToTheLanes(t *testing.T) {
	w := newWorld(t, hourly, 1)
	now, cost := time.UnixMilli(base), time.Second
	c := w.closer(func(c *result.Config) {
		c.Now = func() time.Time { return now }
	})
	w.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
		if s.Name == "commit" {
			now = now.Add(cost)
		}
		return publishtest.Pass
	})
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.commit()
	require.Len(t, w.round(c).Closed, 1)
	late := func() int {
		l.event("x", 11, 1)
		l.commit()
		return len(w.round(c).Closed)
	}
	require.Equal(t, 1, late(), "the first revision does not count")
	require.Equal(t, 0, late(), "four times as long as the last one took")
	now = now.Add(3 * time.Second)
	require.Equal(t, 0, late())
	now = now.Add(time.Second)
	require.Equal(t, 1, late())
	require.Equal(t, 0, late())
	l.event("x", 95, 1)
	l.commit()
	require.Len(t, w.round(c).Closed, 1, "the last revision does not wait")
	require.Equal(t, []string{"r1 watermark", "r2 late", "r3 late", "r4 final final"}, w.history("hourly", base))
	w.sound()
}

func TestOpenTransactionIsNoIdleness(t *testing.T) {
	w := newWorld(t, hourly, 1)
	c := w.closer()
	l := w.lanes[0]
	l.event("x", 10, 1)
	l.event("x", 61, 1)
	l.idle()
	p, err := w.kafka.Open(w.ctx, 99)
	require.NoError(t, err)
	require.NoError(t, p.Begin())
	require.NoError(t, publish.Send(w.ctx, p, []publish.Record{{Topic: "orders", Value: []byte("{}")}}))
	require.Contains(t, w.round(c).Waiting.For, "it was idle, and 1 offsets of its log wait to be read (committed 2, end 3)")
	require.NoError(t, p.Close())
	require.Contains(t, w.round(c).Waiting.For, "it was idle, and 2 offsets of its log wait to be read (committed 2, end 4)")
	l.idle()
	require.Contains(t, w.round(c).Waiting.For, "all lanes are idle")
}

// Records that are refused come all the time, so the log's end never stands still. The lane that reads them holds no
// window open as long as it keeps up.
func TestRefusedRecordsHoldNoWindowOpen(t *testing.T) {
	w := newWorld(t, hourly, 2)
	now := atBase()
	c := w.closer(func(cfg *result.Config) {
		cfg.Now, cfg.TrustEnds = func() time.Time { return now }, 5*time.Second
	})
	busy, noisy := w.lanes[0], w.lanes[1]
	noisy.event("s", 5, 1)
	noisy.idle()
	refuse := func(read bool) {
		r := source.Record{Timestamp: base, Value: []byte("a heartbeat")}
		r.Offset = w.kafka.Append(noisy.tp, r)
		noisy.log = append(noisy.log, r)
		if read {
			noisy.catchUp()
			noisy.commit()
		}
	}
	busy.event("x", 10, 1)
	busy.event("x", 95, 1)
	busy.commit()
	refuse(true)
	refuse(false)
	r := w.round(c)
	require.Empty(t, r.Closed, "the first look has no end of an earlier one")
	require.Contains(t, r.Waiting.For, "it was idle, and 1 offsets of its log wait to be read (committed 2, end 3)")
	now = now.Add(time.Second)
	refuse(true)
	refuse(false)
	r = w.round(c)
	require.Len(t, r.Closed, 1, "the lane has passed the end of the look before")
	require.Equal(t, "orders/0", r.Waiting.Lane)
	require.Equal(t, at(90), noisy.ctl().SealBefore)

	// It stops reading. For a while nobody knows; then it holds windows open.
	busy.event("x", 125, 1)
	busy.commit()
	now = now.Add(6 * time.Second)
	refuse(false)
	r = w.round(c)
	require.Empty(t, r.Closed)
	require.Equal(t, "orders/1", r.Waiting.Lane)
	since := r.Waiting.Since
	now = now.Add(time.Second)
	require.Equal(t, since, w.round(c).Waiting.Since, "the same lane holds the watermark at the same place")

	// What comes in between could move the watermark: the lane is idle no more, whatever it has read.
	noisy.event("s", 66, 1)
	noisy.commit()
	r = w.round(c)
	require.Empty(t, r.Closed)
	require.Contains(t, r.Waiting.For, "its watermark is the lowest")
	require.Greater(t, r.Waiting.Since, since)
}

// One lane that stands still holds every window open. That is trouble only while others go on, and only past the end of a window
// that is open: quiet sources are none.
func TestOneLaneHoldsTheWatermark(t *testing.T) {
	w := newWorld(t, hourly, 2)
	now := atBase()
	c := w.closer(func(cfg *result.Config) { cfg.Now = func() time.Time { return now } })
	busy, silent := w.lanes[0], w.lanes[1]
	silent.event("s", 5, 1)
	silent.commit()
	busy.event("x", 10, 1)
	busy.commit()
	require.False(t, w.round(c).Waiting.Held)
	now = now.Add(2 * time.Minute)
	require.False(t, w.round(c).Waiting.Held, "nothing moves: the sources are quiet")
	busy.event("x", 20, 1)
	busy.commit()
	require.False(t, w.round(c).Waiting.Held, "no window has ended for anybody")
	busy.event("x", 125, 1)
	busy.commit()
	r := w.round(c)
	require.True(t, r.Waiting.Held)
	require.Equal(t, "orders/1", r.Waiting.Lane)
	require.Equal(t, atBase().UnixMilli(), r.Waiting.Since)
	now = now.Add(2 * time.Minute)
	require.False(t, w.round(c).Waiting.Held, "the others stand still too")
	silent.event("s", 130, 1)
	silent.commit()
	busy.event("x", 200, 1)
	busy.commit()
	require.False(t, w.round(c).Waiting.Held, "it went on")
}
