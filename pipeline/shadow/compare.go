package shadow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/publish"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
	"millrace/pipeline/window"
)

const (
	parallelReads = 4
	readAhead     = 8

	// lookAhead is how many windows behind one that is not complete are looked at: they are sorted by deadline, and lanes pass
	// deadlines nearly in that order.
	lookAhead = 64

	// pagesPerCall bounds the pages that are written in one call.
	pagesPerCall = 16
)

// compared is what is known about the windows of a shadow. The comparing goroutine alone changes pending and rows.
type compared struct {
	pending []int                           // windows of the plan that are still to be compared
	rows    map[ledger.WindowID]*ledger.Row // latest rows as of the beginning of this run
	edition int                             // of the pipeline

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
	book, err := readBook(ctx, r.cfg.Ledger, r.cfg.Pipeline)
	if err != nil {
		return err
	}
	r.rows, r.edition = book.Rows, book.Edition
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
			if err := r.compareReady(ctx, ready); err != nil {
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
		err := r.compareWindow(ctx, view, &r.plan.Windows[i])
		var ahead *merge.AheadError
		switch {
		case errors.As(err, &ahead), errors.Is(err, merge.ErrMoved):
			return nil
		case err != nil:
			return r.lostOr(err)
		}
		r.pending = slices.DeleteFunc(r.pending, func(k int) bool { return k == i })
		r.release()
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

// release lets the lanes drop what no window needs any more.
func (r *running) release() {
	if low := r.lowestPending(); low > r.needed.Load() {
		r.needed.Store(low)
		for _, l := range r.lanes {
			l.wakeDiscard()
		}
	}
}

// counting is what a window holds, as counted.
type counting struct {
	keys, events int64
	checksum     string
}

// compareWindow counts a window and keeps what it finds.
func (r *running) compareWindow(ctx context.Context, view *survey.View, w *plan.Window) error {
	ref, err := r.refOf(w)
	if err != nil {
		return err
	}
	var sum ledger.Checksum
	events, _, err := r.merger.Window(ctx, view, ref, true, func(row ledger.Content) error {
		sum.AddContent(row)
		return nil
	})
	if err != nil {
		return err
	}
	found := counting{keys: sum.Rows(), events: events, checksum: sum.String()}
	row := r.rows[w.ID()]
	h := r.headerOf(view, ref, w, row, found)
	switch {
	case hasMoved(w, row, r.edition):
		h.Problem = "the window was published anew since the plan was made; begin another replay"
	case h.Equal:
	default:
		if err := r.writeDifference(ctx, view, ref, w, row, h); err != nil {
			return err
		}
	}
	return r.keepHeader(ctx, h)
}

// hasMoved reports whether a window's row is not the one that the plan was made for.
func hasMoved(w *plan.Window, row *ledger.Row, edition int) bool {
	if row != nil && row.Edition != edition {
		row = nil
	}
	if w.Base == nil || row == nil {
		return (w.Base == nil) != (row == nil)
	}
	return row.Edition != w.Base.Edition || row.Revision != w.Base.Revision || row.Checksum != w.Base.Checksum
}

func (r *running) refOf(w *plan.Window) (window.Ref, error) {
	for i := range r.spec.Windows {
		if r.spec.Windows[i].Name == w.Name {
			return window.Ref{Window: i, Start: w.Start}, nil
		}
	}
	return window.Ref{}, fmt.Errorf("plan of %s: the spec has no window %q", r.id, w.Name)
}

// headerOf says what was found, without the difference.
func (r *running) headerOf(view *survey.View, ref window.Ref, w *plan.Window, row *ledger.Row, found counting) *diff.Header {
	h := &diff.Header{
		Version: diff.HeaderVersion, Lateness: string(r.plan.Lateness), Scope: string(r.plan.Scope),
		Row: ledger.Row{
			Version: ledger.RowVersion, Pipeline: r.plan.Pipeline, Window: w.Name, Start: w.Start, End: w.End, Edition: r.edition,
			Spec: r.plan.SpecVersion, Build: r.cfg.Build, Revision: 1, Reason: ledger.ReasonReplay, Final: true, Exact: true, By: r.cfg.By,
			Keys: found.keys, Events: found.events, Checksum: found.checksum, Algorithm: ledger.ChecksumAlgorithm,
			Lanes: r.covers(view, ref, w, row),
		},
	}
	var base plan.Base
	if w.Base != nil {
		base = *w.Base
		h.Row.Revision = base.Revision + 1
	} else {
		base.Checksum = new(ledger.Checksum).String()
	}
	if row != nil {
		h.Row.PublishedTo = row.PublishedTo
	}
	h.BaseEdition, h.BaseRevision, h.BaseChecksum = base.Edition, base.Revision, base.Checksum
	h.BaseKeys, h.BaseEvents, h.BaseSpec = base.Keys, base.Events, base.Spec
	h.Equal = found == counting{base.Keys, base.Events, base.Checksum}
	return h
}

// covers are the lanes of the row that a correction publishes. What it says of how the lanes themselves have decided stays as
// it is: a later replay begins there. What they hold of the window is what was counted.
func (r *running) covers(view *survey.View, ref window.Ref, w *plan.Window, row *ledger.Row) []ledger.Cover {
	var covers []ledger.Cover
	if row != nil {
		covers = slices.Clone(row.Lanes)
	}
	ranges := r.window.SlicesOf(ref)
	for i := range view.Lanes {
		l, p := &view.Lanes[i], &r.plan.Lanes[i]
		_, last, folded := l.Share(ranges)
		k := slices.IndexFunc(covers, func(c ledger.Cover) bool { return c.Partition == p.Partition && c.Topic == p.Topic })
		if k < 0 {
			if folded == 0 {
				continue
			}
			covers = append(covers, ledger.Cover{Topic: p.Topic, Partition: p.Partition, Era: p.Era, TopicID: p.TopicID, FirstOffset: -1})
			k = len(covers) - 1
			if r.plan.Lateness == plan.AsRead {
				covers[k].Offset = w.Ends[i]
			}
		}
		covers[k].LastOffset, covers[k].Folded = last, folded
	}
	return covers
}

// writeDifference keeps the rows that differ. A base that cannot be read whole is a problem of the window.
func (r *running) writeDifference(ctx context.Context, view *survey.View, ref window.Ref, w *plan.Window, row *ledger.Row, h *diff.Header) error {
	c := diff.NewCompare()
	if row != nil {
		rows, err := r.cfg.Base.Read(ctx, row)
		var gone *publish.GoneError
		if errors.As(err, &gone) {
			h.Problem = "what is published of it cannot be read: " + err.Error()
			return nil
		}
		if err != nil {
			return err
		}
		for i := range rows {
			c.AddBase(rows[i])
		}
	}
	_, _, err := r.merger.Window(ctx, view, ref, true, func(row ledger.Content) error {
		c.AddNew(row)
		return nil
	})
	if err != nil {
		return err
	}
	return r.writePages(ctx, w, c.Rows(), h)
}

// writePages writes rows in pages, and counts them in the header.
func (r *running) writePages(ctx context.Context, w *plan.Window, rows []diff.Row, h *diff.Header) error {
	name := windowName(w.ID())
	var digest diff.Digest
	var batch []store.ShadowPage
	reset := true
	flush := func() error {
		if len(batch) == 0 && !reset {
			return nil
		}
		err := r.cfg.Store.WriteShadowPages(ctx, r.id, r.token, name, reset, batch)
		batch, reset = batch[:0], false
		return err
	}
	pages := diff.NewPages(func(page []byte) error {
		digest.Add(page)
		batch = append(batch, store.ShadowPage{Number: h.Pages, Bytes: slices.Clone(page)})
		h.Pages++
		if len(batch) == pagesPerCall {
			return flush()
		}
		return nil
	})
	for i := range rows {
		switch rows[i].Kind() {
		case diff.Added:
			h.Added++
		case diff.Changed:
			h.Changed++
		case diff.Removed:
			h.Removed++
		}
		if err := pages.Add(&rows[i]); err != nil {
			return err
		}
	}
	if err := pages.Flush(); err != nil {
		return err
	}
	h.Digest = digest.String()
	return flush()
}

// keepHeader keeps what was found out about a window: it is compared from now on.
func (r *running) keepHeader(ctx context.Context, h *diff.Header) error {
	b, err := h.Encode()
	if err != nil {
		return err
	}
	name := windowName(h.ID())
	if err := r.cfg.Store.WriteShadowHeader(ctx, r.id, r.token, name, b); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers[name] = h
	return nil
}

// count counts the windows of a report.
func (r *running) count(out *Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out.Windows, out.Compared, out.Refused = len(r.plan.Windows), len(r.headers), len(r.plan.Refused)
	for _, h := range r.headers {
		switch {
		case h.Problem != "":
			out.Refused++
		case h.Equal:
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
