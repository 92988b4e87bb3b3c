package activities

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
)

// Control steers a pipeline: topics, desired state, receipts. Any worker can run it.
type Control struct {
	servers Servers
	desired DesiredStates
	lanes   Lanes
	leases  Leases
	watch   Watch
	beats   Heartbeats
	search  *Search
}

// NewControl returns the activities that steer pipelines.
func NewControl(servers Servers, desired DesiredStates, lanes Lanes, leases Leases, watch Watch, beats Heartbeats, search *Search,
) *Control {
	return &Control{servers: servers, desired: desired, lanes: lanes, leases: leases, watch: watch, beats: beats, search: search}
}

// SearchAttributes returns which of our search attributes the namespace has.
func (a *Control) SearchAttributes(ctx context.Context) (*contract.Searchable, error) {
	known, err := a.search.SearchAttributes(ctx)
	return &known, err
}

// confirm ends an attempt that Temporal has given up. A worker that was frozen has such ones, and the pipeline may have been
// removed since: what they wrote would stay.
func (a *Control) confirm(ctx context.Context) error {
	return newAttempt(ctx, a.beats, awaitBeat).open(ctx)
}

// inTime bounds a short step so that it says why it fails before Temporal gives the attempt up, which says nothing.
func inTime(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return ctx, func() {}
	}
	return context.WithDeadline(ctx, deadline.Add(-time.Until(deadline)/8))
}

// CheckStore fails for good when Redis can never hold the pipeline's state.
func (a *Control) CheckStore(ctx context.Context, in contract.SpecInput) error {
	ctx, cancel := inTime(ctx)
	defer cancel()
	s, err := parse(in.Spec)
	if err != nil {
		return err
	}
	if in.Begin != nil && in.Begin.Discard {
		open, err := a.watch.Open(ctx, contract.RemoveID(s.Name))
		if err != nil {
			return err
		}
		if open {
			return temporal.NewNonRetryableApplicationError(fmt.Sprintf("start %s: %s is open: wait until it has ended, "+
				"then start without a discard", s.Name, contract.RemoveID(s.Name)), contract.ErrorRefused, nil)
		}
	}
	return final(a.servers.CheckStore(ctx, s, in.Begin))
}

// LocateBegin finds the offsets where a start wants its lanes to begin.
func (a *Control) LocateBegin(ctx context.Context, in contract.SpecInput) (*contract.Begun, error) {
	ctx, cancel := inTime(ctx)
	defer cancel()
	s, err := parse(in.Spec)
	if err != nil {
		return nil, err
	}
	begun, err := a.servers.LocateBegin(ctx, s, *in.Begin)
	return &begun, final(err)
}

// BeginLanes gives every lane its first state. A lane that has one already keeps it.
func (a *Control) BeginLanes(ctx context.Context, in contract.BeginLanesInput) error {
	ctx, cancel := inTime(ctx)
	defer cancel()
	s, err := parse(in.Spec)
	if err != nil {
		return err
	}
	if err := a.confirm(ctx); err != nil {
		return err
	}
	return final(a.servers.BeginLanes(ctx, s, in))
}

// EnsureTopics creates the topics that the pipeline writes and returns those it reads.
func (a *Control) EnsureTopics(ctx context.Context, in contract.SpecInput) (*contract.Topics, error) {
	ctx, cancel := inTime(ctx)
	defer cancel()
	s, err := parse(in.Spec)
	if err != nil {
		return nil, err
	}
	if err := a.confirm(ctx); err != nil {
		return nil, err
	}
	topics, err := a.servers.EnsureTopics(ctx, s)
	return &topics, final(err)
}

// WriteDesired changes desired state once per request id, and looks up where the hot paths run.
func (a *Control) WriteDesired(ctx context.Context, in contract.WriteDesiredInput) (*contract.WrittenDesired, error) {
	ctx, cancel := inTime(ctx)
	defer cancel()
	if err := a.confirm(ctx); err != nil {
		return nil, err
	}
	generation, err := a.desired.Change(ctx, in.Pipeline, in.Change)
	if err != nil {
		return nil, final(err)
	}
	written := &contract.WrittenDesired{Generation: generation}
	for n := range in.Replicas {
		lease, found, err := a.leases.ReadLease(ctx, in.Pipeline, n)
		if err == nil && found && !slices.Contains(written.Queues, lease.Queue) {
			written.Queues = append(written.Queues, lease.Queue)
		}
	}
	return written, nil
}

// EndOffsets returns the last stable offset of every lane.
func (a *Control) EndOffsets(ctx context.Context, in contract.SpecInput) (*contract.EndOffsets, error) {
	ctx, cancel := inTime(ctx)
	defer cancel()
	s, err := parse(in.Spec)
	if err != nil {
		return nil, err
	}
	ends, err := a.lanes.Ends(ctx, s)
	return &contract.EndOffsets{Ends: ends}, final(err)
}

// Reconcile returns the children that are not open. Given desired state, it writes that to Redis if Redis holds an older generation.
func (a *Control) Reconcile(ctx context.Context, in contract.ReconcileInput) (*contract.Reconciled, error) {
	ctx, cancel := inTime(ctx)
	defer cancel()
	found := new(contract.Reconciled)
	for _, id := range in.Children {
		open, err := a.watch.Open(ctx, id)
		if err != nil {
			return nil, err
		}
		if !open {
			found.Closed = append(found.Closed, id)
		}
	}
	if in.Desired == nil {
		return found, nil
	}
	stored, err := a.desired.Read(ctx, in.Pipeline)
	if err != nil {
		return nil, final(err)
	}
	found.Generation = stored.Generation
	if stored.Generation >= in.Desired.Generation {
		return found, nil
	}
	if err := a.confirm(ctx); err != nil {
		return nil, err
	}
	found.Restored = true
	found.Generation, err = a.desired.Change(ctx, in.Pipeline, contract.DesiredChange{
		RequestID: in.RequestID, Above: in.Desired.Generation,
		Paused: &in.Desired.Paused, Stopping: &in.Desired.Stopping, CommitNow: &in.Desired.CommitNow, Begun: &in.Desired.Begun,
		Orders: &in.Desired.Orders,
	})
	return found, final(err)
}

// ReleaseReplica takes a stopped replica out of the consumer group, so that its lanes go to others at once.
func (a *Control) ReleaseReplica(ctx context.Context, in contract.ReplicaRef) error {
	ctx, cancel := inTime(ctx)
	defer cancel()
	return final(a.servers.RemoveMember(ctx, in.Pipeline, in.Replica))
}

// AwaitApplied waits until every lane has adopted a generation of desired state. At the deadline it returns the lanes that have not,
// and why; it returns early when nothing but decisions is missing, and on request when one is.
func (a *Control) AwaitApplied(ctx context.Context, in contract.AwaitAppliedInput) (*contract.Applied, error) {
	l := looking{deadline: in.DeadlineSeconds, replicas: in.Replicas}
	var decisions decisionWait
	return a.await(ctx, in.Spec, l, func(states []contract.LaneState) (contract.Applied, bool) {
		got, now := applied(states, in.Generation, time.Now()), time.Now()
		return got, decisions.over(allAsk(got.Missing) || in.UntilOneAsks && anyAsks(got.Missing), now)
	})
}

// AwaitDrained waits until every lane has committed to its end. It returns early when a lane that is missing waits for a decision,
// and when no missing lane has moved, or no lane could be read, for a while.
func (a *Control) AwaitDrained(ctx context.Context, in contract.AwaitDrainedInput) (*contract.Applied, error) {
	l := looking{deadline: in.DeadlineSeconds, replicas: in.Replicas, blind: time.Duration(in.StallSeconds) * time.Second}
	progress := stall{limit: time.Duration(in.StallSeconds) * time.Second}
	var decisions decisionWait
	return a.await(ctx, in.Spec, l, func(states []contract.LaneState) (contract.Applied, bool) {
		now := time.Now()
		got := drained(states, in.Ends, now)
		given := decisions.over(anyAsks(got.Missing), now)
		return got, progress.stalled(got.Missing, now) || given
	})
}
