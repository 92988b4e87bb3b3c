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

func recountCommand(sh *shell) *cobra.Command {
	job := rereadJob{in: contract.ReplayInput{Recount: true}}
	cmd := &cobra.Command{
		Use:   "recount NAME",
		Short: "Compare published windows with Kafka, and certify them",
		Long: `Recount reads final windows again from Kafka as the pipeline did, with the same spec and the same events late, and compares keys,
events and values with the ledger, with the contents in Redis and with the rows in the result topic. Where all agree the ledger
gets a certificate for each window. A difference is an incident: recount says which of the three is wrong, exits with 4, and keeps
the diff for 7 days, to be looked at, approved or rejected with ` + "`millrace replay diff`, `approve` and `reject`" + `. Nothing
is ever corrected by itself.

A certificate has the scope "whole" when the log was read from where no event of the window can lie before, and "from first
offset" when only from the first event that was counted: reading more would cost ten times as much, or --scope says so.`,
		Example: `  millrace recount flights --yesterday
  millrace recount flights --from 2001-01-01T00:00:00Z --to 2001-01-02T00:00:00Z --window hourly
  millrace recount schedule flights --cron "0 3 * * *"`,
		Args: exactly(nameArg),
		RunE: func(cmd *cobra.Command, args []string) error {
			job.in.Pipeline = args[0]
			return replay(cmd.Context(), sh, job)
		},
	}
	job.flags(cmd)
	job.recountFlags(cmd)
	cmd.Flags().BoolVar(&job.in.Yesterday, "yesterday", false, "the day before today, in UTC, instead of --from and --to")
	cmd.AddCommand(recountScheduleCommand(sh))
	return cmd
}

// recountFlags adds what only a recount has.
func (job *rereadJob) recountFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&job.scope, "scope", "", "whole or first-offset (default: whole, unless that costs ten times as much)")
}

// recountSchedule is what `recount schedule` is asked for.
type recountSchedule struct {
	job    rereadJob
	cron   string
	every  durationFlag
	remove bool
}

func recountScheduleCommand(sh *shell) *cobra.Command {
	s := recountSchedule{job: rereadJob{in: contract.ReplayInput{Recount: true, Yesterday: true}}}
	cmd := &cobra.Command{
		Use:   "schedule NAME",
		Short: "Recount the day before, again and again",
		Long: `Schedule makes the Temporal schedule recount:<name>, which starts a recount of the day before (UTC) whenever --cron or --every
says so. A run that was skipped or comes late is about the day that it was meant for. Runs do not overlap; one that could not
start is made up for within an hour. A difference is an incident that ` + "`millrace status`" + ` shows, and does not stop the schedule.

Choose a time at which the windows of the day before are final: after midnight plus watermark.out_of_orderness and
allowed_lateness. Windows that are not final are left out, which the plan of the run says. --remove deletes the schedule.`,
		Example: `  millrace recount schedule flights --cron "0 3 * * *"
  millrace recount schedule flights --every 1d --window hourly
  millrace recount schedule flights --remove`,
		Args: exactly(nameArg),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.job.in.Pipeline = args[0]
			return s.carryOut(cmd.Context(), sh)
		},
	}
	cmd.Flags().StringVar(&s.cron, "cron", "", `when, as in crontab and in UTC: "0 3 * * *"`)
	cmd.Flags().Var(&s.every, "every", "how often instead, 1h or more")
	cmd.Flags().StringVar(&s.job.in.Window, "window", "", "only windows of this name")
	cmd.Flags().Int64Var(&s.job.in.Rate, "rate", 0, "records a second, whatever that takes from the pipeline; "+
		"0: what a twentieth of a processor folds")
	cmd.Flags().BoolVar(&s.remove, "remove", false, "delete the schedule")
	s.job.recountFlags(cmd)
	return cmd
}

// scheduledID begins the ids of the recounts that a schedule starts; Temporal appends the time.
const scheduledID = "nightly"

// recountCatchUp is how late a run may be made up for.
const recountCatchUp = time.Hour

func (s *recountSchedule) options() (client.ScheduleOptions, error) {
	in, err := s.job.input()
	if err != nil {
		return client.ScheduleOptions{}, err
	}
	spec := client.ScheduleSpec{}
	switch given := s.every != 0; {
	case given == (s.cron != ""):
		return client.ScheduleOptions{}, usagef(`one of --cron and --every is needed, as in --cron "0 3 * * *"`)
	case given:
		if _, err := s.every.seconds("--every", time.Hour, 366*24*time.Hour); err != nil {
			return client.ScheduleOptions{}, err
		}
		spec.Intervals = []client.ScheduleIntervalSpec{{Every: time.Duration(s.every)}}
	default:
		spec.CronExpressions = []string{s.cron}
	}
	return client.ScheduleOptions{
		ID: contract.RecountScheduleID(in.Pipeline), Spec: spec, CatchupWindow: recountCatchUp, Overlap: enumspb.SCHEDULE_OVERLAP_POLICY_SKIP,
		Action: &client.ScheduleWorkflowAction{
			ID: contract.ReplayID(in.Pipeline, scheduledID), Workflow: contract.WorkflowReplay, TaskQueue: contract.TaskQueue,
			WorkflowExecutionTimeout: contract.RunLimit, Args: []any{in}, StaticSummary: "recount of " + in.Pipeline,
		},
	}, nil
}

// scheduled is what `recount schedule` prints as JSON.
type scheduled struct {
	ScheduleID string   `json:"schedule_id"`
	Removed    bool     `json:"removed"`
	Next       []string `json:"next"` // times of the next runs
}

func (s *recountSchedule) carryOut(ctx context.Context, sh *shell) error {
	id := contract.RecountScheduleID(s.job.in.Pipeline)
	if s.remove {
		if s.cron != "" || s.every != 0 {
			return usagef("--remove takes no --cron and no --every")
		}
		return s.delete(ctx, sh, id)
	}
	options, err := s.options()
	if err != nil {
		return err
	}
	c, err := sh.dialTemporal(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := requirePipeline(ctx, c, s.job.in.Pipeline, 0); err != nil {
		return err
	}
	handle, err := c.ScheduleClient().Create(ctx, options)
	var invalid *serviceerror.InvalidArgument
	switch {
	case errors.Is(err, temporal.ErrScheduleAlreadyRunning):
		return fmt.Errorf("schedule %s exists already; look with `temporal schedule describe --schedule-id %s`, or delete it with --remove",
			id, id)
	case errors.As(err, &invalid):
		return usagef("Temporal does not take the schedule: %w", err)
	case err != nil:
		return explainWorkflow(id, "", err)
	}
	done := scheduled{ScheduleID: id, Next: []string{}}
	if about, err := handle.Describe(ctx); err == nil {
		for _, at := range about.Info.NextActionTimes {
			done.Next = append(done.Next, instant(at.UnixMilli()))
		}
	}
	return sh.printOr(done, func() error {
		next := "not known"
		if len(done.Next) > 0 {
			next = done.Next[0]
		}
		_, err := fmt.Fprintf(sh.out, "schedule %s: the next recount begins at %s\nlook with: temporal schedule describe --schedule-id %s\n",
			id, next, id)
		return err
	})
}

func (s *recountSchedule) delete(ctx context.Context, sh *shell, id string) error {
	c, err := sh.dialTemporal(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.ScheduleClient().GetHandle(ctx, id).Delete(ctx); err != nil {
		var missing *serviceerror.NotFound
		if errors.As(err, &missing) {
			return fmt.Errorf("there is no schedule %s", id)
		}
		return explainWorkflow(id, "", err)
	}
	done := scheduled{ScheduleID: id, Removed: true, Next: []string{}}
	return sh.printOr(done, func() error {
		_, err := fmt.Fprintf(sh.out, "schedule %s is deleted; a recount under way goes on\n", id)
		return err
	})
}
