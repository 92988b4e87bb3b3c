package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
)

// removing follows a Remove to its end.
type removing struct {
	sh      *shell
	c       client.Client
	id      string
	in      contract.RemoveInput // as asked for; a removal that was running already has the same
	run     client.WorkflowRun
	answers io.Reader
	shown   bool
	said    changes
}

func (f *removing) follow(ctx context.Context) error {
	watch := func(status contract.RemoveStatus) (enough bool, err error) {
		asks := status.State == contract.StateAsking && !f.in.DryRun
		f.progress(status, asks)
		if asks {
			err = f.ask(ctx, status)
		}
		return false, err
	}
	return followRun(ctx, f.c, f.run, watch, func(result contract.RemoveResult, err error) error { return f.conclude(ctx, result, err) })
}

// progress says on the error stream, once each, what is left, what is done, and what is waited for until when. What an asking
// removal waits for is not said by the command that is about to ask.
func (f *removing) progress(s contract.RemoveStatus, asks bool) {
	if s.Remains != nil && !f.shown && s.State != contract.StateDone {
		f.shown = true
		f.drawRemains(s.Pipeline, *s.Remains)
	}
	if !asks && s.State != contract.StateDone {
		f.said.print(f.sh.err, standing(s))
	}
}

// standing is how far a removal is, in one line.
func standing(s contract.RemoveStatus) string {
	line := phaseLine(s.State, s.Note, nil)
	if s.Until != nil {
		line += ", until " + instant(s.Until.UnixMilli()) + contract.AtTheLongest(s.State)
	}
	return line
}

// drawRunning shows a removal that runs to a dry run.
func (f *removing) drawRunning(s contract.RemoveStatus) error {
	if s.Remains != nil {
		fmt.Fprintf(f.sh.err, "when %s began:\n", f.id)
		f.drawRemains(s.Pipeline, *s.Remains)
	}
	fmt.Fprintf(f.sh.out, "%s is running already; it is left alone\n%s\n", f.id, standing(s))
	if done := deleted(s.Steps); done != "" {
		fmt.Fprintln(f.sh.out, "so far "+done)
	}
	command := "millrace rm " + s.Pipeline
	if s.Input != nil {
		command = s.Input.Command()
	}
	_, err := fmt.Fprintf(f.sh.out, "follow it with `%s`\n", command)
	return err
}

// ask asks whether to delete what was shown. A no cancels the removal, as does Ctrl-C.
func (f *removing) ask(ctx context.Context, s contract.RemoveStatus) error {
	if !f.in.Approved {
		fmt.Fprintf(f.sh.err, "Delete all of this for good? Type the pipeline's name to go on: ")
		if !agreed(ctx, f.sh, s.Pipeline, f.answers) {
			return f.decline(context.WithoutCancel(ctx), s.Pipeline, ctx.Err())
		}
	}
	approval := asking{
		c: f.c, id: f.id, run: f.run.GetRunID(), update: contract.UpdateApprove, requestID: uuid.NewString(), request: contract.ApproveRequest{},
	}
	err := approval.ask(ctx, nil)
	if err == nil || ctx.Err() != nil || f.underWay(ctx) {
		return nil // an interrupt is told of where the removal is followed
	}
	return explainWorkflow(f.id, "it has ended", err)
}

// agreed reads the answer to a question whose yes is the word wanted. After Ctrl-C it does not wait for one.
func agreed(ctx context.Context, sh *shell, want string, answers io.Reader) bool {
	answer := make(chan string, 1)
	go func() {
		line, err := bufio.NewReader(io.LimitReader(answers, 1<<10)).ReadString('\n')
		if err != nil { // no answer has ended the line of the question
			line = ""
			fmt.Fprintln(sh.err)
		}
		answer <- strings.TrimSpace(line)
	}()
	select {
	case got := <-answer:
		return got == want
	case <-ctx.Done():
		fmt.Fprintln(sh.err)
		return false
	}
}

// decline cancels the removal, unless somebody else has approved it meanwhile: it has deleted something then.
func (f *removing) decline(ctx context.Context, pipeline string, interrupted error) error {
	if f.underWay(ctx) {
		return fmt.Errorf("rm %s: somebody else has approved the removal and it goes on; cancel it with "+
			"`temporal workflow cancel --workflow-id %s`", pipeline, f.id)
	}
	if err := f.c.CancelWorkflow(ctx, f.id, f.run.GetRunID()); err != nil {
		return explainWorkflow(f.id, "it has ended", err)
	}
	if interrupted != nil {
		return interruptedf("rm %s was not approved; nothing was deleted", pipeline)
	}
	return fmt.Errorf("rm %s: not approved; nothing was deleted", pipeline)
}

// underWay reports whether the removal was approved and has not ended.
func (f *removing) underWay(ctx context.Context) bool {
	var now contract.RemoveStatus
	if err := queryWorkflow(ctx, f.c, f.id, f.run.GetRunID(), &now); err != nil {
		return false
	}
	return now.State == contract.StateReleasing || now.State == contract.StateRemoving || now.State == contract.StateGrace
}

func (f *removing) conclude(ctx context.Context, result contract.RemoveResult, err error) error {
	if ctx.Err() != nil && f.in.DryRun {
		return ctx.Err()
	}
	if err != nil {
		return explainEnd(ctx, f.id, err,
			interruptedf("the removal goes on as workflow %s; follow it with `%s`, or cancel it with `temporal workflow cancel --workflow-id %s`",
				f.id, f.in.Command(), f.id),
			fmt.Errorf("workflow %s was cancelled; lanes that it has fenced stay fenced until `%s` finishes it", f.id, f.in.Command()))
	}
	gone := result.Outcome == contract.OutcomeNothing
	if !f.shown && !gone {
		f.shown = true
		f.drawRemains(result.Pipeline, result.Remains)
	}
	if gone || result.Outcome == contract.OutcomeNotApproved {
		err = fmt.Errorf("rm %s: %s", result.Pipeline, result.Note)
		if f.sh.json {
			err = errors.Join(printJSON(f.sh.out, result), err)
		}
		return err
	}
	return f.sh.printOr(result, func() error { return drawRemoved(f.sh.out, result) })
}

func drawRemoved(w io.Writer, r contract.RemoveResult) error {
	if r.Outcome == contract.OutcomeDryRun {
		_, err := fmt.Fprintf(w, "%s: dry run; %s\n", r.Pipeline, r.Note)
		return err
	}
	_, err := fmt.Fprintf(w, "%s: %s\n%s\n%s\n", r.Pipeline, r.Outcome, deleted(r.Steps), r.Note)
	return err
}

// deleted says in one line what the steps have taken away, "" before the first.
func deleted(steps []contract.RemoveStep) string {
	if len(steps) == 0 {
		return ""
	}
	counts := make(map[string]int)
	for _, s := range steps {
		counts[s.Step] += int(s.Count)
	}
	var gone []string
	if counts[contract.RemoveSchedule] > 0 {
		gone = append(gone, "schedule")
	}
	if counts[contract.RemoveGroup] > 0 {
		gone = append(gone, "consumer group")
	}
	if n := counts[contract.RemoveKeys] + counts[contract.RemoveMetas]; n > 0 {
		gone = append(gone, counted(n, "key"))
	}
	if n := counts[contract.RemoveTopics]; n > 0 {
		gone = append(gone, counted(n, "topic"))
	}
	if len(gone) == 0 {
		gone = []string{"nothing"}
	}
	line := "deleted: " + strings.Join(gone, ", ")
	if n := counts[contract.RemoveFence]; n > 0 {
		line += fmt.Sprintf("; fenced: %s", counted(n, "lane"))
	}
	if n := counts[contract.RemoveLedger]; n > 0 {
		line += fmt.Sprintf("; the ledger's rows were given up (%s written)", counted(n, "record"))
	}
	return line
}

// drawRemains shows what was found of the pipeline.
func (f *removing) drawRemains(pipeline string, r contract.Remains) {
	w := f.sh.err
	fmt.Fprintf(w, "pipeline %s has left %s", pipeline, counted(r.Lanes, "lane"))
	if r.Grouped {
		fmt.Fprintf(w, " and the consumer group %s", r.Group)
	}
	if r.Schedule != "" {
		fmt.Fprintf(w, ", and the schedule %s, which goes first", r.Schedule)
	}
	fmt.Fprintln(w)
	if r.Slices > 0 {
		fmt.Fprintf(w, "the lanes hold %s in %s of open windows\n", counted(r.Events, "event"), counted(r.Slices, "slice"))
	}
	if r.Fenced > 0 {
		finisher := "this one"
		if f.in.DryRun {
			finisher = "`" + f.in.Command() + "`"
		}
		fmt.Fprintf(w, "%d of the lanes are fenced by an earlier removal that has not ended; %s finishes it\n", r.Fenced, finisher)
	}
	t := &table{}
	if len(r.Keys) > 0 {
		t.row("KEYS", "NUMBER", "BYTES")
	}
	for _, k := range r.Keys {
		t.row(k.Kind, k.Keys, k.Bytes)
	}
	_ = t.write(w, "  ")
	t = &table{}
	if len(r.Topics) > 0 {
		t.row("TOPIC", "ROLE", "")
	}
	for _, topic := range r.Topics {
		fate := "will be deleted"
		if !topic.Delete {
			fate = "stays: " + topic.Why
		}
		t.row(topic.Topic, topic.Role, fate)
	}
	_ = t.write(w, "  ")
	if !r.Holders.Free() {
		fmt.Fprintln(w, "held: "+r.Holders.String())
	}
	for _, note := range r.Notes {
		fmt.Fprintln(w, "note: "+note)
	}
}
