package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// Histories is the part of a Temporal client that Specs needs.
type Histories interface {
	Describer
	ListWorkflow(ctx context.Context, request *workflowservice.ListWorkflowExecutionsRequest,
	) (*workflowservice.ListWorkflowExecutionsResponse, error)
	GetWorkflowHistory(ctx context.Context, workflowID, runID string, longPoll bool, filter enumspb.HistoryEventFilterType,
	) client.HistoryEventIterator
}

// NewSpecs returns the specs in the inputs of the pipelines' workflows, open ones and those that Temporal still keeps.
func NewSpecs(temporal Histories) Specs { return started{temporal} }

type started struct{ client Histories }

// Spec implements Specs.
func (s started) Spec(ctx context.Context, pipeline string) (*spec.Spec, error) {
	input, err := LastInput(ctx, s.client, pipeline)
	var notFound *serviceerror.NotFound
	if errors.As(err, &notFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the spec of pipeline %s: %w", pipeline, err)
	}
	// One that was refused when it was started has run nothing and names nothing.
	parsed, err := spec.Parse(contract.PipelineID(pipeline), input.Spec)
	if err != nil {
		return nil, nil
	}
	return parsed, nil
}

// LastInput is the input of the pipeline's latest run that has come to run: a start that was refused, because of another spec for
// example, has left everything as it was. Where no run has, it is that of the latest. serviceerror.NotFound: Temporal knows none.
func LastInput(ctx context.Context, temporal Histories, pipeline string) (contract.PipelineInput, error) {
	id := contract.PipelineID(pipeline)
	latest, err := inputOf(ctx, temporal, id, "")
	if err != nil {
		return latest, err
	}
	// The closing event of a run that is open would be asked for in vain, for seconds.
	last, err := temporal.DescribeWorkflowExecution(ctx, id, "")
	if err != nil || last.GetWorkflowExecutionInfo().GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_FAILED {
		return latest, err
	}
	var ran *workflowpb.WorkflowExecutionInfo
	err = started{temporal}.each(ctx, fmt.Sprintf("WorkflowId = '%s'", id), func(e *workflowpb.WorkflowExecutionInfo) {
		if !neverRan(e) && (ran == nil || e.GetStartTime().AsTime().After(ran.GetStartTime().AsTime())) {
			ran = e
		}
	})
	if err != nil || ran == nil {
		return latest, err
	}
	return inputOf(ctx, temporal, id, ran.GetExecution().GetRunId())
}

// neverRan reports whether a run of a Pipeline has failed before it started its children, as its memo says.
func neverRan(e *workflowpb.WorkflowExecutionInfo) bool {
	if e.GetStatus() != enumspb.WORKFLOW_EXECUTION_STATUS_FAILED {
		return false
	}
	var state string
	memo, ok := e.GetMemo().GetFields()["state"]
	return !ok || converter.GetDefaultDataConverter().FromPayload(memo, &state) == nil && state == contract.StateStarting
}

func inputOf(ctx context.Context, temporal Histories, id, run string) (in contract.PipelineInput, err error) {
	event, err := temporal.GetWorkflowHistory(ctx, id, run, false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT).Next()
	if err != nil {
		return in, err
	}
	payloads := event.GetWorkflowExecutionStartedEventAttributes().GetInput()
	if err := converter.GetDefaultDataConverter().FromPayloads(payloads, &in); err != nil {
		return in, fmt.Errorf("its input cannot be read: %w", err)
	}
	return in, nil
}

// lives is what Temporal knows of the runs of one pipeline's workflow.
type lives struct {
	open  bool
	began time.Time // of the last run
}

func (l *lives) add(e *workflowpb.WorkflowExecutionInfo) {
	l.open = l.open || e.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	if at := e.GetStartTime().AsTime(); at.After(l.began) {
		l.began = at
	}
}

// Others implements Specs.
func (s started) Others(ctx context.Context, pipeline string) ([]Other, error) {
	var names []string // in the order of the list, each once
	known := make(map[string]*lives)
	err := s.each(ctx, "WorkflowType = '"+contract.WorkflowPipeline+"'", func(e *workflowpb.WorkflowExecutionInfo) {
		name, ok := contract.PipelineOf(e.GetExecution().GetWorkflowId())
		if !ok || name == pipeline {
			return
		}
		l := known[name]
		if l == nil {
			l = new(lives)
			known[name], names = l, append(names, name)
		}
		l.add(e)
	})
	if err != nil {
		return nil, err
	}
	removals := make(map[string][]*workflowpb.WorkflowExecutionInfo) // that were completed, by workflow id
	err = s.each(ctx, "WorkflowType = '"+contract.WorkflowRemove+"'", func(e *workflowpb.WorkflowExecutionInfo) {
		if id := e.GetExecution().GetWorkflowId(); e.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED {
			removals[id] = append(removals[id], e)
		}
	})
	if err != nil {
		return nil, err
	}
	var others []Other
	for _, name := range names {
		parsed, err := s.Spec(ctx, name)
		if err != nil {
			return nil, err
		}
		if parsed == nil {
			continue
		}
		other, removed := Other{Spec: parsed}, false
		if l := known[name]; !l.open {
			other.Standing = "stopped, not removed"
			removed, err = s.removed(ctx, removals[contract.RemoveID(name)], l.began)
			if err != nil {
				other.Standing = fmt.Sprintf("stopped; whether it was removed cannot be told: %v", err)
			}
		}
		if !removed {
			others = append(others, other)
		}
	}
	return others, nil
}

// Removed implements Specs.
func (s started) Removed(ctx context.Context, pipeline string) (bool, error) {
	var l lives
	err := s.each(ctx, fmt.Sprintf("WorkflowId = '%s'", contract.PipelineID(pipeline)), l.add)
	if err != nil || l.open {
		return false, err
	}
	var removals []*workflowpb.WorkflowExecutionInfo
	id := contract.RemoveID(pipeline)
	query := fmt.Sprintf("WorkflowType = '%s' AND WorkflowId = '%s'", contract.WorkflowRemove, id)
	err = s.each(ctx, query, func(e *workflowpb.WorkflowExecutionInfo) {
		if e.GetExecution().GetWorkflowId() == id && e.GetStatus() == enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED {
			removals = append(removals, e)
		}
	})
	if err != nil {
		return false, err
	}
	return s.removed(ctx, removals, l.began)
}

// removed reports whether one of the removals has left nothing of a pipeline whose last run began at began.
func (s started) removed(ctx context.Context, removals []*workflowpb.WorkflowExecutionInfo, began time.Time) (bool, error) {
	var unknown error
	for _, e := range removals {
		if !e.GetCloseTime().AsTime().After(began) {
			continue
		}
		outcome, err := s.outcome(ctx, e.GetExecution())
		if err != nil {
			unknown = err
		}
		if outcome == contract.OutcomeRemoved || outcome == contract.OutcomeNothing {
			return true, nil
		}
	}
	return false, unknown
}

// outcome reads how a removal that was completed has ended.
func (s started) outcome(ctx context.Context, run *commonpb.WorkflowExecution) (string, error) {
	history := s.client.GetWorkflowHistory(ctx, run.GetWorkflowId(), run.GetRunId(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_CLOSE_EVENT)
	event, err := history.Next()
	if err != nil {
		return "", fmt.Errorf("read the result of %s: %w", run.GetWorkflowId(), err)
	}
	var result contract.RemoveResult
	payloads := event.GetWorkflowExecutionCompletedEventAttributes().GetResult()
	if err := converter.GetDefaultDataConverter().FromPayloads(payloads, &result); err != nil {
		return "", fmt.Errorf("read the result of %s: %w", run.GetWorkflowId(), err)
	}
	return result.Outcome, nil
}

// each passes all workflows that Temporal knows and that fit the query.
func (s started) each(ctx context.Context, query string, fn func(*workflowpb.WorkflowExecutionInfo)) error {
	for page := []byte(nil); ; {
		answer, err := s.client.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Query: query, NextPageToken: page,
		})
		if err != nil {
			return fmt.Errorf("list workflows with %s: %w", query, err)
		}
		for _, e := range answer.GetExecutions() {
			fn(e)
		}
		if page = answer.GetNextPageToken(); len(page) == 0 {
			return nil
		}
	}
}
