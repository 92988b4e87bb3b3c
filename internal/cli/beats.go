package cli

import (
	"context"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// heartbeat is what a replica's hot path said last; empty when it says nothing now.
func heartbeat(ctx context.Context, c client.Client, workflowID string) contract.EngineStatus {
	status, _ := beatOf[contract.EngineStatus](ctx, c, workflowID, contract.ActivityRun)
	return status
}

// keptOf is what the pipeline's closer said last of what is kept, and when: in its heartbeat, or else as its workflow
// knows it, which does not know the time. nil when neither does.
func keptOf(ctx context.Context, c client.Client, pipeline string) (*report.Kept, *time.Time) {
	id := contract.CloseWindowsID(pipeline)
	if beat, at := beatOf[contract.CloseDueDetails](ctx, c, id, contract.ActivityCloseDue); beat.Kept != nil {
		return beat.Kept, at
	}
	var status contract.CloseWindowsStatus
	answer, err := c.QueryWorkflow(ctx, id, "", contract.QueryStatus)
	if err != nil || answer.Get(&status) != nil {
		return nil, nil
	}
	return status.Kept, nil
}

// beatOf is the heartbeat of a workflow's pending activity, and when it was sent; empty when there is none.
func beatOf[T any](ctx context.Context, c client.Client, workflowID, activity string) (T, *time.Time) {
	var none T
	answer, err := c.DescribeWorkflowExecution(ctx, workflowID, "")
	if err != nil {
		return none, nil
	}
	details, at, ok := contract.BeatOf[T](answer, activity)
	if !ok {
		return none, nil
	}
	return details, &at
}

type runningPipeline struct {
	Pipeline   string `json:"pipeline"`
	WorkflowID string `json:"workflow_id"`
	RunID      string `json:"run_id"`
	Started    string `json:"started"`
}

// listPipelines returns the name of the only pipeline that runs; otherwise, and always as JSON, it prints the list and returns "".
func listPipelines(ctx context.Context, sh *shell) (string, error) {
	c, err := sh.dialTemporal(ctx)
	if err != nil {
		return "", err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	found := []runningPipeline{}
	var page []byte
	for {
		answer, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Query:         "WorkflowType = '" + contract.WorkflowPipeline + "' AND ExecutionStatus = 'Running'",
			NextPageToken: page,
		})
		if err != nil {
			return "", unreachablef("Temporal cannot list pipelines: %w", err)
		}
		for _, e := range answer.GetExecutions() {
			id := e.GetExecution().GetWorkflowId()
			if name, ok := contract.PipelineOf(id); ok {
				found = append(found, runningPipeline{name, id, e.GetExecution().GetRunId(), instant(e.GetStartTime().AsTime().UnixMilli())})
			}
		}
		if page = answer.GetNextPageToken(); len(page) == 0 {
			break
		}
	}
	if len(found) == 1 && !sh.json { // a list is a list, however long
		return found[0].Pipeline, nil
	}
	if sh.json {
		return "", printList(sh.out, found)
	}
	t := &table{}
	t.row("PIPELINE", "STARTED", "WORKFLOW")
	for _, p := range found {
		t.row(p.Pipeline, p.Started, p.WorkflowID)
	}
	if len(found) == 0 {
		t.rows = [][]string{{"no pipeline runs; start one with `millrace start FILE`"}}
	}
	return "", t.write(sh.out, "")
}
