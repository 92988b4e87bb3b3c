package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
)

// listWorkflows returns the latest workflows of a type whose ids begin with prefix, those that run first, at most limit; 0 is all.
func listWorkflows(ctx context.Context, c client.Client, kind, prefix string, limit int) ([]*workflowpb.WorkflowExecutionInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var running, closed []*workflowpb.WorkflowExecutionInfo
	var page []byte
	for {
		answer, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Query: fmt.Sprintf("WorkflowType = '%s'", kind), NextPageToken: page,
		})
		if err != nil {
			return nil, unreachablef("Temporal cannot list %s workflows: %w", kind, err)
		}
		for _, e := range answer.GetExecutions() {
			switch {
			case !strings.HasPrefix(e.GetExecution().GetWorkflowId(), prefix):
			case e.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING:
				running = append(running, e)
			case e.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW:
				closed = append(closed, e)
			}
		}
		if page = answer.GetNextPageToken(); len(page) == 0 || limit > 0 && len(running)+len(closed) >= 10*limit {
			break
		}
	}
	all := append(running, closed...)
	if limit > 0 {
		all = all[:min(limit, len(all))]
	}
	return all, nil
}

// explainWorkflow turns Temporal's errors about a workflow into what a person can act on; missing says what to do when there
// is none.
func explainWorkflow(id, missing string, err error) error {
	var notFound *serviceerror.NotFound
	var refused *temporal.ApplicationError
	var interrupted *serviceerror.Canceled
	switch {
	case err == nil:
		return nil
	case errors.As(err, &interrupted): // what gRPC makes of a context that was cancelled
		return context.Canceled
	case errors.As(err, &notFound):
		return fmt.Errorf("workflow %s is not open: %s", id, missing)
	case errors.As(err, &refused):
		return errors.New(refused.Message())
	case isUnanswered(err):
		return unreachablef("Temporal does not answer: %w", err)
	}
	return err
}

// queryWorkflow asks a workflow for its status, also after it has ended.
func queryWorkflow(ctx context.Context, c client.Client, id, run string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	answer, err := c.QueryWorkflow(ctx, id, run, contract.QueryStatus)
	if err == nil {
		err = answer.Get(into)
	}
	return err
}

// sendUpdate sends one update to a workflow and waits for its receipt; missing says what to do when there is no such workflow.
func (sh *shell) sendUpdate(ctx context.Context, c client.Client, id, name, requestID, missing string, request any, into receipt) error {
	a := &asking{
		sh: sh, c: c, id: id, update: name, requestID: requestID, request: request, wait: askPatience,
		look:    "temporal workflow query --type status --workflow-id " + id,
		explain: func(_ context.Context, err error) error { return explainWorkflow(id, missing, err) },
	}
	return a.send(ctx, into)
}

// withWorkers connects to Temporal and makes sure that somebody will act.
func (sh *shell) withWorkers(ctx context.Context, act func(client.Client) error) error {
	c, err := sh.dialTemporal(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := requireWorker(ctx, c); err != nil {
		return err
	}
	return act(c)
}

// printOr prints v as JSON, or draws it.
func (sh *shell) printOr(v any, draw func() error) error {
	if sh.json {
		return printJSON(sh.out, v)
	}
	return draw()
}

// listed is a workflow in a list.
type listed struct {
	WorkflowID string          `json:"workflow_id"`
	RunID      string          `json:"run_id"`
	Open       bool            `json:"open"`
	Started    string          `json:"started"`
	Status     json.RawMessage `json:"status,omitempty"`
	Problem    string          `json:"problem,omitempty"` // why there is no status
}

// listedOf asks a workflow of a list for its status.
func listedOf[T any](ctx context.Context, c client.Client, e *workflowpb.WorkflowExecutionInfo) (listed, T) {
	var status T
	l := listed{
		WorkflowID: e.GetExecution().GetWorkflowId(), RunID: e.GetExecution().GetRunId(),
		Open:    e.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING,
		Started: instant(e.GetStartTime().AsTime().UnixMilli()),
	}
	err := queryWorkflow(ctx, c, l.WorkflowID, l.RunID, &status)
	if err == nil {
		l.Status, err = json.Marshal(withoutNilSlices(status))
	}
	if err != nil {
		l.Problem = err.Error()
	}
	return l, status
}
