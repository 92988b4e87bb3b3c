package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

func compactLsCommand(sh *shell) *cobra.Command {
	return lastFlag(&cobra.Command{
		Use:     "ls NAME",
		Short:   "Show a pipeline's schedule, its last runs and what they did, and the next ones",
		Example: "  millrace compact ls flights --last 3",
	}, 10, "how many runs; 0 for all", func(ctx context.Context, pipeline string, last int) error {
		return listCompacts(ctx, sh, pipeline, last)
	})
}

// compactList is what `compact ls` prints as JSON.
type compactList struct {
	Pipeline string         `json:"pipeline"`
	Schedule *compactTiming `json:"schedule,omitempty"` // nil without one
	Runs     []compactRun   `json:"runs"`               // those that are open first, then the latest first
}

// compactTiming is when a schedule runs.
type compactTiming struct {
	ID      string      `json:"id"`
	When    string      `json:"when"` // for people
	Paused  bool        `json:"paused"`
	Note    string      `json:"note,omitempty"`
	Next    []time.Time `json:"next"`
	Runs    int         `json:"runs"`    // that it has started
	Skipped int         `json:"skipped"` // because the one before was under way
	Missed  int         `json:"missed"`  // because nobody was there for longer than it makes up for
}

// compactRun is a run and what it did.
type compactRun struct {
	listed
	state contract.CompactStatus
	fails string // why it ended without a result, "" when it did not
}

func listCompacts(ctx context.Context, sh *shell, pipeline string, last int) error {
	return sh.withWorkers(ctx, func(c client.Client) error {
		list := compactList{Pipeline: pipeline}
		described, err := c.ScheduleClient().GetHandle(ctx, contract.CompactID(pipeline)).Describe(ctx)
		var none *serviceerror.NotFound
		if err != nil && !errors.As(err, &none) {
			return explainSchedule(pipeline, err)
		}
		known := 0
		if err == nil {
			list.Schedule, known = timingOf(described), 1
		}
		found, err := listWorkflows(ctx, c, contract.WorkflowCompact, contract.CompactID(pipeline), 0)
		if err != nil {
			return err
		}
		found = slices.DeleteFunc(found, func(e *workflowpb.WorkflowExecutionInfo) bool {
			name, ok := contract.CompactOf(e.GetExecution().GetWorkflowId())
			return !ok || name != pipeline
		})
		if err := requirePipeline(ctx, c, pipeline, known+len(found)); err != nil {
			return err
		}
		if last > 0 {
			found = found[:min(last, len(found))]
		}
		for _, e := range found {
			list.Runs = append(list.Runs, runOf(ctx, c, e))
		}
		return sh.printOr(list, func() error { return drawCompacts(sh.out, &list) })
	})
}

func timingOf(d *client.ScheduleDescription) *compactTiming {
	t := &compactTiming{
		ID: "", Next: d.Info.NextActionTimes, Runs: d.Info.NumActions, Skipped: d.Info.NumActionsSkippedOverlap,
		Missed: d.Info.NumActionsMissedCatchupWindow, When: describeTiming(d.Schedule.Spec),
	}
	if action, ok := d.Schedule.Action.(*client.ScheduleWorkflowAction); ok {
		t.ID = action.ID
	}
	if s := d.Schedule.State; s != nil {
		t.Paused, t.Note = s.Paused, s.Note
	}
	return t
}

// describeTiming says in words when a schedule runs.
func describeTiming(s *client.ScheduleSpec) string {
	if s == nil {
		return "never"
	}
	var parts []string
	for _, i := range s.Intervals {
		text := "every " + spec.Duration(i.Every).String()
		if i.Offset > 0 {
			text += " at " + spec.Duration(i.Offset).String()
		}
		parts = append(parts, text)
	}
	for _, cron := range s.CronExpressions {
		parts = append(parts, "cron "+cron)
	}
	if n := len(s.Calendars); n > 0 { // what Temporal makes of cron expressions
		parts = append(parts, describeCalendars(s.Calendars))
	}
	if len(parts) == 0 {
		return "never"
	}
	if s.TimeZoneName != "" {
		parts = append(parts, s.TimeZoneName)
	}
	if s.Jitter > 0 {
		parts = append(parts, "jitter "+spec.Duration(s.Jitter).String())
	}
	return strings.Join(parts, ", ")
}

// describeCalendars shows calendars by what their authors have noted, which for cron expressions is the expression.
func describeCalendars(calendars []client.ScheduleCalendarSpec) string {
	var notes []string
	for _, c := range calendars {
		if c.Comment != "" {
			notes = append(notes, c.Comment)
		}
	}
	if len(notes) < len(calendars) {
		return counted(len(calendars), "calendar")
	}
	return "cron " + strings.Join(notes, ", ")
}

func nextText(next []time.Time) string {
	if len(next) == 0 {
		return "-"
	}
	return instant(next[0].UnixMilli())
}

// runOf asks a run what it did.
func runOf(ctx context.Context, c client.Client, e *workflowpb.WorkflowExecutionInfo) compactRun {
	var r compactRun
	r.listed, r.state = listedOf[contract.CompactStatus](ctx, c, e)
	if r.Open || r.state.State == contract.StateDone {
		return r
	}
	asking, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	err := c.GetWorkflow(asking, r.WorkflowID, r.RunID).Get(asking, nil)
	var failed *temporal.ApplicationError
	var cancelled *temporal.CanceledError
	switch {
	case err == nil:
	case errors.As(err, &failed):
		r.fails = failed.Message()
	case errors.As(err, &cancelled):
		r.fails = "cancelled"
	default:
		r.fails = err.Error()
	}
	if r.fails != "" {
		r.Problem = r.fails
	}
	return r
}

func drawCompacts(w io.Writer, list *compactList) error {
	if t := list.Schedule; t == nil {
		fmt.Fprintf(w, "pipeline %s has no schedule; make one with `millrace compact schedule %s`\n", list.Pipeline, list.Pipeline)
	} else {
		fmt.Fprintf(w, "schedule %s: %s, next %s\n", t.ID, t.When, nextText(t.Next))
		if t.Paused {
			fmt.Fprintf(w, "  PAUSED %s: go on with `temporal schedule toggle --unpause --schedule-id %s`\n", t.Note, t.ID)
		}
		fmt.Fprintf(w, "  %s started, %d skipped because the one before was under way, %d missed\n",
			counted(t.Runs, "run"), t.Skipped, t.Missed)
	}
	if len(list.Runs) == 0 {
		_, err := fmt.Fprintln(w, "no run is known")
		return err
	}
	t := &table{}
	t.row("STARTED", "UP TO", "STATE", "WHAT IT DID")
	for i := range list.Runs {
		r := &list.Runs[i]
		state, did := r.state.State, r.state.String()
		switch {
		case r.fails != "":
			state, did = contract.StateFailed, r.fails
		case r.Open:
			did = r.state.Note
		case len(r.state.Problems) > 0:
			state, did = contract.OutcomeIncomplete, did+"; "+strings.Join(r.state.Problems, "; ")
		}
		t.row(r.Started, boundText(r.state.Bound), state, did)
	}
	return t.write(w, "")
}

func boundText(bound time.Time) string {
	if bound.IsZero() {
		return "-"
	}
	return instant(bound.UnixMilli())
}
