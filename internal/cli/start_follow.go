package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// startGrace is how long beyond its wait a start is given for the workflow itself to say what it waits for.
const startGrace = 15 * time.Second

// startPipeline starts the Pipeline workflow and waits until it runs; a second start of the same pipeline is refused. What it waits
// for goes to the error stream.
func startPipeline(ctx context.Context, sh *shell, c client.Client, s *spec.Spec, in contract.PipelineInput,
	req contract.AwaitRunningRequest) (started, error) {
	done := started{Pipeline: s.Name, WorkflowID: contract.PipelineID(s.Name), Running: new(contract.Running)}
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
	a := pipelineAsking(sh, c, s.Name, contract.UpdateAwaitRunning, req)
	a.requestID = uuid.NewString()
	waiting, cancel := context.WithTimeout(ctx, req.Timeout()+startGrace)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- a.askWithStart(waiting, operation, &done) }()
	switch err := a.follow(waiting, answer); {
	case err == nil:
		return done, nil
	case ctx.Err() != nil:
		return done, interruptedf("the start may have reached Temporal; see `millrace status %s`", s.Name)
	default:
		return done, notRunning(ctx, c, s.Name, req.Timeout(), err)
	}
}

// askWithStart starts the workflow together with the update that waits for it to run.
func (a *asking) askWithStart(ctx context.Context, operation client.WithStartWorkflowOperation, done *started) error {
	handle, err := a.c.UpdateWithStartWorkflow(ctx, client.UpdateWithStartWorkflowOptions{
		StartWorkflowOperation: operation,
		UpdateOptions: client.UpdateWorkflowOptions{
			UpdateID: a.requestID, WorkflowID: a.id, UpdateName: a.update, Args: []any{a.request},
			WaitForStage: client.WorkflowUpdateStageAccepted,
		},
	})
	if err != nil {
		return err
	}
	done.RunID = handle.RunID()
	return handle.Get(ctx, done.Running)
}

// notRunning says why a pipeline does not run. The workflow may have failed before it took the update, or not have been taken by
// any worker.
func notRunning(ctx context.Context, c client.Client, pipeline string, waited time.Duration, err error) error {
	var already *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &already) {
		return explain(pipeline, err)
	}
	if state, note, found := outcome(ctx, c, pipeline); found == nil && state != "" {
		return fmt.Errorf("pipeline %s does not run, its workflow is %s: %s", pipeline, state, note)
	}
	var refused *temporal.ApplicationError
	switch {
	case errors.As(err, &refused):
		return fmt.Errorf("%s; see `millrace status %s`, or end it with `millrace stop %s`", refused.Message(), pipeline, pipeline)
	case errors.Is(err, context.DeadlineExceeded), timedOut(err):
		return unreachablef("pipeline %s was started, and no worker has said within %s whether it runs; see `millrace status %s`",
			pipeline, waited+startGrace, pipeline)
	}
	return explain(pipeline, err)
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
	return approveDiscard(ctx, sh, pipeline, answers)
}

// approveDiscard reads the answer to the question whether a pipeline's state shall be discarded.
func approveDiscard(ctx context.Context, sh *shell, pipeline string, answers io.Reader) error {
	switch {
	case agreed(ctx, sh, pipeline, answers):
		return nil
	case ctx.Err() != nil:
		return interruptedf("nothing was discarded and pipeline %s was not started", pipeline)
	}
	return fmt.Errorf("not approved; nothing was discarded and pipeline %s was not started", pipeline)
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
	run, err := startRemoval(ctx, c, contract.RemoveInput{Version: contract.Version, Pipeline: pipeline, DryRun: true})
	if err == nil {
		err = run.Get(ctx, &result)
	}
	var running *serviceerror.WorkflowExecutionAlreadyStarted
	if errors.As(err, &running) {
		return result, fmt.Errorf("%s is running: see `millrace rm %s --dry-run`, and wait for its end", id, pipeline)
	}
	return result, explainWorkflow(id, "", err)
}
