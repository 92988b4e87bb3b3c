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
