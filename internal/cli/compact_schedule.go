package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
)

// compactPlan is what `compact schedule` is asked for.
type compactPlan struct {
	pipeline      string
	every, jitter durationFlag
	cron          string
	startNow      bool
}

func compactScheduleCommand(sh *shell) *cobra.Command {
	plan := compactPlan{every: durationFlag(contract.CompactEvery), jitter: durationFlag(contract.CompactJitter)}
	cmd := &cobra.Command{
		Use:   "schedule NAME",
		Short: "Compact a pipeline again and again",
		Long: `Schedule creates the Temporal schedule compact:<name>, or changes the one there is. Each run rolls up to the time that it was
meant for. A run that is still under way lets the next one be skipped, runs that were missed for at most an hour are made up for,
and one that fails pauses nothing: the next one does its work.

--cron takes a cron expression in UTC, or in another zone as in "CRON_TZ=Europe/Berlin 15 3 * * *".`,
		Example: "  millrace compact schedule flights\n  millrace compact schedule flights --every 15m --jitter 10s --start-now\n" +
			"  millrace compact schedule flights --cron \"5 * * * *\"",
		Args: exactly(nameArg),
		RunE: func(cmd *cobra.Command, args []string) error {
			plan.pipeline = args[0]
			if plan.cron != "" && cmd.Flags().Changed("every") {
				return usagef("--every and --cron are both given; want one of them")
			}
			return plan.schedule(cmd.Context(), sh)
		},
	}
	cmd.Flags().Var(&plan.every, "every", "time between two runs, 1m to 30d")
	cmd.Flags().StringVar(&plan.cron, "cron", "", "instead of --every: a cron expression")
	cmd.Flags().Var(&plan.jitter, "jitter", "a run begins by up to this time later, 0s to 1d, so that pipelines do not run all at once")
	cmd.Flags().BoolVar(&plan.startNow, "start-now", false, "run at once, too")
	return cmd
}

const (
	minCompactEvery  = time.Minute
	maxCompactEvery  = 30 * 24 * time.Hour
	maxCompactJitter = 24 * time.Hour
)

// spec is when the schedule runs.
func (p *compactPlan) spec() (client.ScheduleSpec, error) {
	if _, err := p.jitter.seconds("--jitter", 0, maxCompactJitter); err != nil {
		return client.ScheduleSpec{}, err
	}
	when := client.ScheduleSpec{Jitter: time.Duration(p.jitter)}
	if p.cron != "" {
		when.CronExpressions = []string{p.cron}
		return when, nil
	}
	if _, err := p.every.seconds("--every", minCompactEvery, maxCompactEvery); err != nil {
		return client.ScheduleSpec{}, err
	}
	when.Intervals = []client.ScheduleIntervalSpec{{Every: time.Duration(p.every)}}
	return when, nil
}

// action is what each run of the schedule starts.
func (p *compactPlan) action() *client.ScheduleWorkflowAction {
	return &client.ScheduleWorkflowAction{
		ID: contract.CompactID(p.pipeline), Workflow: contract.WorkflowCompact, TaskQueue: contract.TaskQueue,
		Args:                     []any{contract.CompactInput{Version: contract.Version, Pipeline: p.pipeline}},
		WorkflowExecutionTimeout: contract.CompactTimeout, StaticSummary: compactSummary(p.pipeline),
	}
}

// compactScheduled is what `compact schedule` prints as JSON.
type compactScheduled struct {
	Pipeline string      `json:"pipeline"`
	Schedule string      `json:"schedule"`
	Changed  bool        `json:"changed"` // there was one
	Next     []time.Time `json:"next"`
}

func (p *compactPlan) schedule(ctx context.Context, sh *shell) error {
	when, err := p.spec()
	if err != nil {
		return err
	}
	return sh.withWorkers(ctx, func(c client.Client) error {
		if err := requireCompactable(ctx, c, p.pipeline); err != nil {
			return err
		}
		done := compactScheduled{Pipeline: p.pipeline, Schedule: contract.CompactID(p.pipeline)}
		if done.Changed, err = p.create(ctx, c, when); err != nil {
			return p.explain(err)
		}
		described, err := c.ScheduleClient().GetHandle(ctx, done.Schedule).Describe(ctx)
		if err != nil {
			return p.explain(err)
		}
		done.Next = described.Info.NextActionTimes
		return sh.printOr(done, func() error {
			verb := "created"
			if done.Changed {
				verb = "changed"
			}
			_, err := fmt.Fprintf(sh.out, "%s schedule %s: %s, next %s\nlook with: millrace compact ls %s\n", verb, done.Schedule,
				describeTiming(&when), nextText(done.Next), p.pipeline)
			return err
		})
	})
}

// create creates the schedule, or changes the one there is.
func (p *compactPlan) create(ctx context.Context, c client.Client, when client.ScheduleSpec) (changed bool, err error) {
	_, err = c.ScheduleClient().Create(ctx, client.ScheduleOptions{
		ID: contract.CompactID(p.pipeline), Spec: when, Action: p.action(), Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP,
		CatchupWindow: contract.CompactCatchUp, TriggerImmediately: p.startNow,
	})
	var exists *serviceerror.AlreadyExists
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	if !errors.Is(err, temporal.ErrScheduleAlreadyRunning) && !errors.As(err, &exists) && !errors.As(err, &running) {
		return false, err
	}
	handle := c.ScheduleClient().GetHandle(ctx, contract.CompactID(p.pipeline))
	err = handle.Update(ctx, client.ScheduleUpdateOptions{DoUpdate: func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
		s := in.Description.Schedule
		s.Spec, s.Action = &when, p.action()
		s.Policy = &client.SchedulePolicies{Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP, CatchupWindow: contract.CompactCatchUp}
		return &client.ScheduleUpdate{Schedule: &s}, nil
	}})
	if err == nil && p.startNow {
		err = handle.Trigger(ctx, client.ScheduleTriggerOptions{})
	}
	return true, err
}

func (p *compactPlan) explain(err error) error {
	var invalid *serviceerror.InvalidArgument
	if errors.As(err, &invalid) {
		return usagef("Temporal refuses the schedule: %w", err)
	}
	return explainSchedule(p.pipeline, err)
}

// explainSchedule turns Temporal's errors about a pipeline's schedule into what a person can act on.
func explainSchedule(pipeline string, err error) error {
	var notFound *serviceerror.NotFound
	if errors.As(err, &notFound) {
		return fmt.Errorf("pipeline %s has no schedule %s: make one with `millrace compact schedule %s`", pipeline,
			contract.CompactID(pipeline), pipeline)
	}
	return explainWorkflow(contract.CompactID(pipeline), "", err)
}

func compactUnscheduleCommand(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:   "unschedule NAME",
		Short: "Delete a pipeline's schedule",
		Long: `Unschedule deletes the schedule compact:<name>, also that of a pipeline which is gone. A run that is under way goes on to its
end. What a run has told the pipeline that somebody has to see to is taken back.`,
		Example: "  millrace compact unschedule flights",
		Args:    exactly(nameArg),
		RunE: func(cmd *cobra.Command, args []string) error {
			return unscheduleCompact(cmd.Context(), sh, args[0])
		},
	}
}

// compactUnscheduled is what `compact unschedule` prints as JSON.
type compactUnscheduled struct {
	Pipeline string `json:"pipeline"`
	Schedule string `json:"schedule"`
}

func unscheduleCompact(ctx context.Context, sh *shell, pipeline string) error {
	c, err := sh.dialTemporal(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	id := contract.CompactID(pipeline)
	if err := c.ScheduleClient().GetHandle(asking, id).Delete(asking); err != nil {
		var notFound *serviceerror.NotFound
		if errors.As(err, &notFound) {
			return fmt.Errorf("pipeline %s has no schedule %s", pipeline, id)
		}
		return explainSchedule(pipeline, err)
	}
	over := contract.ChildReport{ID: id, State: contract.ChildEnded, Note: "its schedule was deleted"}
	err = c.SignalWorkflow(asking, contract.PipelineID(pipeline), "", contract.SignalReport, over)
	var closed *serviceerror.NotFound
	if err != nil && !errors.As(err, &closed) {
		return explainWorkflow(contract.PipelineID(pipeline), "", err)
	}
	return sh.printOr(compactUnscheduled{pipeline, id}, func() error {
		_, err := fmt.Fprintf(sh.out, "deleted schedule %s\n", id)
		return err
	})
}

func compactBackfillCommand(sh *shell) *cobra.Command {
	var from, to string
	cmd := &cobra.Command{
		Use:   "backfill NAME --from TIME --to TIME",
		Short: "Run a pipeline's schedule for times that are past",
		Long: `Backfill lets the schedule compact:<name> run now for every time in the range at which it would have run, one run after the
other. It is seldom needed: a run rolls up whatever was not rolled up before. The start and the end of the range count.`,
		Example: "  millrace compact backfill flights --from 2001-01-01T00:00:00Z --to 2001-01-02T00:00:00Z",
		Args:    exactly(nameArg),
		RunE: func(cmd *cobra.Command, args []string) error {
			return backfillCompact(cmd.Context(), sh, args[0], from, to)
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "start of the range")
	cmd.Flags().StringVar(&to, "to", "", "end of the range")
	return cmd
}

// compactBackfilled is what `compact backfill` prints as JSON.
type compactBackfilled struct {
	Pipeline string    `json:"pipeline"`
	Schedule string    `json:"schedule"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
}

func backfillCompact(ctx context.Context, sh *shell, pipeline, from, to string) error {
	if from == "" || to == "" {
		return usagef("--from or --to is missing; want the range that is to be run")
	}
	done := compactBackfilled{Pipeline: pipeline, Schedule: contract.CompactID(pipeline)}
	var err error
	if done.From, err = parseInstant("--from", from); err != nil {
		return err
	}
	if done.To, err = parseInstant("--to", to); err != nil {
		return err
	}
	if done.To.Before(done.From) {
		return usagef("--from is %s and --to is %s; want a range that does not end before its start", from, to)
	}
	return sh.withWorkers(ctx, func(c client.Client) error {
		asking, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		handle := c.ScheduleClient().GetHandle(asking, done.Schedule)
		described, err := handle.Describe(asking)
		if err != nil { // a backfill of what is not there is an error of another kind
			return explainSchedule(pipeline, err)
		}
		// Temporal compares the range with the times that the jitter has moved: without more room the last run could be left out.
		end := done.To
		if s := described.Schedule.Spec; s != nil {
			end = end.Add(s.Jitter)
		}
		err = handle.Backfill(asking, client.ScheduleBackfillOptions{Backfill: []client.ScheduleBackfill{{
			Start: done.From, End: end, Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_BUFFER_ALL,
		}}})
		if err != nil {
			return explainSchedule(pipeline, err)
		}
		return sh.printOr(done, func() error {
			_, err := fmt.Fprintf(sh.out,
				"schedule %s runs for every time from %s to %s, one run after the other\nlook with: millrace compact ls %s\n",
				done.Schedule, instant(done.From.UnixMilli()), instant(done.To.UnixMilli()), pipeline)
			return err
		})
	})
}
