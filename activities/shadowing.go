package activities

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/activity"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// ErrRefused marks what cannot be done as asked, whoever tries it how often. The activity then fails for good, and the text of the
// error is the answer: it says what stands in the way and what to do.
var ErrRefused = errors.New("refused")

// Shadows read ranges of a pipeline's topics again, beside the pipeline, and keep what differs from what was published. Every method
// may be repeated.
type Shadows interface {
	// IDs are those of the pipeline's shadows of which anything is in Redis.
	IDs(ctx context.Context, pipeline string) ([]string, error)
	// Plan says what a replay would read and what that costs. It changes nothing. A replay that cannot be made wraps ErrRefused.
	// with is the spec to count with, own that of the pipeline.
	Plan(ctx context.Context, own, with *spec.Spec, ask contract.ReplayAsk) (contract.ReplayPlan, error)
	// Read reads the range to its end, from wherever the shadow has committed, and compares. progress may be called at any time
	// before it returns, not concurrently. The plan that the first call has made holds for all further ones.
	Read(ctx context.Context, own, with *spec.Spec, ask contract.ReplayAsk, progress func(contract.ReplayProgress),
	) (contract.ReplaySummary, error)
	// SetRate says how fast the shadow reads, in records a second; 0: what a twentieth of a processor folds.
	SetRate(ctx context.Context, of contract.ReplayRef, recordsPerSecond int64) error
	// Diff is a page of what differs in one window, at most contract.MaxDiffPage bytes of JSON. A window or page that is not there
	// wraps ErrRefused.
	Diff(ctx context.Context, with *spec.Spec, in contract.ShowDiffInput) (contract.DiffPage, error)
	// End fences the shadow and deletes all of it. progress is told of the keys deleted so far.
	End(ctx context.Context, of contract.ReplayRef, progress func(int64)) error
}

// Signals signals workflows; a Temporal client does.
type Signals interface {
	SignalWorkflow(ctx context.Context, workflowID, runID, signal string, arg any) error
}

// Shadowing is what a Replay does. Any worker can run it.
type Shadowing struct {
	shadows Shadows
	specs   Specs
	watch   Watch
	signals Signals
	worker  string
	beats   Heartbeats
}

// NewShadowing returns the activities of Replay. worker names the process for people.
func NewShadowing(shadows Shadows, specs Specs, watch Watch, signals Signals, worker string, beats Heartbeats) *Shadowing {
	return &Shadowing{shadows: shadows, specs: specs, watch: watch, signals: signals, worker: worker, beats: beats}
}

const shadowBeat = 2 * time.Second

// SweepShadows deletes the shadows of the pipeline whose workflows are closed: a workflow that was terminated deletes nothing. The
// one that asks has not begun its own, so what there is under its id is of an earlier workflow.
func (a *Shadowing) SweepShadows(ctx context.Context, of contract.ReplayRef) (*contract.SweptShadows, error) {
	var swept contract.SweptShadows
	err := a.hold(ctx, func() any { return nil }, func(ctx context.Context) error {
		ids, err := a.shadows.IDs(ctx, of.Pipeline)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if id != of.ID {
				open, err := a.watch.Open(ctx, contract.ReplayID(of.Pipeline, id))
				if err != nil {
					return err
				}
				if open {
					continue
				}
			}
			if err := a.shadows.End(ctx, contract.ReplayRef{Pipeline: of.Pipeline, ID: id}, func(int64) {}); err != nil {
				return fmt.Errorf("delete what replay %s has left: %w", id, err)
			}
			swept.IDs = append(swept.IDs, id)
		}
		return nil
	})
	return &swept, err
}

// PlanReplay says what a replay reads and what that costs, or why it cannot be made. It changes nothing.
func (a *Shadowing) PlanReplay(ctx context.Context, in contract.PlanReplayInput) (*contract.PlannedReplay, error) {
	out := new(contract.PlannedReplay)
	err := a.hold(ctx, func() any { return nil }, func(ctx context.Context) error {
		removal := contract.RemoveID(in.Ask.Pipeline)
		if open, err := a.watch.Open(ctx, removal); err != nil {
			return err
		} else if open {
			return fmt.Errorf("%w: workflow %s is open, and what it deletes cannot be read again", ErrRefused, removal)
		}
		own, err := a.specs.Spec(ctx, in.Ask.Pipeline)
		if err != nil {
			return err
		}
		if own == nil {
			return fmt.Errorf("%w: Temporal knows no spec of pipeline %s: start it, or give the name of one that was started", ErrRefused,
				in.Ask.Pipeline)
		}
		with := own
		if len(in.Spec) > 0 {
			if with, err = parse(in.Spec); err != nil {
				return err
			}
		}
		if out.Own, err = own.JSON(); err != nil {
			return err
		}
		if out.Spec, err = with.JSON(); err != nil {
			return err
		}
		out.Plan, err = a.shadows.Plan(ctx, own, with, in.Ask)
		return err
	})
	out.Plan.Lanes, out.Plan.More = boundLanes(out.Plan.Lanes, out.Plan.More)
	out.Plan.Why = out.Plan.Why[:min(len(out.Plan.Why), contract.MaxLeftWindows)]
	for i := range out.Plan.Why {
		out.Plan.Why[i].Detail = contract.Cut(out.Plan.Why[i].Detail)
	}
	return out, err
}

// ReplayRange reads the range in a shadow and compares it with what was published. An attempt goes on from what the one before has
// committed.
func (a *Shadowing) ReplayRange(ctx context.Context, in contract.ReplayRangeInput) (*contract.ReplaySummary, error) {
	own, err := parse(in.Own)
	if err != nil {
		return nil, err
	}
	with, err := parse(in.Spec)
	if err != nil {
		return nil, err
	}
	var shown atomic.Pointer[contract.ReplayProgress]
	details := func() any {
		if at := shown.Load(); at != nil {
			return at
		}
		return &contract.ReplayProgress{Worker: a.worker}
	}
	var summary contract.ReplaySummary
	execution := activity.GetInfo(ctx).WorkflowExecution
	err = a.hold(ctx, details, func(ctx context.Context) (err error) {
		telling, stop := context.WithCancel(ctx)
		told := make(chan struct{})
		go func() {
			defer close(told)
			a.tellProgress(telling, execution.ID, execution.RunID, &shown)
		}()
		defer func() { stop(); <-told }()
		summary, err = a.shadows.Read(ctx, own, with, in.Ask, func(at contract.ReplayProgress) {
			at.Worker = a.worker
			at.Lanes, at.More = boundLanes(at.Lanes, at.More)
			shown.Store(&at)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	if more := len(summary.Differences) - contract.MaxDifferences; more > 0 {
		summary.Differences, summary.More = summary.Differences[:contract.MaxDifferences], summary.More+more
	}
	return &summary, nil
}

// tellProgress tells the workflow each whole percent, and now and then what is waited for: its status query and its page show it.
// Whoever wants to know more often reads the heartbeats. What is not delivered is told with the next change.
func (a *Shadowing) tellProgress(ctx context.Context, id, run string, shown *atomic.Pointer[contract.ReplayProgress]) {
	tick := time.NewTicker(contract.ReplayProgressAt)
	defer tick.Stop()
	var last contract.ReplayProgress
	var at time.Time
	for first := true; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := shown.Load()
		if now == nil {
			continue
		}
		moved := now.Percent() != last.Percent() || now.Limit != last.Limit
		if !first && !moved && (now.Waits == last.Waits || time.Since(at) < contract.ReplayWaitsAt) {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, beatLimit)
		if a.signals.SignalWorkflow(limited, id, run, contract.SignalReplayProgress, now) == nil {
			last, at, first = *now, time.Now(), false
		}
		cancel()
	}
}

// SetReplayRate changes how fast a replay reads.
func (a *Shadowing) SetReplayRate(ctx context.Context, in contract.SetReplayRateInput) error {
	return final(a.shadows.SetRate(ctx, in.ReplayRef, in.RecordsPerSecond))
}

// ShowDiff returns a page of what differs in one window.
func (a *Shadowing) ShowDiff(ctx context.Context, in contract.ShowDiffInput) (*contract.DiffPage, error) {
	with, err := parse(in.Spec)
	if err != nil {
		return nil, err
	}
	page, err := a.shadows.Diff(ctx, with, in)
	return &page, final(err)
}

// EndShadow fences the shadow of a replay and deletes all of it.
func (a *Shadowing) EndShadow(ctx context.Context, of contract.ReplayRef) (*contract.Removed, error) {
	var count atomic.Int64
	err := a.hold(ctx, func() any { return contract.Removed{Count: count.Load()} }, func(ctx context.Context) error {
		return a.shadows.End(ctx, of, count.Store)
	})
	return &contract.Removed{Count: count.Load()}, err
}

// hold runs work in an attempt that beats.
func (a *Shadowing) hold(ctx context.Context, details func() any, work func(context.Context) error) error {
	return newAttempt(ctx, a.beats, shadowBeat).hold(ctx, details, func(ctx context.Context) error {
		err := work(ctx)
		if reason := reasonOf(ctx); err != nil && reason != nil {
			return ended(reason)
		}
		return final(err)
	})
}

// boundLanes keeps as many lanes as a history takes.
func boundLanes[T any](lanes []T, more int) ([]T, int) {
	if left := len(lanes) - contract.MaxReplayLanes; left > 0 {
		return lanes[:contract.MaxReplayLanes], more + left
	}
	return lanes, more
}
