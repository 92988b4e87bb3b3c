package activities

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/types/known/timestamppb"

	"millrace/internal/contract"
)

// archive is a Temporal that keeps the inputs of workflows. It lists one id a page.
type archive struct {
	inputs   map[string]any
	ids      []string
	removals []removalRun
	err      error
}

// removalRun is a run of a Remove, by the minute at which it was closed. Pipelines begin at minute 10.
type removalRun struct {
	id     string
	minute int64
	status enumspb.WorkflowExecutionStatus
	result any
}

func minute(n int64) *timestamppb.Timestamp { return timestamppb.New(time.Unix(60*n, 0)) }

func (a *archive) ListWorkflow(_ context.Context, r *workflowservice.ListWorkflowExecutionsRequest,
) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	if a.err != nil {
		return nil, a.err
	}
	if strings.Contains(r.Query, contract.WorkflowRemove) {
		answer := new(workflowservice.ListWorkflowExecutionsResponse)
		for i, run := range a.removals {
			answer.Executions = append(answer.Executions, &workflowpb.WorkflowExecutionInfo{
				Execution: &commonpb.WorkflowExecution{WorkflowId: run.id, RunId: strconv.Itoa(i)}, Status: run.status,
				CloseTime: minute(run.minute),
			})
		}
		return answer, nil
	}
	n := len(r.NextPageToken)
	answer := &workflowservice.ListWorkflowExecutionsResponse{Executions: []*workflowpb.WorkflowExecutionInfo{
		{Execution: &commonpb.WorkflowExecution{WorkflowId: a.ids[n]}, Status: enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED,
			StartTime: minute(10)},
	}}
	if n+1 < len(a.ids) {
		answer.NextPageToken = make([]byte, n+1)
	}
	return answer, nil
}

// described is a run with this status.
func described(status enumspb.WorkflowExecutionStatus) *workflowservice.DescribeWorkflowExecutionResponse {
	return &workflowservice.DescribeWorkflowExecutionResponse{WorkflowExecutionInfo: &workflowpb.WorkflowExecutionInfo{Status: status}}
}

func (a *archive) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	return described(enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED), nil
}

func (a *archive) GetWorkflowHistory(_ context.Context, id, run string, _ bool, _ enumspb.HistoryEventFilterType,
) client.HistoryEventIterator {
	if n, err := strconv.Atoi(run); err == nil {
		return &closeEvent{&a.removals[n]}
	}
	return &firstEvent{a, id}
}

type firstEvent struct {
	*archive
	id string
}

type closeEvent struct{ *removalRun }

func (c *closeEvent) HasNext() bool { return true }

func (c *closeEvent) Next() (*historypb.HistoryEvent, error) {
	if err, failed := c.result.(error); failed {
		return nil, err
	}
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(c.result)
	return &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionCompletedEventAttributes{
		WorkflowExecutionCompletedEventAttributes: &historypb.WorkflowExecutionCompletedEventAttributes{Result: payloads},
	}}, err
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
			id("alerts"): named("alerts"), id("refused"): json.RawMessage(`{"name":"refused"}`), id("number"): 7,
		},
		// A pipeline has several runs, what was started under another id is none, and what is
		// listed may be gone a moment later.
		ids: []string{id("bills"), id("orders"), id("bills"), "something-else", id("refused"), id("number"), id("gone"), id("alerts")},
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
	temporal.err, temporal.inputs[id("bills")] = nil, []byte("no JSON")
	_, err = s.Others(ctx, "orders")
	require.ErrorContains(t, err, "read the spec of pipeline bills")
}

// A pipeline that was removed after it was started last holds nothing any more.
func TestOthersAreThoseThatWereNotRemoved(t *testing.T) {
	const completed, failed = enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED, enumspb.WORKFLOW_EXECUTION_STATUS_FAILED
	ended := func(outcome string) contract.RemoveResult {
		return contract.RemoveResult{Pipeline: "bills", Outcome: outcome}
	}
	const stays = "stopped, not removed"
	for _, tt := range []struct {
		name     string
		removals []removalRun
		standing string // "": it holds nothing
	}{
		{"never", nil, stays},
		{"removed", []removalRun{{"remove:bills", 20, completed, ended(contract.OutcomeRemoved)}}, ""},
		{"nothing was left", []removalRun{{"remove:bills", 20, completed, ended(contract.OutcomeNothing)}}, ""},
		{"looked at again", []removalRun{{"remove:bills", 30, completed, ended(contract.OutcomeDryRun)},
			{"remove:bills", 20, completed, ended(contract.OutcomeRemoved)}}, ""},
		{"only looked at", []removalRun{{"remove:bills", 20, completed, ended(contract.OutcomeDryRun)}}, stays},
		{"not approved", []removalRun{{"remove:bills", 20, completed, ended(contract.OutcomeNotApproved)}}, stays},
		{"failed", []removalRun{{"remove:bills", 20, failed, nil}}, stays},
		{"started again since", []removalRun{{"remove:bills", 9, completed, ended(contract.OutcomeRemoved)}}, stays},
		{"another one", []removalRun{{"remove:orders", 20, completed, ended(contract.OutcomeRemoved)}}, stays},
		{"unreadable", []removalRun{{"remove:bills", 20, completed, errors.New("history is gone")}},
			"stopped; whether it was removed cannot be told: read the result of remove:bills: history is gone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var fields map[string]any
			require.NoError(t, json.Unmarshal([]byte(specJSON), &fields))
			fields["name"] = "bills"
			temporal := &archive{inputs: map[string]any{"pipeline:bills": fields}, ids: []string{"pipeline:bills"}, removals: tt.removals}
			others, err := NewSpecs(temporal).Others(context.Background(), "orders")
			require.NoError(t, err)
			removed, err := NewSpecs(temporal).Removed(context.Background(), "bills")
			require.Equal(t, tt.standing == "", removed)
			if tt.name == "unreadable" {
				require.ErrorContains(t, err, "history is gone")
			} else {
				require.NoError(t, err)
			}
			if tt.standing == "" {
				require.Empty(t, others)
				return
			}
			require.Len(t, others, 1)
			require.Equal(t, tt.standing, others[0].Standing)
		})
	}
}

func names(specs []Other) (all []string) {
	for _, s := range specs {
		all = append(all, s.Name)
	}
	return all
}

// runs is a Temporal with some runs of one pipeline, oldest first.
type runs []pastRun

type pastRun struct {
	shop   string // in the input's spec
	failed bool
	memo   string
}

func (r runs) ListWorkflow(context.Context, *workflowservice.ListWorkflowExecutionsRequest,
) (*workflowservice.ListWorkflowExecutionsResponse, error) {
	answer := new(workflowservice.ListWorkflowExecutionsResponse)
	for i, run := range r {
		memo, err := converter.GetDefaultDataConverter().ToPayload(run.memo)
		if err != nil {
			return nil, err
		}
		status := enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED
		if run.failed {
			status = enumspb.WORKFLOW_EXECUTION_STATUS_FAILED
		}
		answer.Executions = append(answer.Executions, &workflowpb.WorkflowExecutionInfo{
			Execution: &commonpb.WorkflowExecution{RunId: strconv.Itoa(i)}, Status: status, StartTime: minute(int64(i)),
			Memo: &commonpb.Memo{Fields: map[string]*commonpb.Payload{"state": memo}},
		})
	}
	return answer, nil
}

func (r runs) DescribeWorkflowExecution(context.Context, string, string) (*workflowservice.DescribeWorkflowExecutionResponse, error) {
	if r[len(r)-1].failed {
		return described(enumspb.WORKFLOW_EXECUTION_STATUS_FAILED), nil
	}
	return described(enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED), nil
}

func (r runs) GetWorkflowHistory(_ context.Context, _, run string, _ bool, _ enumspb.HistoryEventFilterType,
) client.HistoryEventIterator {
	n := len(r) - 1
	if run != "" {
		n, _ = strconv.Atoi(run)
	}
	return &oneEvent{r[n]}
}

type oneEvent struct{ pastRun }

func (e *oneEvent) HasNext() bool { return true }

func (e *oneEvent) Next() (*historypb.HistoryEvent, error) {
	payloads, err := converter.GetDefaultDataConverter().ToPayloads(json.RawMessage(`{"spec":{"shop":"` + e.shop + `"},"from":"latest"}`))
	return &historypb.HistoryEvent{Attributes: &historypb.HistoryEvent_WorkflowExecutionStartedEventAttributes{
		WorkflowExecutionStartedEventAttributes: &historypb.WorkflowExecutionStartedEventAttributes{Input: payloads},
	}}, err
}

// A start that was refused left everything as it was: the spec that counts is that of the run before it.
func TestTheSpecOfARefusedStartDoesNotCount(t *testing.T) {
	for _, tt := range []struct {
		name string
		runs runs
		want string
	}{
		{"the latest", runs{{shop: "a", memo: "running"}, {shop: "b", memo: "running"}}, "b"},
		{"refused twice", runs{{shop: "a", memo: "running"}, {shop: "b", failed: true, memo: "starting"},
			{shop: "c", failed: true, memo: "starting"}}, "a"},
		{"failed while it ran", runs{{shop: "a", memo: "running"}, {shop: "b", failed: true, memo: "running"}}, "b"},
		{"nothing ever ran", runs{{shop: "a", failed: true, memo: "starting"}, {shop: "b", failed: true, memo: "starting"}}, "b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, err := LastInput(t.Context(), tt.runs, "orders")
			require.NoError(t, err)
			require.JSONEq(t, `{"shop":"`+tt.want+`"}`, string(in.Spec))
		})
	}
}
