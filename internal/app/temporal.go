package app

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"

	"millrace/activities"
	"millrace/internal/build"
	"millrace/internal/connect"
	"millrace/internal/contract"
	"millrace/internal/logs"
	"millrace/internal/telemetry"
	"millrace/workflows"
)

// temporalDeps is what the activities of a process act on. All fields are required, unless they say otherwise.
type temporalDeps struct {
	Engines activities.Engines
	Leases  activities.Leases
	Desired activities.DesiredStates
	Lanes   activities.Lanes
	Servers activities.Servers
	Closers activities.Closers
	Tokens  activities.LaneTokens
	Remains activities.Remains
	Stocks  activities.Stocks
	Shadows activities.Shadows
	// Recoveries and Levels are those of the hot paths; Journal is the WAL directory. Nil: nobody asks them anything here.
	Recoveries activities.Recoveries
	Levels     activities.Levels
	Journal    activities.Journal
	// Data is the directory for what must outlive the process; empty for none.
	Data string
	Log  *slog.Logger
	// Ready is told whether this process takes tasks, and why not.
	Ready func(ready bool, why string)
	// Traces makes the spans of workflows and activities. Nil: there are none.
	Traces *telemetry.Traces
	// Presence tells the fleet of this process, and watches it; Seats are its hot paths. Nil: it does neither.
	Presence *presence
	Seats    func(*activities.Host) ([]seat, bool)
	// Ask asks Temporal, until its context ends, for what only workflows know. Nil: nobody does.
	Ask func(ctx context.Context, temporal asked)
	// Host is told the owner of the hot paths once, before anything runs: it knows their status.
	Host func(*activities.Host)
	// Tell is told once, before anything runs, who tells Temporal of recoveries and degradations and asks it. Nil: nobody does.
	Tell func(teller)
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
	options.Logger = logs.ForTemporal(deps.Log)
	tracing, err := deps.Traces.Interceptor()
	if err != nil {
		return err
	}
	if tracing != nil {
		options.Interceptors = append(options.Interceptors, tracing) // the workers take it over
	}
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
	search := activities.NewSearch(temporal.OperatorService, cmp.Or(options.Namespace, client.DefaultNamespace))
	stopTelling, err := tell(searchable{temporal, search}, watch, deps, cfg)
	if err != nil {
		return err
	}
	defer stopTelling()
	defer deps.attend(temporal, host, cfg)()
	defer deps.ask(ctx, temporal)()
	f := &fleet{deps: deps, cfg: cfg, client: temporal, watch: watch, host: host, search: search}
	workers := f.serve(ctx)

	deps.Ready(false, whyStopping)
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), contract.WorkerStopTimeout)
	defer cancel()
	return workers.stop(limited, host)
}

// tell begins to tell Temporal of recoveries and degradations. stop is to be called after the hot paths have ended: until then
// there is something to tell.
func tell(temporal starting, watch activities.Watch, deps temporalDeps, cfg TemporalConfig) (stop func(), err error) {
	if deps.Tell == nil {
		return func() {}, nil
	}
	reports, err := openReports(deps.Data, cfg.ReportsLimit, deps.Log)
	if err != nil {
		return nil, err
	}
	disk := ""
	if deps.Journal != nil {
		disk = deps.Journal.Disk()
	}
	told := newRecoveries(temporal, reports, deps.Log)
	degrades := newDegrades(temporal, cfg.Worker, cfg.Process, disk, deps.Log)
	degrades.tracer = deps.Traces.Tracer()
	deps.Tell(teller{told, degrades, watch})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		told.run(ctx)
	}()
	return func() {
		cancel()
		<-done
		if err := reports.close(); err != nil {
			deps.Log.Warn("recovery reports not closed cleanly", "error", err)
		}
	}, nil
}

// ask begins to ask Temporal for what only workflows know. stop ends that.
func (d *temporalDeps) ask(ctx context.Context, temporal client.Client) (stop func()) {
	if d.Ask == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { d.Ask(ctx, temporal) })
	return func() {
		cancel()
		running.Wait()
	}
}

// attend begins to tell the fleet of this process. stop is to be called after the hot paths have ended.
func (d *temporalDeps) attend(temporal client.Client, host *activities.Host, cfg TemporalConfig) (stop func()) {
	if d.Presence == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		d.Presence.run(ctx, func() ([]seat, bool) { return d.Seats(host) }, replicas{temporal, cfg.namespace()})
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// fleet builds and runs this process's workers.
type fleet struct {
	deps   temporalDeps
	cfg    TemporalConfig
	client client.Client
	watch  activities.Watch
	host   *activities.Host
	search *activities.Search
}

// trio is the worker of this process's own queue, the one of the shared queue and, if the process has a WAL directory, the one
// of its disk's queue.
type trio struct{ own, shared, disk worker.Worker }

// stop ends both; nil workers are none. The shared queue is left first, while the hot paths commit and release: the workflows
// that their answers wake must go to other processes at once.
func (p *trio) stop(ctx context.Context, host *activities.Host) error {
	var early sync.WaitGroup
	if p != nil {
		early.Go(p.shared.Stop)
		if p.disk != nil {
			early.Go(p.disk.Stop)
		}
	}
	err := host.Drain(ctx)
	if p != nil {
		p.own.Stop()
	}
	early.Wait()
	return err
}

// serve starts workers, anew after every failure, and returns the running ones when ctx ends. A worker remembers its first error, so
// every try builds new ones.
func (f *fleet) serve(ctx context.Context) *trio {
	pause := f.cfg.RetryFirst
	for {
		fatal := make(chan error, 3)
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
			f.deps.Log.InfoContext(ctx, "polling Temporal", "address", f.cfg.Client.HostPort, "namespace", f.cfg.Client.Namespace,
				"worker", f.cfg.Worker, "host_queue", contract.HostQueue(f.cfg.Process))
			if err = f.attend(ctx, fatal); err == nil {
				return workers
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		err = connect.ExplainTemporal(ctx, f.cfg.Client, err)
		why := fmt.Sprintf("Temporal at %s does not take workers: %v", f.cfg.Client.HostPort, err)
		f.deps.Ready(false, why)
		f.deps.Log.WarnContext(ctx, "Temporal does not take workers; hot paths go on, trying again",
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

// The SDK's workers poll on for ever while Temporal is away and say nothing of it, so a process asks for itself.
const (
	healthEvery  = 2 * time.Second
	healthLimit  = 2 * time.Second // for one answer
	healthMisses = 3               // in a row: Temporal is away
)

// attend watches running workers until one fails, or until ctx ends: then it returns nil. Meanwhile it notes whether Temporal answers.
func (f *fleet) attend(ctx context.Context, fatal <-chan error) error {
	tick := time.NewTicker(healthEvery)
	defer tick.Stop()
	for misses := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case err := <-fatal:
			return err
		case <-tick.C:
		}
		limited, cancel := context.WithTimeout(ctx, healthLimit)
		_, err := f.client.CheckHealth(limited, &client.CheckHealthRequest{})
		cancel()
		switch {
		case ctx.Err() != nil:
		case err != nil:
			if misses++; misses == healthMisses {
				f.deps.Ready(false, fmt.Sprintf("Temporal at %s does not answer: %v", f.cfg.Client.HostPort, err))
				f.deps.Log.WarnContext(ctx, "Temporal does not answer; hot paths go on", "address", f.cfg.Client.HostPort, "error", err)
			}
		case misses >= healthMisses:
			f.deps.Ready(true, "")
			f.deps.Log.InfoContext(ctx, "Temporal answers again", "address", f.cfg.Client.HostPort)
			misses = 0
		default:
			misses = 0
		}
	}
}

// build returns the workers of the shared queue, of this process's own queue and of its disk's.
func (f *fleet) build(fatal func(error)) *trio {
	shared := worker.New(f.client, contract.TaskQueue, worker.Options{
		// One poll at a time: what a frozen process has polled is lost until it times out.
		MaxConcurrentActivityTaskPollers: 1,
		StickyScheduleToStartTimeout:     contract.StickyTimeout,
		WorkerStopTimeout:                contract.WorkerStopTimeout,
		DeadlockDetectionTimeout:         contract.DeadlockTimeout,
		Identity:                         f.cfg.Worker,
		DeploymentOptions:                buildOfWorker(),
		OnFatalError:                     fatal,
	})
	workflows.Register(shared)
	shared.RegisterActivity(activities.NewControl(f.deps.Servers, f.deps.Desired, f.deps.Lanes, f.deps.Leases, f.watch, f.client, f.search))
	shared.RegisterActivity(activities.NewClosing(f.deps.Closers, f.deps.Leases, f.watch, f.client, f.deps.Log))
	shared.RegisterActivity(activities.NewPlacement(f.host, f.client))
	shared.RegisterActivity(activities.NewOwnership(f.deps.Tokens, f.watch))
	specs := activities.NewSpecs(f.client)
	shared.RegisterActivity(activities.NewRemoving(f.deps.Remains, specs, activities.NewSchedules(f.client), f.watch, f.client))
	shared.RegisterActivity(activities.NewCompacting(f.deps.Stocks, specs, f.watch, f.client))
	shared.RegisterActivity(activities.NewShadowing(f.deps.Shadows, specs, f.watch, f.client, f.cfg.Worker, f.client))

	bound := worker.Options{
		DisableWorkflowWorker:            true,
		MaxConcurrentActivityTaskPollers: 1,
		WorkerStopTimeout:                contract.WorkerStopTimeout,
		Identity:                         f.cfg.Worker,
		OnFatalError:                     fatal,
	}
	own := worker.New(f.client, contract.HostQueue(f.cfg.Process), bound)
	own.RegisterActivity(activities.NewHosting(f.host, f.client))
	own.RegisterActivity(activities.NewPlacement(f.host, f.client)) // for offers to this very process
	if f.deps.Recoveries != nil {
		own.RegisterActivity(activities.NewRecovery(f.deps.Recoveries, f.client))
	}
	if f.deps.Levels != nil {
		own.RegisterActivity(activities.NewDegrading(f.deps.Levels, f.deps.Journal, f.client))
	}
	workers := &trio{own: own, shared: shared}
	if f.deps.Journal != nil {
		workers.disk = worker.New(f.client, contract.DiskQueue(f.deps.Journal.Disk()), bound)
		workers.disk.RegisterActivity(activities.NewReplaying(f.deps.Journal, f.cfg.Worker, f.client))
	}
	return workers
}

// buildOfWorker lets Temporal show which build completed a workflow task. Tasks go to workers of any build.
func buildOfWorker() worker.DeploymentOptions {
	return worker.DeploymentOptions{Version: worker.WorkerDeploymentVersion{DeploymentName: contract.TaskQueue, BuildID: build.Version()}}
}

// start starts all, the own queue first: a claim is answered with it. It returns early when ctx ends.
func (p *trio) start(ctx context.Context) error {
	started := make(chan struct{})
	var err error
	go func() {
		defer close(started)
		if err = p.own.Start(); err == nil && p.disk != nil {
			err = p.disk.Start()
		}
		if err == nil {
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

// discard stops all side by side; attempts detach and the hot paths go on.
func (p *trio) discard() {
	var all sync.WaitGroup
	all.Go(p.own.Stop)
	all.Go(p.shared.Stop)
	if p.disk != nil {
		all.Go(p.disk.Stop)
	}
	all.Wait()
}
