package activities

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// Stocks count what there is of a pipeline's windows.
type Stocks interface {
	// Stock counts as of at, and what has expired since the stock before, whose time may be zero. progress is told of the rows read.
	Stock(ctx context.Context, s *spec.Spec, at, since time.Time, progress func(int64)) (contract.Stock, error)
}

// Compacting is what a Compact does by itself; roll-ups and archiving are jobs for the closer. Any worker can run it.
type Compacting struct {
	stocks Stocks
	specs  Specs
	watch  Watch
	beats  Heartbeats
}

// NewCompacting returns the activities of Compact.
func NewCompacting(stocks Stocks, specs Specs, watch Watch, beats Heartbeats) *Compacting {
	return &Compacting{stocks: stocks, specs: specs, watch: watch, beats: beats}
}

// PlanCompact finds the spec that the pipeline was started with last. A pipeline that Temporal does not know, or that was removed
// or is being removed, is refused.
func (a *Compacting) PlanCompact(ctx context.Context, in contract.CompactRef) (*contract.PlannedCompact, error) {
	name := in.Pipeline
	refuse := func(format string, args ...any) (*contract.PlannedCompact, error) {
		return nil, temporal.NewNonRetryableApplicationError(fmt.Sprintf("compact "+name+": "+format, args...), contract.ErrorRefused, nil)
	}
	removing, err := a.watch.Open(ctx, contract.RemoveID(name))
	if err != nil {
		return nil, err
	}
	if removing {
		return refuse("the pipeline is being removed by workflow %s", contract.RemoveID(name))
	}
	s, err := a.specs.Spec(ctx, name)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return refuse("Temporal knows no pipeline of that name, or has forgotten it: start it with `millrace start FILE`, "+
			"or delete the schedule with `millrace compact unschedule %s`", name)
	}
	removed, err := a.specs.Removed(ctx, name)
	if err != nil {
		return nil, err
	}
	if removed {
		return refuse("the pipeline was removed; delete the schedule with `millrace compact unschedule %s`", name)
	}
	text, err := s.JSON()
	if err != nil {
		return nil, err
	}
	return &contract.PlannedCompact{Spec: text}, nil
}

// TakeStock counts what there is of the pipeline's windows. It changes nothing.
func (a *Compacting) TakeStock(ctx context.Context, in contract.TakeStockInput) (*contract.Stock, error) {
	s, err := parse(in.Spec)
	if err != nil {
		return nil, err
	}
	var read atomic.Int64
	var stock contract.Stock
	details := func() any { return contract.Removed{Count: read.Load()} }
	err = newAttempt(ctx, a.beats, removeBeat).hold(ctx, details, func(ctx context.Context) (err error) {
		if stock, err = a.stocks.Stock(ctx, s, in.At, in.Since, read.Store); err != nil {
			if reason := reasonOf(ctx); reason != nil {
				return ended(reason)
			}
			return final(err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &stock, nil
}
