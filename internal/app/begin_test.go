package app

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/internal/dev"
	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/verify"
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
	w.redis = miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: w.redis.Addr()})
	t.Cleanup(func() { client.Close() })
	w.store = store.New(client)
	broker, err := dev.StartKafka(w.ctx, dev.KafkaConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { broker.Close() })
	w.cfg = source.Config{Brokers: []string{broker.Addr()}}
	w.cluster, err = source.NewCluster(w.ctx, w.cfg)
	require.NoError(t, err)
	t.Cleanup(func() { w.cluster.Close() })
	_, err = w.cluster.EnsureTopic(w.ctx, source.TopicSpec{Name: "orders", Partitions: 2})
	require.NoError(t, err)
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
	c, err := result.NewCloser(result.Config{Spec: w.spec, State: newCloserStore(w.store), Kafka: publish.NewClient(w.cfg, w.cluster, "orders"), By: "test"})
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

func TestBeginWhereToldAndCountFromThere(t *testing.T) {
	for _, c := range []struct {
		from        string
		first, rest int // where the lanes begin
	}{
		{"earliest", 0, 0},
		{"latest", 4, 3},
		{"orders/0=1,orders/1=2", 1, 2},
		{time.UnixMilli(firstDay + 2*hourMS).UTC().Format(time.RFC3339), 2, 2},
		{"2090-01-01T00:00:00Z", 4, 3},
	} {
		t.Run(c.from, func(t *testing.T) {
			w := newBeginning(t)
			w.produce(0, hours(1, 0, 1, 2, 3)...)
			w.produce(1, hours(10, 0, 1, 2)...)
			from, err := contract.ParseFrom(c.from)
			require.NoError(t, err)
			require.NoError(t, w.start(&contract.Begin{ID: "a", From: *from}))
			w.produce(0, hours(100, 4)...)
			w.produce(1, hours(100, 4)...)
			w.readAll()
			sums, _ := w.published()
			require.Equal(t, w.oracle(c.first, c.rest), sums)
			require.EqualValues(t, c.first, w.meta(0).Begun)
			require.EqualValues(t, 5-c.first, w.meta(0).Counters.Read)
		})
	}
}

func TestStartRefusesBeforeAnythingHappens(t *testing.T) {
	w := newBeginning(t)
	w.produce(0, hours(1, 0, 1, 2)...)
	w.produce(1, hours(10, 0, 1)...)
	require.NoError(t, w.start(nil))
	w.readAll()
	w.stop()
	before := w.redis.Dump()

	own := w.spec
	w.spec = w.parse(strings.Replace(beginSpec, "func: sum", "func: max", 1))
	err := w.servers.CheckStore(w.ctx, w.spec, nil)
	require.ErrorIs(t, err, activities.ErrPermanent)
	require.ErrorContains(t, err, "2 of 2 lanes of pipeline orders hold the state of another spec")
	require.ErrorContains(t, err, "start it under another name, or give up what is there: `millrace start FILE --discard-state --from")
	w.spec = own
	latest := contract.From{Place: contract.FromLatest}
	err = w.servers.CheckStore(w.ctx, w.spec, &contract.Begin{ID: "b", From: latest})
	require.ErrorContains(t, err, "2 of 2 lanes of pipeline orders have a state and go on where they stopped, so they cannot begin from latest")
	require.NoError(t, w.servers.CheckStore(w.ctx, w.spec, &contract.Begin{ID: "b", From: latest, Discard: true}))

	for _, wrong := range []struct {
		from contract.From
		says string
	}{
		{offsets(0, 3), "from is offset 3 for orders/1, whose log holds offsets 0 to 2"},
		{contract.From{Offsets: []contract.LaneStart{{Topic: "orders"}}}, "from names no offset for orders/1; name every partition"},
		{contract.From{Offsets: []contract.LaneStart{{Topic: "order"}}}, "from names order/0, which the pipeline does not read"},
	} {
		_, err = w.servers.LocateBegin(w.ctx, w.spec, contract.Begin{ID: "b", From: wrong.from, Discard: true})
		require.ErrorIs(t, err, activities.ErrPermanent)
		require.ErrorContains(t, err, wrong.says)
	}
	require.Equal(t, before, w.redis.Dump())

	// What one lane has cannot be read: it is that lane which asks, and the others go on.
	for _, field := range [][]string{{"format", "9"}, {"format", "1", "offset", "many"}} {
		const meta = "mr:{orders/orders/1}:meta"
		offset := w.redis.HGet(meta, "offset")
		w.redis.HSet(meta, field...)
		require.NoError(t, w.servers.CheckStore(w.ctx, w.spec, nil), field)
		err = w.servers.CheckStore(w.ctx, w.spec, &contract.Begin{ID: "b", From: latest})
		require.ErrorContains(t, err, "2 of 2 lanes of pipeline orders have a state", field)
		states, err := lanes{w.store, w.cluster}.States(w.ctx, w.spec)
		require.NoError(t, err, field)
		require.Equal(t, []any{true, w.redis.HGet(meta, "owner"), int64(0)}, []any{states[1].Found, states[1].Owner, states[1].Generation}, field)
		w.redis.HSet(meta, "format", "1", "offset", offset)
	}

	// The state is lost: the lanes would ask, and a place to begin is no answer to that.
	w.redis.FlushAll()
	require.NoError(t, w.servers.CheckStore(w.ctx, w.spec, nil), "the lanes ask")
	err = w.servers.CheckStore(w.ctx, w.spec, &contract.Begin{ID: "b", From: latest})
	require.ErrorContains(t, err, "the state was lost. Start it without a place to begin and decide what the lanes then ask, or")
}

func TestDiscardWithAnotherSpecBeginsAnEdition(t *testing.T) {
	w := newBeginning(t)
	w.produce(0, hours(1, 0, 1, 2, 3)...)
	w.produce(1, hours(10, 0, 1, 2, 3)...)
	require.NoError(t, w.start(nil))
	w.readAll()
	sums, _ := w.published()
	require.Equal(t, w.oracle(0, 0), sums)
	w.stop()

	w.spec = w.parse(strings.Replace(beginSpec, "sum:  {func: sum, field: v, type: int}", "sum:  {func: max, field: v, type: int}", 1))
	begin := &contract.Begin{ID: "b", From: offsets(2, 3), Discard: true}
	require.NoError(t, w.start(begin))
	w.readAll()
	sums, _ = w.published()
	require.Equal(t, map[int64]int64{2: 1, 3: 10}, sums, "the greatest value of each hour, from the offsets on")
	w.stop()

	// Every row of the first edition still stands in the topic.
	editions := make(map[int]int)
	require.NoError(t, ledger.ReadResults(w.ctx, w.cluster, "orders.windows", "orders", func(r ledger.ResultRow) error {
		editions[max(r.Edition, ledger.Edition)]++
		return nil
	}))
	require.Equal(t, map[int]int{1: 4, 2: 2}, editions)

	// The same start again, as after a reset of its workflow, changes nothing.
	begun, err := w.servers.LocateBegin(w.ctx, w.spec, *begin)
	require.NoError(t, err)
	require.True(t, begun.Already)
	require.NoError(t, w.start(nil), "and it goes on where it stopped")
	w.produce(0, hours(7, 3)...)
	w.readAll()
	require.EqualValues(t, 3, w.meta(0).Counters.Read)
}

// A start that is cut off between its steps leaves no lane that begins elsewhere: it asks, and comes back to where it was to begin.
func TestABeginThatIsCutOff(t *testing.T) {
	w := newBeginning(t)
	w.produce(0, hours(1, 0, 1, 2, 3)...)
	w.produce(1, hours(10, 0, 1, 2, 3)...)
	begin := &contract.Begin{ID: "a", From: offsets(2, 3)}
	_, err := w.servers.EnsureTopics(w.ctx, w.spec)
	require.NoError(t, err)
	begun, err := w.servers.LocateBegin(w.ctx, w.spec, *begin)
	require.NoError(t, err)
	w.redis.SetError("the worker dies")
	require.Error(t, w.beginLanes(begin, begun), "the group has its offsets, the lanes have no state")
	w.redis.SetError("")

	require.NoError(t, w.start(nil), "somebody starts it without a place")
	var incident *lane.Incident
	require.Eventually(t, func() bool {
		parked := 0
		for _, l := range w.engine.Status().Lanes {
			if l.State == lane.StateParked {
				parked, incident = parked+1, l.Incident
			}
		}
		return parked == 2
	}, 30*time.Second, 20*time.Millisecond)
	require.Equal(t, lane.IncidentStateLost, incident.Kind)
	for _, l := range w.engine.Status().Lanes {
		require.Equal(t, lane.ChoiceRebuild, l.Incident.Choices[0].Name)
		require.True(t, l.Incident.Choices[0].Exact)
		name := store.LaneID{Pipeline: "orders", Topic: l.Topic, Partition: l.Partition}.String()
		require.NoError(t, w.engine.Decide(w.ctx, name, l.Incident.ID, lane.ChoiceRebuild, "test"))
	}
	w.readAll()
	sums, _ := w.published()
	require.Equal(t, w.oracle(2, 3), sums)
	require.Equal(t, []int64{2, 3}, []int64{w.meta(0).Begun, w.meta(1).Begun})
	v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.store, Kafka: w.cluster, Input: true})
	require.NoError(t, err)
	for _, p := range v.Problems {
		require.NotEqual(t, verify.ProblemInput, p.Kind, p.Detail)
	}
	require.EqualValues(t, 2, v.Lanes[0].Records)
}

// One record from 2099, stamped with its own time, moves the watermark: what comes after it is late. A new incarnation from behind
// it counts everything again, exactly.
func TestTheWayBackAfterARecordFromTheFuture(t *testing.T) {
	w := newBeginning(t)
	w.produce(0, sentEvent{at: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), v: 1})
	w.produce(0, hours(1, 0, 1, 2, 3, 4)...)
	w.produce(1, hours(10, 0, 1, 2, 3, 5)...)
	require.NoError(t, w.start(nil))
	w.readAll()
	require.EqualValues(t, 5, w.meta(0).Counters.Late, "all that comes after it in its lane is late")
	require.Zero(t, w.meta(0).Counters.Ahead, "max_future does not help: the record itself is from 2099")
	sums, final := w.published()
	require.NotEqual(t, w.oracle(1, 0), sums)
	require.GreaterOrEqual(t, final, 4, "windows are final without the events of the first lane")
	w.stop()

	from := map[source.TopicPartition]int64{{Topic: "orders"}: 1, {Topic: "orders", Partition: 1}: 0}
	survey, err := verify.FindOvertaken(w.ctx, w.cluster, w.spec, from, 1000)
	require.NoError(t, err)
	require.EqualValues(t, 10, survey.Records)
	require.GreaterOrEqual(t, len(survey.Windows), 4)
	for h, x := range survey.Windows[:4] {
		require.Equal(t, firstDay+int64(h)*hourMS, x.Start)
		require.EqualValues(t, 1, x.Missing, "%+v", x)
		require.EqualValues(t, 1, x.Events)
	}
	survey, err = verify.FindOvertaken(w.ctx, w.cluster, w.spec, from, 3)
	require.NoError(t, err)
	require.True(t, survey.Cut)

	require.NoError(t, w.start(&contract.Begin{ID: "reset", From: offsets(1, 0), Discard: true}))
	w.readAll()
	require.Zero(t, w.meta(0).Counters.Late)
	sums, _ = w.published()
	survey, err = verify.FindOvertaken(w.ctx, w.cluster, w.spec, from, 1000)
	require.NoError(t, err)
	require.Empty(t, survey.Windows)
	require.Equal(t, w.oracle(1, 0), sums, "events of windows that were falsely final count again")
}

// An event that is refused because it is too far in the past is none that a final window lacks.
func TestWhatIsTooFarInThePastIsNotMissing(t *testing.T) {
	w := newBeginning(t)
	w.spec = w.parse(strings.Replace(beginSpec, "max_future: 1h", "max_future: 1h\n  max_past: 2h", 1))
	w.produce(0, hours(1, 0, 1, 2, 3, 4)...)
	w.produce(0, sentEvent{at: firstDay, v: 1, stamp: firstDay + 4*hourMS})
	w.produce(1, hours(10, 0, 1, 2, 3, 5)...)
	require.NoError(t, w.start(nil))
	w.readAll()
	require.EqualValues(t, 1, w.meta(0).Counters.Past)
	_, final := w.published()
	require.Positive(t, final)
	from := map[source.TopicPartition]int64{{Topic: "orders"}: 0, {Topic: "orders", Partition: 1}: 0}
	survey, err := verify.FindOvertaken(w.ctx, w.cluster, w.spec, from, 1000)
	require.NoError(t, err)
	require.EqualValues(t, 11, survey.Records)
	require.Empty(t, survey.Windows)
}

// The way back can also begin before the record from 2099, with a spec that bounds what one event may move: it is refused then,
// and nothing else is lost.
func TestTheWayBackWithABoundOfTheWatermarksJumps(t *testing.T) {
	bounded := strings.Replace(beginSpec, "max_future: 1h", "max_future: 1h\n  max_jump: 6h", 1)
	for _, from := range []string{contract.FromEarliest, "orders/0=0,orders/1=0"} {
		t.Run(from, func(t *testing.T) {
			w := newBeginning(t)
			w.produce(0, hours(1, 0)...)
			w.produce(0, sentEvent{at: time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), v: 1})
			w.produce(0, hours(1, 1, 2, 3, 4)...)
			w.produce(1, hours(10, 0, 1, 2, 3, 5)...)
			require.NoError(t, w.start(nil))
			w.readAll()
			require.EqualValues(t, 4, w.meta(0).Counters.Late, "all that comes after it in its lane is late")
			sums, _ := w.published()
			want := w.oracle(0, 0)
			delete(want, (w.sent[0][1].at-firstDay)/hourMS)
			require.NotEqual(t, want, sums)
			w.stop()

			w.spec = w.parse(bounded)
			require.ErrorIs(t, w.start(nil), activities.ErrPermanent, "it is another spec: what is there was decided without a bound")
			begin, err := contract.ParseFrom(from)
			require.NoError(t, err)
			require.NoError(t, w.start(&contract.Begin{ID: "reset", From: *begin, Discard: true}))
			w.readAll()
			counted := w.meta(0).Counters
			require.Zero(t, counted.Late)
			require.EqualValues(t, 1, counted.Jumped)
			require.EqualValues(t, 5, counted.Folded)
			sums, _ = w.published()
			require.Equal(t, want, sums, "all but the record from 2099")
		})
	}
}
