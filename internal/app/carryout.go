package app

import (
	"context"
	"errors"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
)

// CarryOut implements activities.Closer. While Kafka does not take results it fails at once.
func (c *closer) CarryOut(ctx context.Context, job contract.CarryOutJob, turn activities.Turn, book func(contract.CarriedWindow)) error {
	if why, open := c.outlet.open(); open {
		return errors.New(why)
	}
	told := func(w result.Carried) {
		if w.Verdict == publish.VerdictPublished {
			c.outlet.Report(nil)
		}
		book(carriedWindow(job.Kind, w))
	}
	ctx, end := c.traceJob(ctx, job)
	var err error
	defer func() { end(err) }()
	c.labelled(ctx, func(ctx context.Context) {
		err = c.windows.CarryOut(ctx, result.Job{ID: job.ID, Kind: job.Kind, Body: job.Body, Done: job.Report.Booked()}, result.Turn(turn), told)
	})
	var refused *result.RefusedJobError
	switch {
	case errors.As(err, &refused):
		return &activities.JobRefusedError{Why: refused.Why}
	case ctx.Err() == nil && result.Refused(err):
		c.outlet.Report(err)
	}
	return permanent(err)
}

// carriedWindow says in the words of the contract what became of a window.
func carriedWindow(kind string, w result.Carried) contract.CarriedWindow {
	if w.Rollup != nil {
		return contract.CarriedWindow{Rollup: w.Rollup}
	}
	out := contract.CarriedWindow{
		WindowRef: report.WindowRef{Window: w.Window.Window, Start: w.Window.Start}, Revision: w.Revision, Problem: w.Problem, Bytes: w.Bytes,
	}
	if w.Gone {
		out.Outcome = contract.CarriedGone
		return out
	}
	switch w.Verdict {
	case publish.VerdictPublished:
		if out.Outcome = contract.CarriedPublished; kind == contract.JobCertify {
			out.Outcome = contract.CarriedCertified
		}
	case publish.VerdictDone:
		out.Outcome = contract.CarriedBefore
	case publish.VerdictUnchanged:
		out.Outcome = contract.CarriedUnchanged
	case publish.VerdictMoved, publish.VerdictOpen:
		out.Outcome = contract.CarriedMoved
	default:
		out.Outcome = contract.CarriedFailed
	}
	return out
}
