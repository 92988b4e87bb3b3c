package shadow_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"millrace/internal/dev"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/result"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
	"millrace/pipeline/verify"
)

// TestShadowOverARealClient: plan, lanes and comparison over an embedded broker, with the late records where lanes put them.
func TestShadowOverARealClient(t *testing.T) {
	ctx := t.Context()
	broker, err := dev.StartKafka(ctx, dev.KafkaConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { broker.Close() })
	kafka := source.Config{Brokers: []string{broker.Addr()}}
	cluster, err := source.NewCluster(ctx, kafka)
	require.NoError(t, err)
	t.Cleanup(func() { cluster.Close() })
	for topic, n := range map[string]int32{"orders": 2, "orders.windows": 3, "orders.late": 2} {
		_, err := cluster.EnsureTopic(ctx, source.TopicSpec{Name: topic, Partitions: n})
		require.NoError(t, err)
	}
	_, err = cluster.EnsureTopic(ctx, source.TopicSpec{Name: ledger.Topic("orders"), Partitions: ledger.DefaultSlots, Compacted: true})
	require.NoError(t, err)
	producer, err := source.NewProducer(ctx, kafka)
	require.NoError(t, err)
	t.Cleanup(func() { producer.Close() })

	s, err := spec.Parse("test.yaml", []byte(summing("v", families)))
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(1, 1))
	var events []source.SideRecord
	arrived := map[int64]int64{} // events by hour
	for i := range int64(400) {
		at := base + i*2*minute
		if rng.IntN(5) == 0 {
			at -= rng.Int64N(min(3*hour, at-base+1))
		}
		arrived[(at-base)/hour]++
		events = append(events, source.SideRecord{
			Topic: "orders", Key: fmt.Append(nil, i), Value: fmt.Appendf(nil, `{"k":"k%d","t":%d,"v":1,"v2":1}`, i%5, at),
		})
	}
	require.NoError(t, producer.Send(ctx, events))

	st := store.New(storetest.Client(t, miniredis.RunT(t).Addr(), false))
	topic, err := cluster.Topic(ctx, "orders")
	require.NoError(t, err)
	closer, err := result.NewCloser(result.Config{Spec: s, State: st, Kafka: publish.NewClient(kafka, cluster, "orders"), By: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { closer.Close() })
	late := 0
	for _, p := range topic.Partitions {
		late += readLane(t, s, st, cluster, producer, topic.ID, p)
	}
	require.Positive(t, late)
	for range 4 {
		r, err := closer.Round(ctx)
		require.NoError(t, err)
		require.Empty(t, r.Failed)
	}

	for lateness, more := range map[plan.Lateness]bool{plan.AsRead: false, plan.None: true, plan.FromLate: true} {
		t.Run(string(lateness), func(t *testing.T) {
			p, err := shadow.Prepare(ctx, shadow.PrepareConfig{
				Ask: plan.Ask{
					Pipeline: "orders", ID: "r1", From: base, To: base + 24*hour, Families: []string{"hourly"}, Lateness: lateness,
					Live: s, Spec: s,
				},
				Cluster: cluster, Metas: st, Late: verify.LateTopic(cluster, "orders.late"),
			})
			require.NoError(t, err)
			require.Equal(t, plan.Whole, p.Scope)
			require.Greater(t, len(p.Windows), 8)
			require.Positive(t, p.Figures.Bytes)
			_, err = shadow.Begin(ctx, st, p, 0, time.Now())
			require.NoError(t, err)
			live := shadow.NewLive("orders", cluster, st, []source.TopicPartition{{Topic: "orders"}, {Topic: "orders", Partition: 1}}, time.Now)
			res, err := shadow.Run(ctx, shadow.RunConfig{
				Pipeline: "orders", ID: "r1", Store: st, Ledger: cluster, Base: &publish.Contents{Kafka: cluster, State: st}, Lagging: live.Lagging,
				Open: func(c source.ReaderConfig) source.Reader {
					c.Cluster = cluster
					return source.OpenReader(c)
				},
			})
			require.NoError(t, err)
			require.Zero(t, res.Refused-len(p.Refused))
			require.Equal(t, more, res.Differ > 0)
			m, err := shadow.NewReader(st, "orders", "r1").Manifest(ctx)
			require.NoError(t, err)
			for i, h := range m.Headers {
				if more {
					require.Equal(t, arrived[(p.Windows[i].Start-base)/hour], h.Row.Events, "everything that arrived")
				}
			}
			require.NoError(t, shadow.End(ctx, st, "orders", "r1", time.Now(), nil))
		})
	}
}

// readLane reads a partition to its end as a lane of the pipeline, in a few commits, and returns how many late records it sent.
func readLane(t *testing.T, s *spec.Spec, st *store.Store, cluster *source.Cluster, producer *source.Producer,
	topicID string, partition int32) (late int) {
	t.Helper()
	ctx := t.Context()
	program, err := fold.Compile(s)
	require.NoError(t, err)
	id := store.LaneID{Pipeline: "orders", Topic: "orders", Partition: partition}
	token := store.NextToken("")
	meta, _, err := st.Acquire(ctx, id, program.StateID, "", token)
	require.NoError(t, err)
	state := fold.NewState(program, id, topicID, 0, meta.Cursor)
	c := new(fold.Commit)
	commit := func() {
		state.Snapshot(c, fold.Control{SealBefore: store.NoTime, DropBefore: store.NoTime, IdleAt: store.NotIdle, Pages: true})
		late += len(c.Side)
		if len(c.Side) > 0 {
			require.NoError(t, producer.Send(ctx, c.Side))
		}
		_, err := st.Apply(ctx, id, program.StateID, token, c.Calls)
		require.NoError(t, err)
		state.Reached(c.Effective)
	}
	_, err = cluster.ReadCommitted(ctx, source.TopicPartition{Topic: "orders", Partition: partition}, 0, func(r source.Record) error {
		state.Fold(&source.Batch{Records: []source.Record{r}, Next: r.Offset + 1})
		if r.Offset%50 == 0 {
			commit()
		}
		return nil
	})
	require.NoError(t, err)
	commit()
	return late
}
