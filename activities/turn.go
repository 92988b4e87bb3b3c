package activities

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"millrace/internal/contract"
)

// closerTurn is the number under which the turn of a pipeline's closers is leased.
const closerTurn = -1

// Pauses of those who wait for a turn, and of those who have just had one: the second is longer, so that everybody gets one.
const (
	turnLook  = 20 * time.Millisecond
	turnPause = 3 * turnLook
)

// turn runs work while no other activity closes windows of the pipeline. Two of them at once would be safe, by the fencing
// of their transactions, but each would undo the other's work again and again. A holder that died is waited for until its
// lease has run out.
func (a *Closing) turn(ctx context.Context, pipeline string, work func(context.Context) error) error {
	lease := Lease{Worker: "closer", Token: uuid.NewString()}
	for {
		_, held, err := a.leases.AcquireLease(ctx, pipeline, closerTurn, lease, contract.LeaseTTL)
		if err != nil {
			return fmt.Errorf("wait for the turn to close windows of %s: %w", pipeline, err)
		}
		if held {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(turnLook):
		}
	}
	renewing, cancel := context.WithCancel(ctx)
	var renewal sync.WaitGroup
	renewal.Go(func() { a.renewTurn(renewing, pipeline, lease) })
	err := work(ctx)
	cancel()
	renewal.Wait()
	limited, done := context.WithTimeout(context.WithoutCancel(ctx), contract.LeaseTTL)
	defer done()
	if err := a.leases.ReleaseLease(limited, pipeline, closerTurn, lease.Token); err != nil {
		a.log.WarnContext(ctx, "turn not released; it runs out by itself", "pipeline", pipeline, "error", err)
	}
	return err
}

func (a *Closing) renewTurn(ctx context.Context, pipeline string, lease Lease) {
	tick := time.NewTicker(contract.LeaseEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if _, _, err := a.leases.AcquireLease(ctx, pipeline, closerTurn, lease, contract.LeaseTTL); err != nil && ctx.Err() == nil {
				a.log.WarnContext(ctx, "turn not renewed", "pipeline", pipeline, "error", err)
			}
		}
	}
}
