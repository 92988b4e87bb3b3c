package activities

import (
	"context"
	"fmt"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// Recovery is what RecoverLanes does on a process's own queue.
type Recovery struct {
	recoveries Recoveries
	beats      Heartbeats
}

// NewRecovery returns the activities of the host's queue that recover lanes.
func NewRecovery(recoveries Recoveries, beats Heartbeats) *Recovery {
	return &Recovery{recoveries: recoveries, beats: beats}
}

// RecoverStep carries out one step for all lanes of a batch, or returns what is recorded of it. The step belongs to the hot path: when
// this attempt is over it goes on, and a further attempt gets its result.
func (a *Recovery) RecoverStep(ctx context.Context, in contract.RecoverStepInput) (*report.StepReport, error) {
	var told report.StepReport
	details := func() any { return nil }
	err := newAttempt(ctx, a.beats, contract.BeatEvery).hold(ctx, details, func(ctx context.Context) (err error) {
		told, err = a.recoveries.RecoverStep(ctx, in)
		if reason := reasonOf(ctx); err != nil && reason != nil {
			return ended(reason)
		}
		if err != nil {
			return final(fmt.Errorf("step %s of batch %d: %w", in.Step, in.Batch, err))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var more int
	told.Lanes, more = contract.BoundLanes(told.Lanes)
	told.More += more
	return &told, nil
}

// DecideIncident carries an operator's choice to the lane and returns what is known of the lane then.
func (a *Recovery) DecideIncident(ctx context.Context, in contract.DecideIncidentInput) (*contract.DecidedIncident, error) {
	if err := newAttempt(ctx, a.beats, contract.BeatEvery).open(ctx); err != nil {
		return nil, err
	}
	if err := a.recoveries.Decide(ctx, in); err != nil {
		return nil, final(fmt.Errorf("decide %s for %s/%d: %w", in.Choice, in.Topic, in.Partition, err))
	}
	decided := new(contract.DecidedIncident)
	lane, ok := a.recoveries.Lane(in.Pipeline, in.Replica, in.Batch, report.LaneRef{Topic: in.Topic, Partition: in.Partition})
	if ok {
		kept, _ := contract.BoundLanes([]report.RecoveredLane{lane})
		decided.Lane = &kept[0]
	}
	return decided, nil
}

// Ownership answers who owns lanes. Any worker can run it.
type Ownership struct {
	tokens LaneTokens
	watch  Watch
}

// NewOwnership returns the activities that read owners.
func NewOwnership(tokens LaneTokens, watch Watch) *Ownership {
	return &Ownership{tokens: tokens, watch: watch}
}

// LaneOwners returns the owner tokens that the lanes' metas hold. A lane without one is gone when its pipeline is closed: it was
// stopped and removed. While the pipeline is open Redis has forgotten the lane, and whoever holds it goes on. A lane whose
// pipeline is closed is stopped once nobody holds the lease of its replica: a hot path outlives a workflow that was terminated.
func (a *Ownership) LaneOwners(ctx context.Context, in contract.LaneOwnersInput) (*contract.LaneOwners, error) {
	owners, err := a.tokens.Owners(ctx, in.Pipeline, in.Lanes)
	if err != nil {
		return nil, final(fmt.Errorf("owners of %d lanes of %s: %w", len(in.Lanes), in.Pipeline, err))
	}
	wanted, err := a.watch.Open(ctx, contract.PipelineID(in.Pipeline))
	if err != nil {
		return nil, fmt.Errorf("is pipeline %s open: %w", in.Pipeline, err)
	}
	if wanted {
		return &contract.LaneOwners{Lanes: owners}, nil
	}
	runs := true // not known
	if in.Replica != nil {
		if runs, err = a.tokens.Runs(ctx, in.Pipeline, *in.Replica); err != nil {
			return nil, fmt.Errorf("does anybody run replica %d of %s: %w", *in.Replica, in.Pipeline, err)
		}
	}
	for i := range owners {
		owners[i].Gone = owners[i].Token == ""
		owners[i].Stopped = owners[i].Token != "" && !runs
	}
	return &contract.LaneOwners{Lanes: owners}, nil
}
