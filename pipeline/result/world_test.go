package result_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/pipeline/lane"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
	"millrace/pipeline/verify"
	"millrace/pipeline/window"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const (
	minute = int64(60_000)
	hour   = 60 * minute
	// base is a full day, so that windows of all sizes begin there.
	base = int64(1_699_920_000_000)
)

const header = `
name: orders
source: {topics: [orders], format: json}
event:
  key: [k]
  time: {field: t, unit: ms}
  max_future: 1000h
aggregates:
  n:    {func: count}
  sum:  {func: sum, field: v, type: int}
  avg:  {func: avg, field: v}
  last: {func: last, field: v, type: int}
results: {kafka: {topic: orders.windows}}
late: {kafka: {topic: orders.late}}
lane: {buckets: 4, chunk_fields: 1}
`

const hourly = header + `
windows: [{name: hourly, size: 1h}]
watermark: {out_of_orderness: 0s, idle_timeout: 5s}
allowed_lateness: 30m
`

// world is a pipeline without its engine: real lanes, store and closer over a Kafka in memory and an in-process Redis.
type world struct {
	t      testing.TB
	ctx    context.Context
	spec   *spec.Spec
	kafka  *publishtest.Kafka
	server *miniredis.Miniredis
	redis  redis.UniversalClient
	faults *storetest.Faults
	store  *store.Store
	lanes  []*testLane
	late   lateRecords
	limits fold.Limits // of the lanes: a page for each entry, and a call for each page
}

func newWorld(t testing.TB, text string, partitions int) *world {
	t.Helper()
	s, err := spec.Parse("test.yaml", []byte(text))
	require.NoError(t, err)
	server := miniredis.RunT(t)
	addr := server.Addr()
	w := &world{t: t, ctx: context.Background(), spec: s, kafka: publishtest.New(), server: server, limits: fold.Limits{Page: 1, Call: 1, Deltas: 64, Merge: 1 << 20, Spread: 1 << 20, Deletes: 64}}
	w.faults = storetest.NewFaults(storetest.Client(t, addr, false))
	w.redis = storetest.Client(t, addr, false)
	w.redis.AddHook(w.faults)
	w.store = store.New(w.redis)
	w.kafka.AddTopic("orders", partitions)
	w.kafka.AddTopic("orders.windows", 3)
	w.kafka.SetTopicID("orders.windows", "made-first")
	w.kafka.AddTopic(ledger.Topic("orders"), ledger.DefaultSlots)
	if len(s.Rollups) > 0 {
		w.kafka.AddTopic(ledger.StatesTopic("orders"), 3)
		w.kafka.SetTopicID(ledger.StatesTopic("orders"), "states-first")
	}
	for p := range partitions {
		w.lanes = append(w.lanes, w.newLane(p))
	}
	return w
}

func (w *world) config() result.Config {
	return result.Config{
		Spec: w.spec, State: w.store, Kafka: w.kafka, By: "test", Build: "v0", Parallel: 1, ReadAhead: 1, ViewPage: 100,
		Now: atBase,
	}
}

func (w *world) closer(change ...func(*result.Config)) *result.Closer {
	w.t.Helper()
	cfg := w.config()
	for _, f := range change {
		f(&cfg)
	}
	c, err := result.NewCloser(cfg)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { c.Close() })
	return c
}

func (w *world) round(c *result.Closer) result.RoundReport {
	w.t.Helper()
	r, err := c.Round(w.ctx)
	require.NoError(w.t, err)
	return r
}

// settle runs rounds, and lets idle lanes follow the requests, until nothing more happens.
func (w *world) settle(c *result.Closer) {
	w.t.Helper()
	for range 20 {
		r := w.round(c)
		require.Empty(w.t, r.Failed)
		for _, l := range w.lanes {
			l.idle()
		}
		if len(r.Closed) == 0 && r.Due == 0 {
			return
		}
	}
	require.Fail(w.t, "rounds never settle")
}

func (w *world) results() []ledger.ResultRow {
	w.t.Helper()
	rows, err := ledger.Results(w.ctx, w.kafka, "orders.windows", "orders")
	require.NoError(w.t, err)
	return rows
}

// values maps "window start key" to the published values of the last revision.
func (w *world) values() map[string]string {
	out := map[string]string{}
	for _, r := range w.results() {
		out[fmt.Sprintf("%s+%dm %s", r.Window, (r.Start-base)/minute, r.Key)] = string(r.Values)
	}
	return out
}

func (w *world) ledger() []ledger.Row {
	w.t.Helper()
	rows, err := ledger.Latest(w.ctx, w.kafka, "orders")
	require.NoError(w.t, err)
	return rows
}

// history lists every ledger record of a window as "r<revision> <reason>", with "final".
func (w *world) history(name string, start int64) []string {
	w.t.Helper()
	var out []string
	require.NoError(w.t, ledger.Read(w.ctx, w.kafka, "orders", func(rec ledger.Record) error {
		if e := rec.Row; e != nil && e.Window == name && e.Start == start {
			text := fmt.Sprintf("r%d %s", e.Revision, e.Reason)
			if e.Final {
				text += " final"
			}
			if !e.Exact {
				text += " inexact"
			}
			out = append(out, text)
		}
		return nil
	}))
	return out
}

// sound checks what must hold whatever happened: no row twice, no gap, checksums as the ledger says.
func (w *world) sound() {
	w.t.Helper()
	v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.store, Kafka: w.kafka, Now: atBase})
	require.NoError(w.t, err)
	require.Empty(w.t, v.Problems)
}

// testLane is an owned lane, driven by hand.
type testLane struct {
	w         *world
	id        store.LaneID
	tp        source.TopicPartition
	program   *fold.Program
	state     *fold.State
	token     store.Token
	log       []source.Record
	committed int64
	fields    bool // entries go to fields, as earlier releases wrote them
}

// topicID is that of the lanes' topic in worlds without a real Kafka.
const topicID = "topic"

func (w *world) newLane(partition int) *testLane {
	w.t.Helper()
	program, err := fold.Compile(w.spec)
	require.NoError(w.t, err)
	program.Limit(w.limits)
	l := &testLane{
		w: w, program: program, id: store.LaneID{Pipeline: "orders", Topic: "orders", Partition: int32(partition)},
		tp: source.TopicPartition{Topic: "orders", Partition: int32(partition)},
	}
	l.acquire()
	return l
}

// acquire takes the lane over, as a new process would: its memory is what Redis holds.
func (l *testLane) acquire() {
	l.w.t.Helper()
	meta, _, err := l.w.store.ReadMeta(l.w.ctx, l.id)
	require.NoError(l.w.t, err)
	l.token = store.NextToken(meta.Owner)
	meta, found, err := l.w.store.Acquire(l.w.ctx, l.id, l.program.StateID, meta.Owner, l.token)
	require.NoError(l.w.t, err)
	if !found || meta.Offset < 0 {
		l.state = fold.NewState(l.program, l.id, topicID, 0, meta.Cursor)
	} else {
		l.state, _, err = lane.Restore(l.w.ctx, l.w.store, l.program, l.id, l.token)
		require.NoError(l.w.t, err)
	}
	l.committed = max(meta.Offset, 0)
	l.catchUp()
}

// catchUp folds what the log holds beyond the state.
func (l *testLane) catchUp() {
	if n := l.state.Offset(); n < int64(len(l.log)) {
		l.state.Fold(&source.Batch{Records: l.log[n:], Next: int64(len(l.log))})
	}
}

// event produces and folds one event, minutes after base.
func (l *testLane) event(key string, minutes float64, v int64) {
	value := fmt.Sprintf(`{"k":%q,"t":%d,"v":%d}`, key, base+int64(minutes*float64(minute)), v)
	r := source.Record{Timestamp: base, Value: []byte(value)}
	r.Offset = l.w.kafka.Append(l.tp, r)
	l.log = append(l.log, r)
	l.state.Fold(&source.Batch{Records: []source.Record{r}, Next: r.Offset + 1})
}

func (l *testLane) control() fold.Control {
	return fold.Control{SealBefore: store.NoTime, DropBefore: store.NoTime, IdleAt: -1, Pages: !l.fields}
}

func (l *testLane) deliver(c *fold.Commit) {
	l.w.t.Helper()
	require.NoError(l.w.t, deliver.PublishSides(l.w.ctx, c, &l.w.late))
	_, err := l.w.store.Apply(l.w.ctx, l.id, l.program.StateID, l.token, c.Calls)
	require.NoError(l.w.t, err)
	l.state.Acknowledged(c)
	l.committed = c.Offset
}

// commit makes everything folded durable.
func (l *testLane) commit() {
	l.w.t.Helper()
	c := new(fold.Commit)
	l.state.Snapshot(c, l.control())
	l.deliver(c)
}

// reseed writes the whole memory again under a new token, as a lane does whose Redis lost something.
func (l *testLane) reseed() {
	l.w.t.Helper()
	l.token = store.NextToken(l.token)
	meta, _, err := l.w.store.ReadMeta(l.w.ctx, l.id)
	require.NoError(l.w.t, err)
	_, _, err = l.w.store.Acquire(l.w.ctx, l.id, l.program.StateID, meta.Owner, l.token)
	require.NoError(l.w.t, err)
	found, err := l.w.store.WholeIndex(l.w.ctx, l.id, l.program.StateID)
	require.NoError(l.w.t, err)
	c := new(fold.Commit)
	l.state.Reseed(c, found)
	l.deliver(c)
}

// begin sends all calls of a commit but the last, which holds the last entry and the meta, and returns what sends the
// rest.
func (l *testLane) begin() (finish func()) {
	l.w.t.Helper()
	c := new(fold.Commit)
	l.state.Snapshot(c, l.control())
	require.Greater(l.w.t, len(c.Calls), 1)
	_, err := l.w.store.Apply(l.w.ctx, l.id, l.program.StateID, l.token, c.Calls[:len(c.Calls)-1])
	require.NoError(l.w.t, err)
	return func() { l.deliver(c) }
}

// idle commits with proof of idleness and follows the closer's requests, twice so that drops happen.
func (l *testLane) idle() {
	l.w.t.Helper()
	for range 2 {
		ends, err := l.w.kafka.Ends(l.w.ctx, l.tp)
		require.NoError(l.w.t, err)
		ctl, err := l.w.store.ReadCtl(l.w.ctx, l.id)
		require.NoError(l.w.t, err)
		c := new(fold.Commit)
		if l.state.Offset() < ends[l.tp].End { // markers
			l.state.Fold(&source.Batch{Next: ends[l.tp].End})
		}
		control := l.control()
		control.SealBefore, control.DropBefore, control.IdleAt = ctl[0].SealBefore, ctl[0].DropBefore, ends[l.tp].End
		l.state.Snapshot(c, control)
		l.deliver(c)
	}
}

func (l *testLane) ctl() store.Ctl {
	ctl, err := l.w.store.ReadCtl(l.w.ctx, l.id)
	require.NoError(l.w.t, err)
	return ctl[0]
}

// lateRecords are the headers of the records that lanes sent to the late topic.
type lateRecords [][]source.Header

func (r *lateRecords) Send(_ context.Context, records []source.SideRecord) error {
	for _, side := range records {
		*r = append(*r, side.Headers)
	}
	return nil
}

func at(minutes float64) int64 { return base + int64(minutes*float64(minute)) }

func ref(windowIndex int, minutes float64) window.Ref {
	return window.Ref{Window: windowIndex, Start: at(minutes)}
}

func mustJSON(t testing.TB, v any) string {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

func itoa(n int64) string { return fmt.Sprint(n) }

type (
	ctxType = context.Context
	storeOp = storetest.Op
	outcome = storetest.Outcome
)

func (w *world) slotOf(name string, start int64) int {
	return result.SlotOf(name, start, ledger.DefaultSlots)
}

func newCommit() *fold.Commit { return new(fold.Commit) }

// atBase is a clock that stands still.
func atBase() time.Time { return time.UnixMilli(base) }

// endAt is an end offset of the lane's partition.
func (l *testLane) endAt(end int64) report.LaneEnd {
	return report.LaneEnd{Topic: l.tp.Topic, Partition: l.tp.Partition, End: end}
}
