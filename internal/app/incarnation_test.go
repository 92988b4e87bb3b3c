package app

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/internal/dev"
	"millrace/pipeline/lane"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

const minuteMS = int64(60_000)
const firstDay = int64(1_699_920_000_000)

const removableSpec = `
name: orders
source: {topics: [orders], format: json}
event:
  key: [k]
  time: {field: t, unit: ms}
  max_future: 1000h
aggregates:
  n:    {func: count}
  sum:  {func: sum, field: v, type: int}
results: {kafka: {topic: orders.windows}}
lane: {buckets: 4}
windows: [{name: hourly, size: 1h}]
watermark: {out_of_orderness: 0s, idle_timeout: 5s}
allowed_lateness: 30m
retention: {results: 1h, ledger: 2h}
`

// removable is a pipeline over an embedded broker and Redis, with the closers' own store and the removal's own steps.
type removable struct {
	t       *testing.T
	ctx     context.Context
	spec    *spec.Spec
	server  *miniredis.Miniredis
	redis   *redis.Client
	store   *store.Store
	cfg     source.Config
	cluster *source.Cluster
	topicID string
	now     time.Time
	log     []source.Record
}

func newRemovable(t *testing.T) *removable {
	w := &removable{t: t, ctx: t.Context(), now: time.UnixMilli(firstDay)}
	var err error
	w.spec, err = spec.Parse("a.yaml", []byte(removableSpec))
	require.NoError(t, err)
	w.server = miniredis.RunT(t)
	w.redis = redis.NewClient(&redis.Options{Addr: w.server.Addr()})
	t.Cleanup(func() { w.redis.Close() })
	w.store = store.New(w.redis)
	broker, err := dev.StartKafka(w.ctx, dev.KafkaConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { broker.Close() })
	w.cfg = source.Config{Brokers: []string{broker.Addr()}}
	w.cluster, err = source.NewCluster(w.ctx, w.cfg)
	require.NoError(t, err)
	t.Cleanup(func() { w.cluster.Close() })
	for topic, n := range map[string]int32{"orders": 1, "orders.windows": 1} {
		_, err := w.cluster.EnsureTopic(w.ctx, source.TopicSpec{Name: topic, Partitions: n})
		require.NoError(t, err)
	}
	_, err = w.cluster.EnsureTopic(w.ctx, source.TopicSpec{Name: ledger.Topic("orders"), Partitions: ledger.DefaultSlots, Compacted: true})
	require.NoError(t, err)
	topic, err := w.cluster.Topic(w.ctx, "orders")
	require.NoError(t, err)
	w.topicID = topic.ID
	return w
}

func (w *removable) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.server.FastForward(d)
}

// hookedState lets something happen between two steps of a closer: the world goes on while its process is frozen.
type hookedState struct {
	*closerStore
	beforeFlip, beforeDrop, beforeExpire func()
}

func once(f *func()) {
	if g := *f; g != nil {
		*f = nil
		g()
	}
}

func (h *hookedState) Flip(ctx context.Context, id store.WindowID, v store.Version, final bool, row []byte) error {
	once(&h.beforeFlip)
	return h.closerStore.Flip(ctx, id, v, final, row)
}

func (h *hookedState) SetDrop(ctx context.Context, id store.LaneID, owner store.Token, before int64) (store.Ctl, error) {
	once(&h.beforeDrop)
	return h.closerStore.SetDrop(ctx, id, owner, before)
}

func (h *hookedState) ExpireWindow(ctx context.Context, id store.WindowID, v store.Version, d time.Duration) (bool, error) {
	once(&h.beforeExpire)
	return h.closerStore.ExpireWindow(ctx, id, v, d)
}

// hookedKafka freezes after a look: a look ends with the id of the result topic.
type hookedKafka struct {
	*publish.Client
	afterLook func()
}

func (h *hookedKafka) Topic(ctx context.Context, name string) (source.Topic, error) {
	t, err := h.Client.Topic(ctx, name)
	if name == "orders.windows" {
		once(&h.afterLook)
	}
	return t, err
}

func (w *removable) closer() (*result.Closer, *hookedState, *hookedKafka) {
	state := &hookedState{closerStore: newCloserStore(w.store)}
	state.now = func() time.Time { return w.now }
	k := &hookedKafka{Client: publish.NewClient(w.cfg, w.cluster, "orders")}
	c, err := result.NewCloser(result.Config{
		Spec: w.spec, State: state, Kafka: k, By: "test", Build: "v0", Parallel: 1, ReadAhead: 1,
		Now: func() time.Time { return w.now },
	})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { c.Close() })
	return c, state, k
}

func (w *removable) round(c *result.Closer) result.RoundReport {
	w.t.Helper()
	r, err := c.Round(w.ctx)
	require.NoError(w.t, err)
	return r
}

// remove does what workflow Remove does, without --topics.
func (w *removable) remove() {
	w.t.Helper()
	r := remains{store: w.store, cluster: w.cluster, kafka: w.cfg}
	nothing := func(int64) {}
	require.NoError(w.t, r.Fence(w.ctx, "orders", "removed:x", []string{"orders"}, nothing))
	require.NoError(w.t, r.EndLedger(w.ctx, "orders", true, nothing))
	require.NoError(w.t, r.DeleteKeys(w.ctx, "orders", nothing))
	w.pass(10 * time.Minute) // grace
	require.NoError(w.t, r.Sweep(w.ctx, "orders", "removed:x", nothing))
	require.Empty(w.t, w.server.Keys())
}

type removableLane struct {
	w       *removable
	id      store.LaneID
	program *lane.Program
	state   *lane.State
	token   store.Token
}

// start begins the lane from nothing.
func (w *removable) start() *removableLane {
	w.t.Helper()
	program, err := lane.Compile(w.spec)
	require.NoError(w.t, err)
	l := &removableLane{w: w, program: program, id: store.LaneID{Pipeline: "orders", Topic: "orders", Partition: 0}}
	l.token = store.NextToken("")
	meta, found, err := w.store.Acquire(w.ctx, l.id, program.StateID, "", l.token)
	require.NoError(w.t, err)
	require.False(w.t, found)
	l.state = lane.NewState(program, l.id, w.topicID, 0, meta.Cursor)
	return l
}

// event appends an event to the source.
func (w *removable) event(key string, minutes float64, v int64) {
	value := fmt.Sprintf(`{"k":%q,"t":%d,"v":%d}`, key, firstDay+int64(minutes*float64(minuteMS)), v)
	w.log = append(w.log, source.Record{Timestamp: firstDay, Value: []byte(value), Offset: int64(len(w.log))})
}

// read folds the source's records below offset n.
func (l *removableLane) read(n int) {
	if at := l.state.Offset(); at < int64(n) {
		l.state.Fold(&source.Batch{Records: l.w.log[at:n], Next: int64(n)})
	}
}

type countSides struct{ late int }

func (s *countSides) Send(_ context.Context, r []source.SideRecord) error {
	s.late += len(r)
	return nil
}

// commit commits, following what was asked; idle says that it has read to the broker's end.
func (l *removableLane) commit(idle bool) {
	l.w.t.Helper()
	ctl, err := l.w.store.ReadCtl(l.w.ctx, l.id)
	require.NoError(l.w.t, err)
	at := int64(-1)
	if idle {
		at = l.state.Offset()
	}
	c := new(lane.Commit)
	l.state.Snapshot(c, lane.Control{SealBefore: ctl[0].SealBefore, DropBefore: ctl[0].DropBefore, IdleAt: at})
	require.NoError(l.w.t, c.PublishSides(l.w.ctx, new(countSides)))
	_, err = l.w.store.Apply(l.w.ctx, l.id, l.program.StateID, l.token, c.Calls)
	require.NoError(l.w.t, err)
	l.state.Acknowledged(c)
}

// shown is what Redis shows of the hourly window that starts at minutes: edition/revision final events.
func (w *removable) shown(minutes int64) string {
	w.t.Helper()
	p, found, err := w.store.Published(w.ctx, store.WindowID{Pipeline: "orders", Window: "hourly", Start: firstDay + minutes*minuteMS})
	require.NoError(w.t, err)
	if !found {
		return "nothing"
	}
	row := new(ledger.Row)
	require.NoError(w.t, row.UnmarshalJSON(p.Row))
	return describe(row)
}

func describe(row *ledger.Row) string {
	text := fmt.Sprintf("edition %d r%d: %d events", row.Edition, row.Revision, row.Events)
	if row.Final {
		text += " final"
	}
	return text
}

// ledgerRow is the latest row of the window, in the same words.
func (w *removable) ledgerRow(minutes int64) string {
	w.t.Helper()
	rows, err := ledger.Latest(w.ctx, w.cluster, "orders")
	require.NoError(w.t, err)
	for i := range rows {
		if rows[i].Start == firstDay+minutes*minuteMS {
			return describe(&rows[i])
		}
	}
	return "nothing"
}

// A closer that froze between the commit of a transaction and the flip of the view leaves the new incarnation's view alone.
func TestFlipOfARemovedIncarnation(t *testing.T) {
	w := newRemovable(t)
	l := w.start()
	w.event("x", 10, 1)
	w.event("x", 61, 1)
	w.event("x", 20, 5) // late but allowed
	w.event("x", 21, 5)
	l.read(2)
	l.commit(false)
	old, state, _ := w.closer()
	for i := 3; i <= 4; i++ {
		require.Len(t, w.round(old).Closed, 1)
		l.read(i)
		l.commit(false)
	}
	var next *result.Closer
	var n *removableLane
	state.beforeFlip = func() {
		w.remove()
		n = w.start() // the next incarnation reads the topic from its start
		n.read(2)
		n.commit(false)
		next, _, _ = w.closer()
		require.Len(t, w.round(next).Closed, 1)
		require.Equal(t, "edition 2 r1: 1 events", w.shown(0))
		require.Equal(t, "edition 2 r1: 1 events", w.ledgerRow(0))
	}
	_, _ = old.Round(w.ctx) // thaws inside
	t.Log("after the thaw Redis shows:", w.shown(0), "; the ledger says:", w.ledgerRow(0))
	w.event("x", 200, 1)
	n.read(len(w.log))
	for range 4 {
		n.commit(true)
		w.round(next)
		w.pass(2 * time.Minute)
	}
	t.Log("later Redis shows:", w.shown(0), "; the ledger says:", w.ledgerRow(0), "; time to live of the view:",
		w.redis.PTTL(w.ctx, fmt.Sprintf("mr:{orders/hourly/%d}:ledger", firstDay)).Val())
	require.Equal(t, w.ledgerRow(0), w.shown(0))
}

// A closer that froze between its look and its requests asks nothing of the new incarnation's lanes.
func TestDropOfARemovedIncarnation(t *testing.T) {
	w := newRemovable(t)
	l := w.start()
	w.event("x", 10, 1)
	w.event("x", 100, 1)
	w.event("x", 130, 1)
	w.event("x", 240, 1)
	l.read(4)
	l.commit(false)
	old, state, _ := w.closer()
	var n *removableLane
	state.beforeDrop = func() {
		w.remove()
		n = w.start()
		n.read(1)
		n.commit(false)
	}
	_, err := old.Round(w.ctx)
	t.Log("the thawed round:", err)
	require.NotNil(t, n)
	ctl, err := w.store.ReadCtl(w.ctx, n.id)
	require.NoError(t, err)
	t.Logf("asked of the new lane: drop before %d min", (ctl[0].DropBefore-firstDay)/minuteMS)
	next, _, _ := w.closer()
	for i := 2; i <= 4; i++ {
		n.read(i)
		n.commit(false)
		n.commit(true)
		r := w.round(next)
		for _, x := range r.Incidents {
			t.Log("incident:", x.Error)
		}
	}
	n.commit(true)
	w.round(next)
	for _, at := range []int64{0, 60, 120} {
		t.Logf("window at %d min: ledger says %s", at, w.ledgerRow(at))
	}
	require.Equal(t, "edition 2 r1: 1 events final", w.ledgerRow(0))
	require.Equal(t, "edition 2 r1: 1 events final", w.ledgerRow(60))
}

// A closer that froze after its look and takes a slot over after the removal publishes nothing of what it saw.
func TestFinalRowFromAnOldLook(t *testing.T) {
	w := newRemovable(t)
	l := w.start()
	w.event("x", 10, 1)
	w.event("x", 61, 1)
	w.event("x", 200, 1)
	w.event("x", 20, 5) // too late for the first incarnation, in time for the second
	w.event("x", 201, 1)
	l.read(5)
	l.commit(false)

	old, _, k := w.closer() // a worker's closer begins, looks, and is frozen
	var next *result.Closer
	var n *removableLane
	k.afterLook = func() {
		w.remove()
		var err error
		w.spec, err = spec.Parse("b.yaml", []byte(strings.Replace(removableSpec, "allowed_lateness: 30m", "allowed_lateness: 5h", 1)))
		require.NoError(t, err)
		n = w.start()
		n.read(2)
		n.commit(false)
		next, _, _ = w.closer()
		require.Len(t, w.round(next).Closed, 1)
		require.Equal(t, "edition 1 r1: 1 events", w.ledgerRow(0), "the first incarnation had published nothing yet")
	}
	_, err := old.Round(w.ctx)
	t.Log("the thawed round:", err, "; the ledger says:", w.ledgerRow(0))
	w.event("x", 600, 1)
	w.event("x", 601, 1)
	for i := 3; i <= 7; i++ {
		n.read(i)
		n.commit(false)
		for range 3 {
			r := w.round(next)
			for _, x := range append(append(r.Incidents, r.Failed...), r.Pending...) {
				t.Log("trouble:", x.Error)
			}
		}
	}
	require.Equal(t, "edition 1 r2: 2 events final", w.ledgerRow(0))
}

// commitBlind commits before the lane has looked at what is asked of it.
func (l *removableLane) commitBlind() {
	c := new(lane.Commit)
	l.state.Snapshot(c, lane.Control{SealBefore: store.NoTime, DropBefore: store.NoTime, IdleAt: -1})
	require.NoError(l.w.t, c.PublishSides(l.w.ctx, new(countSides)))
	_, err := l.w.store.Apply(l.w.ctx, l.id, l.program.StateID, l.token, c.Calls)
	require.NoError(l.w.t, err)
	l.state.Acknowledged(c)
}

// Nor does it raise floors by what it saw.
func TestFloorsFromAnOldLook(t *testing.T) {
	w := newRemovable(t)
	l := w.start()
	for i := range 20 {
		w.event("x", float64(60*i+10), 1)
	}
	l.read(19)
	l.commit(false)
	first, _, _ := w.closer()
	for range 4 {
		w.round(first)
		l.commit(false)
	}
	w.pass(2 * time.Minute)
	w.round(first) // floors
	old, _, k := w.closer()
	w.round(old)
	w.pass(2 * time.Minute)
	l.commit(false)
	w.event("x", 60*20+10, 1)
	w.event("x", 60*21+10, 1)
	w.event("x", 60*22+10, 1)
	l.read(22)
	l.commitBlind()
	w.round(old)
	l.read(23)
	l.commitBlind()
	var n *removableLane
	k.afterLook = func() {
		w.remove()
		n = w.start()
		n.read(1)
		n.commit(false)
	}
	rep, err := old.Round(w.ctx)
	t.Logf("the thawed round: %v %+v", err, rep)
	require.NotNil(t, n)
	low := int64(math.MinInt64)
	require.NoError(t, ledger.Read(w.ctx, w.cluster, "orders", func(rec ledger.Record) error {
		if rec.Floor != nil && rec.Floor.Edition == 2 {
			low = max(low, rec.Floor.End)
			t.Logf("slot %d: floor of edition 2 at %d min, lanes %+v", rec.Partition, (rec.Floor.End-firstDay)/minuteMS, rec.Floor.Lanes)
		}
		return nil
	}))
	next, _, _ := w.closer()
	for i := 2; i <= 23; i++ {
		n.read(i)
		n.commitBlind()
		r := w.round(next)
		for _, x := range r.Incidents {
			t.Log("incident:", x.Error)
		}
	}
	for i := range 22 {
		t.Logf("window at %d h: ledger says %s", i, w.ledgerRow(int64(60*i)))
	}
	require.Equal(t, int64(math.MinInt64), low)
}

// A closer that froze in its sweep leaves the new incarnation's view there.
func TestExpiryOfTheNewIncarnationsView(t *testing.T) {
	w := newRemovable(t)
	l := w.start()
	w.event("x", 10, 1)
	w.event("x", 61, 1)
	w.event("x", 130, 1)
	l.read(3)
	l.commit(false)
	old, state, _ := w.closer()
	w.round(old)
	require.Equal(t, "edition 1 r1: 1 events final", w.shown(0))
	w.pass(61 * time.Minute)
	l.commit(false)
	var next *result.Closer
	var n *removableLane
	state.beforeExpire = func() {
		w.remove()
		n = w.start()
		n.read(2)
		n.commit(false)
		next, _, _ = w.closer()
		w.round(next)
		require.Equal(t, "edition 2 r1: 1 events", w.shown(0))
	}
	_, err := old.Round(w.ctx)
	t.Log("the thawed round:", err)
	require.NotNil(t, n)
	for range 3 {
		n.commit(false)
		w.round(next)
	}
	require.Equal(t, w.ledgerRow(0), w.shown(0))
}
