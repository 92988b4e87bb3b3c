package app

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel/trace"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// degrades starts a Degrade when a state machine of this process leaves normal. The machine waits for nobody: what happens before
// Temporal is there is told by the seq that the workflow begins to watch from.
type degrades struct {
	client  starting
	worker  string
	process string
	disk    string // of the WAL directory, empty for none
	jitter  func() time.Duration
	log     *slog.Logger
	tracer  trace.Tracer // nil: degradations are not traced
}

func newDegrades(client starting, worker, process, disk string, log *slog.Logger) *degrades {
	return &degrades{
		client: client, worker: worker, process: process, disk: disk, log: log,
		jitter: func() time.Duration { return rand.N(contract.StartJitter) },
	}
}

// Follow watches one state machine until ctx ends, which is when the hot path does.
func (d *degrades) Follow(ctx context.Context, pipeline string, replica int, dependency string, level activities.Level) {
	after, disk := int64(0), d.disk
	if dependency != report.DependencyRedis {
		disk = "" // nothing of it goes there
	}
	for {
		changes, err := level.Await(ctx, after)
		if err != nil {
			return
		}
		for i, c := range changes {
			if c.From != report.LevelNormal || c.To == report.LevelNormal {
				continue
			}
			if !d.tell(d.trace(ctx, pipeline, replica, dependency, level, c), pipeline, contract.LevelSignal{
				Replica: replica, Process: d.process, Queue: contract.HostQueue(d.process), Disk: disk, After: c.Seq - 1,
				At: c.At, Level: c.To, Reason: contract.Cut(c.Reason),
			}, dependency) {
				return
			}
			changes = changes[i:] // what follows is the workflow's to see, but for departures that come after its end
			break
		}
		after = changes[0].Seq
	}
}

// tell starts the workflow or, when it is open, signals it. It tries until ctx ends and then returns false.
func (d *degrades) tell(ctx context.Context, pipeline string, signal contract.LevelSignal, dependency string) bool {
	id := contract.DegradeID(pipeline, d.worker, dependency)
	for pause := d.jitter(); ; pause = min(max(2*pause, startPause), startPauseTop) {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
		limited, cancel := context.WithTimeout(ctx, startLimit)
		_, err := d.client.SignalWithStartWorkflow(limited, id, contract.SignalLevel, signal, client.StartWorkflowOptions{
			ID: id, TaskQueue: contract.TaskQueue, WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
			StaticSummary: fmt.Sprintf("%s of %s on %s", dependency, pipeline, d.worker),
		}, contract.WorkflowDegrade, contract.DegradeInput{
			Version: contract.Version, Pipeline: pipeline, Worker: d.worker, Dependency: dependency,
		})
		cancel()
		if err == nil {
			return true
		}
		d.log.InfoContext(ctx, "degradation not told yet, trying again", "workflow", id, "level", signal.Level, "error", err)
	}
}
