package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"time"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// closers hands out one closer per pipeline and spec.
type closers struct {
	kafka   source.Config
	cluster *source.Cluster
	store   *store.Store
	outlets *outlets
	by      string
	log     *slog.Logger

	mu   sync.Mutex
	made map[string]*closer
}

// Closer implements activities.Closers.
func (c *closers) Closer(_ context.Context, s *spec.Spec) (activities.Closer, error) {
	text, err := s.JSON()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if made, ok := c.made[string(text)]; ok {
		return made, nil
	}
	inner, err := result.NewCloser(result.Config{
		Spec: s, State: c.store, Kafka: result.NewKafka(c.kafka, c.cluster, s.Name), By: c.by,
		Log: c.log.With("pipeline", s.Name),
	})
	if err != nil {
		return nil, permanent(err)
	}
	out, err := c.outlets.of(s.Name)
	if err != nil {
		return nil, err
	}
	made := &closer{
		Closer: inner, outlet: out, round: inner.Round, spec: s, log: c.log.With("pipeline", s.Name),
		skipped: make(map[window.Ref]struct{}),
	}
	c.made[string(text)] = made
	return made, nil
}

func (c *closers) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, made := range c.made {
		errs = append(errs, made.Close())
	}
	clear(c.made)
	c.outlets.close()
	return errors.Join(errs...)
}

// closer shows a pipeline's closer as the control plane sees it.
type closer struct {
	*result.Closer
	outlet *outlet
	round  func(context.Context) (result.RoundReport, error)
	spec   *spec.Spec
	log    *slog.Logger

	mu      sync.Mutex
	skipped map[window.Ref]struct{}
}

// Round implements activities.Closer. While Kafka does not take results it leaves it alone.
func (c *closer) Round(ctx context.Context, skip []contract.WindowRef) (contract.Round, error) {
	if why, open := c.outlet.open(); open {
		return contract.Round{Waiting: contract.Waiting{For: why}}, nil
	}
	if err := c.skip(skip); err != nil {
		return contract.Round{}, err
	}
	report, err := c.round(ctx)
	c.outlet.judge(report)
	if err != nil {
		return contract.Round{}, permanent(err)
	}
	round := contract.Round{Waiting: c.waiting(report)}
	for _, w := range report.Closed {
		round.Closed = append(round.Closed, c.closed(w))
	}
	for _, t := range report.Failed {
		round.Failed = append(round.Failed, contract.FailedWindow{WindowRef: contract.WindowRef{Window: t.Window, Start: t.Start}, Problem: t.Error})
	}
	for _, t := range report.Incidents {
		c.log.Error("incident while closing", "window", t.Window, "start", time.UnixMilli(t.Start).UTC(), "error", t.Error)
		round.Waiting.For = "incident: " + t.Error + "; " + round.Waiting.For
	}
	if len(report.Kafka) > 0 {
		round.Waiting.For = "Kafka does not take results: " + strings.Join(report.Kafka, "; ")
	}
	return round, nil
}

// skip leaves the named windows, and no others, to their own workflows.
func (c *closer) skip(refs []contract.WindowRef) error {
	wanted := make(map[window.Ref]struct{}, len(refs))
	for _, r := range refs {
		ref, err := c.Ref(r.Window, r.Start)
		if err != nil {
			return permanent(err)
		}
		wanted[ref] = struct{}{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for ref := range c.skipped {
		if _, ok := wanted[ref]; !ok {
			c.Include(ref)
		}
	}
	for ref := range wanted {
		c.Exclude(ref)
	}
	c.skipped = wanted
	return nil
}

func (c *closer) waiting(report result.RoundReport) contract.Waiting {
	w := contract.Waiting{For: report.Waiting.String(), Lane: strings.TrimPrefix(report.Waiting.Lane, c.spec.Name+"/")}
	if report.Waiting.Watermark != math.MinInt64 {
		w.Watermark = report.Waiting.Watermark
	}
	return w
}

func (c *closer) closed(w result.Closed) contract.ClosedWindow {
	end := w.Start
	for _, family := range c.spec.Windows {
		if family.Name == w.Window {
			end += family.Size.Millis()
		}
	}
	return contract.ClosedWindow{
		WindowRef: contract.WindowRef{Window: w.Window, Start: w.Start}, End: end, Revision: w.Revision, Reason: w.Reason,
		Final: w.Final, Keys: w.Keys, Events: w.Events,
	}
}

// CloseOne implements activities.Closer.
func (c *closer) CloseOne(ctx context.Context, r contract.WindowRef) (contract.ClosedWindow, bool, error) {
	ref, err := c.Ref(r.Window, r.Start)
	if err != nil {
		return contract.ClosedWindow{}, false, permanent(err)
	}
	row, published, err := c.CloseWindow(ctx, ref, "")
	if err != nil {
		return contract.ClosedWindow{}, false, permanent(err)
	}
	return contract.ClosedWindow{
		WindowRef: r, End: row.End, Revision: row.Revision, Reason: row.Reason, Final: row.Final, Keys: row.Keys, Events: row.Events,
	}, published, nil
}

// Emit implements activities.Closer.
func (c *closer) Emit(ctx context.Context, reason string, ends []contract.LaneEnd) (contract.Emitted, error) {
	receipt, err := c.emit(ctx, reason, ends)
	if err != nil {
		return contract.Emitted{}, permanent(err)
	}
	if len(receipt.Missing) > 0 {
		m := receipt.Missing[0]
		return contract.Emitted{}, fmt.Errorf("not drained: lane %s: %s", m.Lane, m.Why)
	}
	if !receipt.Done {
		f := receipt.Failed[0]
		return contract.Emitted{}, fmt.Errorf("%d of %d windows were not published, the first is %s: %s",
			len(receipt.Failed), receipt.Windows, f.Window, f.Error)
	}
	out := contract.Emitted{Reason: reason, Windows: receipt.Windows, Published: len(receipt.Closed)}
	for _, w := range receipt.Closed {
		out.Keys += w.Keys
		out.Events += w.Events
		if len(out.Revisions) < contract.MaxEmittedRevisions {
			out.Revisions = append(out.Revisions, c.closed(w))
		}
	}
	for _, l := range receipt.Lanes {
		out.Covered = append(out.Covered, contract.LaneReceipt{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset})
	}
	return out, nil
}

func (c *closer) emit(ctx context.Context, reason string, ends []contract.LaneEnd) (result.Receipt, error) {
	if reason != result.ReasonDrain {
		return c.Flush(ctx)
	}
	want := make(map[source.TopicPartition]int64, len(ends))
	for _, e := range ends {
		want[source.TopicPartition{Topic: e.Topic, Partition: e.Partition}] = e.End
	}
	return c.Drain(ctx, want)
}
