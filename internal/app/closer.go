package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/pipeline/profile"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/spec"
	"millrace/pipeline/stage"
	"millrace/pipeline/window"
)

// windows is what closes a pipeline's windows: a *result.Closer.
type windows interface {
	Ref(name string, start int64) (window.Ref, error)
	Exclude(ref window.Ref)
	Include(ref window.Ref)
	Round(ctx context.Context) (result.RoundReport, error)
	CloseWindow(ctx context.Context, ref window.Ref, reason string) (row ledger.Row, published bool, err error)
	Flush(ctx context.Context) (result.Receipt, error)
	Drain(ctx context.Context, ends []report.LaneEnd) (result.Receipt, error)
	CarryOut(ctx context.Context, job result.Job, turn result.Turn, book func(result.Carried)) error
	OpenTransaction() *report.OpenTransaction
	Times() stage.Account
	Close() error
}

// closer shows a pipeline's closer as the control plane sees it.
type closer struct {
	windows windows
	outlet  *outlet
	spec    *spec.Spec
	by      string // the worker, for people
	log     *slog.Logger
	tracer  trace.Tracer // nil: jobs are not traced

	upToDate func() // is told of a round that left nothing due

	users int       // guarded by closers.mu, as left is
	left  time.Time // when the last user was done

	mu      sync.Mutex
	skipped map[window.Ref]struct{}
	kept    *report.Kept             // as of the last round that counted it
	last    contract.CloseDueDetails // of the last round: what hinders it
	open    int                      // windows that lanes held events of in the last round that looked
	looked  time.Time                // when that was; zero for one that has had no round
}

// Round implements activities.Closer. While Kafka does not take results it leaves it alone.
func (c *closer) Round(ctx context.Context, skip []report.WindowRef) (round report.Round, err error) {
	c.labelled(ctx, func(ctx context.Context) { round, err = c.round(ctx, skip) })
	round.Results, round.Times = c.outlet.DependencyStatus(c.by), closingTimes(c.windows.Times())
	last := contract.CloseDueDetails{Waiting: round.Waiting, Failing: round.Failed, Results: round.Results}
	if err != nil && ctx.Err() == nil {
		last.Problem = err.Error()
	}
	for _, ref := range skip { // they failed too often here, and go on failing there
		last.Failing = append(last.Failing, report.FailedWindow{
			WindowRef: ref, Problem: "it has a workflow of its own: " + contract.CloseWindowID(c.spec.Name, ref),
		})
	}
	c.mu.Lock()
	c.last, c.looked = last, time.Now()
	c.mu.Unlock()
	return round, err
}

// labelled does work of the closer under its labels in profiles, also what runs beside it.
func (c *closer) labelled(ctx context.Context, work func(context.Context)) {
	pprof.Do(ctx, profile.OfPipeline(profile.Closer, c.spec.Name), work)
}

// OpenTransaction implements activities.Closer.
func (c *closer) OpenTransaction() *report.OpenTransaction { return c.windows.OpenTransaction() }

// Hindered implements activities.Closer.
func (c *closer) Hindered(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last.Problem, c.looked = err.Error(), time.Now()
}

func (c *closer) round(ctx context.Context, skip []report.WindowRef) (report.Round, error) {
	if why, open := c.outlet.open(); open {
		return report.Round{Waiting: report.Waiting{For: why}}, nil
	}
	if err := c.skip(skip); err != nil {
		return report.Round{}, err
	}
	told, err := c.windows.Round(ctx)
	c.outlet.judge(len(told.Closed), told.Failed, told.Kafka)
	if err != nil {
		return report.Round{}, permanent(err)
	}
	if told.Kept != nil {
		c.mu.Lock()
		c.kept = told.Kept
		c.mu.Unlock()
	}
	c.mu.Lock()
	c.open = told.Open
	c.mu.Unlock()
	if len(told.Failed)+len(told.Pending)+len(told.Incidents)+len(told.Kafka)+len(skip) == 0 && told.Due < result.DefaultMaxPerRound {
		c.upToDate()
	}
	for _, t := range told.Incidents {
		c.log.ErrorContext(ctx, "incident while closing", "window", t.Window, "start", time.UnixMilli(t.Start).UTC(), "error", t.Problem)
		told.Waiting.For = "incident: " + t.Problem + "; " + told.Waiting.For
	}
	if len(told.Kafka) > 0 {
		told.Waiting.For = "Kafka does not take results: " + strings.Join(told.Kafka, "; ")
	}
	return told.Round, nil
}

// skip leaves the named windows, and no others, to their own workflows.
func (c *closer) skip(refs []report.WindowRef) error {
	wanted := make(map[window.Ref]struct{}, len(refs))
	for _, r := range refs {
		ref, err := c.windows.Ref(r.Window, r.Start)
		if err != nil {
			return permanent(err)
		}
		wanted[ref] = struct{}{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for ref := range c.skipped {
		if _, ok := wanted[ref]; !ok {
			c.windows.Include(ref)
		}
	}
	for ref := range wanted {
		c.windows.Exclude(ref)
	}
	c.skipped = wanted
	return nil
}

// CloseOne implements activities.Closer. While Kafka does not take results it fails at once.
func (c *closer) CloseOne(ctx context.Context, r report.WindowRef) (report.ClosedWindow, bool, error) {
	if why, open := c.outlet.open(); open {
		return report.ClosedWindow{}, false, errors.New(why)
	}
	ref, err := c.windows.Ref(r.Window, r.Start)
	if err != nil {
		return report.ClosedWindow{}, false, permanent(err)
	}
	var row ledger.Row
	var published bool
	c.labelled(ctx, func(ctx context.Context) { row, published, err = c.windows.CloseWindow(ctx, ref, "") })
	switch {
	case ctx.Err() != nil: // says nothing about Kafka
	case result.Refused(err):
		c.outlet.Report(err)
	case published:
		c.outlet.Report(nil)
	}
	if err != nil {
		return report.ClosedWindow{}, false, permanent(err)
	}
	return result.ClosedBy(&row), published, nil
}

// Emit implements activities.Closer. While Kafka does not take results it fails at once.
func (c *closer) Emit(ctx context.Context, reason string, ends []report.LaneEnd) (report.Emitted, error) {
	if why, open := c.outlet.open(); open {
		return report.Emitted{}, errors.New(why)
	}
	var receipt result.Receipt
	var err error
	c.labelled(ctx, func(ctx context.Context) { receipt, err = c.emit(ctx, reason, ends) })
	if ctx.Err() == nil {
		c.outlet.judge(receipt.Published, receipt.Failed, nil)
	}
	if err != nil {
		return report.Emitted{}, permanent(err)
	}
	if len(receipt.Missing) > 0 {
		m := receipt.Missing[0]
		return report.Emitted{}, fmt.Errorf("not drained: lane %s: %s", m.Lane(), m.Reason)
	}
	if !receipt.Done {
		return report.Emitted{}, unpublished(receipt)
	}
	return receipt.Emitted, nil
}

// unpublished says why a flush or a drain did not publish everything. An incident is told at once: it waits for somebody,
// and nobody should wait for it.
func unpublished(receipt result.Receipt) error {
	for _, f := range receipt.Failed {
		if f.Incident {
			return fmt.Errorf("%w: %s; window %s: %s", activities.ErrPermanent, unpublishedCount(receipt), f.WindowRef, f.Problem)
		}
	}
	if len(receipt.Failed) == 0 {
		return errors.New("lanes are in the middle of commits")
	}
	f := receipt.Failed[0]
	return fmt.Errorf("%s, the first is %s: %s", unpublishedCount(receipt), f.WindowRef, f.Problem)
}

// unpublishedCount says how many of the windows were not published. Windows that are not open any more may be owed, too.
func unpublishedCount(receipt result.Receipt) string {
	failed, all := len(receipt.Failed), receipt.Windows
	switch {
	case failed == 1 && all <= 1:
		return "1 window was not published"
	case failed == 1:
		return fmt.Sprintf("1 of %d windows was not published", all)
	case failed >= all:
		return fmt.Sprintf("%d windows were not published", failed)
	}
	return fmt.Sprintf("%d of %d windows were not published", failed, all)
}

func (c *closer) emit(ctx context.Context, reason string, ends []report.LaneEnd) (result.Receipt, error) {
	if reason != ledger.ReasonDrain {
		return c.windows.Flush(ctx)
	}
	return c.windows.Drain(ctx, ends)
}
