package activities

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// archive is a Temporal that keeps the inputs of workflows. It lists one id a page.
type archive struct {
	inputs map[string]any
	ids    []string
	err    error
}

func (a *archive) ListWorkflow(_ context.Context, r *workflowservice.ListWorkflowExecutionsRequest) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	if a.err != nil {
		return nil, a.err
	}
	n := len(r.NextPageToken)
	answer := &workflowservice.ListWorkflowExecutionsResponse{Executions: []*workflowpb.WorkflowExecutionInfo{
		{Execution: &commonpb.WorkflowExecution{WorkflowId: a.ids[n]}},
	}}
	if n+1 < len(a.ids) {
		answer.NextPageToken = make([]byte, n+1)
	}
	return answer, nil
}

func (a *archive) GetWorkflowHistory(_ context.Context, id, _ string, _ bool, _ enumspb.HistoryEventFilterType) client.HistoryEventIterator {
	return &firstEvent{a, id}
}

type firstEvent struct {
	*archive
	id string
}

func (f *firstEvent) HasNext() bool { return true }

func (f *firstEvent) Next() (*historypb.HistoryEvent, error) {
	input, found := f.inputs[f.id]
	if !found {
		return nil, serviceerror.NewNotFound("no such workflow")
	}
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(input)
	if err != nil {
		return nil, err
	}
	return &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{
		WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{Input: payloads},
	}}, f.err
}

func TestSpecsAreReadFromTheInputsOfPipelines(t *testing.T) {
	ctx := context.Background()
	text, err := orders(t).JSON()
	require.NoError(t, err)
	named := func(name string) json.RawMessage {
		var fields map[string]any
		require.NoError(t, json.Unmarshal(text, &fields))
		fields["name"] = name
		out, err := json.Marshal(fields)
		require.NoError(t, err)
		return out
	}
	id := contract.PipelineID
	temporal := &archive{
		inputs: map[string]any{
			id("orders"): named("orders"), id("bills"): contract.PipelineInput{Version: contract.Version, Spec: named("bills")},
			id("alerts"): named("alerts"), id("refused"): json.RawMessage(`{"name":"refused"}`),
		},
		// A pipeline has several runs, what was started under another id is none, and what is
		// listed may be gone a moment later.
		ids: []string{id("bills"), id("orders"), id("bills"), "something-else", id("refused"), id("gone"), id("alerts")},
	}
	s := NewSpecs(temporal)
	own, err := s.Spec(ctx, "orders")
	require.NoError(t, err)
	require.Equal(t, "orders", own.Name)
	require.Equal(t, orders(t).Source.Topics, own.Source.Topics)
	for _, unknown := range []string{"gone", "refused"} {
		own, err = s.Spec(ctx, unknown)
		require.NoError(t, err)
		require.Nil(t, own, unknown)
	}
	others, err := s.Others(ctx, "orders")
	require.NoError(t, err)
	require.Equal(t, []string{"bills", "alerts"}, names(others), "on every page, once, and never the pipeline itself")

	// Who cannot be asked may name the topic: nothing is taken for granted.
	temporal.err = errors.New("Temporal is away")
	_, err = s.Spec(ctx, "orders")
	require.ErrorIs(t, err, temporal.err)
	_, err = s.Others(ctx, "orders")
	require.ErrorIs(t, err, temporal.err)
	temporal.err, temporal.inputs[id("bills")] = nil, 7
	_, err = s.Others(ctx, "orders")
	require.ErrorContains(t, err, "read the spec of pipeline bills")
}

func names(specs []*spec.Spec) (all []string) {
	for _, s := range specs {
		all = append(all, s.Name)
	}
	return all
}
