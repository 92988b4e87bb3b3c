package engine

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// patience bounds every wait; nothing should take a tenth of it.
const patience = 30 * time.Second

// replica starts a real engine.
func replica(t *testing.T, n int, kafka source.Config, redis string, change func(*Config)) *Engine {
	t.Helper()
	rc := store.DefaultConfig()
	rc.Addrs = []string{redis}
	client, err := store.NewClient(rc)
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	cfg := Config{Spec: mustSpec(t), Replica: n, Kafka: kafka, Store: store.New(client), Log: slog.New(slog.DiscardHandler)}
	change(&cfg)
	e, err := Start(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, e.Stop(ctx))
	})
	return e
}

func running(e *Engine) map[int32]lane.Status {
	out := map[int32]lane.Status{}
	for _, l := range e.Status().Lanes {
		if l.State == lane.StateRunning && l.Commits > 0 {
			out[l.Partition] = l
		}
	}
	return out
}

// Lanes that a rebalance leaves where they are notice nothing of it: they keep owner, memory and reader, and commit on.
func TestRetainedLanesGoOnWhileOthersMove(t *testing.T) {
	const lanes = 8
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(time.Second))
	require.NoError(t, err)
	t.Cleanup(fake.Close)
	kafka := source.Config{
		Brokers: fake.ListenAddrs(), SessionTimeout: 6 * time.Second, HeartbeatInterval: 100 * time.Millisecond, RebalanceTimeout: 20 * time.Second,
	}
	cluster, err := source.NewCluster(t.Context(), kafka)
	require.NoError(t, err)
	t.Cleanup(func() { cluster.Close() })
	_, err = cluster.EnsureTopic(t.Context(), source.TopicSpec{Name: "orders", Partitions: lanes, Replication: 1})
	require.NoError(t, err)
	feed(t, kafka)
	redis := miniredis.RunT(t).Addr()

	var seen hooks
	a := replica(t, 0, kafka, redis, seen.into)
	require.Eventually(t, func() bool { return len(running(a)) == lanes }, patience, 20*time.Millisecond)
	before := running(a)
	b := replica(t, 1, kafka, redis, func(*Config) {})
	require.Eventually(t, func() bool {
		one, two := running(a), running(b)
		return len(one) == lanes/2 && len(two) == lanes/2
	}, patience, 20*time.Millisecond)
	retained := goOn(t, a, before)

	require.NoError(t, b.Stop(t.Context()))
	require.NoError(t, cluster.RemoveMember(t.Context(), Group("orders"), InstanceID("orders", 1)))
	require.Eventually(t, func() bool { return len(running(a)) == lanes }, patience, 20*time.Millisecond)
	for p, now := range goOn(t, a, before) {
		if _, ok := retained[p]; ok {
			require.Equal(t, before[p].Owner, now.Owner)
		}
	}
	seen.mu.Lock()
	defer seen.mu.Unlock()
	moved := map[report.LaneRef]int{}
	for _, batch := range seen.announced {
		for _, ref := range batch.Lanes {
			moved[ref]++
		}
	}
	for p := range int32(lanes) {
		want := 2 // it went and came back
		if _, ok := retained[p]; ok {
			want = 1
		}
		require.Equal(t, want, moved[report.LaneRef{Topic: "orders", Partition: p}], "acquisitions of lane %d", p)
	}
}

// goOn waits until every lane that has kept its owner since before has committed again, and returns those.
func goOn(t *testing.T, e *Engine, before map[int32]lane.Status) map[int32]lane.Status {
	t.Helper()
	kept := map[int32]lane.Status{}
	for p, now := range running(e) {
		if was, ok := before[p]; ok && was.Owner == now.Owner {
			require.GreaterOrEqual(t, now.Commits, was.Commits, "its counts go on")
			kept[p] = now
		}
	}
	require.Len(t, kept, len(before)/2)
	require.Eventually(t, func() bool {
		for p, now := range running(e) {
			if was, ok := kept[p]; ok && now.Commits <= was.Commits {
				return false
			}
		}
		return true
	}, patience, 20*time.Millisecond)
	return kept
}

// feed produces until the test ends.
func feed(t *testing.T, kafka source.Config) {
	t.Helper()
	producer, err := source.NewProducer(t.Context(), kafka)
	require.NoError(t, err)
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			var records []source.SideRecord
			for i := range 16 {
				key := fmt.Sprintf("k%d", (16*n+i)%64)
				records = append(records, source.SideRecord{
					Topic: "orders", Key: []byte(key), Value: fmt.Appendf(nil, `{"k":%q,"t":%d}`, key, time.Now().UnixMilli()),
				})
			}
			if err := producer.Send(context.Background(), records); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		done.Wait()
		producer.Close()
	})
}
