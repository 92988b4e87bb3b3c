package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"millrace/internal/contract"
	"millrace/internal/telemetry"
)

const (
	// conditionsEvery is how often the workflows of pipelines are asked what they wait for.
	conditionsEvery = 30 * time.Second
	// failedEvery is how often Temporal is asked for workflows that failed within failedWithin, failedMost of them at the most.
	failedEvery  = time.Minute
	failedWithin = time.Hour
	failedMost   = 100
	// askLimit bounds one question.
	askLimit = 5 * time.Second
)

// asked is the part of a Temporal client that an orchestration needs.
type asked interface {
	QueryWorkflow(ctx context.Context, workflowID, runID, queryType string, args ...any) (converter.EncodedValue, error)
	ListWorkflow(ctx context.Context, request *workflowservice.ListWorkflowExecutionsRequest) (
		*workflowservice.ListWorkflowExecutionsResponse, error)
}

// orchestration asks Temporal for what only workflows know of the pipelines whose windows are closed here: what waits for a decision,
// and what failed. It is for metrics; where Temporal does not answer, what it said last is forgotten.
type orchestration struct {
	pipelines func() []string
	log       *slog.Logger

	mu    sync.Mutex
	found telemetry.Orchestration
}

// last returns what was found when Temporal was last asked.
func (o *orchestration) last() telemetry.Orchestration {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.found
}

// run asks until ctx ends.
func (o *orchestration) run(ctx context.Context, temporal asked) {
	conditions, failed := time.NewTicker(conditionsEvery), time.NewTicker(failedEvery)
	defer conditions.Stop()
	defer failed.Stop()
	o.askFailed(ctx, temporal)
	for {
		select {
		case <-ctx.Done():
			return
		case <-conditions.C:
			o.askConditions(ctx, temporal)
		case <-failed.C:
			o.askFailed(ctx, temporal)
		}
	}
}

// askConditions asks the pipelines' workflows how they stand.
func (o *orchestration) askConditions(ctx context.Context, temporal asked) {
	all := make(map[string]map[string]int)
	for _, pipeline := range o.pipelines() {
		counts, err := conditionsOf(ctx, temporal, pipeline)
		if err != nil {
			o.log.DebugContext(ctx, "pipeline not asked for its conditions", "pipeline", pipeline, "error", err)
			continue
		}
		all[pipeline] = counts
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.found.Conditions = all
}

// conditionsOf counts by kind what a pipeline's workflow knows of. Every kind that it can know of is there, also at 0.
func conditionsOf(ctx context.Context, temporal asked, pipeline string) (map[string]int, error) {
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	answer, err := temporal.QueryWorkflow(limited, contract.PipelineID(pipeline), "", contract.QueryStatus)
	if err != nil {
		return nil, err
	}
	var status contract.PipelineStatus
	if err := answer.Get(&status); err != nil {
		return nil, err
	}
	counts := make(map[string]int)
	for _, s := range contract.StuckStates() {
		if s.Page {
			counts[s.Kind] = 0
		}
	}
	if status.Standing != nil {
		for kind, n := range contract.CountKinds(status.Standing.Conditions) {
			counts[kind] = n
		}
	}
	return counts, nil
}

// askFailed lists the workflows that failed of late.
func (o *orchestration) askFailed(ctx context.Context, temporal asked) {
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	since := time.Now().Add(-failedWithin).UTC().Format(time.RFC3339)
	answer, err := temporal.ListWorkflow(limited, &workflowservice.ListWorkflowExecutionsRequest{
		PageSize: failedMost,
		Query: fmt.Sprintf(`TaskQueue = "%s" AND ExecutionStatus IN ("Failed", "TimedOut") AND CloseTime > "%s"`,
			contract.TaskQueue, since),
	})
	counts := make(map[string]int)
	for _, workflow := range contract.WorkflowTypes() {
		counts[workflow] = 0
	}
	if err != nil {
		o.log.DebugContext(ctx, "failed workflows not listed", "error", err)
		counts = nil
	}
	for _, w := range answer.GetExecutions() {
		if kind := w.GetType().GetName(); counts != nil {
			if _, known := counts[kind]; known {
				counts[kind]++
			}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.found.Failed = counts
}

var _ asked = client.Client(nil)
