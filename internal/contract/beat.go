package contract

import (
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
)

// BeatOf decodes the heartbeat of a workflow's pending activity and says when it was sent. ok is false when there is none.
func BeatOf[T any](workflow *workflowservice.DescribeWorkflowExecutionResponse, activity string) (details T, at time.Time, ok bool) {
	for _, a := range workflow.GetPendingActivities() {
		if a.GetActivityType().GetName() != activity || a.GetHeartbeatDetails() == nil {
			continue
		}
		if converter.GetDefaultDataConverter().FromPayloads(a.GetHeartbeatDetails(), &details) == nil {
			return details, a.GetLastHeartbeatTime().AsTime(), true
		}
	}
	return details, at, false
}
