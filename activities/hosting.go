package activities

import (
	"context"
	"sync/atomic"

	"millrace/internal/contract"
)

// Hosting is what runs on a process's own queue.
type Hosting struct {
	host  *Host
	beats Heartbeats
}

// NewHosting returns the activities of the host's queue.
func NewHosting(host *Host, beats Heartbeats) *Hosting { return &Hosting{host: host, beats: beats} }

// Run attaches to the replica's hot path, starting it if it does not run here, and reports its status with every beat. The hot
// path is not the attempt: it runs on when the attempt is over or Temporal is away.
func (a *Hosting) Run(ctx context.Context, in contract.RunInput) (result *contract.RunResult, err error) {
	var running atomic.Pointer[tenant]
	details := func() any {
		status := contract.EngineStatus{Pipeline: in.Pipeline, Replica: in.Replica, State: contract.StateStarting}
		if t := running.Load(); t != nil {
			status = t.engine.Status()
		}
		status.Worker = a.host.worker
		return status
	}
	err = newAttempt(ctx, a.beats, contract.BeatEvery).hold(ctx, details, func(ctx context.Context) error {
		result, err = a.host.stay(ctx, in, running.Store)
		return err
	})
	return result, err
}

// Nudge makes the pipeline's hot paths in this process read desired state now.
func (a *Hosting) Nudge(ctx context.Context, in contract.PipelineRef) error {
	if err := newAttempt(ctx, a.beats, contract.BeatEvery).open(ctx); err != nil {
		return err
	}
	a.host.nudge(in.Pipeline)
	return nil
}

// Placement answers where a replica should run.
type Placement struct{ host *Host }

// NewPlacement returns the activities that place hot paths on this process.
func NewPlacement(host *Host) *Placement { return &Placement{host: host} }

// A process leaves a claim to others twice for every hot path of the pipeline that it has, but not more often than this:
// with 0.2 s, 0.4 s and 0.8 s between tries that costs 1.4 s where there are no others.
const declinesMost = 3

// Claim answers with the holder's queue while its lease is fresh, else with this process's own. A process that runs other
// replicas of the pipeline declines a few times first, so that an emptier one can answer; not when the replica ran before,
// because then lanes wait.
func (a *Placement) Claim(ctx context.Context, in contract.ClaimInput) (*contract.Claimed, error) {
	lease, found, err := a.host.leases.ReadLease(ctx, in.Pipeline, in.Replica)
	if err != nil {
		return nil, err
	}
	if found {
		return &contract.Claimed{Worker: lease.Worker, Queue: lease.Queue, Held: true}, nil
	}
	if a.host.isDraining() {
		return nil, movedError("this worker stops; another one may answer")
	}
	if n := a.host.count(in.Pipeline, in.Replica); !in.Moving && attemptNumber(ctx) <= min(2*n, declinesMost) {
		return nil, typed(contract.ErrorBusy, "worker %s runs %d hot paths of %s; another one may have fewer", a.host.worker, n, in.Pipeline)
	}
	a.host.promise(tenantKey{in.Pipeline, in.Replica})
	return &contract.Claimed{Worker: a.host.worker, Queue: a.host.queue}, nil
}
