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
		limited, done := context.WithTimeout(ctx, lookLimit)
		open, err := a.watch.Open(limited, contract.PipelineID(pipeline))
		done()
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
