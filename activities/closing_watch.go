package activities

import (
	"context"
	"errors"
	"time"

	"millrace/internal/contract"
)

var errPipelineGone = errors.New("the pipeline's workflow is closed")

// lookAtPipeline cancels when the pipeline's workflow is found closed twice in a row. Temporal being away is no reason.
func (a *Closing) lookAtPipeline(ctx context.Context, cancel context.CancelCauseFunc, pipeline string) {
	tick := time.NewTicker(contract.OpenCheckEvery)
	defer tick.Stop()
	for misses := 0; misses < lookMisses; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		open, err := a.isOpen(ctx, pipeline)
		switch {
		case err != nil:
		case open:
			misses = 0
		default:
			misses++
		}
	}
	cancel(errPipelineGone)
}

// pipelineGone reports whether the pipeline's workflow is closed now, and still is at the next look.
func (a *Closing) pipelineGone(ctx context.Context, pipeline string) bool {
	for misses := 0; ; {
		if open, err := a.isOpen(ctx, pipeline); err != nil || open {
			return false
		}
		if misses++; misses >= lookMisses {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(contract.OpenCheckEvery):
		}
	}
}

func (a *Closing) isOpen(ctx context.Context, pipeline string) (bool, error) {
	ctx, done := context.WithTimeout(ctx, lookLimit)
	defer done()
	return a.watch.Open(ctx, contract.PipelineID(pipeline))
}
