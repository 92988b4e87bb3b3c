package retention

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/internal/dev"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

var (
	minutes = flag.Int("minutes", 300, "windows of a minute each that become final")
	keys    = flag.Int("keys", 20, "keys of each window")
	results = flag.Duration("results", 2*time.Second, "retention.results")
	history = flag.Int("history", 3000, "rows given up before the closer is taken over")
)

const (
	minute = int64(60_000)
	// base is a full day.
	base     = int64(1_699_920_000_000)
	lateness = 5 // minutes
	lanes    = 4
)

const text = `
name: %s
source: {topics: [%[1]s], format: json}
event: {key: [k], time: {field: t, unit: ms}}
aggregates: {n: {func: count}, sum: {func: sum, field: v, type: int}}
windows: [{name: minutely, size: 1m}]
watermark: {out_of_orderness: 0s}
allowed_lateness: %[2]dm
results: {kafka: {topic: %[1]s.windows}}
retention: {results: %[3]s, ledger: 2h}
`

// world is a pipeline without its engine.
type world struct {
	t       *testing.T
	ctx     context.Context
	spec    *spec.Spec
	redis   redis.UniversalClient
	store   *store.Store
	cluster *source.Cluster
	kafka   *counting
	lanes   []*feeder
	size    int // keys of a window
	addrs   []string
}

// brokers starts a Kafka unless the environment names one. real reports whether it does.
func brokers(t *testing.T) (addrs []string, real bool) {
	t.Helper()
	if text := os.Getenv("MILLRACE_KAFKA_BROKERS"); text != "" {
		return strings.Split(text, ","), true
	}
	broker, err := dev.StartKafka(t.Context(), dev.KafkaConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { broker.Close() })
	return []string{broker.Addr()}, false
}

// newWorld makes a pipeline of a name of its own. The settings are those of its ledger topic beyond compaction; more is appended
// to its spec.
func newWorld(t *testing.T, addrs []string, keep time.Duration, size int, settings map[string]string, more ...string) *world {
	t.Helper()
	name := fmt.Sprintf("kept-%08x", rand.Uint32())
	s, err := spec.Parse("test.yaml", fmt.Appendf(nil, text+strings.Join(more, ""), name, lateness, keep))
	require.NoError(t, err)
	cfg := source.Config{Brokers: addrs}
	cluster, err := source.NewCluster(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { cluster.Close() })
	w := &world{t: t, ctx: t.Context(), spec: s, redis: storetest.Client(t, storetest.StartRedis(t), false), size: size, addrs: addrs}
	w.store, w.cluster = store.New(w.redis), cluster
	topic, err := cluster.EnsureTopic(w.ctx, source.TopicSpec{Name: name, Partitions: lanes})
	require.NoError(t, err)
	for _, spec := range []source.TopicSpec{
		{Name: name + ".windows", Partitions: 4, Config: map[string]string{"retention.bytes": "268435456"}},
		{Name: ledger.Topic(name), Partitions: ledger.DefaultSlots, Compacted: true, Config: settings},
	} {
		_, err := cluster.EnsureTopic(w.ctx, spec)
		require.NoError(t, err)
	}
	w.kafka = &counting{Kafka: publish.NewClient(cfg, cluster, name)}
	for n := range lanes {
		program, err := fold.Compile(s) // one for each lane: it decodes for one at a time
		require.NoError(t, err)
		w.lanes = append(w.lanes, newFeeder(w, program, topic.ID, n))
	}
	return w
}

func (w *world) closer(state result.State, now func() time.Time, perRound int) *result.Closer {
	w.t.Helper()
	c, err := result.NewCloser(result.Config{
		Spec: w.spec, State: state, Kafka: w.kafka, By: "test", Now: now, MaxPerRound: perRound,
		Jobs: map[string]result.JobKind{result.JobRollup: result.Rollups{}},
	})
	require.NoError(w.t, err)
	w.t.Cleanup(func() { c.Close() })
	return c
}

// feeder is an owned lane that is fed from memory.
type feeder struct {
	w      *world
	n      int
	id     store.LaneID
	stID   string
	state  *fold.State
	token  store.Token
	batch  source.Batch
	commit fold.Commit
	drop   int64 // up to which the closer lets it drop, ms
}

func newFeeder(w *world, program *fold.Program, topicID string, n int) *feeder {
	l := &feeder{
		w: w, n: n, id: store.LaneID{Pipeline: w.spec.Name, Topic: w.spec.Name, Partition: int32(n)}, stID: program.StateID,
		drop: base,
	}
	l.token = store.NextToken("")
	meta, _, err := w.store.Acquire(w.ctx, l.id, l.stID, "", l.token)
	require.NoError(w.t, err)
	l.state = fold.NewState(program, l.id, topicID, 0, meta.Cursor)
	return l
}

// fold takes an event for every key of the lane in the given minute.
func (l *feeder) fold(at, size int) {
	l.batch.Records = l.batch.Records[:0]
	next := l.state.Offset()
	for k := l.n; k < size; k += lanes {
		t := base + int64(at)*minute + int64(k)%minute
		l.batch.Records = append(l.batch.Records, source.Record{
			Offset: next, Timestamp: t, Value: fmt.Appendf(nil, `{"k":"key-%05d","t":%d,"v":%d}`, k, t, k+at),
		})
		next++
	}
	l.batch.Next = next
	l.state.Fold(&l.batch)
}

// save commits what was folded and follows the closer.
func (l *feeder) save(ctx context.Context) error {
	ctl, err := l.w.store.ReadCtl(ctx, l.id)
	if err != nil {
		return err
	}
	l.drop = max(l.drop, ctl[0].DropBefore)
	l.state.Snapshot(&l.commit, fold.Control{SealBefore: ctl[0].SealBefore, DropBefore: ctl[0].DropBefore, IdleAt: store.NotIdle, Pages: true})
	for try := 1; ; try++ { // a lane sends a commit again whose outcome it does not know
		_, err := l.w.store.Apply(ctx, l.id, l.stID, l.token, l.commit.Calls)
		if err == nil {
			break
		}
		if try == 5 {
			return err
		}
	}
	l.state.Acknowledged(&l.commit)
	return nil
}

// feed feeds the minutes [from, to) in steps, and after the last the minutes that make them final: their watermark passes
// every deadline. It never is more than ahead minutes before what the closer has let drop; progress wakes it.
func (l *feeder) feed(ctx context.Context, from, to, step, ahead int, fed, progress chan struct{}) error {
	for at := from; at <= to; {
		for int64(at-ahead)*minute > l.drop-base {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-progress:
			}
			if err := l.save(ctx); err != nil {
				return err
			}
		}
		for range step {
			switch {
			case at < to:
				l.fold(at, l.w.size)
			case at == to:
				l.fold(to+lateness, lanes)
			}
			at++
		}
		if err := l.save(ctx); err != nil {
			return err
		}
		wake(fed)
	}
	return nil
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// counting counts the records that readers are given.
type counting struct {
	result.Kafka
	records atomic.Int64
}

func (k *counting) ReadCommitted(ctx context.Context, tp source.TopicPartition, from int64, fn func(source.Record) error) (int64, error) {
	return k.Kafka.ReadCommitted(ctx, tp, from, func(r source.Record) error {
		k.records.Add(1)
		return fn(r)
	})
}
