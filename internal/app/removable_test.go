package app

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
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
	w.server, w.store = startRedis(t)
	w.cfg, w.cluster = startKafka(t, source.TopicSpec{Name: "orders", Partitions: 1},
		source.TopicSpec{Name: "orders.windows", Partitions: 1},
		source.TopicSpec{Name: ledger.Topic("orders"), Partitions: ledger.DefaultSlots, Compacted: true})
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

func (h *hookedState) Flip(ctx context.Context, id store.WindowID, v store.Version, final bool, row []byte,
	view store.View, fields []store.ViewField, gone []string, rows *store.Rows) error {
	once(&h.beforeFlip)
	return h.closerStore.Flip(ctx, id, v, final, row, view, fields, gone, rows)
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
	program *fold.Program
	state   *fold.State
	token   store.Token
}

// start begins the lane from nothing.
func (w *removable) start() *removableLane {
	w.t.Helper()
	program, err := fold.Compile(w.spec)
	require.NoError(w.t, err)
	l := &removableLane{w: w, program: program, id: store.LaneID{Pipeline: "orders", Topic: "orders", Partition: 0}}
	l.token = store.NextToken("")
	meta, found, err := w.store.Acquire(w.ctx, l.id, program.StateID, "", l.token)
	require.NoError(w.t, err)
	require.False(w.t, found)
	l.state = fold.NewState(program, l.id, w.topicID, 0, meta.Cursor)
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
	c := new(fold.Commit)
	l.state.Snapshot(c, fold.Control{SealBefore: ctl[0].SealBefore, DropBefore: ctl[0].DropBefore, IdleAt: at, Pages: true})
	require.NoError(l.w.t, deliver.PublishSides(l.w.ctx, c, new(countSides)))
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
