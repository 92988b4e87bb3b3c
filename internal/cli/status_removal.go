package cli

import (
	"context"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
)

// removalView is how a removal stands that has fenced lanes of the pipeline.
type removalView struct {
	WorkflowID string `json:"workflow_id"`
	Fenced     int    `json:"fenced_lanes"`
	Running    bool   `json:"running"`
	Note       string `json:"note,omitempty"`
	Command    string `json:"command"` // follows it, or finishes what it has left
}

// removalOf says how the removal stands that has fenced lanes; nil when none is fenced. c is nil while Temporal is away.
func removalOf(ctx context.Context, c client.Client, pipeline string, lanes []laneLine) *removalView {
	r := &removalView{WorkflowID: contract.RemoveID(pipeline), Command: "millrace rm " + pipeline}
	for i := range lanes {
		if lanes[i].Fenced {
			r.Fenced++
		}
	}
	if r.Fenced == 0 {
		return nil
	}
	if c == nil {
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	answer, err := c.DescribeWorkflowExecution(ctx, r.WorkflowID, "")
	if err != nil {
		return r
	}
	state := answer.GetWorkflowExecutionInfo().GetStatus()
	r.Running = state == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	r.Note = strings.ToLower(state.String())
	var status contract.RemoveStatus
	if queryWorkflow(ctx, c, r.WorkflowID, "", &status) == nil {
		if status.Input != nil {
			r.Command = status.Input.Command()
		}
		if r.Running {
			r.Note = standing(status)
		}
	}
	return r
}
