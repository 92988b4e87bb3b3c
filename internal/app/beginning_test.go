package app

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/engine"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

const beginSpec = `
name: orders
source: {topics: [orders], format: json}
event:
  key: [k]
  time: {field: t, unit: ms}
  max_future: 1h
aggregates:
  n:    {func: count}
  sum:  {func: sum, field: v, type: int}
results: {kafka: {topic: orders.windows}}
late: {kafka: {topic: orders.late}}
dead_letter: {kafka: {topic: orders.dead}}
lane: {buckets: 4, commit_interval: 20ms}
windows: [{name: hourly, size: 1h}]
watermark: {out_of_orderness: 0s, idle_timeout: 1s}
allowed_lateness: 0s
`

const hourMS = 60 * minuteMS

// beginning is a pipeline over an embedded broker and Redis, with the real hot path and the servers as its workflow uses them.
type beginning struct {
	t       *testing.T
	ctx     context.Context
	spec    *spec.Spec
	redis   *miniredis.Miniredis
	store   *store.Store
	cfg     source.Config
	cluster *source.Cluster
	servers servers
	remains remains
	engine  *engine.Engine
	sent    [2][]sentEvent
}

type sentEvent struct {
	at int64 // ms
	v  int64

	stamp int64 // timestamp of the record, ms; 0 for at
}

func newBeginning(t *testing.T) *beginning {
	w := &beginning{t: t, ctx: t.Context()}
	w.spec = w.parse(beginSpec)
	w.redis, w.store = startRedis(t)
	w.cfg, w.cluster = startKafka(t, source.TopicSpec{Name: "orders", Partitions: 2})
	w.servers = servers{store: w.store, cluster: w.cluster}
	w.remains = remains{store: w.store, cluster: w.cluster, kafka: w.cfg}
	t.Cleanup(w.stop)
	return w
}

func (w *beginning) parse(text string) *spec.Spec {
	w.t.Helper()
	s, err := spec.Parse("orders.yaml", []byte(text))
	require.NoError(w.t, err)
	return s
}

// produce appends events to a partition; a record has its event's time as its timestamp unless it has one of its own.
func (w *beginning) produce(partition int32, events ...sentEvent) {
	w.t.Helper()
	conf, err := source.NewConfig(w.cfg)
	require.NoError(w.t, err)
	conf.Producer.Partitioner = sarama.NewManualPartitioner
	p, err := sarama.NewSyncProducer(w.cfg.Brokers, conf)
	require.NoError(w.t, err)
	defer p.Close()
	for _, e := range events {
		value := fmt.Sprintf(`{"k":"x","t":%d,"v":%d}`, e.at, e.v)
		_, offset, err := p.SendMessage(&sarama.ProducerMessage{
			Topic: "orders", Partition: partition, Timestamp: time.UnixMilli(cmp.Or(e.stamp, e.at)), Value: sarama.StringEncoder(value),
		})
		require.NoError(w.t, err)
		require.EqualValues(w.t, len(w.sent[partition]), offset)
		w.sent[partition] = append(w.sent[partition], e)
	}
}

// start does what the Pipeline's workflow does before its children start, and starts the hot path.
func (w *beginning) start(begin *contract.Begin) error {
	w.t.Helper()
	if err := w.servers.CheckStore(w.ctx, w.spec, begin); err != nil {
		return err
	}
	_, err := w.servers.EnsureTopics(w.ctx, w.spec)
	require.NoError(w.t, err)
	change := contract.DesiredChange{RequestID: fmt.Sprint(time.Now())}
	if begin != nil {
		begun, err := w.servers.LocateBegin(w.ctx, w.spec, *begin)
		if err != nil {
			return err
		}
		if begin.Discard && !begun.Already {
			w.dismantle()
		}
		if err := w.beginLanes(begin, begun); err != nil {
			return err
		}
		change.Begun = &begin.ID
	}
	_, err = desired{w.store}.Change(w.ctx, "orders", change)
	require.NoError(w.t, err)
	w.run()
	return nil
}

func (w *beginning) beginLanes(begin *contract.Begin, begun contract.Begun) error {
	return w.servers.BeginLanes(w.ctx, w.spec, contract.BeginLanesInput{ID: begin.ID, Discard: begin.Discard, Lanes: begun.Lanes})
}

// dismantle does what the workflow's steps do.
func (w *beginning) dismantle() {
	nothing := func(int64) {}
	_, _, exists, err := w.remains.Group(w.ctx, "orders")
	require.NoError(w.t, err)
	if exists {
		require.NoError(w.t, w.remains.DeleteGroup(w.ctx, "orders"))
	}
	require.NoError(w.t, w.remains.Fence(w.ctx, "orders", "removed:start:x", w.spec.Source.Topics, nothing))
	require.NoError(w.t, w.remains.EndLedger(w.ctx, "orders", true, nothing))
	require.NoError(w.t, w.remains.DeleteKeys(w.ctx, "orders", nothing))
}

func (w *beginning) run() {
	w.t.Helper()
	var err error
	w.engine, err = engine.Start(w.ctx, engine.Config{Spec: w.spec, Kafka: w.cfg, Store: w.store, Log: slog.New(slog.DiscardHandler)})
	require.NoError(w.t, err)
}

func (w *beginning) stop() {
	if w.engine == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	require.NoError(w.t, w.engine.Stop(ctx))
	require.NoError(w.t, w.cluster.RemoveMember(ctx, engine.Group("orders"), engine.InstanceID("orders", 0)))
	w.engine = nil
}

func (w *beginning) meta(partition int32) store.Meta {
	w.t.Helper()
	meta, _, err := w.store.ReadMeta(w.ctx, store.LaneID{Pipeline: "orders", Topic: "orders", Partition: partition})
	require.NoError(w.t, err)
	return meta
}

// readAll waits until everything that was sent is committed.
func (w *beginning) readAll() {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		return w.meta(0).Offset == int64(len(w.sent[0])) && w.meta(1).Offset == int64(len(w.sent[1]))
	}, 30*time.Second, 20*time.Millisecond, "%+v", w.engine.Status())
}

// published closes all windows, those that are open for a drain, and returns the sums of the latest edition by hour.
func (w *beginning) published() (sums map[int64]int64, final int) {
	w.t.Helper()
	c, err := result.NewCloser(result.Config{
		Spec: w.spec, State: newCloserStore(w.store), Kafka: publish.NewClient(w.cfg, w.cluster, "orders"), By: "test",
	})
	require.NoError(w.t, err)
	defer c.Close()
	require.Eventually(w.t, func() bool {
		_, err := c.Round(w.ctx)
		if err != nil {
			return false
		}
		receipt, err := c.Flush(w.ctx)
		return err == nil && receipt.Done
	}, 30*time.Second, 100*time.Millisecond)
	rows, err := ledger.Latest(w.ctx, w.cluster, "orders")
	require.NoError(w.t, err)
	for _, row := range rows {
		if row.Final {
			final++
		}
	}
	sums = make(map[int64]int64)
	results, err := ledger.Results(w.ctx, w.cluster, "orders.windows", "orders")
	require.NoError(w.t, err)
	for _, r := range results {
		var n, sum int64
		_, err := fmt.Sscanf(string(r.Values), `{"n":%d,"sum":%d}`, &n, &sum)
		require.NoError(w.t, err, string(r.Values))
		sums[(r.Start-firstDay)/hourMS] += sum
	}
	return sums, final
}

// oracle sums up what was sent from the offsets on, by hour.
func (w *beginning) oracle(from ...int) map[int64]int64 {
	sums := make(map[int64]int64)
	for p, first := range from {
		for _, e := range w.sent[p][first:] {
			sums[(e.at-firstDay)/hourMS] += e.v
		}
	}
	return sums
}

// hours makes an event of value v in each of some hours.
func hours(v int64, hours ...int64) (events []sentEvent) {
	for _, h := range hours {
		events = append(events, sentEvent{at: firstDay + h*hourMS + minuteMS, v: v})
	}
	return events
}

func offsets(first, second int64) contract.From {
	return contract.From{Offsets: []contract.LaneStart{{Topic: "orders", Offset: first}, {Topic: "orders", Partition: 1, Offset: second}}}
}
