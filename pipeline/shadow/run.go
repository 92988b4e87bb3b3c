package shadow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"millrace/pipeline/lane"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/shadow/audit"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/traces"
	"millrace/pipeline/window"
)

// Base reads what is published of a window; *publish.Contents does.
type Base interface {
	// Read returns the rows of the revision that the ledger row is about, sorted by key. What cannot be read whole any more is
	// a *publish.GoneError.
	Read(ctx context.Context, row *ledger.Row) ([]ledger.Content, error)
	// ReadStates is Read for rows with the states of all keys.
	ReadStates(ctx context.Context, row *ledger.Row) ([]ledger.Content, error)
}

// Ledger is what a run reads of Kafka beside the source topics; *source.Cluster is one.
type Ledger interface {
	ledger.Log
	Ends(ctx context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error)
}

// RunConfig says which shadow is run, and with what. The zero value of an optional field is its default.
type RunConfig struct {
	Pipeline string
	ID       string
	Store    *store.Store
	Ledger   Ledger
	Base     Base
	Open     func(source.ReaderConfig) source.Reader // source.OpenReader with the cluster
	// Lagging says why the shadow must not read now, "" when it may; it is asked about once a second. Nil: it always may. Live
	// has one.
	Lagging func(ctx context.Context) (string, error)
	// Audit compares every window with each place where its content stands, as a recount does. Nil: with the ledger alone.
	Audit *audit.Auditor
	// MemoryLimit bounds the state of all lanes of the shadow, in bytes; 0 is the spec's lane.memory_limit.
	MemoryLimit int64
	// KeepFields says why lanes whose entries are fields stay so, "" when their next commits may be in pages. Nil: they may.
	KeepFields func() string
	// By and Build stand in the rows that an approval publishes.
	By, Build string
	// Progress is told about once a second how far the shadow is. It must not block.
	Progress func(Report)
	Log      *slog.Logger
}

// MemoryError says that a shadow needs more memory than it may have: the lane that all others wait for holds too much.
type MemoryError struct{ Limit, Used int64 }

func (e *MemoryError) Error() string {
	return fmt.Sprintf("the shadow holds %d bytes, and lane.memory_limit allows it %d; count a shorter range, "+
		"or raise the limit in the spec that counts", e.Used, e.Limit)
}

// running is a shadow that runs in this process.
type running struct {
	cfg    RunConfig
	id     store.ShadowID
	token  store.Token // of the guard
	begun  int64
	plan   *plan.Plan
	spec   *spec.Spec
	window *window.Plan
	merger *merge.Merger
	pace   *pace
	store  *considerate // of the lanes
	budget *lane.Budget
	lanes  []*reading
	compared

	needed atomic.Int64  // slices that begin before are in no window that is still to be compared, ms
	wake   chan struct{} // capacity 1: a lane has committed
}

// Run reads the shadow's lanes to their ends and compares its windows. It takes the shadow over from whoever ran it before
// and goes on from what was committed. Errors that the shadow does not survive: store.ErrNoShadow and store.ErrShadowEnds,
// ErrLost, ErrOtherPlan, *MemoryError, and what a log that cannot be read says. store.ErrFenced means that somebody else runs
// it now.
func Run(ctx context.Context, cfg RunConfig) (Result, error) {
	r, err := takeShadow(ctx, cfg)
	if err != nil {
		return Result{}, err
	}
	if err := r.compilePlan(ctx); err != nil {
		return Result{}, err
	}
	if len(r.pending) > 0 {
		reading, span := traces.Start(ctx, traces.SpanShadowRead, traces.Pipeline.String(cfg.Pipeline),
			traces.Lanes.Int(len(r.lanes)), traces.Windows.Int(len(r.pending)))
		err := r.readAndCompare(reading)
		traces.End(span, err)
		if err != nil {
			return Result{}, err
		}
	}
	return r.finish(ctx)
}

// takeShadow makes this process the owner of the shadow's guard and loads its plan.
func takeShadow(ctx context.Context, cfg RunConfig) (*running, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	r := &running{cfg: cfg, id: store.ShadowID{Pipeline: cfg.Pipeline, ID: cfg.ID}, wake: make(chan struct{}, 1)}
	guard, err := cfg.Store.ReadShadow(ctx, r.id)
	if err != nil {
		return nil, err
	}
	if guard.Owner.Removed() {
		return nil, fmt.Errorf("shadow %s: %w", r.id, store.ErrShadowEnds)
	}
	r.token = store.NextToken(guard.Owner)
	if guard, err = cfg.Store.TakeShadow(ctx, r.id, guard.Owner, r.token); err != nil {
		return nil, err
	}
	r.begun = guard.Begun
	r.pace = newPace(guard.Rate, time.Now)
	body, err := cfg.Store.ReadShadowPlan(ctx, r.id)
	if err != nil {
		return nil, err
	}
	var sum diff.Digest
	if sum.Add(body); sum.String() != guard.Plan {
		return nil, fmt.Errorf("shadow %s: %w: its plan is not the one it was begun with", r.id, ErrLost)
	}
	r.plan, err = parsePlan(body)
	return r, err
}

// compilePlan compiles the plan's spec and finds out what was compared before.
func (r *running) compilePlan(ctx context.Context) (err error) {
	if r.spec, err = specOf(r.plan); err != nil {
		return err
	}
	r.spec.Lane.ChunkFields = min(r.spec.Lane.ChunkFields, callMost)
	r.store = newConsiderate(r.cfg.Store, r.pace)
	if r.window, err = window.NewPlan(r.spec); err != nil {
		return err
	}
	r.merger, err = merge.New(merge.Config{
		Spec: r.spec, Plan: r.window, Reader: r.cfg.Store, Parallel: parallelReads, ReadAhead: readAhead,
	})
	if err != nil {
		return err
	}
	limit := r.cfg.MemoryLimit
	if limit <= 0 {
		limit = r.spec.Lane.MemoryLimit
	}
	r.budget = lane.NewBudget(limit)
	if err := r.loadCompared(ctx); err != nil {
		return err
	}
	wanted := spansOf(r.plan.Windows)
	for i := range r.plan.Lanes {
		program, err := fold.Compile(r.spec)
		if err != nil {
			return err
		}
		l := &reading{
			run: r, index: i, plan: &r.plan.Lanes[i], id: laneID(r.plan, &r.plan.Lanes[i]), program: program, wanted: wanted,
			discard: make(chan struct{}, 1),
		}
		l.offset.Store(l.plan.Start)
		l.committed.Store(l.plan.Start - 1) // until it was restored
		r.lanes = append(r.lanes, l)
	}
	return nil
}

// moved says that a lane has committed.
func (r *running) moved() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// readAndCompare runs all lanes until every window was compared or something fails for good.
func (r *running) readAndCompare(ctx context.Context) error {
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, l := range r.lanes {
		l.share = r.budget.Join()
		wg.Go(func() {
			if err := l.Run(inner); err != nil {
				cancel(err)
			}
		})
	}
	wg.Go(func() {
		if err := r.watch(inner); err != nil {
			cancel(err)
		}
	})
	err := r.compareAll(inner)
	if err == nil && r.cfg.Progress != nil {
		r.cfg.Progress(r.progress())
	}
	if cause := context.Cause(inner); err != nil && cause != nil {
		err = cause
	}
	cancel(nil)
	wg.Wait()
	return err
}

const (
	watchEvery  = 250 * time.Millisecond
	reportEvery = time.Second
)

// watch bounds memory, follows the rate that is wanted, yields to the pipeline, and reports.
func (r *running) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		r.budget.Review()
		if limit, used := r.budget.Limit(), r.budget.Used(); used > limit+limit/4 {
			return &MemoryError{Limit: limit, Used: used}
		}
		if time.Since(last) < reportEvery {
			continue
		}
		last = time.Now()
		if err := r.followGuard(ctx); err != nil {
			return err
		}
		r.yield(ctx)
		if r.cfg.Progress != nil {
			r.cfg.Progress(r.progress())
		}
	}
}

// followGuard takes over the rate that is wanted, and ends when somebody else owns the shadow.
func (r *running) followGuard(ctx context.Context) error {
	guard, err := r.cfg.Store.ReadShadow(ctx, r.id)
	switch {
	case errors.Is(err, store.ErrNoShadow):
		return err
	case err != nil:
		r.cfg.Log.WarnContext(ctx, "guard of a shadow not read", "shadow", r.id.String(), "error", err)
		return nil
	case guard.Owner.Removed():
		return fmt.Errorf("shadow %s: %w", r.id, store.ErrShadowEnds)
	case guard.Owner != r.token:
		return fmt.Errorf("shadow %s: %w", r.id, store.ErrFenced)
	}
	r.pace.setRate(guard.Rate)
	return nil
}

// yield holds the lanes while the pipeline's own lag behind.
func (r *running) yield(ctx context.Context) {
	if r.cfg.Lagging == nil {
		return
	}
	why, err := r.cfg.Lagging(ctx)
	if err != nil {
		r.cfg.Log.WarnContext(ctx, "it is not known whether the pipeline keeps up", "shadow", r.id.String(), "error", err)
		return
	}
	r.pace.hold(why)
}

// progress says how far the shadow is.
func (r *running) progress() Report {
	var out Report
	for _, l := range r.lanes {
		lr := LaneReport{
			Topic: l.plan.Topic, Partition: l.plan.Partition, Start: l.plan.Start, End: l.plan.End,
			Offset: l.offset.Load(), Committed: max(l.plan.Start, l.committed.Load()),
		}
		if reason := l.reason.Load(); reason != nil {
			lr.Reason = *reason
		}
		out.Lanes = append(out.Lanes, lr)
		out.Read += lr.Committed - lr.Start
		out.Records += l.plan.Offsets()
	}
	out.Limit, out.Rate = r.pace.standing()
	out.Waits = r.pace.heldBecause()
	r.countWindows(&out)
	return out
}
