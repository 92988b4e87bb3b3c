package shadow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
	"millrace/pipeline/traces"
	"millrace/pipeline/window"
)

const (
	parallelReads = 4
	readAhead     = 8

	// lookAhead is how many windows behind one that is not complete are looked at: they are sorted by deadline, and lanes pass
	// deadlines nearly in that order.
	lookAhead = 64
)

// compared is what is known about the windows of a shadow. The comparing goroutine alone changes pending and rows.
type compared struct {
	pending []int                           // windows of the plan that are still to be compared
	rows    map[ledger.WindowID]*ledger.Row // latest rows as of the beginning of this run
	edition int                             // of the pipeline
	stale   map[ledger.WindowID]bool        // rolled-up windows that are to be made anew

	mu      sync.Mutex
	headers map[string]*diff.Header // guarded by mu
}

// windowName is how a window is named in the shadow's keys.
func windowName(id ledger.WindowID) string { return fmt.Sprintf("%s/%d", id.Window, id.Start) }

// loadCompared reads what an earlier run has found out, and the rows that the rest is compared with.
func (r *running) loadCompared(ctx context.Context) error {
	stored, err := r.cfg.Store.ShadowHeaders(ctx, r.id)
	if err != nil {
		return err
	}
	r.headers = make(map[string]*diff.Header, len(stored))
	for name, b := range stored {
		if r.headers[name], err = diff.ParseHeader(b); err != nil {
			return fmt.Errorf("shadow %s: %s: %w", r.id, name, err)
		}
	}
	for i := range r.plan.Windows {
		if r.headers[windowName(r.plan.Windows[i].ID())] == nil {
			r.pending = append(r.pending, i)
		}
	}
	r.needed.Store(r.lowestPending())
	if r.cfg.Audit == nil || len(r.pending) == 0 {
		return r.loadRows(ctx)
	}
	return r.loadAudited(ctx)
}

func (r *running) loadRows(ctx context.Context) error {
	book, err := readBook(ctx, r.cfg.Ledger, r.cfg.Pipeline)
	if err != nil {
		return err
	}
	r.rows, r.edition, r.stale = book.Rows, book.Edition, make(map[ledger.WindowID]bool)
	return nil
}

// lowestPending is the lowest start of a window that is still to be compared, ms.
func (r *running) lowestPending() int64 {
	low := int64(window.NoTime)
	for k, i := range r.pending {
		if start := r.plan.Windows[i].Start; k == 0 || start < low {
			low = start
		}
	}
	return low
}

// compareAll compares each window as soon as every lane has committed what belongs to it.
func (r *running) compareAll(ctx context.Context) error {
	for len(r.pending) > 0 {
		if ready := r.ready(); len(ready) > 0 {
			comparing, span := traces.Start(ctx, traces.SpanCompare, traces.Windows.Int(len(ready)))
			err := r.compareReady(comparing, ready)
			traces.End(span, err)
			if err != nil {
				return err
			}
		}
		if len(r.pending) == 0 {
			return nil
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// ready lists windows that are complete.
func (r *running) ready() (ready []int) {
	missed := 0
	for _, i := range r.pending {
		if r.isComplete(&r.plan.Windows[i]) {
			ready = append(ready, i)
		} else if missed++; missed > lookAhead {
			break
		}
	}
	return ready
}

func (r *running) isComplete(w *plan.Window) bool {
	for i, l := range r.lanes {
		if l.committed.Load() < w.Ends[i] {
			return false
		}
	}
	return true
}

// compareReady compares windows under one view of the lanes. Those that a lane was in the middle of a commit of are left to
// the next one.
func (r *running) compareReady(ctx context.Context, ready []int) error {
	view, err := survey.Take(ctx, survey.Config{
		Spec: r.spec, Plan: r.window, State: r.cfg.Store, Topics: plannedTopics{r.plan}, Parallel: parallelReads,
	})
	if err != nil {
		return r.lostOr(err)
	}
	for i := range view.Lanes {
		if view.Lanes[i].Loss != nil {
			return fmt.Errorf("%w: %w", ErrLost, view.Lanes[i].Loss)
		}
	}
	for _, i := range ready {
		began := time.Now()
		err := r.compareWindow(ctx, view, &r.plan.Windows[i])
		var ahead *merge.AheadError
		switch {
		case errors.As(err, &ahead), errors.Is(err, merge.ErrMoved):
			return nil
		case err != nil:
			return r.lostOr(err)
		}
		r.pending = slices.DeleteFunc(r.pending, func(k int) bool { return k == i })
		r.releaseSlices()
		if !sleep(ctx, r.pace.comparedFor(time.Since(began))) {
			return ctx.Err()
		}
	}
	return nil
}

// lostOr makes an error that says that state is gone one of ErrLost.
func (r *running) lostOr(err error) error {
	if errors.Is(err, store.ErrPartialLoss) || errors.Is(err, store.ErrNoMeta) || errors.Is(err, store.ErrCorrupt) {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	return err
}

// releaseSlices lets the lanes drop what no window needs any more.
func (r *running) releaseSlices() {
	if low := r.lowestPending(); low > r.needed.Load() {
		r.needed.Store(low)
		for _, l := range r.lanes {
			l.wakeDiscard()
		}
	}
}

// countWindows counts the windows of a report.
func (r *running) countWindows(out *Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out.Windows, out.Compared, out.Refused = len(r.plan.Windows), len(r.headers), len(r.plan.Refused)
	for _, h := range r.headers {
		switch {
		case h.Problem != "":
			out.Refused++
		case h.Agrees():
			out.Equal++
		default:
			out.Differ++
		}
	}
}

// finish keeps the checksum of the whole difference and sums up.
func (r *running) finish(ctx context.Context) (Result, error) {
	m, err := NewReader(r.cfg.Store, r.cfg.Pipeline, r.cfg.ID).Manifest(ctx)
	if err != nil {
		return Result{}, err
	}
	if err := r.cfg.Store.FinishShadow(ctx, r.id, r.token, m.Checksum); err != nil {
		return Result{}, err
	}
	return m.Result(), nil
}

// plannedTopics answers a survey with the lanes of a plan.
type plannedTopics struct{ plan *plan.Plan }

func (t plannedTopics) Topic(_ context.Context, name string) (source.Topic, error) {
	topic := source.Topic{Name: name}
	for i := range t.plan.Lanes {
		if l := &t.plan.Lanes[i]; l.Topic == name {
			topic.ID = l.TopicID
			topic.Partitions = append(topic.Partitions, l.Partition)
		}
	}
	return topic, nil
}

func (t plannedTopics) Ends(_ context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error) {
	ends := make(map[source.TopicPartition]source.Ends, len(tps))
	for i := range t.plan.Lanes {
		l := &t.plan.Lanes[i]
		ends[source.TopicPartition{Topic: l.Topic, Partition: l.Partition}] = source.Ends{Start: l.Start, End: l.End, HighWatermark: l.End}
	}
	return ends, nil
}
