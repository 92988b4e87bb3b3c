package workflows

import (
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// Register registers every workflow under its name in the contract.
func Register(r worker.WorkflowRegistry) {
	r.RegisterWorkflowWithOptions(Pipeline, workflow.RegisterOptions{Name: contract.WorkflowPipeline})
	r.RegisterWorkflowWithOptions(Replica, workflow.RegisterOptions{Name: contract.WorkflowReplica})
	r.RegisterWorkflowWithOptions(CloseWindows, workflow.RegisterOptions{Name: contract.WorkflowCloseWindows})
	r.RegisterWorkflowWithOptions(CloseWindow, workflow.RegisterOptions{Name: contract.WorkflowCloseWindow})
	r.RegisterWorkflowWithOptions(RecoverLanes, workflow.RegisterOptions{Name: contract.WorkflowRecoverLanes})
	r.RegisterWorkflowWithOptions(Degrade, workflow.RegisterOptions{Name: contract.WorkflowDegrade})
	r.RegisterWorkflowWithOptions(ReplayWAL, workflow.RegisterOptions{Name: contract.WorkflowReplayWAL})
	r.RegisterWorkflowWithOptions(Remove, workflow.RegisterOptions{Name: contract.WorkflowRemove})
	r.RegisterWorkflowWithOptions(Compact, workflow.RegisterOptions{Name: contract.WorkflowCompact})
	r.RegisterWorkflowWithOptions(Replay, workflow.RegisterOptions{Name: contract.WorkflowReplay})
}
