package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/workflows"
)

// temporalDeps is what the activities of a process act on. All fields are required.
type temporalDeps struct {
	Engines activities.Engines
	Leases  activities.Leases
	Desired activities.DesiredStates
	Lanes   activities.Lanes
	Servers activities.Servers
	Closers activities.Closers
	Log     *slog.Logger
	// Ready is told whether this process takes tasks, and why not.
	Ready func(ready bool, why string)
	// Host is told the owner of the hot paths once, before anything runs: it knows their status.
	Host func(*activities.Host)
}

// runTemporal polls Temporal until ctx ends. Temporal being away, at the start or later, is no error: it keeps trying and says so,
// and hot paths that run go on. At the end it commits and releases the hot paths, lets their attempts answer that they have
// moved, and stops the workers. The error says what did not end cleanly.
func runTemporal(ctx context.Context, deps temporalDeps, cfg TemporalConfig) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	options := cfg.Client
	options.Identity = cfg.Worker
	options.Logger = sdklog.NewStructuredLogger(deps.Log)
	temporal, err := client.NewLazyClient(options)
	if err != nil {
		return fmt.Errorf("make a Temporal client: %w", err)
	}
	defer temporal.Close()
	if cfg.NoWorkflowCache {
		worker.SetStickyWorkflowCacheSize(0)
	}
	watch := activities.NewWatch(temporal)
	host := activities.NewHost(cfg.Worker, contract.HostQueue(cfg.Process), deps.Engines, deps.Leases, watch, deps.Log)
	deps.Host(host)
	f := &fleet{deps: deps, cfg: cfg, client: temporal, watch: watch, host: host}
	workers := f.serve(ctx)

	deps.Ready(false, "stopping")
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), contract.WorkerStopTimeout)
	defer cancel()
	return workers.stop(limited, host)
}

// fleet builds and runs this process's workers.
type fleet struct {
	deps   temporalDeps
	cfg    TemporalConfig
	client client.Client
	watch  activities.Watch
	host   *activities.Host
}

// pair is the worker of this process's own queue and the one of the shared queue.
type pair struct{ own, shared worker.Worker }

// stop ends both; nil workers are none. The shared queue is left first, while the hot paths commit and release: the workflows
// that their answers wake must go to other processes at once.
func (p *pair) stop(ctx context.Context, host *activities.Host) error {
	var shared sync.WaitGroup
	if p != nil {
		shared.Go(p.shared.Stop)
	}
	err := host.Drain(ctx)
	if p != nil {
		p.own.Stop()
	}
	shared.Wait()
	return err
}

// serve starts workers, anew after every failure, and returns the running ones when ctx ends. A worker remembers its first error, so
// every try builds new ones.
func (f *fleet) serve(ctx context.Context) *pair {
	pause := f.cfg.RetryFirst
	for {
		fatal := make(chan error, 2)
		workers := f.build(func(err error) {
			select {
			case fatal <- err:
			default:
			}
		})
		began := time.Now()
		err := workers.start(ctx)
		if err == nil {
			f.deps.Ready(true, "")
			f.deps.Log.Info("polling Temporal", "address", f.cfg.Client.HostPort, "namespace", f.cfg.Client.Namespace,
				"worker", f.cfg.Worker, "host_queue", contract.HostQueue(f.cfg.Process))
			select {
			case <-ctx.Done():
				return workers
			case err = <-fatal:
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		why := fmt.Sprintf("Temporal at %s does not take workers: %v", f.cfg.Client.HostPort, err)
		f.deps.Ready(false, why)
		f.deps.Log.Warn("Temporal does not take workers; hot paths go on, trying again",
			"address", f.cfg.Client.HostPort, "namespace", f.cfg.Client.Namespace, "in", pause, "error", err)
		workers.discard()
		if time.Since(began) > f.cfg.RetryMost {
			pause = f.cfg.RetryFirst
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, f.cfg.RetryMost)
	}
}

// build returns the worker of the shared queue and the one of this process's own queue.
func (f *fleet) build(fatal func(error)) *pair {
	shared := worker.New(f.client, contract.TaskQueue, worker.Options{
		// One poll at a time: what a frozen process has polled is lost until it times out.
		MaxConcurrentActivityTaskPollers: 1,
		StickyScheduleToStartTimeout:     contract.StickyTimeout,
		WorkerStopTimeout:                contract.WorkerStopTimeout,
		DeadlockDetectionTimeout:         contract.DeadlockTimeout,
		Identity:                         f.cfg.Worker,
		OnFatalError:                     fatal,
	})
	workflows.Register(shared)
	shared.RegisterActivity(activities.NewControl(f.deps.Servers, f.deps.Desired, f.deps.Lanes, f.deps.Leases, f.watch, f.client))
	shared.RegisterActivity(activities.NewClosing(f.deps.Closers, f.deps.Leases, f.watch, f.client, f.deps.Log))
	shared.RegisterActivity(activities.NewPlacement(f.host))

	own := worker.New(f.client, contract.HostQueue(f.cfg.Process), worker.Options{
		DisableWorkflowWorker:            true,
		MaxConcurrentActivityTaskPollers: 1,
		WorkerStopTimeout:                contract.WorkerStopTimeout,
		Identity:                         f.cfg.Worker,
		OnFatalError:                     fatal,
	})
	own.RegisterActivity(activities.NewHosting(f.host, f.client))
	return &pair{own: own, shared: shared}
}

// start starts both, the own queue first: a claim is answered with it. It returns early when ctx ends.
func (p *pair) start(ctx context.Context) error {
	started := make(chan struct{})
	var err error
	go func() {
		defer close(started)
		if err = p.own.Start(); err == nil {
			err = p.shared.Start()
		}
	}()
	select {
	case <-started:
		return err
	case <-ctx.Done():
		go func() {
			<-started
			p.discard()
		}()
		return ctx.Err()
	}
}

// discard stops both side by side; attempts detach and the hot paths go on.
func (p *pair) discard() {
	var both sync.WaitGroup
	both.Go(p.own.Stop)
	both.Go(p.shared.Stop)
	both.Wait()
}
