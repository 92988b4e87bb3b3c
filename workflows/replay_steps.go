package workflows

import (
	"encoding/json"
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// sweep deletes what replays have left whose workflows were terminated.
func (s *shadowing) sweep(ctx workflow.Context) error {
	var swept contract.SweptShadows
	err := s.try(ctx, step{
		activity: s.acts.SweepShadows, options: contract.EndShadowOptions(), patience: contract.EndPatience,
		wait: contract.Pending{For: "Redis: delete what dead replays have left"},
	}, s.ask.ReplayRef, &swept)
	s.swept = swept.IDs
	return err
}

// makePlan works out what is to be read, or fails with why it cannot be.
func (s *shadowing) makePlan(ctx workflow.Context) error {
	s.set(ctx, contract.StatePlanning, "works out what to read", nil)
	var planned contract.PlannedReplay
	if err := s.try(ctx, step{
		activity: s.acts.PlanReplay, options: contract.PlanReplayOptions(), patience: contract.PlanPatience,
		wait: contract.Pending{For: "Kafka and the ledger: work out what to read"},
	}, contract.PlanReplayInput{Ask: s.ask, Spec: s.in.Spec}, &planned); err != nil {
		return err
	}
	s.plan, s.own, s.with = &planned.Plan, planned.Own, planned.Spec
	return nil
}

// readTries is how many tries a range gets: with contract.TryOptions they are 20 attempts.
const readTries = 4

// read reads the range and compares.
func (s *shadowing) read(ctx workflow.Context) error {
	s.shadow = true
	s.set(ctx, contract.StateReading, fmt.Sprintf("reads %d records for %d windows", s.plan.Records, s.plan.Windows), nil)
	var summary contract.ReplaySummary
	if err := s.try(ctx, step{
		activity: s.acts.ReplayRange, options: contract.ReplayRangeOptions(), patience: contract.ReadPatience, tries: readTries,
		wait: contract.Pending{For: "a worker: read the range"},
	}, contract.ReplayRangeInput{Ask: s.ask, Own: s.own, Spec: s.with}, &summary); err != nil {
		return err
	}
	s.summary = &summary
	return nil
}

// try carries an activity out, and fails with the latest reason when it does not succeed.
func (s *shadowing) try(ctx workflow.Context, st step, in, out any) error {
	began := workflow.Now(ctx)
	err := s.waits.try(ctx, st, in, out)
	if err == nil || ctx.Err() != nil || isFinal(err) {
		return err
	}
	return invalid(contract.ErrorRefused, "%s %s: %s: given up after %s: %s. See to that, then start it again under another id",
		s.in.Kind(), s.ask.Pipeline, st.wait.For, workflow.Now(ctx).Sub(began).Round(time.Second), failureText(err))
}

// carryOut has the pipeline's closer do a job about what was found.
func (s *shadowing) carryOut(ctx workflow.Context, kind, reason string) (*contract.JobReport, error) {
	job, err := s.job(kind, reason)
	if err != nil {
		return nil, err
	}
	until := workflow.Now(ctx).Add(contract.CarryOutPatience)
	s.set(ctx, contract.StateCarryingOut, jobNotes[kind], &until)
	return s.errands.carryOut(ctx, job, jobNotes[kind], until)
}

var jobNotes = map[string]string{
	contract.JobCorrections: "publishing what differs",
	contract.JobCertify:     "certifying what is equal",
}

// job describes a job about what was found. Its id is the same whenever it is asked for.
func (s *shadowing) job(kind, reason string) (contract.CarryOutJob, error) {
	lateness := s.ask.Lateness
	if s.ask.FromLate {
		lateness = contract.LatenessFromLate
	}
	body, err := json.Marshal(contract.ShadowJob{
		Replay: s.ask.ID, Checksum: s.summary.Checksum, Lateness: lateness, Scope: s.summary.Scope, Reason: reason,
	})
	id := contract.ReplayID(s.ask.Pipeline, s.ask.ID)
	return contract.CarryOutJob{
		ID: id + "/" + kind, Kind: kind, Pipeline: s.ask.Pipeline, ReplyTo: id, Spec: s.own, Body: body,
	}, err
}
