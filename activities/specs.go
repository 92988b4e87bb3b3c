package activities

import (
	"context"
	"errors"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// Histories is the part of a Temporal client that Specs needs.
type Histories interface {
	ListWorkflow(ctx context.Context, request *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error)
	GetWorkflowHistory(ctx context.Context, workflowID, runID string, longPoll bool, filter enumspb.HistoryEventFilterType) client.HistoryEventIterator
}

// NewSpecs returns the specs in the inputs of the pipelines' workflows, open ones and those that Temporal still keeps.
func NewSpecs(temporal Histories) Specs { return started{temporal} }

type started struct{ client Histories }

// Spec implements Specs.
func (s started) Spec(ctx context.Context, pipeline string) (*spec.Spec, error) {
	event, err := s.client.GetWorkflowHistory(ctx, contract.PipelineID(pipeline), "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT).Next()
	var notFound *serviceerror.NotFound
	if errors.As(err, &notFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the spec of pipeline %s: %w", pipeline, err)
	}
	var input contract.PipelineInput
	if err := converter.GetDefaultDataConverter().FromPayloads(event.GetWorkflowExecutionStartedEventAttributes().GetInput(), &input); err != nil {
		return nil, fmt.Errorf("read the spec of pipeline %s: %w", pipeline, err)
	}
	// One that was refused when it was started has run nothing and names nothing.
	parsed, err := spec.Parse(contract.PipelineID(pipeline), input.Spec)
	if err != nil {
		return nil, nil
	}
	return parsed, nil
}

// Others implements Specs.
func (s started) Others(ctx context.Context, pipeline string) ([]*spec.Spec, error) {
	seen := map[string]bool{contract.PipelineID(pipeline): true}
	var specs []*spec.Spec
	for page := []byte(nil); ; {
		answer, err := s.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Query: fmt.Sprintf("WorkflowType = '%s'", contract.WorkflowPipeline), NextPageToken: page,
		})
		if err != nil {
			return nil, fmt.Errorf("list pipelines: %w", err)
		}
		for _, e := range answer.GetExecutions() {
			id := e.GetExecution().GetWorkflowId()
			name, ok := contract.PipelineOf(id)
			if !ok || seen[id] {
				continue
			}
			seen[id] = true
			other, err := s.Spec(ctx, name)
			if err != nil {
				return nil, err
			}
			if other != nil {
				specs = append(specs, other)
			}
		}
		if page = answer.GetNextPageToken(); len(page) == 0 {
			return specs, nil
		}
	}
}
