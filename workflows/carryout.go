package workflows

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// errands has a pipeline's closer carry jobs out for the workflow that asks: it alone writes to the slots of the ledger while the
// pipeline runs.
type errands struct {
	waits   *waits
	answers map[string]contract.CarriedOut // of the closer, by job
	asked   *waiting                       // for the closer's answer, nil when nothing is asked
}

// newErrands listens for the closer's answers as long as the workflow runs.
func newErrands(ctx workflow.Context, w *waits) *errands {
	e := &errands{waits: w, answers: make(map[string]contract.CarriedOut)}
	workflow.Go(ctx, func(ctx workflow.Context) {
		for answers := workflow.GetSignalChannel(ctx, contract.SignalCarriedOut); ; {
			var done contract.CarriedOut
			answers.Receive(ctx, &done)
			if !done.Unfinished {
				e.answers[done.ID] = done
			} else if e.asked != nil {
				e.asked.Why = done.Trouble
				w.show(ctx)
			}
		}
	})
	return e
}

// carryOut asks the closer until it answers, and carries the job out here while the closer's workflow is not open, because the
// pipeline is stopped: two closers at a time would fence each other. what says on one line what the job does.
func (e *errands) carryOut(ctx workflow.Context, job contract.CarryOutJob, what string, until time.Time) (*contract.JobReport, error) {
	job.Trace = traceOf(ctx)
	closer := contract.CloseWindowsID(job.Pipeline)
	wait := e.waits.begin(ctx, contract.Pending{For: closer + " to carry it out", Until: &until, Then: "it is given up"}, nil)
	e.asked = wait
	defer func() {
		e.asked = nil
		e.waits.end(ctx, wait)
	}()
	answered := func() bool { _, ok := e.answers[job.ID]; return ok }
	for after := contract.CarryOutAskFirst; !answered(); after = min(2*after, contract.CarryOutAskMost) {
		left := until.Sub(workflow.Now(ctx))
		if left <= 0 {
			return nil, refused("%s of %s: %s has not answered until %s; see `millrace status %s`", what, job.Pipeline, closer,
				stamp(until), job.Pipeline)
		}
		err := workflow.SignalExternalWorkflow(ctx, closer, "", contract.SignalCarryOut, job).Get(ctx, nil)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case isNotOpen(err):
			return e.carryOutHere(ctx, job, what, until)
		case err != nil:
			wait.Why = failureText(err)
		}
		if _, err := awaitFor(ctx, min(after, left), "waits for "+closer+": "+what, answered); err != nil {
			return nil, err
		}
	}
	return carriedReport(job, what, e.answers[job.ID])
}

// carryOutHere carries a job out while nobody else does.
func (e *errands) carryOutHere(ctx workflow.Context, job contract.CarryOutJob, what string, until time.Time) (*contract.JobReport, error) {
	var done contract.CarriedOut
	err := e.waits.try(ctx, step{
		activity: contract.ActivityCarryOut, options: contract.CarryOutOptions(), patience: until.Sub(workflow.Now(ctx)),
		wait: contract.Pending{For: "Kafka and Redis: " + what},
	}, job, &done)
	switch {
	case err == nil:
		return carriedReport(job, what, done)
	case ctx.Err() != nil || isFinal(err):
		return nil, err
	}
	return nil, refused("%s of %s: given up at %s: %s. See to that, then start it again", what, job.Pipeline, stamp(workflow.Now(ctx)),
		failureText(err))
}

// carriedReport is what a job came to, or why it cannot be carried out.
func carriedReport(job contract.CarryOutJob, what string, done contract.CarriedOut) (*contract.JobReport, error) {
	switch {
	case done.Problem != "":
		return nil, refused("%s of %s cannot be carried out: %s", what, job.Pipeline, done.Problem)
	case done.Report == nil:
		return new(contract.JobReport), nil
	}
	return done.Report, nil
}

// isNotOpen reports whether a signal was not delivered because the workflow is not open.
func isNotOpen(err error) bool {
	var unknown *temporal.UnknownExternalWorkflowExecutionError
	return errors.As(err, &unknown)
}
