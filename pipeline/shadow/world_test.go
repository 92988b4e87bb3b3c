package shadow_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/result"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/shadow/found"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
	"millrace/pipeline/verify"
	"millrace/tests/oracle"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const topicID = "topic"

const (
	minute = int64(60_000)
	hour   = 60 * minute
	base   = int64(1_699_920_000_000) // a full day
)

const header = `
name: orders
source: {topics: [orders], format: json}
event:
  key: [k]
  time: {field: t, unit: ms}
  max_future: 10m
aggregates:
  n:    {func: count}
  sum:  {func: sum, field: %s, type: int}
  avg:  {func: avg, field: v}
  last: {func: last, field: v, type: int}
results: {kafka: {topic: orders.windows}}
late: {kafka: {topic: orders.late}}
lane: {buckets: 4, chunk_fields: 64, commit_interval: 10ms}
watermark: {out_of_orderness: 2m, idle_timeout: 5s}
`

// summing returns a spec whose sum is of the field.
func summing(field, windows string) string { return fmt.Sprintf(header, field) + windows }

const (
	hourly    = "windows: [{name: hourly, size: 1h}]\nallowed_lateness: 10m\n"
	families  = "windows: [{name: hourly, size: 1h}, {name: daily, size: 4h}]\nallowed_lateness: 5m\n"
	sliding   = "windows: [{name: slide, size: 1h, slide: 20m}]\nallowed_lateness: 0s\n"
	impatient = "windows: [{name: hourly, size: 1h}, {name: daily, size: 4h}]\nallowed_lateness: 0s\n"
)

// world is a pipeline without its engine: real lanes, store and closer over a Kafka in memory and an in-process Redis.
type world struct {
	t      *testing.T
	ctx    context.Context
	r      *rand.Rand
	text   string
	spec   *spec.Spec
	kafka  *publishtest.Kafka
	server *miniredis.Miniredis
	redis  redis.UniversalClient
	store  *store.Store
	lanes  []*liveLane
	closer *result.Closer
	clock  int64 // timestamps of records
	late   []verify.LateRecord
}

func newWorld(t *testing.T, seed uint64, text string, partitions int) *world {
	t.Helper()
	s, err := spec.Parse("test.yaml", []byte(text))
	require.NoError(t, err)
	server := miniredis.RunT(t)
	w := &world{
		t: t, ctx: t.Context(), r: rand.New(rand.NewPCG(seed, 3)), text: text, spec: s, server: server,
		kafka: publishtest.New(), clock: base,
	}
	w.redis = storetest.Client(t, server.Addr(), false)
	w.store = store.New(w.redis)
	w.kafka.AddTopic("orders", partitions)
	w.kafka.AddTopic("orders.windows", 3)
	w.kafka.SetTopicID("orders", topicID)
	w.kafka.AddTopic(ledger.Topic("orders"), ledger.DefaultSlots)
	for range partitions {
		w.addLane()
	}
	w.closer, err = result.NewCloser(result.Config{
		Spec: s, State: w.store, Kafka: w.kafka, By: "test", Parallel: 1, ReadAhead: 1, Now: func() time.Time { return time.UnixMilli(w.clock) },
	})
	require.NoError(t, err)
	t.Cleanup(func() { w.closer.Close() })
	return w
}

// liveLane is an owned lane of the pipeline, driven by hand.
type liveLane struct {
	w       *world
	id      store.LaneID
	tp      source.TopicPartition
	program *fold.Program
	state   *fold.State
	token   store.Token
	log     []source.Record
	seals   []store.Seal
}

func (w *world) addLane() {
	w.t.Helper()
	program, err := fold.Compile(w.spec)
	require.NoError(w.t, err)
	n := int32(len(w.lanes))
	l := &liveLane{
		w: w, program: program, id: store.LaneID{Pipeline: "orders", Topic: "orders", Partition: n},
		tp: source.TopicPartition{Topic: "orders", Partition: n}, token: store.NextToken(""),
	}
	meta, _, err := w.store.Acquire(w.ctx, l.id, program.StateID, "", l.token)
	require.NoError(w.t, err)
	l.state = fold.NewState(program, l.id, topicID, 0, meta.Cursor)
	ctl, err := w.store.ReadCtl(w.ctx, l.id)
	require.NoError(w.t, err)
	l.state.BindFinal(ctl[0].DropBefore)
	w.lanes = append(w.lanes, l)
}

// event produces and folds one record.
func (l *liveLane) event(key string, at, v, v2 int64) {
	l.record(fmt.Sprintf(`{"k":%q,"t":%d,"v":%d,"v2":%d}`, key, at, v, v2))
}

func (l *liveLane) record(value string) {
	r := source.Record{Timestamp: l.w.clock, Value: []byte(value)}
	r.Offset = l.w.kafka.Append(l.tp, r)
	l.log = append(l.log, r)
	l.state.Fold(&source.Batch{Records: []source.Record{r}, Next: r.Offset + 1})
}

// commit makes everything folded durable; an idle lane follows the closer's requests.
func (l *liveLane) commit(idle bool) {
	l.w.t.Helper()
	ctl, err := l.w.store.ReadCtl(l.w.ctx, l.id)
	require.NoError(l.w.t, err)
	at := int64(store.NotIdle)
	if idle {
		at = l.state.Offset()
	}
	c := new(fold.Commit)
	l.state.Snapshot(c, fold.Control{SealBefore: ctl[0].SealBefore, DropBefore: ctl[0].DropBefore, IdleAt: at, Pages: true})
	for _, side := range c.Side {
		l.w.late = append(l.w.late, lateOf(l.w.t, side))
	}
	for _, s := range c.Replay.Seals {
		if s.Before != store.NoTime && !slices.Contains(l.seals, s) {
			l.seals = append(l.seals, s)
		}
	}
	_, err = l.w.store.Apply(l.w.ctx, l.id, l.program.StateID, l.token, c.Calls)
	require.NoError(l.w.t, err)
	l.state.Reached(c.Effective)
}

func lateOf(t *testing.T, r source.SideRecord) (out verify.LateRecord) {
	for _, h := range r.Headers {
		switch value := string(h.Value); h.Key {
		case "mr-reason":
			out.Reason = value
		case "mr-windows":
			out.Windows = value
		case "mr-topic":
			out.Topic = value
		case "mr-partition":
			_, err := fmt.Sscan(value, &out.Partition)
			require.NoError(t, err)
		case "mr-offset":
			_, err := fmt.Sscan(value, &out.Offset)
			require.NoError(t, err)
		}
	}
	return out
}

// round lets the closer close what is due.
func (w *world) round() {
	w.t.Helper()
	r, err := w.closer.Round(w.ctx)
	require.NoError(w.t, err)
	require.Empty(w.t, r.Failed)
}

// live runs the pipeline for a number of steps: events of a few keys with some disorder, late ones, filtered and broken
// ones, partitions that fall silent for hours, one that is added later, commits and rounds in between.
func (w *world) live(steps int) {
	w.t.Helper()
	busy, quiet := 0, 0
	for i := range steps {
		w.clock += w.r.Int64N(3 * minute)
		if i%50 == 0 {
			busy, quiet = w.r.IntN(len(w.lanes)), w.r.IntN(len(w.lanes))
		}
		n := w.r.IntN(len(w.lanes))
		if w.r.IntN(3) == 0 {
			n = busy
		}
		if n == quiet && i%100 > 20 {
			n = (n + 1) % len(w.lanes)
		}
		l := w.lanes[n]
		at := w.clock - w.r.Int64N(4*minute)
		switch w.r.IntN(20) {
		case 0:
			at = w.clock - w.r.Int64N(3*hour) // most of them late
		case 1:
			at = w.clock + w.r.Int64N(10*minute)
		}
		v := w.r.Int64N(100)
		v2 := v
		if at >= base+6*hour && at < base+9*hour && w.r.IntN(4) == 0 {
			v2 = v + 1
		}
		if w.r.IntN(40) == 0 {
			l.record(`{"k":1`)
		} else {
			l.event(fmt.Sprint("k", w.r.IntN(12)), at, v, v2)
		}
		if w.r.IntN(6) == 0 {
			l.commit(false)
		}
		if w.r.IntN(12) == 0 {
			for k, l := range w.lanes {
				l.commit(k == quiet)
			}
			w.round()
		}
		if i == steps/3 {
			w.kafka.AddTopic("orders", len(w.lanes)+1)
			w.addLane()
		}
	}
	w.settle()
}

// settle commits everything and lets idle lanes follow until no more windows close.
func (w *world) settle() {
	w.t.Helper()
	for range 12 {
		for _, l := range w.lanes {
			l.commit(true)
		}
		w.round()
	}
}

func (w *world) ask(lateness plan.Lateness, text string) plan.Ask {
	w.t.Helper()
	s, err := spec.Parse("counts.yaml", []byte(text))
	require.NoError(w.t, err)
	return plan.Ask{
		Pipeline: "orders", ID: "r1", From: base, To: w.clock + 4*hour, Lateness: lateness, Live: w.spec, Spec: s, Now: time.UnixMilli(w.clock),
	}
}

func (w *world) prepare(ask plan.Ask) (*plan.Plan, error) {
	return shadow.Prepare(w.ctx, shadow.PrepareConfig{Ask: ask, Cluster: w.kafka, Metas: w.store, Late: w.lateTopic})
}

func (w *world) lateTopic(_ context.Context, fn func(verify.LateRecord) error) error {
	for _, r := range w.late {
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

// hurried is a rate in records a second that bounds nothing: without any a shadow rests most of the time.
const hurried = 1 << 30

// begin plans and begins a shadow.
func (w *world) begin(ask plan.Ask) *plan.Plan {
	w.t.Helper()
	p, err := w.prepare(ask)
	require.NoError(w.t, err)
	p, err = shadow.Begin(w.ctx, w.store, p, hurried, time.UnixMilli(w.clock))
	require.NoError(w.t, err)
	return p
}

func (w *world) runConfig() shadow.RunConfig {
	return shadow.RunConfig{
		Pipeline: "orders", ID: "r1", Store: w.store, Ledger: w.kafka, Base: w.contents(), Open: w.open, By: "test",
	}
}

func (w *world) open(cfg source.ReaderConfig) source.Reader { return w.kafka.OpenReader(cfg, nil) }

func (w *world) contents() *publish.Contents {
	return &publish.Contents{Kafka: w.kafka, State: w.store}
}

// cell is one key of one window.
type cell struct {
	window string
	start  int64
	key    string
}

// counted is what the oracle counts with a spec. lateness none counts everything that arrived.
func (w *world) counted(text string, lateness plan.Lateness) map[cell]string {
	w.t.Helper()
	s, err := oracle.ReadSpec([]byte(text))
	require.NoError(w.t, err)
	if lateness != plan.AsRead {
		s.Lateness = 90 * 24 * time.Hour
	}
	var lanes []oracle.Lane
	for i, l := range w.lanes {
		in := oracle.Lane{Topic: "orders", Partition: int32(i)}
		for _, r := range l.log {
			in.Records = append(in.Records, oracle.Record{Offset: r.Offset, Timestamp: r.Timestamp, Value: r.Value})
		}
		if lateness == plan.AsRead {
			slices.SortFunc(l.seals, func(a, b store.Seal) int { return int(a.Offset - b.Offset) })
			for _, s := range l.seals {
				in.Seals = append(in.Seals, oracle.Seal(s))
			}
		}
		lanes = append(lanes, in)
	}
	res, err := oracle.Run(s, lanes)
	require.NoError(w.t, err)
	var b bytes.Buffer
	require.NoError(w.t, res.WriteJSON(&b))
	out := map[cell]string{}
	dec := json.NewDecoder(&b)
	for dec.More() {
		var row struct {
			Window      string
			Start       time.Time
			Key, Values json.RawMessage
		}
		require.NoError(w.t, dec.Decode(&row))
		out[cell{row.Window, row.Start.UnixMilli(), string(row.Key)}] = string(row.Values)
	}
	return out
}

// found is what the shadow says: the content of each window of its plan, by the base and the difference.
func (w *world) found(p *plan.Plan) (content map[cell]string, differ map[cell]diff.Row) {
	w.t.Helper()
	reader := shadow.NewReader(w.store, "orders", "r1")
	m, err := reader.Manifest(w.ctx)
	require.NoError(w.t, err)
	require.NotEmpty(w.t, m.Checksum)
	rows, err := ledger.Latest(w.ctx, w.kafka, "orders")
	require.NoError(w.t, err)
	byID := map[ledger.WindowID]*ledger.Row{}
	for i := range rows {
		byID[rows[i].ID()] = &rows[i]
	}
	content, differ = map[cell]string{}, map[cell]diff.Row{}
	for i, h := range m.Headers {
		require.NotNil(w.t, h)
		require.Empty(w.t, h.Problem)
		id := p.Windows[i].ID()
		require.Equal(w.t, id, h.ID())
		delta, err := reader.Rows(w.ctx, h)
		require.NoError(w.t, err)
		if h.Equal {
			require.Empty(w.t, delta)
		}
		for _, r := range delta {
			differ[cell{id.Window, id.Start, string(r.Key)}] = r
		}
		base := new(publish.Base)
		if row := byID[id]; row != nil {
			base.Rows, err = w.contents().Read(w.ctx, row)
			require.NoError(w.t, err)
		}
		var sum ledger.Checksum
		patch := publish.NewPatch(h.Row.Events, found.Changes(delta)).On(base)
		_, _, err = patch.Whole(w.ctx, func(rows *ledger.Rows) error {
			for _, c := range rows.Content {
				if sum.AddContent(c); !c.Deleted {
					content[cell{id.Window, id.Start, string(c.Key)}] = string(c.Values)
				}
			}
			return nil
		})
		require.NoError(w.t, err)
		require.Equal(w.t, []any{h.Row.Keys, h.Row.Checksum}, []any{sum.Rows(), sum.String()})
	}
	return content, differ
}

// planned reports which windows a plan counts.
func planned(p *plan.Plan) map[ledger.WindowID]bool {
	out := map[ledger.WindowID]bool{}
	for i := range p.Windows {
		out[p.Windows[i].ID()] = true
	}
	return out
}

// within leaves the cells of windows that the plan counts.
func within(p *plan.Plan, all map[cell]string) map[cell]string {
	windows, out := planned(p), map[cell]string{}
	for c, v := range all {
		if windows[ledger.WindowID{Window: c.window, Start: c.start}] {
			out[c] = v
		}
	}
	return out
}

// keysOf lists the keys that Redis has of the shadow.
func (w *world) keysOf() []string {
	w.t.Helper()
	keys, err := w.redis.Keys(w.ctx, "mr:{orders@r1*").Result()
	require.NoError(w.t, err)
	return keys
}

func isRefused(t *testing.T, err error) *plan.RefusedError {
	t.Helper()
	var refused *plan.RefusedError
	require.True(t, errors.As(err, &refused), "%v", err)
	return refused
}
