package workflows

import (
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/activities"
	"millrace/internal/contract"
)

// Replay reads a range of a pipeline's topics again, in a shadow beside the pipeline, and compares what it counts with what was
// published. It shows what differs, and publishes it only when somebody approves, through the pipeline's own closer. A recount counts
// as the pipeline did: where nothing differs the ledger gets a certificate, and a difference is an incident. Whatever comes of it, the
// shadow is deleted in the end.
func Replay(ctx workflow.Context, in contract.ReplayInput) (*contract.ReplayResult, error) {
	s, err := newShadowing(ctx, in)
	if err != nil {
		return nil, err
	}
	result, err := s.run(ctx)
	s.leaving = true
	lasting, _ := workflow.NewDisconnectedContext(ctx)
	if waiting := handlersFinished(lasting); waiting != nil {
		return nil, waiting
	}
	s.pipeline.tellOver(lasting, s.outcome)
	return result, err
}

// shadowing is one Replay.
type shadowing struct {
	in       contract.ReplayInput
	ask      contract.ReplayAsk
	began    time.Time
	acts     *activities.Shadowing
	pipeline outsider
	waits    waits
	errands  *errands

	phase     string
	outcome   string // "" until it has ended
	note      string
	until     *time.Time
	swept     []string
	plan      *contract.ReplayPlan
	own, with []byte // the specs that the plan was made for
	shadow    bool   // there may be one, which has to be deleted
	progress  *contract.ReplayProgress
	summary   *contract.ReplaySummary
	certified *contract.JobReport
	published *contract.JobReport

	approval  *contract.ReplayReceipt
	rejection *contract.ReplayReceipt
	receipts  []contract.ReplayReceipt
	pages     int // of the diff that were shown
	leaving   bool
}

func newShadowing(ctx workflow.Context, in contract.ReplayInput) (*shadowing, error) {
	s := &shadowing{
		in: in, began: workflow.Now(ctx), phase: contract.StateSweeping,
		pipeline: outsider{parent: parent{id: contract.PipelineID(in.Pipeline)}},
	}
	s.waits.show = s.show
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	if err := s.handle(ctx); err != nil {
		return nil, err
	}
	s.errands = newErrands(ctx, &s.waits)
	workflow.Go(ctx, s.hearProgress)
	return s, nil
}

// check refuses an input that makes no sense, and works out what is asked for.
func (s *shadowing) check(ctx workflow.Context) error {
	if err := s.in.Validate(); err != nil {
		return invalid(contract.ErrorInvalidInput, "%v", err)
	}
	info := workflow.GetInfo(ctx)
	id, ok := strings.CutPrefix(info.WorkflowExecution.ID, contract.ReplayPrefix(s.in.Pipeline))
	if !ok {
		return invalid(contract.ErrorInvalidInput, "workflow id is %q; the input makes it %q", info.WorkflowExecution.ID,
			contract.ReplayID(s.in.Pipeline, "ID"))
	}
	if err := contract.CheckReplayID(id); err != nil {
		return invalid(contract.ErrorInvalidInput, "workflow id is %q: %v", info.WorkflowExecution.ID, err)
	}
	if err := checkSpecOf(s.in.Pipeline, s.in.Spec); err != nil {
		return err
	}
	from, to := s.in.Range(scheduledTime(ctx))
	s.ask = contract.ReplayAsk{
		ReplayRef: contract.ReplayRef{Pipeline: s.in.Pipeline, ID: id}, From: from, To: to, Window: s.in.Window,
		Lateness: s.in.Late(), FromLate: s.in.FromLate, Recount: s.in.Recount, Scope: s.in.Scope, Rate: s.in.Rate,
	}
	return nil
}

func (s *shadowing) run(ctx workflow.Context) (*contract.ReplayResult, error) {
	s.show(ctx)
	labelPipeline(ctx, s.ask.Pipeline)
	outcome, note, err := s.phases(ctx)
	left := s.end(ctx)
	switch {
	case err == nil:
	case ctx.Err() != nil: // also when a worker has died meanwhile: what was wanted is that it ends
		outcome, note, err = contract.OutcomeCancelled, "it was ended by a cancellation", ctx.Err()
	default:
		outcome, note = contract.OutcomeFailed, failureText(err)
	}
	if left != "" {
		note += "; " + left
	}
	lasting, _ := workflow.NewDisconnectedContext(ctx)
	s.outcome = outcome
	s.set(lasting, contract.StateDone, note, nil)
	if err != nil {
		return nil, err
	}
	return &contract.ReplayResult{
		Pipeline: s.ask.Pipeline, ID: s.ask.ID, Outcome: outcome, Note: note, Began: s.began, Ended: workflow.Now(ctx), Ask: s.ask,
		Plan: s.plan, Summary: s.summary, Certified: s.certified, Published: s.published, Receipts: s.receipts,
	}, nil
}

// phases carries a replay out up to the deletion of its shadow.
func (s *shadowing) phases(ctx workflow.Context) (outcome, note string, err error) {
	if err := s.sweep(ctx); err != nil {
		return "", "", err
	}
	if err := s.makePlan(ctx); err != nil {
		return "", "", err
	}
	if s.in.DryRun {
		return contract.OutcomeDryRun, "nothing was read", nil
	}
	if err := s.read(ctx); err != nil {
		return "", "", err
	}
	if s.in.Recount && s.summary.Equal > 0 {
		if s.certified, err = s.carryOut(ctx, contract.JobCertify, ""); err != nil {
			return "", "", err
		}
	}
	switch {
	case s.summary.Differ == 0 && s.in.Recount:
		return contract.OutcomeCertified, s.summary.String() + ": " + s.certified.String(), nil
	case s.summary.Differ == 0:
		return contract.OutcomeUnchanged, s.summary.String(), nil
	}
	if rejected, err := s.awaitDecision(ctx); err != nil || rejected != "" {
		return contract.OutcomeRejected, rejected, err
	}
	if s.published, err = s.carryOut(ctx, contract.JobCorrections, s.approval.Reason); err != nil {
		return "", "", err
	}
	note = s.published.String()
	if n := s.published.Count(contract.CarriedMoved); n > 0 {
		note += fmt.Sprintf("; windows that have moved were published again since they were compared: replay them anew (%d)", n)
	}
	return contract.OutcomeCarriedOut, note, nil
}

// end deletes the shadow, whatever has ended the replay, a cancellation too. It returns what is left when that does not succeed.
func (s *shadowing) end(ctx workflow.Context) (left string) {
	if !s.shadow {
		return ""
	}
	lasting, _ := workflow.NewDisconnectedContext(ctx)
	bounded, giveUp := workflow.WithCancel(lasting)
	defer giveUp()
	over := false
	workflow.Go(ctx, func(ctx workflow.Context) {
		if workflow.Await(ctx, func() bool { return over }) == nil {
			return
		}
		cancelled, _ := workflow.NewDisconnectedContext(ctx)
		_, _ = awaitFor(cancelled, contract.EndAfterCancel, "gives up deleting the shadow, which the next replay does",
			func() bool { return over })
		giveUp()
	})
	s.set(lasting, contract.StateEnding, "deletes the shadow", nil)
	var removed contract.Removed
	err := s.waits.try(bounded, step{
		activity: s.acts.EndShadow, options: contract.EndShadowOptions(), patience: contract.EndPatience,
		wait: contract.Pending{For: "Redis: delete the shadow", Then: "the next replay of the pipeline deletes it"},
	}, s.ask.ReplayRef, &removed)
	over = true
	if err == nil {
		s.shadow = false
		return ""
	}
	left = "the shadow was not deleted, which the next replay of the pipeline does: " + failureText(err)
	s.set(lasting, contract.StateEnding, left, nil)
	return left
}
