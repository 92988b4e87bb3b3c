package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"millrace/pipeline/lane"
)

// Times of a recovery.
const (
	// Collect is for how long claims that come one after the other join one batch.
	Collect = 50 * time.Millisecond
	// TemporalWait is how long a step waits for somebody outside to run it, before it is run inline.
	TemporalWait = 500 * time.Millisecond
)

const (
	keptBatches = 100
	// stepLanes bounds how many lanes of a batch are at work in a step that somebody outside runs.
	stepLanes = 16
)

// ErrNoBatch means a batch is not known here (any more): another process has it, or it is long over.
var ErrNoBatch = errors.New("recovery batch is not known")

// Batch is announced when its claims have been collected.
type Batch struct {
	ID       int64     `json:"id"` // unique in this process
	Pipeline string    `json:"pipeline"`
	Replica  int       `json:"replica"`
	Lanes    []string  `json:"lanes,omitempty"`
	Opened   time.Time `json:"opened"`
	MidRun   bool      `json:"mid_run,omitempty"` // its lanes had resumed and have parked since: no step is left to be run
}

// recovery lets lanes through the steps of their acquisition, in batches. Whoever comes first runs a step of a batch:
// somebody outside, or a timer. It implements lane.Gate.
type recovery struct {
	pipeline string
	replica  int
	announce func(Batch)
	report   func(BatchReport)
	slots    chan struct{}

	mu      sync.Mutex
	open    *batch // still collects claims
	fallen  *batch // still collects lanes that park while they run
	batches []*batch
	of      map[*lane.Acquisition]*batch
}

// batchIDs numbers batches over all engines of the process.
var batchIDs struct {
	sync.Mutex
	last int64
}

func nextBatchID() int64 {
	batchIDs.Lock()
	defer batchIDs.Unlock()
	batchIDs.last++
	return batchIDs.last
}

// batch is a set of lanes that were claimed together.
type batch struct {
	r      *recovery
	Batch                    // Lanes is filled when announced
	closed time.Time         // zero while lanes are under way
	by     map[string]string // step -> who runs it
	ready  map[string]bool   // a timer runs for the step
	inline bool              // the timer ran a step: it runs the rest at once
	full   bool              // collects no more
	lanes  []*lane.Acquisition
	parked []lane.Parking // instead of lanes, in a batch of lanes that ran
	left   int            // lanes without an outcome
	final  *BatchReport   // once it is closed, instead of lanes
	change chan struct{}  // closed when anything above moves
}

func newRecovery(cfg *Config) *recovery {
	return &recovery{
		pipeline: cfg.Spec.Name, replica: cfg.Replica, announce: cfg.Announce, report: cfg.Report,
		slots: make(chan struct{}, stepLanes), of: make(map[*lane.Acquisition]*batch),
	}
}

// Admit implements lane.Gate.
func (r *recovery) Admit(ctx context.Context, a *lane.Acquisition, step string) (by string, done func()) {
	done = func() {}
	b := r.join(a)
	for {
		by, change := b.runner(step)
		switch by {
		case "":
		case lane.ByTemporal:
			select {
			case r.slots <- struct{}{}:
				return by, func() { <-r.slots }
			case <-ctx.Done():
				return by, done
			}
		default:
			return by, done
		}
		select {
		case <-change:
		case <-ctx.Done():
			return lane.ByInline, done
		}
	}
}

// join returns the acquisition's batch; a new acquisition goes into the one that collects.
func (r *recovery) join(a *lane.Acquisition) *batch {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b, ok := r.of[a]; ok {
		return b
	}
	b := r.open
	if b == nil {
		b = r.newBatch()
		r.open = b
		time.AfterFunc(Collect, b.fill)
	}
	b.lanes = append(b.lanes, a)
	b.left++
	r.of[a] = b
	return b
}

// newBatch opens a batch; the caller holds mu.
func (r *recovery) newBatch() *batch {
	b := &batch{
		r: r, by: make(map[string]string), ready: make(map[string]bool), change: make(chan struct{}),
		Batch: Batch{ID: nextBatchID(), Pipeline: r.pipeline, Replica: r.replica, Opened: time.Now()},
	}
	r.batches = append(r.batches, b)
	return b
}

// fill ends the collecting and announces the batch. Nothing waits for whoever hears it.
func (b *batch) fill() {
	b.r.mu.Lock()
	b.full, b.r.open = true, nil
	for _, a := range b.lanes {
		b.Lanes = append(b.Lanes, a.Lane().String())
	}
	slices.Sort(b.Lanes)
	announced := b.Batch
	b.moved()
	over := b.over()
	b.r.mu.Unlock()
	if b.r.announce != nil {
		go b.r.announce(announced)
	}
	if over {
		b.tell()
	}
}

func (b *batch) moved() {
	close(b.change)
	b.change = make(chan struct{})
}

// runner says who runs the step, "" when nobody does yet. The first lane that gets there starts the wait for somebody
// outside. Resuming is each lane's own: it has waited for its verification only.
func (b *batch) runner(step string) (by string, change <-chan struct{}) {
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	switch {
	case b.by[step] != "":
	case b.r.announce == nil, b.full && b.inline:
		b.by[step] = lane.ByInline
	case step == lane.StepResume:
		b.by[step] = b.by[lane.StepVerify]
	case b.full && !b.ready[step]:
		b.ready[step] = true
		time.AfterFunc(TemporalWait, func() { b.run(step, lane.ByInline) })
	}
	return b.by[step], b.change
}

// run lets all lanes of the batch into a step, unless somebody has done so.
func (b *batch) run(step, by string) {
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	if b.by[step] != "" {
		return
	}
	b.by[step] = by
	b.inline = b.inline || by == lane.ByInline
	b.moved()
}

// Ended implements lane.Gate.
func (r *recovery) Ended(a *lane.Acquisition) {
	r.mu.Lock()
	b, ok := r.of[a]
	if !ok { // it ended before its first step
		r.mu.Unlock()
		return
	}
	delete(r.of, a)
	b.left--
	over := b.over()
	r.mu.Unlock()
	if over {
		b.tell()
	}
}

// over closes the batch when all its lanes have an outcome, and tells whether it did. Of the closed ones the last are
// kept.
func (b *batch) over() bool {
	if !b.full || b.left > 0 || !b.closed.IsZero() {
		return false
	}
	b.closed = time.Now()
	b.moved()
	closed := 0
	for _, o := range b.r.batches {
		if !o.closed.IsZero() {
			closed++
		}
	}
	if closed > keptBatches {
		i := slices.IndexFunc(b.r.batches, func(o *batch) bool { return !o.closed.IsZero() })
		b.r.batches = slices.Delete(b.r.batches, i, i+1)
	}
	return true
}

// tell reports a closed batch, and keeps no more of it than the report.
func (b *batch) tell() {
	report := b.describe()
	b.r.mu.Lock()
	b.final, b.lanes, b.parked = &report, nil, nil
	b.r.mu.Unlock()
	if b.r.report != nil {
		go b.r.report(report)
	}
}

func (r *recovery) find(id int64) (*batch, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.batches, func(b *batch) bool { return b.ID == id })
	if i < 0 {
		return nil, false
	}
	return r.batches[i], true
}

// runStep lets all lanes of a batch into a step and waits for them.
func (r *recovery) runStep(ctx context.Context, id int64, step string) (StepReport, error) {
	if !slices.Contains(lane.Steps[:], step) {
		return StepReport{}, fmt.Errorf("recovery step %q is unknown; want one of %v", step, lane.Steps)
	}
	b, ok := r.find(id)
	if !ok {
		return StepReport{}, fmt.Errorf("step %s of recovery batch %d of pipeline %s: %w", step, id, r.pipeline, ErrNoBatch)
	}
	for {
		r.mu.Lock()
		full, change, lanes := b.full, b.change, b.lanes
		r.mu.Unlock()
		if !full {
			select {
			case <-change:
				continue
			case <-ctx.Done():
				return StepReport{}, ctx.Err()
			}
		}
		if step != lane.StepResume {
			b.run(step, lane.ByTemporal)
		}
		for _, a := range lanes {
			_, err := a.Result(ctx, a.Token(), step)
			for errors.Is(err, lane.ErrStaleStep) && !ended(a) { // it took another token just now
				_, err = a.Result(ctx, a.Token(), step)
			}
			if err != nil && ctx.Err() != nil {
				return b.step(step), fmt.Errorf("step %s of recovery batch %d: %w", step, id, ctx.Err())
			}
		}
		return b.step(step), nil
	}
}

func ended(a *lane.Acquisition) bool {
	_, outcome := a.Results()
	return outcome != ""
}

// RecoverStep runs a step of a recovery batch for all its lanes, unless somebody has run it, and waits for all that get
// there. Repeating it gives the same answer. If ctx ends first the lanes go on by themselves. ErrNoBatch: nobody here
// knows the batch.
func (e *Engine) RecoverStep(ctx context.Context, batch int64, step string) (StepReport, error) {
	return e.recovery.runStep(ctx, batch, step)
}

// Batch returns everything recorded of a recovery batch.
func (e *Engine) Batch(id int64) (BatchReport, bool) {
	b, ok := e.recovery.find(id)
	if !ok {
		return BatchReport{}, false
	}
	return b.describe(), true
}

// Later returns what is recorded of the last acquisition of a lane, named as pipeline/topic/partition, in a batch after
// the given one.
func (e *Engine) Later(batch int64, name string) (BatchReport, LaneReport, bool) {
	e.recovery.mu.Lock()
	batches := slices.Clone(e.recovery.batches)
	e.recovery.mu.Unlock()
	for _, b := range slices.Backward(batches) {
		if b.ID <= batch {
			break
		}
		if b.MidRun {
			continue
		}
		report := b.describe()
		if i := slices.IndexFunc(report.Rows, func(row LaneReport) bool { return row.Lane == name }); i >= 0 {
			return report, report.Rows[i], true
		}
	}
	return BatchReport{}, LaneReport{}, false
}
