package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.temporal.io/sdk/client"

	"millrace/internal/app"
	"millrace/internal/connect"
	"millrace/internal/dev"
	"millrace/internal/logs"
	"millrace/internal/telemetry"
	"millrace/pipeline/merge"
	"millrace/pipeline/wal"
)

// embedded says how to reach the embedded servers.
func embedded(s *dev.Servers) *connect.Options {
	return &connect.Options{
		Kafka:      connect.KafkaOptions{Addrs: []string{s.Kafka.Addr()}},
		Redis:      connect.RedisOptions{Addrs: []string{s.Redis.Addr()}},
		TemporalAt: connect.TemporalOptions{Address: s.Temporal.Addr(), Namespace: s.Temporal.Namespace()},
	}
}

type addresses struct {
	Kafka      string `json:"kafka"`
	Redis      string `json:"redis"`
	Temporal   string `json:"temporal"`
	TemporalUI string `json:"temporal_ui"`
	Dir        string `json:"dir"`
}

// announce says where everything is, in a form that a second terminal can use.
func announce(sh *shell, s *dev.Servers, job devJob) error {
	a := addresses{s.Kafka.Addr(), s.Redis.Addr(), s.Temporal.Addr(), s.Temporal.UIURL(), job.dir}
	if sh.json {
		return printJSON(sh.out, a)
	}
	_, err := fmt.Fprintf(sh.err, `Temporal UI  %s
for another terminal:
  export %s=%s %s=%s TEMPORAL_ADDRESS=%s
`, a.TemporalUI, connect.EnvKafkaBrokers, a.Kafka, connect.EnvRedisAddrs, a.Redis, a.Temporal)
	return err
}

// devWorker is the worker that lives in this process.
type devWorker struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid once done is closed
}

// startWorker runs a worker until ctx ends or stop is called. It logs to a file, and its metrics go to a registry where one is given.
func startWorker(ctx context.Context, sh *shell, logFile string, metrics *telemetry.Registry) *devWorker {
	ctx, cancel := context.WithCancel(ctx)
	w := &devWorker{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(w.done)
		w.err = runWorker(ctx, sh, logFile, metrics)
	}()
	return w
}

func runWorker(ctx context.Context, sh *shell, logFile string, metrics *telemetry.Registry) error {
	conn := sh.conn
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer closing(out)
	cfg := app.Config{
		Log: logs.New(out, true, false), Metrics: metrics, WAL: wal.Config{Dir: filepath.Join(filepath.Dir(logFile), "wal")},
		Traces: sh.traces, TracedBatches: connect.DefaultTracedBatches, StateFormat: connect.StatePages,
		MergeCache: merge.DefaultCacheBytes,
	}
	if cfg.Kafka, err = conn.KafkaConfig(); err != nil {
		return err
	}
	if cfg.Redis, err = conn.RedisConfig(); err != nil {
		return err
	}
	if cfg.Temporal.Client, err = conn.TemporalConfig(); err != nil {
		return err
	}
	return app.RunWorker(ctx, cfg)
}

// await returns when the worker polls its task queue.
func (w *devWorker) await(ctx context.Context, c client.Client) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	patience := time.NewTimer(time.Minute)
	defer patience.Stop()
	for {
		err := requireWorker(ctx, c)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-patience.C:
			return err
		case <-w.done:
			return w.failure()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// failure says why the worker ended although nobody asked it to.
func (w *devWorker) failure() error {
	if w.err != nil {
		return fmt.Errorf("the worker ended: %w", w.err)
	}
	return errors.New("the worker ended")
}

// stop commits and releases everything and returns when the worker has ended.
func (w *devWorker) stop() error {
	w.cancel()
	<-w.done
	if errors.Is(w.err, context.Canceled) {
		return nil
	}
	return w.err
}
