package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/pipeline/lane"
	"millrace/pipeline/report"
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

// recovery lets lanes through the steps of their acquisition, in batches. Whoever comes first runs a step of a batch:
// somebody outside, or a timer. It implements lane.Gate.
type recovery struct {
	pipeline string
	replica  int
	announce func(report.RecoveryBatch) // when the claims of a batch have been collected
	report   func(report.RecoveryReport)
	storm    func() *report.Storm // the one that goes on, nil without one
	tracing  *lane.Tracing        // nil: recoveries are not traced
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
	r                    *recovery
	report.RecoveryBatch                   // Batch is unique in this process; Lanes is filled when announced
	closed               time.Time         // zero while lanes are under way
	by                   map[string]string // step -> who runs it
	ready                map[string]bool   // a timer runs for the step
	inline               bool              // the timer ran a step: it runs the rest at once
	full                 bool              // collects no more
	lanes                []*lane.Acquisition
	parked               []lane.Parking         // instead of lanes, in a batch of lanes that ran
	left                 int                    // lanes without an outcome
	final                *report.RecoveryReport // once it is closed, instead of lanes
	change               chan struct{}          // closed when anything above moves
	trace                batchTrace
}

func newRecovery(cfg *Config, storm func() *report.Storm) *recovery {
	return &recovery{
		pipeline: cfg.Spec.Name, replica: cfg.Replica, announce: cfg.Announce, report: cfg.Report, storm: storm, tracing: cfg.Tracing,
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
		case report.ByTemporal:
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
			return report.ByInline, done
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
		RecoveryBatch: report.RecoveryBatch{Batch: nextBatchID(), Pipeline: r.pipeline, Replica: r.replica, Began: time.Now()},
	}
	b.beginTrace()
	r.batches = append(r.batches, b)
	return b
}

// fill ends the collecting and announces the batch. Nothing waits for whoever hears it.
func (b *batch) fill() {
	storm := b.r.storm()
	b.r.mu.Lock()
	b.full, b.r.open = true, nil
	for _, a := range b.lanes {
		b.Lanes = append(b.Lanes, report.LaneRef{Topic: a.Lane().Topic, Partition: a.Lane().Partition})
	}
	slices.SortFunc(b.Lanes, func(x, y report.LaneRef) int {
		return cmp.Or(strings.Compare(x.Topic, y.Topic), cmp.Compare(x.Partition, y.Partition))
	})
	announced := b.RecoveryBatch
	announced.Storm = storm
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
		b.by[step] = report.ByInline
	case step == report.StepResume:
		b.by[step] = b.by[report.StepVerify]
	case b.full && !b.ready[step]:
		b.ready[step] = true
		time.AfterFunc(TemporalWait, func() { b.run(step, report.ByInline) })
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
	b.inline = b.inline || by == report.ByInline
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
	b.traceLane(a)
	delete(r.of, a)
	b.left--
	over := b.over()
	r.mu.Unlock()
	if over {
		b.tell()
	}
}

// over closes the batch when all its lanes have an outcome, and reports whether it did. Of the closed ones the last are
// kept.
func (b *batch) over() bool {
	if !b.full || b.left > 0 || !b.closed.IsZero() {
		return false
	}
	b.closed = time.Now()
	b.endTrace()
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
	final := b.describe()
	b.r.mu.Lock()
	b.final, b.lanes, b.parked = &final, nil, nil
	b.r.mu.Unlock()
	if b.r.report != nil {
		go b.r.report(final)
	}
}

func (r *recovery) find(id int64) (*batch, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.batches, func(b *batch) bool { return b.Batch == id })
	if i < 0 {
		return nil, false
	}
	return r.batches[i], true
}

// runStep lets all lanes of a batch into a step and waits for them.
func (r *recovery) runStep(ctx context.Context, id int64, step string) (report.StepReport, error) {
	if !slices.Contains(report.Steps(), step) {
		return report.StepReport{}, fmt.Errorf("recovery step %q is unknown; want one of %v", step, report.Steps())
	}
	b, ok := r.find(id)
	if !ok {
		return report.StepReport{}, fmt.Errorf("step %s of recovery batch %d of pipeline %s: %w", step, id, r.pipeline, ErrNoBatch)
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
				return report.StepReport{}, ctx.Err()
			}
		}
		b.tracedBy(ctx, step)
		if step != report.StepResume {
			b.run(step, report.ByTemporal)
		}
		for _, a := range lanes {
			_, err := a.Result(ctx, a.Token(), step)
			for errors.Is(err, lane.ErrStaleStep) && !ended(a) { // it took another token just now
				_, err = a.Result(ctx, a.Token(), step)
			}
			if err != nil && ctx.Err() != nil {
				return b.stepWithLanes(step), fmt.Errorf("step %s of recovery batch %d: %w", step, id, ctx.Err())
			}
		}
		return b.stepWithLanes(step), nil
	}
}

func ended(a *lane.Acquisition) bool {
	_, state := a.Results()
	return state != report.LaneRecovering
}

// RecoverStep runs a step of a recovery batch for all its lanes, unless somebody has run it, and waits for all that get
// there. Repeating it gives the same answer, but for where the lanes stand by then. If ctx ends first the lanes go on by
// themselves. ErrNoBatch: nobody here knows the batch.
func (e *Engine) RecoverStep(ctx context.Context, batch int64, step string) (report.StepReport, error) {
	return e.recovery.runStep(ctx, batch, step)
}

// Batch returns everything recorded of a recovery batch.
func (e *Engine) Batch(id int64) (report.RecoveryReport, bool) {
	b, ok := e.recovery.find(id)
	if !ok {
		return report.RecoveryReport{}, false
	}
	return b.describe(), true
}

// Later returns what is recorded of the last acquisition of a lane in a batch after the given one, and which batch that is.
func (e *Engine) Later(batch int64, of report.LaneRef) (later int64, recovered report.RecoveredLane, ok bool) {
	e.recovery.mu.Lock()
	batches := slices.Clone(e.recovery.batches)
	e.recovery.mu.Unlock()
	for _, b := range slices.Backward(batches) {
		if b.Batch <= batch {
			break
		}
		if b.MidRun {
			continue
		}
		for _, l := range b.describe().Lanes {
			if l.Lane() == of {
				return b.Batch, l, true
			}
		}
	}
	return 0, report.RecoveredLane{}, false
}
