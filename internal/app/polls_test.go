package app

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	taskqueuepb "go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"

	"millrace/internal/contract"
	"millrace/internal/telemetry"
)

// Polls that Temporal has answered are noted by kind of queue, whatever the queues of this process are called.
func TestPollsAreNoted(t *testing.T) {
	queue := func(name, normal string) *taskqueuepb.TaskQueue {
		return &taskqueuepb.TaskQueue{Name: name, NormalName: normal}
	}
	workflow := func(q *taskqueuepb.TaskQueue) any { return &workflowservice.PollWorkflowTaskQueueRequest{TaskQueue: q} }
	activity := func(q *taskqueuepb.TaskQueue) any { return &workflowservice.PollActivityTaskQueueRequest{TaskQueue: q} }
	tests := []struct {
		name string
		req  any
		err  error
		want []telemetry.Poll
	}{
		{"workflows", workflow(queue(contract.TaskQueue, "")), nil, []telemetry.Poll{{Queue: "shared", Type: "workflow"}}},
		{"sticky", workflow(queue("host:abc", contract.TaskQueue)), nil, []telemetry.Poll{{Queue: "shared", Type: "workflow"}}},
		{"host", activity(queue(contract.HostQueue("0815"), "")), nil, []telemetry.Poll{{Queue: "host", Type: "activity"}}},
		{"disk", activity(queue(contract.DiskQueue("0815"), "")), nil, []telemetry.Poll{{Queue: "disk", Type: "activity"}}},
		{"not answered", workflow(queue(contract.TaskQueue, "")), errors.New("away"), nil},
		{"something else", &workflowservice.GetSystemInfoRequest{}, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPolls()
			err := p.intercept(t.Context(), "", tt.req, nil, nil,
				func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error { return tt.err })
			require.ErrorIs(t, err, tt.err)
			var got []telemetry.Poll
			for poll := range p.all() {
				got = append(got, poll)
			}
			require.Equal(t, tt.want, got)
		})
	}
}
