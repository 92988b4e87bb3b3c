package integration

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/engine"
	"millrace/pipeline/ledger"
	"millrace/pipeline/measure"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/verify"
	"millrace/tests/rig"
)

// hotPath runs a pipeline's engine and closer in the test process, without Temporal, for tests that must say when
// windows are closed or look into the engine.
type hotPath struct {
	*pipeline
	engine *engine.Engine
	closer *result.Closer
}

func (p *pipeline) hotPath() *hotPath { return p.measuredHotPath(nil) }

// measuredHotPath is hotPath with somebody to measure it, and with changes to the engine.
func (p *pipeline) measuredHotPath(by *measure.Pipeline, change ...func(*engine.Config)) *hotPath {
	p.T.Helper()
	ctx := context.Background()
	topics := []source.TopicSpec{
		{Name: p.Spec.Results.Kafka.Topic, Partitions: 2},
		{Name: p.Spec.Late.Kafka.Topic, Partitions: 2},
		{Name: p.Spec.DeadLetter.Kafka.Topic, Partitions: 2},
		{Name: ledger.Topic(p.Spec.Name), Partitions: ledger.DefaultSlots, Compacted: true},
	}
	for _, topic := range topics {
		_, err := p.Cluster.EnsureTopic(ctx, topic)
		require.NoError(p.T, err)
	}
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("MILLRACE_TEST_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("test", p.T.Name())
	}
	h := &hotPath{pipeline: p}
	var err error
	cfg := engine.Config{Spec: p.Spec, Kafka: p.Kafka, Store: p.Store, Log: log, Measure: by}
	for _, c := range change {
		c(&cfg)
	}
	h.engine, err = engine.Start(ctx, cfg)
	require.NoError(p.T, err)
	p.T.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		h.engine.Stop(ctx)
	})
	h.closer, err = result.NewCloser(result.Config{
		Spec: p.Spec, State: p.Store, Kafka: publish.NewClient(p.Kafka, p.Cluster, p.Spec.Name), By: "test", Log: log, Measure: by,
	})
	require.NoError(p.T, err)
	p.T.Cleanup(func() { h.closer.Close() })
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
	h.T.Helper()
	h.Reach(h.Total())
	var ends []report.LaneEnd
	for n := range h.Parts {
		ends = append(ends, report.LaneEnd{Topic: h.Topic(), Partition: n, End: int64(len(h.Fed[n].Records))})
	}
	rig.Eventually(h.T, "drained", patience, func() bool {
		_, err := h.closer.Round(context.Background())
		require.NoError(h.T, err)
		receipt, err := h.closer.Drain(context.Background(), ends)
		require.NoError(h.T, err)
		return receipt.Done
	})
	require.NoError(h.T, h.engine.Stop(context.Background()))
}

// verify looks for contradictions in what the pipeline keeps and has published.
func (h *hotPath) verify() {
	h.T.Helper()
	v, err := verify.Run(context.Background(), verify.Config{
		Spec: h.Spec, State: h.Store, Kafka: h.Cluster, Input: true,
		Late: verify.LateTopic(h.Cluster, h.Spec.Late.Kafka.Topic),
	})
	require.NoError(h.T, err)
	require.Empty(h.T, v.Problems)
}
