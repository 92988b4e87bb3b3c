package integration

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/engine"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
)

// hotPath runs a pipeline's engine and closer in the test process, without Temporal, for tests that must say when
// windows are closed or look into the engine.
type hotPath struct {
	*pipeline
	engine *engine.Engine
	closer *result.Closer
}

func (p *pipeline) hotPath() *hotPath {
	p.t.Helper()
	ctx := context.Background()
	topics := []source.TopicSpec{
		{Name: p.spec.Results.Kafka.Topic, Partitions: 2},
		{Name: p.spec.Late.Kafka.Topic, Partitions: 2},
		{Name: p.spec.DeadLetter.Kafka.Topic, Partitions: 2},
		{Name: result.LedgerTopic(p.spec.Name), Partitions: result.DefaultSlots, Compacted: true},
	}
	for _, topic := range topics {
		_, err := p.cluster.EnsureTopic(ctx, topic)
		require.NoError(p.t, err)
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("MILLRACE_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("test", p.t.Name())
	}
	h := &hotPath{pipeline: p}
	var err error
	h.engine, err = engine.Start(ctx, engine.Config{Spec: p.spec, Kafka: p.kafka, Store: p.store, Log: log})
	require.NoError(p.t, err)
	p.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		h.engine.Stop(ctx)
	})
	h.closer, err = result.NewCloser(result.Config{
		Spec: p.spec, State: p.store, Kafka: result.NewKafka(p.kafka, p.cluster, p.spec.Name), By: "test", Log: log,
	})
	require.NoError(p.t, err)
	p.t.Cleanup(func() { h.closer.Close() })
	return h
}

// closeWhile closes windows as they become due, once a tenth of a second, until stop is closed.
func (h *hotPath) closeWhile(stop <-chan struct{}) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-tick.C:
		}
		if _, err := h.closer.Round(context.Background()); err != nil {
			return err
		}
	}
}

// finish reads and publishes everything that was fed, and stops.
func (h *hotPath) finish() {
	h.t.Helper()
	h.reach(h.total())
	ends := make(map[source.TopicPartition]int64)
	for n := range h.parts {
		ends[source.TopicPartition{Topic: h.topic(), Partition: n}] = int64(len(h.fed[n].Records))
	}
	eventually(h.t, "drained", patience, func() bool {
		_, err := h.closer.Round(context.Background())
		require.NoError(h.t, err)
		receipt, err := h.closer.Drain(context.Background(), ends)
		require.NoError(h.t, err)
		return receipt.Done
	})
	require.NoError(h.t, h.engine.Stop(context.Background()))
}

// verify looks for contradictions in what the pipeline keeps and has published.
func (h *hotPath) verify() {
	h.t.Helper()
	v, err := result.Verify(context.Background(), result.VerifyConfig{
		Spec: h.spec, State: h.store, Kafka: result.NewPublished(h.cluster), Input: true,
		Late: result.LateTopic(h.kafka, h.cluster, h.spec.Late.Kafka.Topic),
	})
	require.NoError(h.t, err)
	require.Empty(h.t, v.Problems)
}
