package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

const (
	startLook  = 3 * time.Second  // between looks at what a start waits for
	startGrace = 15 * time.Second // beyond the wait, in which the workflow itself says what it waits for
)

// startPipeline starts the Pipeline workflow and waits until it runs; a second start of the same pipeline is refused. What it waits
// for goes to the error stream.
func startPipeline(ctx context.Context, sh *shell, c client.Client, s *spec.Spec, in contract.PipelineInput,
	req contract.AwaitRunningRequest) (started, error) {
	done := started{Pipeline: s.Name, WorkflowID: contract.PipelineID(s.Name)}
	input, err := beginInput(in)
	if err != nil {
		return done, err
	}
	operation := c.NewWithStartWorkflowOperation(client.StartWorkflowOptions{
		ID: done.WorkflowID, TaskQueue: contract.TaskQueue,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            "pipeline " + s.Name,
	}, contract.WorkflowPipeline, input)
	f := &starting{sh: sh, c: c, pipeline: s.Name, req: req}
	waiting, cancel := context.WithTimeout(ctx, req.Timeout()+startGrace)
	defer cancel()
	watching, stop := context.WithCancel(waiting)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		f.watch(watching)
	}()
	err = f.await(waiting, operation, &done)
	stop()
	<-watched
	switch {
	case err == nil:
		return done, nil
	case ctx.Err() != nil:
		return done, interruptedf("the start may have reached Temporal; see `millrace status %s`", s.Name)
	}
	return done, f.explain(ctx, err)
}

// starting is a start that is waited for.
type starting struct {
	sh       *shell
	c        client.Client
	pipeline string
	req      contract.AwaitRunningRequest
	said     string
}

// await starts the workflow together with the update that waits for it to run.
func (f *starting) await(ctx context.Context, operation client.WithStartWorkflowOperation, done *started) error {
	handle, err := f.c.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: operation,
		UpdateOptions: client.UpdateWorkflowOptions{
			UpdateID: uuid.NewString(), WorkflowID: done.WorkflowID, UpdateName: contract.UpdateAwaitRunning,
			Args: []any{f.req}, WaitForStage: client.WorkflowUpdateStageAccepted,
		},
	})
	if err != nil {
		return err
	}
	done.RunID = handle.RunID()
	done.Running = new(contract.Running)
	return handle.Get(ctx, done.Running)
}

// explain says why a pipeline does not run. The workflow may have failed before it took the update, or not have been taken by any
// worker.
func (f *starting) explain(ctx context.Context, err error) error {
	var already *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &already) {
		return explain(f.pipeline, err)
	}
	if state, note, found := outcome(ctx, f.c, f.pipeline); found == nil && state != "" {
		return fmt.Errorf("pipeline %s does not run, its workflow is %s: %s", f.pipeline, state, note)
	}
	var refused *temporal.ApplicationError
	if !errors.As(err, &refused) {
		if errors.Is(err, context.DeadlineExceeded) {
			return unreachablef("pipeline %s was started, and no worker has said within %s whether it runs%s; see `millrace status %s`",
				f.pipeline, f.req.Timeout()+startGrace, f.also(ctx), f.pipeline)
		}
		return explain(f.pipeline, err)
	}
	return fmt.Errorf("%s%s; see `millrace status %s`, or end it with `millrace stop %s`", refused.Message(), f.also(ctx), f.pipeline, f.pipeline)
}

// also is what stands in the way now, as far as Temporal knows it.
func (f *starting) also(ctx context.Context) string {
	if trouble := f.trouble(ctx); trouble != "" {
		return " (" + trouble + ")"
	}
	return ""
}

// watch says on the error stream what the start waits for, each time that it is something else.
func (f *starting) watch(ctx context.Context) {
	tick := time.NewTicker(startLook)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if line := f.waitsFor(ctx); line != "" && line != f.said && ctx.Err() == nil {
			f.said = line
			fmt.Fprintln(f.sh.err, "waits: "+line)
		}
	}
}

// waitsFor is what the start waits for in one line, "" when it is not known.
func (f *starting) waitsFor(ctx context.Context) string {
	var status contract.PipelineStatus
	if queryWorkflow(ctx, f.c, contract.PipelineID(f.pipeline), "", &status) != nil {
		return ""
	}
	line := status.State
	if status.Note != "" {
		line += ": " + status.Note
	}
	return line + f.also(ctx)
}

// trouble is what the activities that a start needs failed with last.
func (f *starting) trouble(ctx context.Context) string {
	var parts []string
	for _, id := range []string{contract.PipelineID(f.pipeline), contract.ReplicaID(f.pipeline, 0)} {
		answer, err := f.c.DescribeWorkflowExecution(ctx, id, "")
		if err != nil || answer.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING {
			continue
		}
		for _, a := range answer.GetPendingActivities() {
			if failure := a.GetLastFailure(); failure != nil && a.GetAttempt() > 1 {
				parts = append(parts, fmt.Sprintf("%s of %s, attempt %d: %s", a.GetActivityType().GetName(), id, a.GetAttempt(), failure.GetMessage()))
			}
		}
	}
	return strings.Join(parts, "; ")
}

// discardable makes sure that the state of a pipeline can be discarded, and asks whether it shall be.
func discardable(ctx context.Context, sh *shell, c client.Client, pipeline string, job startJob, answers io.Reader) error {
	if err := requireStopped(ctx, c, pipeline); err != nil {
		return err
	}
	if job.yes {
		return nil
	}
	result, err := surveyRemains(ctx, c, pipeline)
	if err != nil {
		return err
	}
	f := &removing{sh: sh, in: contract.RemoveInput{Pipeline: pipeline, DryRun: true}}
	f.drawRemains(pipeline, result.Remains)
	fmt.Fprintf(sh.err, "%s of %s in open windows will be discarded; what is published stays in the topics, and the new incarnation "+
		"begins at %s.\nDiscard it for good? Type the pipeline's name to go on: ",
		counted(result.Remains.Events, "event"), counted(result.Remains.Lanes, "lane"), job.from)
	return agreed(ctx, sh, pipeline, answers)
}

// agreed reads the answer to a question whose yes is the pipeline's name.
func agreed(ctx context.Context, sh *shell, pipeline string, answers io.Reader) error {
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(answers).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case got := <-answer:
		if got == pipeline {
			return nil
		}
		return fmt.Errorf("not approved; nothing was discarded and pipeline %s was not started", pipeline)
	case <-ctx.Done():
		fmt.Fprintln(sh.err)
		return interruptedf("nothing was discarded and pipeline %s was not started", pipeline)
	}
}

// requireStopped refuses a pipeline whose workflow is open.
func requireStopped(ctx context.Context, c client.Client, pipeline string) error {
	answer, err := c.DescribeWorkflowExecution(ctx, contract.PipelineID(pipeline), "")
	var unknown *serviceerror.NotFound
	switch {
	case errors.As(err, &unknown):
		return nil
	case err != nil:
		return explain(pipeline, err)
	case answer.GetWorkflowExecutionInfo().GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
		return explain(pipeline, serviceerror.NewWorkflowExecutionAlreadyStarted("", "", ""))
	}
	return nil
}

// surveyRemains says what a stopped pipeline has left, by a removal that only looks.
func surveyRemains(ctx context.Context, c client.Client, pipeline string) (contract.RemoveResult, error) {
	id := contract.RemoveID(pipeline)
	var result contract.RemoveResult
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: contract.TaskQueue, WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_FAIL,
		WorkflowIDReusePolicy:                    enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		WorkflowExecutionErrorWhenAlreadyStarted: true, StaticSummary: "survey of " + pipeline,
	}, contract.WorkflowRemove, contract.RemoveInput{Version: contract.Version, Pipeline: pipeline, DryRun: true})
	if err == nil {
		err = run.Get(ctx, &result)
	}
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &running) {
		return result, fmt.Errorf("%s is running: see `millrace rm %s --dry-run`, and wait for its end", id, pipeline)
	}
	return result, explainWorkflow(id, "", err)
}
