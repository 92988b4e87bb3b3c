package activities

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"millrace/internal/contract"
)

// Why a tenant ended.
type endKind int

const (
	endStopped   endKind = iota // asked to
	endMoved                    // the process goes away
	endLeaseLost                // another worker holds the lease
	endGone                     // the pipeline's workflow is closed
	endOrphaned                 // nobody attached for the grace time
	endFailed                   // the hot path ended by itself
)

// stopLimit bounds the commit and release of a hot path; it is below the worker's stop timeout.
const stopLimit = 25 * time.Second

// tenant is one hot path in this process together with what keeps it: the lease, the look at the workflows, and the
// attempt that is attached. It outlives attempts. Its fields below mu are guarded by it.
type tenant struct {
	key    tenantKey
	lease  Lease
	engine Engine
	leases Leases
	watch  Watch
	log    *slog.Logger

	renewed time.Time // when the lease was last held; only keep uses it

	quit chan struct{} // closed when the tenant should end
	done chan struct{} // closed when it has ended; kind and why are final then

	mu       sync.Mutex
	kind     endKind
	why      string
	asked    bool
	attempt  int64 // number of the attempt that attached last
	attached bool
	orphan   time.Duration // time without an attempt while Temporal could be reached
}

type tenantKey struct {
	pipeline string
	replica  int
}

// adopt attaches a new attempt and returns its number. The attempt before it, if it still runs, no longer counts.
func (t *tenant) adopt() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attempt++
	t.attached, t.orphan = true, 0
	return t.attempt
}

// detach makes the tenant an orphan unless another attempt has attached since.
func (t *tenant) detach(attempt int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.attempt == attempt {
		t.attached = false
	}
}

// end asks the tenant to end. The first reason stands.
func (t *tenant) end(kind endKind, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ask(kind, why)
}

// ask is end for those who hold mu.
func (t *tenant) ask(kind endKind, why string) {
	if !t.asked {
		t.asked, t.kind, t.why = true, kind, why
		close(t.quit)
	}
}

// endFor asks the tenant to end if that attempt is the one that attached last, and reports whether it is.
func (t *tenant) endFor(attempt int64, why string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.attempt != attempt {
		return false
	}
	t.ask(endStopped, why)
	return true
}

func (t *tenant) isAttached() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.attached
}

// ending reports that the tenant has been asked to end.
func (t *tenant) ending() bool {
	select {
	case <-t.quit:
		return true
	default:
		return false
	}
}

// result says why the tenant ended. Valid once done is closed.
func (t *tenant) result() (endKind, string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kind, t.why
}

// keep runs until the tenant has ended: it renews the lease, checks whether the workflows are open, and in the end stops the hot path.
func (t *tenant) keep(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var looks sync.WaitGroup
	looks.Go(func() { t.lookAtWorkflows(ctx) })
	t.renewUntilEnd(ctx)
	cancel()
	looks.Wait()
	t.settle(context.WithoutCancel(ctx))
	close(t.done)
}

func (t *tenant) renewUntilEnd(ctx context.Context) {
	tick := time.NewTicker(contract.LeaseEvery)
	defer tick.Stop()
	for {
		select {
		case <-t.quit:
			return
		case <-t.engine.Done():
			why := "the hot path ended"
			if err := t.engine.Err(); err != nil {
				why = err.Error()
			}
			t.end(endFailed, why)
			return
		case <-tick.C:
			t.renew(ctx)
		}
	}
}

// renew keeps the lease. Redis being away is no reason to stop: a lane's token decides who may write. A lease that must have
// expired meanwhile, because Redis was away or this process was frozen, is taken again only while the workflows want the hot
// path: the pipeline may have been removed.
func (t *tenant) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, contract.LeaseTTL)
	defer cancel()
	if time.Since(t.renewed) > contract.LeaseTTL {
		if open, err := t.workflowsOpen(ctx); err != nil || !open {
			if holder, found, err := t.leases.ReadLease(ctx, t.key.pipeline, t.key.replica); err == nil && found &&
				holder.Token != t.lease.Token {
				t.loseTo(holder)
			}
			return
		}
	}
	holder, held, err := t.leases.AcquireLease(ctx, t.key.pipeline, t.key.replica, t.lease, contract.LeaseTTL)
	switch {
	case err == nil && held:
		t.renewed = time.Now()
	case err == nil:
		t.loseTo(holder)
	}
}

func (t *tenant) loseTo(holder Lease) {
	t.end(endLeaseLost, fmt.Sprintf("worker %s holds the replica", holder.Worker))
}

// Looks at the workflows: the interval while nobody is attached (contract.OpenCheckEvery else), the limit of one look, and how
// many in a row must find them closed.
const (
	orphanLook = 10 * time.Second
	lookLimit  = 5 * time.Second
	lookMisses = 2
)

// lookAtWorkflows ends the tenant when its workflow or the pipeline's is closed twice in a row, or when it has been an orphan
// for the grace time. Time in which Temporal cannot be reached does not count.
func (t *tenant) lookAtWorkflows(ctx context.Context) {
	tick := time.NewTicker(orphanLook)
	defer tick.Stop()
	misses, last := 0, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		attached := t.isAttached()
		due := time.Since(last) >= contract.OpenCheckEvery
		if attached && !due {
			continue
		}
		open, err := t.workflowsOpen(ctx)
		if err != nil {
			continue
		}
		if due {
			last = time.Now()
		}
		if misses++; open {
			misses = 0
		}
		if misses >= lookMisses {
			t.end(endGone, "the workflow that wants this hot path is closed")
			return
		}
		if t.orphanedFor(orphanLook) >= contract.OrphanGrace {
			t.end(endOrphaned, fmt.Sprintf("no attempt attached for %s", contract.OrphanGrace))
			return
		}
	}
}

// orphanedFor adds to the time without an attempt.
func (t *tenant) orphanedFor(more time.Duration) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.attached {
		return 0
	}
	t.orphan += more
	return t.orphan
}

func (t *tenant) workflowsOpen(ctx context.Context) (bool, error) {
	return Wanted(ctx, t.watch, t.key.pipeline, t.key.replica)
}

// Wanted reports whether the workflows that want a replica's hot path are open. While they are, nobody removes the pipeline.
func Wanted(ctx context.Context, watch Watch, pipeline string, replica int) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	open, err := watch.Open(ctx, contract.PipelineID(pipeline))
	if err != nil || !open {
		return open, err
	}
	return watch.Open(ctx, contract.ReplicaID(pipeline, replica))
}

// settle stops the hot path and gives the lease up.
func (t *tenant) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopLimit)
	defer cancel()
	kind, why := t.result()
	log := t.log.With("pipeline", t.key.pipeline, "replica", t.key.replica, "why", why)
	if kind != endFailed {
		if err := t.engine.Stop(ctx); err != nil {
			log.WarnContext(ctx, "hot path did not stop cleanly; its last commits may be read again", "error", err)
		}
	}
	if err := t.leases.ReleaseLease(ctx, t.key.pipeline, t.key.replica, t.lease.Token); err != nil {
		log.WarnContext(ctx, "lease not released; it runs out by itself", "error", err)
	}
	log.InfoContext(ctx, "hot path ended")
}
