package shadow

import (
	"context"
	"time"

	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/store"
)

// callMost is how many entries one call of a shadow's commit holds at most: a call occupies Redis for about 1.5 µs an entry, and a
// commit of the pipeline may wait behind it.
const callMost = 128

// considerate is the store of a shadow's lanes. Unless somebody has asked for a rate, it sends the calls of commits one by one, of
// all lanes together, and rests after each, so that a commit of the pipeline waits behind one of them and not behind all. It is
// safe for concurrent use.
type considerate struct {
	deliver.Store
	pace *pace
	turn chan struct{} // holds the turn while nobody has it
}

func newConsiderate(st deliver.Store, p *pace) *considerate {
	c := &considerate{Store: st, pace: p, turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c
}

// Apply implements deliver.Store.
func (c *considerate) Apply(ctx context.Context, id store.LaneID, stateID string, owner store.Token, calls []store.Call) (int, error) {
	for i := range calls {
		if !c.pace.isConsiderate() {
			n, err := c.Store.Apply(ctx, id, stateID, owner, calls[i:])
			return i + n, err
		}
		if n, err := c.applyInTurn(ctx, id, stateID, owner, calls[i:i+1]); err != nil {
			return i + n, err
		}
	}
	return len(calls), nil
}

func (c *considerate) applyInTurn(ctx context.Context, id store.LaneID, stateID string, owner store.Token, call []store.Call) (int, error) {
	select {
	case <-c.turn:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { c.turn <- struct{}{} }()
	began := time.Now()
	n, err := c.Store.Apply(ctx, id, stateID, owner, call)
	if err == nil {
		sleep(ctx, c.pace.calledFor(time.Since(began))) // the call is applied, whether ctx ends or not
	}
	return n, err
}
