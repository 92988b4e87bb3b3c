package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/breaker"
	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/measure"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

type replica struct {
	pipeline string
	number   int
}

// engines starts hot paths in this process and remembers those that run.
type engines struct {
	kafka      source.Config
	store      *store.Store
	disk       *disk // nil: no WAL directory
	measure    *measure.Process
	outlets    *outlets
	thresholds breaker.Thresholds
	prober     *breaker.Prober // of Redis, for all hot paths of the process
	storm      engine.StormLimit
	limited    func() (bytes int64, why string) // of Go's memory; nil while nobody has set a limit
	worker     string                           // for people
	process    string
	log        *slog.Logger
	tracing    *lane.Tracing // nil: nothing is traced
	keepFields func() string // see engine.Config; nil: lanes may turn to state pages

	mu      sync.Mutex
	running map[replica]*hot
	tell    teller
}

// teller is who tells Temporal what happens in this process, and asks it.
type teller struct {
	recoveries *recoveries
	degrades   *degrades
	watch      activities.Watch
}

// setTeller is called once, before anything runs.
func (e *engines) setTeller(t teller) { e.tell = t }

// hot is a hot path and its guard, as the control plane sees them.
type hot struct {
	*engine.Engine
	guard  guard
	worker string // for people
	disk   string // id of the process's WAL directory, empty for none
	spills bool   // the spec wants a journal
	orders *obedience

	limited func() (bytes int64, why string)
}

func (h *hot) name() string {
	s := h.Engine.Status()
	return engine.InstanceID(s.Pipeline, s.Replica)
}

// Capable implements activities.Engines.
func (e *engines) Capable(s *spec.Spec) error {
	if s.Lane.Overflow == spec.OverflowJournal && e.disk == nil {
		return engine.ErrNoJournal
	}
	_, err := fold.Compile(s)
	return err
}

// Start implements activities.Engines. The host never starts a replica twice at a time; different ones do not wait for
// each other.
func (e *engines) Start(ctx context.Context, s *spec.Spec, number int) (activities.Engine, error) {
	key := replica{s.Name, number}
	e.mu.Lock()
	running, ok := e.running[key]
	e.mu.Unlock()
	if ok && !ended(running.Engine) {
		return running, nil
	}
	g, err := e.newGuard(s, number)
	if err != nil {
		return nil, err
	}
	h := &hot{guard: g, worker: e.worker, limited: e.limited, spills: s.Lane.Overflow == spec.OverflowJournal}
	h.orders = &obedience{m: g.Machine, dependency: report.DependencyRedis, log: e.log}
	known := make(chan struct{})
	cfg := engine.Config{
		Spec: s, Replica: number, Kafka: e.kafka, Store: e.store, Route: g.route(s), Storm: e.storm, Measure: e.measure.Pipeline(s.Name),
		Tracing: e.tracing, KeepFields: e.keepFields,
		Log: e.log.With("pipeline", s.Name, "replica", number), Ordered: h.orders.follow,
		Announce: func(b report.RecoveryBatch) {
			<-known // whoever hears of the batch will ask for its steps
			e.tell.recoveries.Announce(e.addressed(b))
		},
		Report: func(r report.RecoveryReport) {
			<-known
			g.assigned(r.Lanes)
			r.Batch = e.addressed(r.Batch)
			e.tell.recoveries.Report(r)
		},
	}
	if watch := e.tell.watch; watch != nil {
		cfg.Wanted = func(ctx context.Context) (bool, error) { return activities.Wanted(ctx, watch, s.Name, number) }
	}
	if e.disk != nil {
		cfg.Journal, h.disk = e.disk.Journal, e.disk.Disk()
	}
	if h.Engine, err = engine.Start(ctx, cfg); err != nil {
		return nil, permanent(err)
	}
	e.mu.Lock()
	e.running[key] = h
	e.mu.Unlock()
	close(known)
	go g.watch(h.Engine)
	go e.follow(h, s.Name, number)
	return h, nil
}

// follow tells Temporal of the hot path's degradations as long as it runs.
func (e *engines) follow(h *hot, pipeline string, number int) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		<-h.Done()
		cancel()
	}()
	e.tell.degrades.Follow(ctx, pipeline, number, report.DependencyRedis, h.guard.Machine)
}

func ended(e *engine.Engine) bool {
	select {
	case <-e.Done():
		return true
	default:
		return false
	}
}

// statuses returns what the running hot paths say of themselves.
func (e *engines) statuses() []engine.Status {
	var all []engine.Status
	for _, h := range e.sorted() {
		all = append(all, h.Engine.Status())
	}
	return all
}

// memoryLimits is what the lanes of the running hot paths may hold together.
func (e *engines) memoryLimits() (bytes int64) {
	for _, h := range e.sorted() {
		bytes += h.Engine.Status().MemoryLimit
	}
	return bytes
}

// guards returns what the state machines of the running hot paths and of the closers say of themselves.
func (e *engines) guards() []breaker.Status {
	var all []breaker.Status
	for _, h := range e.sorted() {
		all = append(all, h.guard.Status())
	}
	return append(all, e.outlets.statuses()...)
}

// Status implements activities.Engine.
func (h *hot) Status() contract.EngineStatus {
	s := h.Engine.Status()
	out := contract.EngineStatus{
		Pipeline: s.Pipeline, Replica: s.Replica, State: contract.StateRunning, Reason: s.Error, Unread: s.Unread,
		Memory: s.MemoryUsed, MemoryLimit: s.MemoryLimit, Owned: len(s.Lanes), Disk: h.disk,
	}
	if h.limited != nil {
		out.GoLimit, out.GoLimitWhy = h.limited()
	}
	if out.Storm = s.Storm; out.Storm != nil {
		out.Storm.Timeline = nil // heartbeats are short
	}
	if d := h.guard.DependencyStatus(h.worker); d != nil {
		out.Dependencies = append(out.Dependencies, *d)
	}
	paused := len(s.Lanes) > 0
	for i := range s.Lanes {
		l := &s.Lanes[i]
		out.Rate += l.Rate
		out.Lag += l.Lag()
		paused = paused && l.State == lane.StatePaused
		addTimes(&out.Times, &l.Times)
		out.Lanes = append(out.Lanes, laneStatus(l))
	}
	if paused {
		out.State = contract.StatePaused
	}
	slices.SortStableFunc(out.Lanes, func(a, b report.LaneStatus) int {
		return cmp.Or(cmp.Compare(lane.Trouble(b.State), lane.Trouble(a.State)), cmp.Compare(b.Lag, a.Lag))
	})
	if len(out.Lanes) > contract.MaxStatusLanes {
		out.Lanes = out.Lanes[:contract.MaxStatusLanes]
	}
	boundRefused(out.Lanes)
	slices.SortFunc(out.Lanes, func(a, b report.LaneStatus) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out
}

// boundRefused leaves examples of refused records to the lanes that refused most.
func boundRefused(lanes []report.LaneStatus) {
	var refusing []*report.LaneStatus
	for i := range lanes {
		if len(lanes[i].Refused) > 0 {
			refusing = append(refusing, &lanes[i])
		}
	}
	total := func(l *report.LaneStatus) (n int64) {
		for i := range l.Refused {
			n += l.Refused[i].Count
		}
		return n
	}
	slices.SortStableFunc(refusing, func(a, b *report.LaneStatus) int { return cmp.Compare(total(b), total(a)) })
	for i := contract.MaxRefusedLanes; i < len(refusing); i++ {
		for k := range refusing[i].Refused {
			refusing[i].Refused[k].Last = nil
		}
	}
}

func laneStatus(l *lane.Status) report.LaneStatus {
	out := report.LaneStatus{
		Topic: l.Topic, Partition: l.Partition, State: l.State, Reason: l.Reason,
		Offset: l.Committed, Lag: l.Lag(), Rate: l.Rate, Epoch: l.Owner.Epoch(),
		Refused:     slices.Clone(l.Refused[:min(len(l.Refused), contract.MaxRefused)]), // boundRefused changes them
		RefusesAll:  l.RefusesAll && l.State == lane.StateRunning,
		StateFormat: l.StateFormat, KeepsFields: l.KeepsFields, Pages: l.Pages,
	}
	addTimes(&out.Times, &l.Times)
	if l.Incident != nil {
		out.Reason = l.Incident.Error()
		for _, c := range l.Incident.Choices {
			out.Choices = append(out.Choices, c.Name)
		}
	}
	if l.Watermark != nil {
		out.Watermark = *l.Watermark
	}
	return out
}

// permanent marks errors that no retry mends.
func permanent(err error) error {
	var format *store.FormatError
	var state *store.StateIDError
	if errors.As(err, &format) || errors.As(err, &state) || errors.Is(err, store.ErrEviction) ||
		errors.Is(err, store.ErrServerVersion) || errors.Is(err, source.ErrUnknownTopic) || errors.Is(err, window.ErrPlan) ||
		errors.Is(err, engine.ErrNoJournal) {
		return fmt.Errorf("%w: %w", activities.ErrPermanent, err)
	}
	return err
}
