// Package app puts a worker process together: the hot path, the closer and the connections behind the interfaces that
// the activities declare, and the workers that poll Temporal. Everything that knows both sides lives here.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"

	"millrace/activities"
	"millrace/internal/admin"
	"millrace/internal/build"
	"millrace/internal/connect"
	"millrace/internal/contract"
	"millrace/internal/telemetry"
	"millrace/pipeline/breaker"
	"millrace/pipeline/engine"
	"millrace/pipeline/measure"
	"millrace/pipeline/merge"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
)

// Config is a worker process.
type Config struct {
	Kafka    source.Config
	Redis    store.Config
	Temporal TemporalConfig
	WAL      wal.Config         // Dir is empty for a worker without a WAL directory
	Breaker  breaker.Thresholds // for Redis
	Storm    engine.StormLimit
	Admin    admin.Config // the listener for metrics, health and profiles
	Log      *slog.Logger
	// Metrics is where the process says what it does; it outlives the process. Nil: a registry of its own.
	Metrics *telemetry.Registry
	// Traces makes spans; nil makes none. Whoever has started it closes it. TracedBatches is the share of batches that are followed
	// although no record of them asks for it, 0 to 1.
	Traces        *telemetry.Traces
	TracedBatches float64
	// StateFormat says whether lanes turn from entries in fields to state pages: connect.StateAuto, the default, StateFields or
	// StatePages.
	StateFormat string
	// MergeCache bounds the memory, in bytes, of merged slices that are kept for windows that overlap. 0: none are kept.
	MergeCache int64
	// OnHost, when set, is told the owner of the hot paths: it knows their status.
	OnHost func(*activities.Host)
}

// Why a process takes no tasks, other than that Temporal does not answer.
const (
	whyStarting = "this worker is starting"
	whyStopping = "this worker is stopping"
)

// checkTimeout bounds how long a start waits for Kafka and Redis.
const checkTimeout = 15 * time.Second

// RunWorker runs a worker until ctx ends, then commits and releases its lanes and stops. An environment that cannot work
// (unreachable Kafka or Redis, a Redis that evicts keys or holds another format) is an error at once; Temporal being
// away is not.
func RunWorker(ctx context.Context, cfg Config) (err error) {
	p := &process{cfg: cfg, log: cfg.Log}
	p.log.InfoContext(ctx, "worker starts", "version", build.Version(), "go", build.Go(), "pid", os.Getpid())
	defer func() { err = errors.Join(err, p.close()) }()
	if err := p.connect(ctx); err != nil {
		return err
	}
	if err := p.observe(); err != nil {
		return err
	}
	deps := temporalDeps{
		Engines: p.engines, Leases: leases{p.store}, Desired: desired{p.store}, Lanes: lanes{p.store, p.cluster},
		Servers: servers{p.store, p.cluster}, Closers: p.closers, Tokens: lanes{p.store, p.cluster},
		Remains: remains{p.store, p.cluster, p.cfg.Kafka}, Stocks: stocks{p.cluster}, Data: cfg.WAL.Dir, Log: cfg.Log,
		Shadows:    shadows{p.store, p.cluster, p.measure, cfg.Temporal.Worker, p.engines.keepFields, cfg.Log},
		Recoveries: p.engines, Levels: p.engines, Tell: p.engines.setTeller, Ready: p.setReady, Host: p.setHost,
	}
	if p.disk != nil {
		deps.Journal = p.disk
	}
	deps.Ask = p.asks.run
	deps.Presence, deps.Seats, deps.Traces = p.presence, p.engines.seats, cfg.Traces
	return runTemporal(ctx, deps, p.cfg.Temporal)
}

// process is what the parts of a worker share.
type process struct {
	cfg     Config
	log     *slog.Logger
	redis   io.Closer
	store   *store.Store
	cluster *source.Cluster
	engines *engines
	closers *closers
	disk    *disk // nil without a WAL directory

	presence *presence
	measure  *measure.Process
	metrics  *telemetry.Registry
	polls    *polls
	asks     *orchestration
	memory   *redisMemory
	limit    *memoryLimit
	asking   sync.WaitGroup // goroutines that ask for metrics
	stop     context.CancelFunc
	server   *admin.Server // nil without an admin address

	mu  sync.Mutex
	why error // why the process is not ready
}

func (p *process) connect(ctx context.Context) (err error) {
	if err := p.cfg.Temporal.Validate(); err != nil {
		return err
	}
	p.measure = measure.NewProcess()
	p.cfg.Kafka.Calls, p.cfg.Redis.Calls = p.measure.CallsTo("kafka"), p.measure.CallsTo("redis")
	p.cfg.WAL.Calls = p.measure.CallsTo("wal")
	limited, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	client, err := store.NewClient(p.cfg.Redis)
	if err != nil {
		return err
	}
	p.redis, p.store = client, store.New(client)
	if err := p.store.Check(limited); err != nil {
		err = connect.ExplainRedis(ctx, p.cfg.Redis, err)
		return fmt.Errorf("cannot use Redis at %v: %w", p.cfg.Redis.Addrs, err)
	}
	for _, advice := range p.store.Advice(limited) {
		p.log.WarnContext(ctx, "a setting of Redis serves lanes badly", "advice", advice)
	}
	if p.cluster, err = source.NewCluster(limited, p.cfg.Kafka); err != nil {
		return fmt.Errorf("cannot use Kafka: %w", connect.ExplainKafka(ctx, p.cfg.Kafka, err))
	}
	if p.cfg.WAL.Dir != "" {
		if p.disk, err = openDisk(p.cfg.WAL, p.store, p.cfg.Kafka, p.log); err != nil {
			return err
		}
	}
	prober, err := breaker.NewProber(p.store.Probe, p.cfg.Breaker)
	if err != nil {
		return err
	}
	out := &outlets{wanted: p.store.PipelineCtl, log: p.log, made: make(map[string]*outlet)}
	p.engines = &engines{
		kafka: p.cfg.Kafka, store: p.store, disk: p.disk, measure: p.measure, outlets: out, thresholds: p.cfg.Breaker, prober: prober, storm: p.cfg.Storm,
		worker: p.cfg.Temporal.Worker, process: p.cfg.Temporal.Process, log: p.log, running: make(map[replica]*hot),
	}
	out.ping = func(ctx context.Context, topic string) error {
		_, err := p.cluster.Topic(ctx, topic)
		return err
	}
	out.follow = func(ctx context.Context, pipeline string, l activities.Level) {
		p.engines.tell.degrades.Follow(ctx, pipeline, 0, report.DependencyResults, l)
	}
	p.presence = newPresence(p.store, leases{p.store}, p.cfg.Temporal.namespace(),
		contract.HostQueue(p.cfg.Temporal.Process), p.cfg.Temporal.Worker, p.disk != nil, p.log)
	p.closers = newClosers(p.cfg.Kafka, p.cluster, p.store, p.measure, out, merge.NewCache(p.cfg.MergeCache), p.cfg.Temporal.Worker,
		p.presence.archives.requireShared, p.log)
	p.engines.keepFields = p.keepFields()
	p.closers.keepsWhole = p.engines.keepFields // who cannot read pages cannot read what corrections change, either
	p.traceHotPath()
	return nil
}

func (p *process) observe() error {
	p.setReady(false, whyStarting)
	var err error
	if p.metrics = p.cfg.Metrics; p.metrics == nil {
		if p.metrics, err = telemetry.NewRegistry(context.Background(), os.Getenv); err != nil {
			return err
		}
	}
	p.metrics.ObserveBuild()
	p.metrics.ObserveReady(p.ready)
	p.metrics.ObserveEngines(p.engines.statuses)
	p.metrics.ObserveBreakers(p.engines.guards)
	p.metrics.ObserveKept(p.closers.kept)
	p.metrics.ObserveClosingTimes(p.closers.times)
	p.metrics.ObserveConditions(p.conditionCounts)
	p.metrics.ObserveMeasures(p.measure)
	p.metrics.ObserveClosing(p.closers.closing)
	p.metrics.ObserveMergeCache(p.closers.merged.Stats)
	if p.disk != nil {
		p.metrics.ObserveWAL(p.disk.Stats, p.disk.Level, func() int64 { return p.disk.Journal.Accounts().Pending.Commits })
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.stop = cancel
	p.limit = newMemoryLimit(p.engines.memoryLimits, p.closers.mergeMemory, p.log)
	p.engines.limited = p.limit.limited
	p.asking.Go(func() { p.limit.run(ctx) })
	p.metrics.ObserveMemoryLimit(p.limit.limited)
	p.memory = &redisMemory{store: p.store}
	p.asking.Go(func() { p.memory.run(ctx) })
	p.metrics.ObserveRedis(p.memory.server, p.pipelineMemory)
	p.polls, p.asks = newPolls(), &orchestration{pipelines: p.closers.pipelines, log: p.log}
	p.metrics.ObserveTemporal(p.polls.all, p.asks.last)
	options := &p.cfg.Temporal.Client
	options.MetricsHandler = p.metrics.TemporalHandler()
	options.ConnectionOptions.DialOptions = append(options.ConnectionOptions.DialOptions, grpc.WithChainUnaryInterceptor(p.polls.intercept))
	if p.cfg.Admin.Addr == "" {
		return nil
	}
	answers := admin.Answers{Metrics: p.metrics.Handler(), Ready: p.ready, Health: func() admin.Health {
		whole, pipelines := p.health()
		return admin.Health{Standing: whole, Pipelines: pipelines}
	}}
	if p.server, err = admin.Listen(p.cfg.Admin, answers, p.log); err != nil {
		return err
	}
	p.log.Info("metrics, health and profiles", "address", p.server.URL())
	return nil
}

func (p *process) setHost(h *activities.Host) {
	if p.cfg.OnHost != nil {
		p.cfg.OnHost(h)
	}
}

func (p *process) setReady(ready bool, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.presence.ready.Store(ready)
	p.why = nil
	if !ready {
		p.why = errors.New(why)
	}
}

func (p *process) ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why
}

func (p *process) close() error {
	var errs []error
	if p.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		errs = append(errs, p.server.Close(ctx))
	}
	if p.stop != nil {
		p.stop()
		p.asking.Wait()
	}
	if p.metrics != nil && p.metrics != p.cfg.Metrics {
		errs = append(errs, p.metrics.Close(context.Background()))
	}
	if p.closers != nil {
		errs = append(errs, p.closers.close())
	}
	if p.disk != nil {
		errs = append(errs, p.disk.close())
	}
	if p.cluster != nil {
		errs = append(errs, p.cluster.Close())
	}
	if p.redis != nil {
		errs = append(errs, p.redis.Close())
	}
	return errors.Join(errs...)
}
