package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
)

// following follows a Replay until it asks or ends.
type following struct {
	sh       *shell
	c        client.Client
	run      client.WorkflowRun
	pipeline string
	id       string
	kind     string // replay or recount
	decided  bool   // somebody has approved or rejected: it does not ask again
	said     changes
	line     *progress
	drew     time.Time // when a line of progress was printed last, where none can be redrawn
}

// command is a command line about this replay.
func (f *following) command(verb string) string {
	return fmt.Sprintf("millrace replay %s %s %s", verb, f.pipeline, f.id)
}

// replaySay is the time between two lines of progress where no line can be redrawn.
const replaySay = 10 * time.Second

func (f *following) follow(ctx context.Context) error {
	f.line, f.drew = newProgress(f.sh.err, f.kind), time.Now()
	defer f.line.End()
	watch := func(status contract.ReplayStatus) (enough bool, err error) { return f.watch(ctx, status) }
	return followRun(ctx, f.c, f.run, watch, func(result contract.ReplayResult, err error) error {
		f.line.End()
		return f.conclude(ctx, result, err)
	})
}

// watch shows how far the replay is. It has seen enough when the replay asks.
func (f *following) watch(ctx context.Context, s contract.ReplayStatus) (enough bool, err error) {
	if s.State == contract.StateAsking && !f.decided {
		f.line.End()
		return true, f.asks(s)
	}
	if s.State == contract.StateReading && f.drawProgress(ctx) {
		return false, nil
	}
	if s.State != contract.StateDone {
		f.line.End()
		f.said.print(f.sh.err, phaseLine(s.State, s.Note, s.Pending))
	}
	return false, nil
}

// drawProgress shows how far reading is, and reports whether it has.
func (f *following) drawProgress(ctx context.Context) bool {
	beat, _ := beatOf[contract.ReplayProgress](ctx, f.c, f.run.GetID(), contract.ActivityReplayRange)
	switch {
	case beat.Records == 0:
		return false
	case f.line != nil:
		f.line.Update(beat.Read, float64(beat.Read)/float64(beat.Records))
		return true
	case time.Since(f.drew) >= replaySay:
		f.drew = time.Now()
		fmt.Fprintln(f.sh.err, beat)
		return true
	}
	return false
}

// asks shows what differs and how to go on. What a recount has found is an incident.
func (f *following) asks(s contract.ReplayStatus) error {
	if err := f.sh.printOr(s, func() error { return drawReplayStatus(f.sh.out, s) }); err != nil {
		return err
	}
	if s.Ask.Recount {
		return incompletef("what was published is not what Kafka holds: %s", s.Summary)
	}
	return nil
}

// conclude prints how the replay has ended.
func (f *following) conclude(ctx context.Context, result contract.ReplayResult, err error) error {
	if err != nil {
		return explainEnd(ctx, f.run.GetID(), err,
			interruptedf("the %s goes on as workflow %s; follow it with `%s --follow`, or end it with `%s`", f.kind, f.run.GetID(),
				f.command("show"), f.command("cancel")),
			fmt.Errorf("%s was cancelled; its shadow is deleted", f.run.GetID()))
	}
	if err := f.sh.printOr(result, func() error { return drawReplayResult(f.sh.out, result) }); err != nil {
		return err
	}
	return left(result)
}

// left is the error of a replay that did not publish, or certify, all that it was to.
func left(r contract.ReplayResult) error {
	for _, report := range []*contract.JobReport{r.Published, r.Certified} {
		if report == nil {
			continue
		}
		if n := report.Count(contract.CarriedMoved) + report.Count(contract.CarriedFailed); n > 0 {
			return incompletef("%s of %s: not done: %s", counted(n, "window"), r.Pipeline, report)
		}
	}
	return nil
}

// replayAnswer is a request to a Replay.
type replayAnswer struct {
	requestID, reason string
	detach            bool
}

func (a *replayAnswer) flags(cmd *cobra.Command) *cobra.Command {
	steering(cmd, &a.requestID, &a.reason)
	return cmd
}

// send asks and prints the receipt, and unless it is detached what comes of it.
func (a *replayAnswer) send(ctx context.Context, sh *shell, pipeline, id, update string, request any) error {
	return sh.withWorkers(ctx, func(c client.Client) error {
		workflowID := contract.ReplayID(pipeline, id)
		var receipt contract.ReplayReceipt
		if err := sh.sendUpdate(ctx, c, workflowID, update, a.requestID, noReplay(pipeline), request, &receipt); err != nil {
			return err
		}
		if a.detach {
			return sh.printOr(receipt, func() error { return drawReplayReceipt(sh.out, workflowID, receipt) })
		}
		if !sh.json {
			if err := drawReplayReceipt(sh.err, workflowID, receipt); err != nil {
				return err
			}
		}
		f := &following{
			sh: sh, c: c, run: c.GetWorkflow(ctx, workflowID, ""), pipeline: pipeline, id: id, kind: "replay", decided: true,
		}
		return f.follow(ctx)
	})
}

func showReplay(ctx context.Context, sh *shell, pipeline, id string, follow bool) error {
	return sh.withWorkers(ctx, func(c client.Client) error {
		workflowID := contract.ReplayID(pipeline, id)
		var status contract.ReplayStatus
		err := queryWorkflow(ctx, c, workflowID, "", &status)
		var none *serviceerror.NotFound
		switch {
		case errors.As(err, &none):
			return fmt.Errorf("pipeline %s has no replay %s: %s", pipeline, id, noReplay(pipeline))
		case err != nil:
			return explainWorkflow(workflowID, "", err)
		}
		if follow {
			f := &following{sh: sh, c: c, run: c.GetWorkflow(ctx, workflowID, ""), pipeline: pipeline, id: id, kind: kindOf(status)}
			return f.follow(ctx)
		}
		if status.State == contract.StateReading { // heartbeats are newer than what the workflow was told
			if beat, _ := beatOf[contract.ReplayProgress](ctx, c, workflowID, contract.ActivityReplayRange); beat.Records > 0 {
				status.Progress = &beat
			}
		}
		return sh.printOr(status, func() error { return drawReplayStatus(sh.out, status) })
	})
}

// kindOf is what a replay is called.
func kindOf(s contract.ReplayStatus) string {
	return contract.ReplayInput{Recount: s.Ask != nil && s.Ask.Recount}.Kind()
}

func cancelReplay(ctx context.Context, sh *shell, pipeline, id string) error {
	return sh.withWorkers(ctx, func(c client.Client) error {
		workflowID := contract.ReplayID(pipeline, id)
		if err := c.CancelWorkflow(ctx, workflowID, ""); err != nil {
			return explainWorkflow(workflowID, noReplay(pipeline), err)
		}
		var result contract.ReplayResult
		err := c.GetWorkflow(ctx, workflowID, "").Get(ctx, &result)
		var cancelled *temporal.CanceledError
		switch {
		case ctx.Err() != nil:
			return interruptedf("%s ends without this command", workflowID)
		case errors.As(err, &cancelled):
			gone := replayEnded{workflowID, "cancelled"}
			return sh.printOr(gone, func() error {
				_, err := fmt.Fprintf(sh.out, "%s is cancelled; its shadow is deleted\n", workflowID)
				return err
			})
		case err != nil:
			return explainWorkflow(workflowID, "", err)
		}
		return fmt.Errorf("%s had ended before it could be cancelled: %s", workflowID, result.Outcome)
	})
}

// replayEnded is what cancel prints as JSON.
type replayEnded struct {
	WorkflowID string `json:"workflow_id"`
	State      string `json:"state"`
}
