package workflows

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

// awaitDecision waits until somebody approves or rejects what differs. rejected is why nothing is to be published, "" for an
// approval.
func (s *shadowing) awaitDecision(ctx workflow.Context) (rejected string, err error) {
	until := workflow.Now(ctx).Add(contract.DiffPatience)
	notice := until.Add(-contract.DiffNotice)
	decided := func() bool { return s.approval != nil || s.rejection != nil }
	for now := workflow.Now(ctx); !decided() && now.Before(until); now = workflow.Now(ctx) {
		note, next := s.summary.String(), notice
		if !now.Before(notice) {
			note += "; NOTICE: it is rejected at " + stamp(until) + " unless somebody approves"
			next = until
		}
		// A pipeline that was started since has not heard of it.
		s.pipeline.forgetTold()
		s.set(ctx, contract.StateAsking, note, &until)
		if _, err := awaitFor(ctx, min(contract.RemindEvery, next.Sub(now)), "waits for an approval: "+s.showCommand(), decided); err != nil {
			return "", err
		}
	}
	switch {
	case s.approval != nil:
		return "", nil
	case s.rejection == nil:
		return fmt.Sprintf("nobody approved it within %s; nothing was published", spec.Duration(contract.DiffPatience)), nil
	case s.rejection.Reason != "":
		return "nothing was published: " + s.rejection.Reason, nil
	}
	return "nothing was published", nil
}

func (s *shadowing) showCommand() string {
	return fmt.Sprintf("millrace replay show %s %s", s.ask.Pipeline, s.ask.ID)
}

// handle registers the query and the updates.
func (s *shadowing) handle(ctx workflow.Context) error {
	if err := workflow.SetQueryHandlerWithOptions(ctx, contract.QueryStatus, s.status, workflow.QueryHandlerOptions{
		Description: "what is read, how far it is, what differs, and what it waits for",
	}); err != nil {
		return err
	}
	return handleUpdates(ctx, []handledUpdate{
		{contract.UpdateApprove, "publish what differs, of which the checksum is given", s.approve, s.admitApproval},
		{contract.UpdateReject, "publish nothing", s.reject, s.admitRejection},
		{contract.UpdateSetRate, "how many records a second are read; 0: what a twentieth of a processor folds",
			s.setRate, s.admitRate},
		{contract.UpdateShowDiff, "a page of what differs in one window", s.showDiff, s.admitPage},
	})
}

// receipt is what answered a request that came before under this id.
func (s *shadowing) receipt(id string) (contract.ReplayReceipt, bool) {
	i := slices.IndexFunc(s.receipts, func(r contract.ReplayReceipt) bool { return r.RequestID == id })
	if i < 0 {
		return contract.ReplayReceipt{}, false
	}
	return s.receipts[i], true
}

// repeats reports whether the request was answered before; an id that was used for another one is an error.
func (s *shadowing) repeats(ctx workflow.Context, update string, req any) (bool, error) {
	past, ok := s.receipt(workflow.GetCurrentUpdateInfo(ctx).ID)
	if !ok {
		return false, nil
	}
	return true, past.Past().Repeats(update, contract.Fingerprint(req))
}

// answer books the receipt of a request, or returns the one that it got before.
func (s *shadowing) answer(ctx workflow.Context, update, reason string, req any, fill func(*contract.ReplayReceipt),
) *contract.ReplayReceipt {
	id := workflow.GetCurrentUpdateInfo(ctx).ID
	if past, ok := s.receipt(id); ok {
		past.Repeated = true
		return &past
	}
	receipt := contract.ReplayReceipt{
		RequestID: id, Update: update, At: workflow.Now(ctx), Reason: reason, Input: contract.Fingerprint(req),
	}
	fill(&receipt)
	s.receipts = append(s.receipts, receipt)
	s.receipts = s.receipts[max(0, len(s.receipts)-contract.MaxReceipts):]
	s.show(ctx)
	return &receipt
}

// undecided refuses a decision when nothing is to be decided.
func (s *shadowing) undecided(update string) error {
	switch {
	case s.approval != nil:
		return refused("%s: it is approved already", update)
	case s.rejection != nil:
		return refused("%s: it is rejected already", update)
	case s.leaving || s.phase != contract.StateAsking:
		return refused("%s: nothing waits for an approval; the %s is %s", update, s.in.Kind(), s.phase)
	}
	return nil
}

func (s *shadowing) admitApproval(ctx workflow.Context, req contract.ApproveDiffRequest) error {
	if err := req.Validate(); err != nil {
		return err
	}
	if repeated, err := s.repeats(ctx, contract.UpdateApprove, req); repeated {
		return err
	}
	if err := s.undecided(contract.UpdateApprove); err != nil {
		return err
	}
	if req.Checksum != s.summary.Checksum {
		return refused("approve: checksum is %q, and that of the diff is %q: look at it with `millrace replay diff %s %s`, then approve that",
			req.Checksum, s.summary.Checksum, s.ask.Pipeline, s.ask.ID)
	}
	return nil
}

func (s *shadowing) approve(ctx workflow.Context, req contract.ApproveDiffRequest) (*contract.ReplayReceipt, error) {
	if repeated, _ := s.repeats(ctx, contract.UpdateApprove, req); !repeated {
		if err := s.undecided(contract.UpdateApprove); err != nil {
			return nil, err
		}
	}
	return s.answer(ctx, contract.UpdateApprove, req.Reason, req, func(r *contract.ReplayReceipt) {
		r.Checksum, r.Note = req.Checksum, "the result of the workflow says what became of each window"
		s.approval = r
	}), nil
}

func (s *shadowing) admitRejection(ctx workflow.Context, req contract.RejectRequest) error {
	if err := req.Validate(); err != nil {
		return err
	}
	if repeated, err := s.repeats(ctx, contract.UpdateReject, req); repeated {
		return err
	}
	return s.undecided(contract.UpdateReject)
}

func (s *shadowing) reject(ctx workflow.Context, req contract.RejectRequest) (*contract.ReplayReceipt, error) {
	if repeated, _ := s.repeats(ctx, contract.UpdateReject, req); !repeated {
		if err := s.undecided(contract.UpdateReject); err != nil {
			return nil, err
		}
	}
	return s.answer(ctx, contract.UpdateReject, req.Reason, req, func(r *contract.ReplayReceipt) {
		r.Note, s.rejection = "nothing is published", r
	}), nil
}

func (s *shadowing) admitRate(ctx workflow.Context, req contract.SetRateRequest) error {
	if err := req.Validate(); err != nil {
		return err
	}
	if repeated, err := s.repeats(ctx, contract.UpdateSetRate, req); repeated {
		return err
	}
	if s.leaving || s.phase != contract.StateReading {
		return refused("set-rate: nothing is read; the %s is %s", s.in.Kind(), s.phase)
	}
	return nil
}

func (s *shadowing) setRate(ctx workflow.Context, req contract.SetRateRequest) (*contract.ReplayReceipt, error) {
	if repeated, _ := s.repeats(ctx, contract.UpdateSetRate, req); !repeated {
		options := contract.ShadowAskOptions()
		options.Summary = summary(fmt.Sprintf("reads %d records a second; 0: what a twentieth of a processor folds", *req.RecordsPerSecond))
		act := workflow.WithActivityOptions(ctx, options)
		in := contract.SetReplayRateInput{ReplayRef: s.ask.ReplayRef, RecordsPerSecond: *req.RecordsPerSecond}
		if err := workflow.ExecuteActivity(act, s.acts.SetReplayRate, in).Get(ctx, nil); err != nil {
			return nil, refused("set-rate: %s", failureText(err))
		}
	}
	return s.answer(ctx, contract.UpdateSetRate, req.Reason, req, func(r *contract.ReplayReceipt) { r.Rate = req.RecordsPerSecond }), nil
}

func (s *shadowing) admitPage(_ workflow.Context, req contract.ShowDiffRequest) error {
	if err := req.Validate(); err != nil {
		return err
	}
	switch {
	case s.leaving || s.summary == nil || s.phase == contract.StateEnding:
		return refused("show-diff: there is no diff; the %s is %s", s.in.Kind(), s.phase)
	case s.pages >= contract.MaxDiffPages:
		return refused("show-diff: %d pages were shown, and each stays in the history: "+
			"read the diff from Redis with `millrace replay diff %s %s`",
			s.pages, s.ask.Pipeline, s.ask.ID)
	}
	return nil
}

func (s *shadowing) showDiff(ctx workflow.Context, req contract.ShowDiffRequest) (*contract.DiffPage, error) {
	s.pages++
	options := contract.ShadowAskOptions()
	options.Summary = summary("shows what differs in " + report.WindowRef{Window: req.Window, Start: req.Start.UnixMilli()}.String())
	var page contract.DiffPage
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), s.acts.ShowDiff, contract.ShowDiffInput{
		ReplayRef: s.ask.ReplayRef, Window: report.WindowRef{Window: req.Window, Start: req.Start.UnixMilli()}, Page: req.Page, Spec: s.with,
	}).Get(ctx, &page)
	if err != nil {
		return nil, refused("show-diff: %s", failureText(err))
	}
	return &page, nil
}

// hearProgress takes what a ReplayRange tells of its progress.
func (s *shadowing) hearProgress(ctx workflow.Context) {
	for reports := workflow.GetSignalChannel(ctx, contract.SignalReplayProgress); ; {
		var at contract.ReplayProgress
		reports.Receive(ctx, &at)
		s.progress = &at
		s.show(ctx)
	}
}

// untilText ends a sentence that says until when something lasts.
func untilText(until *time.Time) string {
	if until == nil {
		return ""
	}
	return ", until " + stamp(*until) + " at the longest"
}
