package workflows

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// jobs are carried out beside closing, one after the other: whoever wants something written into the ledger of a pipeline that runs
// asks its closer. A job that keeps failing lets the others go first.
type jobs struct {
	cancel workflow.CancelFunc
	ended  bool
}

// beginJobs takes jobs and carries them out until ctx is cancelled or endJobs is called.
func (c *closeWindows) beginJobs(ctx workflow.Context) {
	work, cancel := workflow.WithCancel(ctx)
	c.jobs.cancel = cancel
	asked := workflow.GetSignalChannel(ctx, contract.SignalCarryOut)
	workflow.Go(ctx, func(ctx workflow.Context) {
		for {
			var job contract.CarryOutJob
			asked.Receive(ctx, &job)
			c.takeJob(ctx, job)
		}
	})
	workflow.Go(work, func(ctx workflow.Context) {
		waiting := func() bool { return len(c.in.Jobs) > 0 }
		for workflow.Await(ctx, waiting) == nil && ctx.Err() == nil { // Await does not look at ctx when a job is there
			c.carryOut(ctx)
		}
		c.jobs.ended = true
	})
}

// endJobs calls off what is under way. What has not been carried out stays in c.in.Jobs, with what was done of it.
func (c *closeWindows) endJobs(ctx workflow.Context) {
	c.jobs.cancel()
	lasting, _ := workflow.NewDisconnectedContext(ctx)
	_ = workflow.Await(lasting, func() bool { return c.jobs.ended }) // nobody cancels lasting
}

// takeJob takes a job over, or answers it again. Whoever asks asks again until it has an answer, so a job that is left out is not
// lost.
func (c *closeWindows) takeJob(ctx workflow.Context, job contract.CarryOutJob) {
	known := func(j contract.CarryOutJob) bool { return j.ID == job.ID }
	answered := slices.IndexFunc(c.in.Answers, func(a contract.CarriedOut) bool { return a.ID == job.ID })
	switch {
	case answered >= 0:
		c.answer(ctx, job.ReplyTo, c.in.Answers[answered])
	case slices.ContainsFunc(c.in.Jobs, known):
	case len(job.Body) > contract.MaxJobBody:
		problem := fmt.Sprintf("what it is to do takes %d bytes, at most %d travel", len(job.Body), contract.MaxJobBody)
		c.answer(ctx, job.ReplyTo, contract.CarriedOut{ID: job.ID, Problem: problem})
	case len(c.in.Jobs) >= contract.MaxJobs:
		c.log.Info("too many jobs wait to be carried out", "job", job.ID, "waiting", len(c.in.Jobs))
	default:
		job.Spec, job.Report, job.Trouble = nil, nil, ""
		c.in.Jobs = append(c.in.Jobs, job)
		c.show(ctx)
	}
}

// carryOut carries the first job out. One that was called off stays the first; one that has failed again and again becomes the
// last, and whoever asked for it hears why.
func (c *closeWindows) carryOut(ctx workflow.Context) {
	job := c.in.Jobs[0]
	job.Spec, job.Tries, job.Trouble = c.in.Spec, contract.JobTries, ""
	options := contract.CarryOutOptions()
	options.Summary = summary("carry out " + job.ID)
	var done contract.CarriedOut
	err := workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), c.closing.CarryOut, job).Get(ctx, &done)
	switch {
	case err == nil && done.Trouble != "":
		c.postpone(ctx, done)
		return
	case err == nil && done.Unfinished:
		c.in.Jobs[0].Report = done.Report
		return
	case err != nil && ctx.Err() != nil:
		return
	case err != nil:
		done = contract.CarriedOut{ID: job.ID, Problem: endText(err)}
	}
	failed := c.in.Jobs[0].Trouble != ""
	c.in.Jobs = c.in.Jobs[1:]
	c.in.Answers = append(c.in.Answers, done)
	c.in.Answers = c.in.Answers[max(0, len(c.in.Answers)-contract.MaxJobAnswers):]
	if c.show(ctx); failed {
		c.tellWaits(ctx)
	}
	if sent := c.answer(ctx, job.ReplyTo, done); sent != nil {
		_ = sent.Get(ctx, nil) // whoever asked may be gone
	}
}

// postpone makes the first job the last one. When all of them are in trouble, nothing is tried for a while.
func (c *closeWindows) postpone(ctx workflow.Context, done contract.CarriedOut) {
	job := c.in.Jobs[0]
	news := job.Trouble != done.Trouble
	job.Report, job.Trouble = done.Report, done.Trouble
	c.in.Jobs = append(c.in.Jobs[1:], job)
	c.show(ctx)
	c.tellWaits(ctx)
	if news {
		if sent := c.answer(ctx, job.ReplyTo, done); sent != nil {
			_ = sent.Get(ctx, nil) // whoever asked may be gone
		}
	}
	untried := func() bool {
		return slices.ContainsFunc(c.in.Jobs, func(j contract.CarryOutJob) bool { return j.Trouble == "" })
	}
	_, _ = awaitFor(ctx, contract.JobRest, "rests: every job fails, "+job.ID+" the latest", untried) // carryOut looks at ctx
}

// troubles are the jobs that have failed when they were tried last.
func (c *closeWindows) troubles() (list []contract.JobTrouble) {
	for _, job := range c.in.Jobs {
		if job.Trouble != "" {
			list = append(list, contract.JobTrouble{ID: job.ID, Why: job.Trouble})
		}
	}
	return list
}

// told is the note that the pipeline is told, which names the first of the jobs that fail.
func (c *closeWindows) told() string {
	troubles := c.troubles()
	if c.note != "" || len(troubles) == 0 {
		return c.note
	}
	text := fmt.Sprintf("%s fails and is tried again: %s", troubles[0].ID, troubles[0].Why)
	if more := len(troubles) - 1; more > 0 {
		text = fmt.Sprintf("%s and %d more fail and are tried again: %s", troubles[0].ID, more, troubles[0].Why)
	}
	return text
}

// answer tells whoever asked what became of a job.
func (c *closeWindows) answer(ctx workflow.Context, to string, done contract.CarriedOut) workflow.Future {
	if to == "" {
		return nil
	}
	lasting, _ := workflow.NewDisconnectedContext(ctx)
	return workflow.SignalExternalWorkflow(lasting, to, "", contract.SignalCarriedOut, done)
}

// jobIDs are those of the jobs that wait or are under way.
func (c *closeWindows) jobIDs() []string {
	var ids []string
	for _, job := range c.in.Jobs {
		ids = append(ids, job.ID)
	}
	return ids
}
