package activities

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// Remains are what a pipeline has in Redis and Kafka. All methods may be repeated. progress is told of what was done so far.
type Remains interface {
	// Count counts keys by kind, and the lanes with what they hold.
	Count(ctx context.Context, pipeline string, progress func(int64)) (keys []contract.KeyCount, lanes LaneCount, err error)
	// Group names the pipeline's consumer group and its members; exists is false when the coordinator does not know it.
	Group(ctx context.Context, pipeline string) (group string, members []contract.GroupMember, exists bool, err error)
	// Leases are those that have not expired.
	Leases(ctx context.Context, pipeline string) ([]contract.LeaseHolder, error)
	// Topics are those that the pipeline writes and that exist, and which of them may be deleted.
	// own is nil when the spec is not known.
	Topics(ctx context.Context, pipeline string, own *spec.Spec, others []Other, progress func(int64)) ([]contract.TopicRemains, error)
	DeleteGroup(ctx context.Context, pipeline string) error
	// Fence gives every lane to the removal with this token and returns how many there are.
	Fence(ctx context.Context, pipeline, token string, sources []string, progress func(int64)) error
	// EndLedger fences the pipeline's closers and, with rows, ends the incarnation in the ledger.
	EndLedger(ctx context.Context, pipeline string, rows bool, progress func(int64)) error
	// DeleteKeys deletes all keys but metas.
	DeleteKeys(ctx context.Context, pipeline string, progress func(int64)) error
	// Sweep deletes all keys, and looks until none is left.
	Sweep(ctx context.Context, pipeline, token string, progress func(int64)) error
	DeleteTopic(ctx context.Context, topic string) error
	// Shadows are the ids of replays that have anything in Redis.
	Shadows(ctx context.Context, pipeline string) ([]string, error)
}

// LaneCount counts the lanes of a pipeline and what they hold.
type LaneCount struct {
	Lanes  int
	Fenced int   // those that a removal has fenced
	Slices int64 // that are open
	Events int64 // folded into them
}

// Specs are the specs that Temporal knows.
type Specs interface {
	// Spec returns the one that the pipeline was started with last; nil when Temporal knows none.
	Spec(ctx context.Context, pipeline string) (*spec.Spec, error)
	// Removed reports whether a removal has left nothing of the pipeline since it was started last.
	Removed(ctx context.Context, pipeline string) (bool, error)
	// Others returns those of all other pipelines that have not been removed since they were started last.
	Others(ctx context.Context, pipeline string) ([]Other, error)
}

// Other is another pipeline, whose topics stay.
type Other struct {
	*spec.Spec
	Standing string // how it stands, for people; "" while it runs
}

// Removing takes away what stopped pipelines have left. Any worker can run it.
type Removing struct {
	remains   Remains
	specs     Specs
	schedules Schedules
	watch     Watch
	beats     Heartbeats
}

// NewRemoving returns the activities of Remove.
func NewRemoving(remains Remains, specs Specs, schedules Schedules, watch Watch, beats Heartbeats) *Removing {
	return &Removing{remains: remains, specs: specs, schedules: schedules, watch: watch, beats: beats}
}

const (
	removeBeat   = 2 * time.Second
	releasedLook = time.Second
)

// work runs a step: it beats with the step's count, and refuses to touch a pipeline that was started again. own says that the
// pipeline's own workflow asks, whose children are closed.
func (a *Removing) work(ctx context.Context, pipeline string, own bool,
	step func(ctx context.Context, progress func(int64)) error) (*contract.Removed, error) {
	var count atomic.Int64
	details := func() any { return contract.Removed{Count: count.Load()} }
	err := newAttempt(ctx, a.beats, removeBeat).hold(ctx, details, func(ctx context.Context) error {
		if pipeline != "" {
			open, err := a.openWorkflows(ctx, pipeline, own)
			if err != nil {
				return err
			}
			if len(open) > 0 {
				return temporal.NewNonRetryableApplicationError(fmt.Sprintf("remove %s: %s", pipeline, contract.Holders{Workflows: open}),
					contract.ErrorRefused, nil)
			}
		}
		if err := step(ctx, count.Store); err != nil {
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
	return &contract.Removed{Count: count.Load()}, nil
}

// openWorkflows are those that want the pipeline's hot paths or its closer, but for the pipeline's own when that one asks, and its
// replays: what they read and write goes.
func (a *Removing) openWorkflows(ctx context.Context, pipeline string, own bool) (open []string, err error) {
	starter := contract.PipelineID(pipeline)
	if own {
		starter = contract.RemoveID(pipeline) // would take away what is begun now
	}
	ids := []string{starter, contract.CloseWindowsID(pipeline)}
	shadows, err := a.remains.Shadows(ctx, pipeline)
	if err != nil {
		return nil, err
	}
	for _, id := range shadows {
		ids = append(ids, contract.ReplayID(pipeline, id))
	}
	for _, id := range ids {
		is, err := a.watch.Open(ctx, id)
		if err != nil {
			return nil, err
		}
		if is {
			open = append(open, id)
		}
	}
	return open, nil
}

func (a *Removing) holders(ctx context.Context, pipeline string, own bool) (h contract.Holders, err error) {
	if h.Workflows, err = a.openWorkflows(ctx, pipeline, own); err != nil {
		return h, err
	}
	if _, h.Members, _, err = a.remains.Group(ctx, pipeline); err != nil {
		return h, err
	}
	h.Leases, err = a.remains.Leases(ctx, pipeline)
	return h, err
}

// SurveyRemains says what a pipeline has left, who holds it, and which of its topics may be deleted. It changes nothing.
func (a *Removing) SurveyRemains(ctx context.Context, in contract.RemoveTarget) (*contract.Remains, error) {
	out := new(contract.Remains)
	_, err := a.work(ctx, "", false, func(ctx context.Context, progress func(int64)) (err error) {
		var lanes LaneCount
		if out.Keys, lanes, err = a.remains.Count(ctx, in.Pipeline, progress); err != nil {
			return err
		}
		out.Lanes, out.Fenced, out.Slices, out.Events = lanes.Lanes, lanes.Fenced, lanes.Slices, lanes.Events
		if out.Group, _, out.Grouped, err = a.remains.Group(ctx, in.Pipeline); err != nil {
			return err
		}
		if out.Holders, err = a.holders(ctx, in.Pipeline, in.Own); err != nil {
			return err
		}
		scheduled, err := a.schedules.Exists(ctx, in.Pipeline)
		if err != nil {
			return err
		}
		if scheduled {
			out.Schedule = contract.CompactID(in.Pipeline)
		}
		own, err := a.specOf(ctx, in)
		if err != nil {
			return err
		}
		if own == nil {
			out.Notes = append(out.Notes,
				"the spec is not known to Temporal any more: lanes that Redis knows nothing of, late and dead-letter "+
					"topics are left out; give --spec FILE to name them")
		} else {
			out.Sources = own.Source.Topics
		}
		others, err := a.specs.Others(ctx, in.Pipeline)
		if err != nil {
			return err
		}
		if out.Topics, err = a.remains.Topics(ctx, in.Pipeline, own, others, progress); err != nil {
			return err
		}
		if !in.Topics {
			for i := range out.Topics {
				out.Topics[i].Delete = false
				if out.Topics[i].Why == "" {
					out.Topics[i].Why = "topics were not asked for"
				}
			}
		}
		return nil
	})
	return out, err
}

func (a *Removing) specOf(ctx context.Context, in contract.RemoveTarget) (*spec.Spec, error) {
	if len(in.Spec) > 0 {
		return parse(in.Spec)
	}
	return a.specs.Spec(ctx, in.Pipeline)
}

// AwaitReleased waits until nobody holds anything of the pipeline, and returns those who do when
// the time has come or a workflow is open.
func (a *Removing) AwaitReleased(ctx context.Context, in contract.AwaitReleasedInput) (*contract.Holders, error) {
	var left contract.Holders
	_, err := a.work(ctx, "", false, func(ctx context.Context, progress func(int64)) (err error) {
		tick := time.NewTicker(releasedLook)
		defer tick.Stop()
		for {
			if left, err = a.holders(ctx, in.Pipeline, in.Own); err != nil {
				return err
			}
			progress(int64(len(left.Members) + len(left.Leases)))
			if left.Free() || len(left.Workflows) > 0 || time.Now().After(in.Until) {
				return nil
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	return &left, err
}

// DeleteSchedule deletes the schedule that compacts the pipeline, and ends its runs: none may publish in a ledger that is given up.
func (a *Removing) DeleteSchedule(ctx context.Context, in contract.RemoveTarget) (*contract.Removed, error) {
	return a.work(ctx, in.Pipeline, in.Own, func(ctx context.Context, progress func(int64)) error {
		existed, err := a.schedules.Delete(ctx, in.Pipeline)
		if err != nil {
			return err
		}
		if existed {
			progress(1)
		}
		tick := time.NewTicker(releasedLook)
		defer tick.Stop()
		for until := time.Now().Add(contract.ScheduleEndPatience); ; {
			running, err := a.schedules.Running(ctx, in.Pipeline)
			if err != nil || len(running) == 0 {
				return err
			}
			if time.Now().After(until) {
				return fmt.Errorf("remove %s: cancelled, and still open after %s: %s: see `temporal workflow describe --workflow-id %s`",
					in.Pipeline, spec.Duration(contract.ScheduleEndPatience), strings.Join(running, ", "), running[0])
			}
			for _, id := range running {
				if err := a.schedules.Cancel(ctx, id); err != nil {
					return err
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
}

// DeleteGroup deletes the pipeline's consumer group, with which a worker that was frozen loses its membership for good.
func (a *Removing) DeleteGroup(ctx context.Context, in contract.RemoveTarget) (*contract.Removed, error) {
	return a.work(ctx, in.Pipeline, in.Own, func(ctx context.Context, progress func(int64)) error {
		_, _, exists, err := a.remains.Group(ctx, in.Pipeline)
		if err != nil || !exists {
			return err
		}
		if err := a.remains.DeleteGroup(ctx, in.Pipeline); err != nil {
			return err
		}
		progress(1)
		return nil
	})
}

// FenceLanes takes every lane away from whoever owns it.
func (a *Removing) FenceLanes(ctx context.Context, in contract.FenceLanesInput) (*contract.Removed, error) {
	return a.work(ctx, in.Pipeline, in.Own, func(ctx context.Context, progress func(int64)) error {
		return a.remains.Fence(ctx, in.Pipeline, in.Token, in.Sources, progress)
	})
}

// EndLedger fences the pipeline's closers and gives up the rows of its ledger.
func (a *Removing) EndLedger(ctx context.Context, in contract.EndLedgerInput) (*contract.Removed, error) {
	return a.work(ctx, in.Pipeline, in.Own, func(ctx context.Context, progress func(int64)) error {
		return a.remains.EndLedger(ctx, in.Pipeline, in.Rows, progress)
	})
}

// DeleteKeys deletes the pipeline's keys. With Metas it looks until none is left.
func (a *Removing) DeleteKeys(ctx context.Context, in contract.DeleteKeysInput) (*contract.Removed, error) {
	return a.work(ctx, in.Pipeline, in.Own, func(ctx context.Context, progress func(int64)) error {
		if in.Metas {
			return a.remains.Sweep(ctx, in.Pipeline, in.Token, progress)
		}
		return a.remains.DeleteKeys(ctx, in.Pipeline, progress)
	})
}

// DeleteTopics deletes topics that the pipeline wrote.
func (a *Removing) DeleteTopics(ctx context.Context, in contract.DeleteTopicsInput) (*contract.Removed, error) {
	return a.work(ctx, in.Pipeline, false, func(ctx context.Context, progress func(int64)) error {
		for i, topic := range in.Topics {
			if err := a.remains.DeleteTopic(ctx, topic); err != nil {
				return err
			}
			progress(int64(i + 1))
		}
		return nil
	})
}
