package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"millrace/internal/contract"
	"millrace/pipeline/breaker"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

// obedience makes one state machine follow the orders that a pipeline's desired state holds for its dependency. An order acts
// once, when it is new, and its end once: what an operator orders of a single worker meanwhile stands. Safe for concurrent use.
type obedience struct {
	m          *breaker.Machine
	dependency string
	log        *slog.Logger

	mu         sync.Mutex
	generation int64
	order      report.LevelOrder // the one that acts; zero for none
}

// obey takes the orders of a generation. Those of an earlier one than was seen come from a Redis that stands behind.
func (o *obedience) obey(generation int64, orders []report.LevelOrder) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if generation == 0 || generation < o.generation {
		return
	}
	o.generation = generation
	var next report.LevelOrder
	if i := slices.IndexFunc(orders, func(l report.LevelOrder) bool { return l.Dependency == o.dependency }); i >= 0 {
		next = orders[i]
	}
	if next.Override == o.order.Override && next.By == o.order.By && next.At.Equal(o.order.At) {
		return
	}
	by := next.By
	if next.Override == report.OverrideNone {
		by = "the pipeline's degrade auto"
	}
	o.order = next
	o.give(next.Override, by, next.Reason)
}

// give gives the machine an override, or lifts the one in force. A newer release may have written one that this one does not know.
func (o *obedience) give(override report.Override, by, reason string) {
	if err := o.m.Override(override, by, reason); err != nil {
		o.log.Error("override refused", "dependency", o.dependency, "by", by, "error", err)
	}
}

// follow is obey for what Redis holds.
func (o *obedience) follow(ctl store.PipelineCtl) {
	if orders, err := ordersOf(ctl); err == nil { // what cannot be read orders nothing new
		o.obey(ctl.Gen, orders)
	}
}

func ordersOf(ctl store.PipelineCtl) (orders []report.LevelOrder, err error) {
	if len(ctl.Orders) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(ctl.Orders, &orders); err != nil {
		return nil, fmt.Errorf("overrides of levels in the desired state: %w", err)
	}
	return orders, nil
}

// take is obey for orders that came through Temporal.
func (o *obedience) take(worker string, in contract.OrderLevelsInput) contract.OrderedLevel {
	o.obey(in.Generation, in.Orders)
	if slices.Contains(in.Lift, o.dependency) {
		o.give(report.OverrideNone, "the pipeline's degrade auto", "")
	}
	s := o.m.Status()
	return contract.OrderedLevel{Worker: worker, Replica: s.Replica, Dependency: s.Dependency, Level: s.Level, Override: s.Override}
}

// OrderLevels implements activities.Levels.
func (e *engines) OrderLevels(in contract.OrderLevelsInput) (taken []contract.OrderedLevel) {
	for _, h := range e.sorted() {
		if s := h.guard.Status(); s.Pipeline == in.Pipeline {
			taken = append(taken, h.orders.take(e.worker, in))
		}
	}
	if made, ok := e.outlets.existing(in.Pipeline); ok {
		taken = append(taken, made.orders.take(e.worker, in))
	}
	return taken
}

// ordersEvery is how often a closer reads the orders. Hot paths read them with everything else that is desired.
const ordersEvery = time.Second

// obeyRedis makes a closer's state machine follow the pipeline's orders as long as the closer is at work here, or one is in force.
func (o *outlet) obeyRedis(ctx context.Context, read func(context.Context) (store.PipelineCtl, error)) {
	tick := time.NewTicker(ordersEvery)
	defer tick.Stop()
	for {
		if time.Since(time.Unix(0, o.used.Load())) <= unused || o.LevelStatus().Override != report.OverrideNone {
			limited, cancel := context.WithTimeout(ctx, ordersEvery)
			if ctl, err := read(limited); err == nil {
				o.orders.follow(ctl)
			}
			cancel()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
