package activities

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.temporal.io/sdk/activity"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// CarryOut carries a job out beside closing, and goes on where an earlier attempt was. That it is called off is no error: the
// answer then says that it is unfinished, and what was done. Nor is the trouble of the last of the job's tries.
func (a *Closing) CarryOut(ctx context.Context, job contract.CarryOutJob) (*contract.CarriedOut, error) {
	c := &carrying{job: job, report: &contract.JobReport{}}
	if job.Report != nil {
		c.report = job.Report.Clone()
	}
	if activity.HasHeartbeatDetails(ctx) {
		var before contract.JobReport
		if err := activity.GetHeartbeatDetails(ctx, &before); err == nil && before.Booked() > c.report.Booked() {
			c.report = &before
		}
	}
	s, err := parse(job.Spec)
	if err != nil {
		return nil, err
	}
	answer := &contract.CarriedOut{ID: job.ID}
	err = newAttempt(ctx, a.beats, closeBeat).hold(ctx, c.details, func(ctx context.Context) error {
		err := a.carryOut(ctx, activity.GetInfo(ctx).WorkflowExecution.RunID, s, c)
		var refused *JobRefusedError
		switch reason := reasonOf(ctx); {
		case errors.As(err, &refused):
			answer.Problem = contract.Cut(refused.Why)
		case err != nil && errors.Is(reason, errCancelled):
			answer.Unfinished = true
		case err != nil && reason != nil:
			return ended(reason)
		case err != nil && !failsForGood(err) && job.Tries > 0 && int(activity.GetInfo(ctx).Attempt) >= job.Tries:
			answer.Unfinished, answer.Trouble = true, contract.Cut(err.Error())
		case err != nil:
			return final(err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if answer.Report = c.report; answer.Problem != "" && answer.Report.Booked() == 0 {
		answer.Report = nil
	}
	return answer, nil
}

// failsForGood reports whether trying again does not help.
func failsForGood(err error) bool {
	return errors.Is(err, ErrPermanent) || errors.Is(err, ErrRefused) || errors.Is(err, ErrStale)
}

func (a *Closing) carryOut(ctx context.Context, run string, s *spec.Spec, c *carrying) error {
	closer, done, err := a.closers.Closer(ctx, s, run)
	if err != nil {
		return err
	}
	defer done()
	job := c.job
	job.Report = c.report.Clone() // as it was when the attempt began
	rest := &jobRest{}
	turn := func(ctx context.Context, work func(context.Context) error) error {
		if err := rest.pause(ctx); err != nil {
			return err
		}
		return a.turn(ctx, s.Name, func(ctx context.Context) error {
			defer rest.add(time.Now())
			return work(ctx)
		})
	}
	return closer.CarryOut(ctx, job, turn, c.book)
}

// carrying is the progress of one CarryOut.
type carrying struct {
	job contract.CarryOutJob

	mu     sync.Mutex // guards report: heartbeats read it
	report *contract.JobReport
}

func (c *carrying) book(w contract.CarriedWindow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Add(w)
}

// details are the heartbeat's: a copy, since it is encoded while the work goes on.
func (c *carrying) details() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.report.Clone()
}

// Closing comes before jobs: a job that has had the turn for restAfter rests restTimes as long.
const (
	restAfter = 100 * time.Millisecond
	restTimes = 2
)

// jobRest is how long a job has had the turn since it last rested.
type jobRest struct{ worked time.Duration }

func (r *jobRest) add(since time.Time) { r.worked += time.Since(since) }

func (r *jobRest) pause(ctx context.Context) error {
	if r.worked < restAfter {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(restTimes * r.worked):
	}
	r.worked = 0
	return nil
}
