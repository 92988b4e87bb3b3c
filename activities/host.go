package activities

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// Host owns this process's hot paths, at most one per replica. It belongs to the process: workers and attempts come and go.
type Host struct {
	worker  string
	queue   string
	engines Engines
	leases  Leases
	watch   Watch
	log     *slog.Logger

	drainOnce sync.Once
	draining  chan struct{}

	mu       sync.Mutex
	slots    map[tenantKey]*slot
	promised map[tenantKey]time.Time // when a claim was answered with this process
}

// slot serialises the starts of one replica.
type slot struct {
	sync.Mutex
	tenant *tenant
}

// NewHost returns the host of the process that polls queue. worker names it for people.
func NewHost(worker, queue string, engines Engines, leases Leases, watch Watch, log *slog.Logger) *Host {
	return &Host{
		worker: worker, queue: queue, engines: engines, leases: leases, watch: watch, log: log,
		draining: make(chan struct{}), slots: make(map[tenantKey]*slot), promised: make(map[tenantKey]time.Time),
	}
}

func (h *Host) isDraining() bool {
	select {
	case <-h.draining:
		return true
	default:
		return false
	}
}

// attach returns the replica's tenant and the number of this attempt. It adopts the hot path that runs here, or takes the
// lease and starts one.
func (h *Host) attach(ctx context.Context, s *spec.Spec, replica int) (*tenant, int64, error) {
	key := tenantKey{s.Name, replica}
	h.mu.Lock()
	place := h.slots[key]
	if place == nil {
		place = new(slot)
		h.slots[key] = place
	}
	h.mu.Unlock()

	place.Lock()
	defer place.Unlock()
	if h.isDraining() {
		return nil, 0, movedError("the worker stops")
	}
	if t := place.tenant; t != nil {
		if !t.ending() {
			return t, t.adopt(), nil
		}
		select {
		case <-t.done:
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
	}
	t, err := h.start(ctx, s, key)
	if err != nil {
		return nil, 0, err
	}
	h.mu.Lock()
	place.tenant = t
	h.mu.Unlock()
	go t.keep(context.WithoutCancel(ctx))
	if h.isDraining() {
		t.end(endMoved, "the worker stops")
	}
	return t, t.adopt(), nil
}

func (h *Host) start(ctx context.Context, s *spec.Spec, key tenantKey) (*tenant, error) {
	lease := Lease{Worker: h.worker, Queue: h.queue, Token: uuid.NewString()}
	holder, held, err := h.leases.AcquireLease(ctx, key.pipeline, key.replica, lease, contract.LeaseTTL)
	if err != nil {
		return nil, fmt.Errorf("take the lease of replica %d of %s: %w", key.replica, key.pipeline, err)
	}
	if !held {
		return nil, typed(contract.ErrorLeaseHeld, "worker %s holds replica %d of %s", holder.Worker, key.replica, key.pipeline)
	}
	engine, err := h.engines.Start(ctx, s, key.replica)
	if err != nil {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), contract.LeaseTTL)
		defer cancel()
		_ = h.leases.ReleaseLease(limited, key.pipeline, key.replica, lease.Token) // it runs out by itself otherwise
		return nil, final(fmt.Errorf("start replica %d of %s: %w", key.replica, key.pipeline, err))
	}
	return &tenant{
		key: key, lease: lease, engine: engine, leases: h.leases, watch: h.watch, log: h.log, renewed: time.Now(),
		quit: make(chan struct{}), done: make(chan struct{}),
	}, nil
}

// tenants returns those that have not been asked to end.
func (h *Host) tenants() []*tenant {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*tenant
	for _, place := range h.slots {
		if t := place.tenant; t != nil && !t.ending() {
			all = append(all, t)
		}
	}
	return all
}

// promiseTime is how long a claim that was answered with this process counts as a hot path here.
const promiseTime = contract.BeatTimeout

// count returns how many hot paths of a pipeline run here or are about to, not counting one replica.
func (h *Host) count(pipeline string, except int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for key, place := range h.slots {
		if t := place.tenant; t != nil && !t.ending() && key.pipeline == pipeline && key.replica != except {
			n++
			delete(h.promised, key)
		}
	}
	for key, at := range h.promised {
		switch {
		case time.Since(at) > promiseTime:
			delete(h.promised, key)
		case key.pipeline == pipeline && key.replica != except:
			n++
		}
	}
	return n
}

func (h *Host) promise(key tenantKey) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.promised[key] = time.Now()
}

// Path is a hot path of this process.
type Path struct {
	Pipeline string
	Replica  int
	Attached bool // an attempt is, so Temporal knows of it
	Status   contract.EngineStatus
}

// Paths returns the hot paths that have not been asked to end.
func (h *Host) Paths() []Path {
	var all []Path
	for _, t := range h.tenants() {
		all = append(all, Path{
			Pipeline: t.key.pipeline, Replica: t.key.replica, Attached: t.isAttached(), Status: t.engine.Status(),
		})
	}
	return all
}

// Draining reports whether the process takes no more hot paths, because it ends.
func (h *Host) Draining() bool { return h.isDraining() }

// Statuses returns what the hot paths of this process say of themselves.
func (h *Host) Statuses() []contract.EngineStatus {
	var all []contract.EngineStatus
	for _, t := range h.tenants() {
		all = append(all, t.engine.Status())
	}
	return all
}

func (h *Host) nudge(pipeline string) {
	for _, t := range h.tenants() {
		if t.key.pipeline == pipeline {
			t.engine.Nudge()
		}
	}
}

// Drain takes no more hot paths, commits and releases those that run, and returns when all have ended or ctx ends. Attempts
// attached to them answer that they have moved.
func (h *Host) Drain(ctx context.Context) error {
	h.drainOnce.Do(func() { close(h.draining) })
	running := h.tenants()
	for _, t := range running {
		t.end(endMoved, "the worker stops")
	}
	for _, t := range running {
		select {
		case <-t.done:
		case <-ctx.Done():
			return fmt.Errorf("drain hot paths: replica %d of %s has not ended: %w", t.key.replica, t.key.pipeline, ctx.Err())
		}
	}
	return nil
}

// stay attaches an attempt to the replica's hot path and stays until one of them ends.
func (h *Host) stay(ctx context.Context, in contract.RunInput, show func(*tenant)) (*contract.RunResult, error) {
	s, err := parse(in.Spec)
	if err != nil {
		return nil, err
	}
	t, number, err := h.attach(ctx, s, in.Replica)
	if err != nil {
		if reason := reasonOf(ctx); reason != nil {
			return nil, ended(reason)
		}
		return nil, err
	}
	defer t.detach(number)
	show(t)
	renew := time.NewTimer(time.Duration(in.RenewSeconds) * time.Second)
	defer renew.Stop()
	select {
	case <-t.done:
	case <-renew.C:
		return &contract.RunResult{Outcome: contract.OutcomeRenew}, nil
	case <-ctx.Done():
		switch reason := context.Cause(ctx); {
		case errors.Is(reason, errCancelled), errors.Is(reason, errSuspended):
			if !t.endFor(number, reason.Error()) {
				return nil, ended(reason) // the hot path is another attempt's by now
			}
			<-t.done
			if errors.Is(reason, errSuspended) {
				return nil, ended(reason)
			}
		case errors.Is(reason, errStopping):
			if !h.isDraining() {
				return nil, typed(contract.ErrorDetached, "the worker is built anew; the hot path runs on")
			}
			<-t.done
		default:
			return nil, ended(reason)
		}
	}
	return h.verdict(t)
}

// verdict turns the end of a tenant into the attempt's answer.
func (h *Host) verdict(t *tenant) (*contract.RunResult, error) {
	switch kind, why := t.result(); kind {
	case endMoved:
		return nil, movedError(why)
	case endLeaseLost:
		return nil, typed(contract.ErrorLeaseHeld, "%s", why)
	case endGone:
		return &contract.RunResult{Outcome: contract.OutcomePipelineGone, Reason: why}, nil
	case endFailed:
		return nil, typed(contract.ErrorEngineFailed, "%s", why)
	default:
		return &contract.RunResult{Outcome: contract.OutcomeStopped, Reason: why}, nil
	}
}
