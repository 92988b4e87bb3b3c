package workflows

import (
	"context"
	"sync"

	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// hostScript is a process that recovers lanes orders/0 and orders/1.
type hostScript struct {
	mu       sync.Mutex
	steps    []contract.RecoverStepInput
	gone     func() bool // nobody polls its queue
	fail     func(step string) error
	incident *report.Incident // of orders/1, from step verify on
	decided  []contract.DecideIncidentInput
	decide   func(contract.DecideIncidentInput) error
	owners   []contract.LaneOwner
	looks    int
	told     *[]contract.ChildReport // what the pipeline heard
}

func gapOf() *report.Incident {
	return &report.Incident{ID: "i1", Kind: "gap", From: 50, To: 70, Detail: "20 offsets were deleted",
		Choices: []report.Choice{
			{Name: "skip", Text: "go on at 70", Lost: 20}, {Name: "wait", Text: "stay parked", Reread: 0},
		}}
}

func (h *hostScript) lane(partition int32, step string) report.RecoveredLane {
	l := report.RecoveredLane{
		Topic: "orders", Partition: partition, State: report.LaneRecovering, Token: "4:aa", FromEpoch: 3, ToEpoch: 4,
		Entries: 10, Bytes: 100, Offset: 50, LogStart: 0, LogEnd: 80, Reread: 5,
	}
	if step == report.StepResume {
		l.State = report.LaneRunning
	}
	if partition == 1 && h.incident != nil && (step == report.StepVerify || step == report.StepResume) {
		incident := *h.incident
		l.State, l.Incident = report.LaneParked, &incident
	}
	return l
}

func batchOf() report.RecoveryBatch {
	return report.RecoveryBatch{
		Pipeline: "orders", Process: "p1", Worker: "worker-a", Queue: contract.HostQueue("p1"), Batch: 3, Began: epochTime,
		Reason: "rebalance",
		Lanes:  []report.LaneRef{{Topic: "orders"}, {Topic: "orders", Partition: 1}},
		Storm: &report.Storm{Since: epochTime, Changes: 7, Delay: 500,
			Timeline: []report.StormEvent{{At: epochTime, Lanes: 2, Delay: 500}}},
	}
}

func recoverEnv(h *hostScript) *testsuite.TestWorkflowEnvironment {
	env := steerEnv(contract.WorkflowRecoverLanes, contract.RecoverLanesID("orders", "p1", 3), RecoverLanes)
	register(env, contract.ActivityRecoverStep, func(_ context.Context, in contract.RecoverStepInput) (*report.StepReport, error) {
		h.steps = append(h.steps, in)
		if h.gone != nil && h.gone() {
			return nil, nobodyPolls
		}
		if h.fail != nil {
			if err := h.fail(in.Step); err != nil {
				return nil, err
			}
		}
		return &report.StepReport{Step: in.Step, By: report.ByTemporal, Began: epochTime, Took: 1500,
			Lanes: []report.RecoveredLane{h.lane(0, in.Step), h.lane(1, in.Step)}}, nil
	})
	decide := func(_ context.Context, in contract.DecideIncidentInput) (*contract.DecidedIncident, error) {
		h.mu.Lock() // lanes that are decided together are told side by side
		defer h.mu.Unlock()
		h.decided = append(h.decided, in)
		if h.decide != nil {
			if err := h.decide(in); err != nil {
				return nil, err
			}
		}
		l := h.lane(in.Partition, report.StepAcquire)
		l.State, l.Offset = report.LaneRunning, 70
		return &contract.DecidedIncident{Lane: &l}, nil
	}
	register(env, contract.ActivityDecideIncident, decide)
	register(env, contract.ActivityLaneOwners, func(context.Context, contract.LaneOwnersInput) (*contract.LaneOwners, error) {
		h.looks++
		return &contract.LaneOwners{Lanes: h.owners}, nil
	})
	h.told = hears(env)
	return env
}

func startRecovery(env *testsuite.TestWorkflowEnvironment, in contract.RecoverInput) {
	in.Version = contract.Version
	if in.Batch.Pipeline == "" {
		in.Batch = batchOf()
	}
	env.ExecuteWorkflow(contract.WorkflowRecoverLanes, in)
}

func partitionOf(n int32) *int32 { return &n }
