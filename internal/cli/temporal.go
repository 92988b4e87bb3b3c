package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"

	"millrace/activities"
	"millrace/internal/connect"
	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

const (
	dialTimeout  = 5 * time.Second
	askTimeout   = 10 * time.Second
	pollerMaxAge = 70 * time.Second // a poll lasts a minute; an older poller has gone
)

// dialTemporal connects to Temporal, or says which address did not answer.
func (sh *shell) dialTemporal(ctx context.Context) (client.Client, error) {
	opts, err := sh.conn.TemporalConfig()
	if err != nil {
		return nil, usagef("%w", err)
	}
	opts.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	tracing, err := sh.traces.Interceptor()
	if err != nil {
		return nil, err
	}
	if tracing != nil {
		opts.Interceptors = append(opts.Interceptors, tracing)
	}
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := client.DialContext(dialing, opts)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		err = connect.ExplainTemporal(ctx, opts, err)
		return nil, unreachablef("Temporal at %s does not answer: start it, or give --temporal HOST:PORT (%w)", opts.HostPort, err)
	}
	return c, nil
}

// requireWorker makes sure that somebody will act: without a worker a start or an update waits in silence.
func requireWorker(ctx context.Context, c client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := c.DescribeTaskQueue(ctx, contract.TaskQueue, enumspb.TASK_QUEUE_TYPE_WORKFLOW)
	if err != nil {
		return unreachablef("Temporal cannot say who polls task queue %q: %w", contract.TaskQueue, err)
	}
	for _, p := range answer.GetPollers() {
		if time.Since(p.GetLastAccessTime().AsTime()) < pollerMaxAge {
			return nil
		}
	}
	return unreachablef("no worker polls task queue %q: start one with bin/worker, then try again", contract.TaskQueue)
}

// errRunning is found in the refusal of a second start.
var errRunning = errors.New("is running already")

// explain turns Temporal's errors about a pipeline's workflow into what a person can act on.
func explain(pipeline string, err error) error {
	var notFound *serviceerror.NotFound
	var started *serviceerror.WorkflowExecutionAlreadyStarted
	var refused *temporal.ApplicationError
	var interrupted *serviceerror.Canceled
	switch {
	case err == nil:
		return nil
	case errors.As(err, &interrupted): // what gRPC makes of a context that was cancelled
		return context.Canceled
	case errors.As(err, &notFound):
		return fmt.Errorf("pipeline %s is not running: start it with `millrace start FILE`", pipeline)
	case errors.As(err, &started):
		return fmt.Errorf("pipeline %s %w: stop it first with `millrace stop %s`", pipeline, errRunning, pipeline)
	case errors.As(err, &refused):
		return errors.New(refused.Message())
	case isUnanswered(err):
		return unreachablef("Temporal does not answer: %w", err)
	}
	return err
}

// isUnanswered reports whether err says that Temporal could not be reached, or has not answered in time.
func isUnanswered(err error) bool {
	var away *serviceerror.Unavailable
	var late *serviceerror.DeadlineExceeded // what gRPC makes of a deadline, here or at the server
	return errors.As(err, &away) || errors.As(err, &late) || errors.Is(err, context.DeadlineExceeded)
}

// explainNear is explain that also names a pipeline that may have been meant. Temporal has just answered, so the list may take as
// long as any other question.
func explainNear(ctx context.Context, c client.Client, pipeline string, err error) error {
	var notFound *serviceerror.NotFound
	explained := explain(pipeline, err)
	if !errors.As(err, &notFound) {
		return explained
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	known := knownPipelines(ctx, c)
	if near := spec.Nearest(pipeline, known); near != "" && !slices.Contains(known, pipeline) {
		return fmt.Errorf("%w; or did you mean %s?", explained, near)
	}
	return explained
}

// requirePipeline refuses a name of which Temporal knows nothing: neither found workflows that belong to it nor a workflow
// of its own. A list of what an unknown pipeline has is not an empty list.
func requirePipeline(ctx context.Context, c client.Client, pipeline string, found int) error {
	if found > 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := c.DescribeWorkflowExecution(ctx, contract.PipelineID(pipeline), "")
	return explainNear(ctx, c, pipeline, err)
}

// specOf returns the spec that a pipeline runs with, or ran with last. A start that was refused has changed nothing.
func specOf(ctx context.Context, c client.Client, pipeline string) (*spec.Spec, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	input, err := activities.LastInput(ctx, c, pipeline)
	if err != nil {
		return nil, explainNear(ctx, c, pipeline, fmt.Errorf("pipeline %s: %w", pipeline, err))
	}
	if input.Wrong != "" {
		return nil, fmt.Errorf("pipeline %s was refused when it was started: %s", pipeline, input.Wrong)
	}
	return spec.Parse(contract.PipelineID(pipeline), input.Spec)
}

// outcome says how a pipeline's workflow ended, and why when it failed. The state is empty while it runs.
func outcome(ctx context.Context, c client.Client, pipeline string) (state, note string, err error) {
	answer, err := c.DescribeWorkflowExecution(ctx, contract.PipelineID(pipeline), "")
	if err != nil {
		return "", "", err
	}
	switch answer.GetWorkflowExecutionInfo().GetStatus() {
	case enumspb.WORKFLOW_EXECUTION_STATUS_FAILED:
		err := c.GetWorkflow(ctx, contract.PipelineID(pipeline), "").Get(ctx, nil)
		var why *temporal.ApplicationError
		if errors.As(err, &why) {
			return "failed", why.Message(), nil
		}
		return "failed", fmt.Sprint(err), nil
	case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
		return contract.StateStopped, "its workflow was cancelled", nil
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return contract.StateStopped, "its workflow was terminated", nil
	}
	return "", "", nil
}

// closing closes c and ignores the answer: the command has its result.
func closing(c io.Closer) { _ = c.Close() }
