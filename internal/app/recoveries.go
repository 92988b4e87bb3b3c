package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/traces"
)

// starting is the part of a Temporal client that starts workflows.
type starting interface {
	ExecuteWorkflow(ctx context.Context, options client.StartWorkflowOptions, workflow any, args ...any) (client.WorkflowRun, error)
	SignalWithStartWorkflow(ctx context.Context, id, signal string, arg any, options client.StartWorkflowOptions, workflow any,
		args ...any) (client.WorkflowRun, error)
}

// Times of starting workflows from a process. The pause between reports keeps a process that catches up at two a second.
const (
	startLimit    = 5 * time.Second
	reportPause   = 500 * time.Millisecond
	startPause    = 500 * time.Millisecond
	startPauseTop = 10 * time.Second
	announceQueue = 256
	announceMost  = 8    // starts under way
	startedKept   = 4096 // ids remembered
)

// recoveries tells Temporal of this process's recoveries, each exactly once by its id: a batch that begins starts a RecoverLanes at
// once, and one of which Temporal did not hear is started with its report when it is done, as soon as Temporal is there.
type recoveries struct {
	client starting
	log    *slog.Logger
	news   chan report.RecoveryBatch
	wake   chan struct{}

	mu      sync.Mutex
	reports *reportLog
	started map[string]bool
}

func newRecoveries(client starting, reports *reportLog, log *slog.Logger) *recoveries {
	return &recoveries{
		client: client, log: log, reports: reports, news: make(chan report.RecoveryBatch, announceQueue),
		wake: make(chan struct{}, 1), started: make(map[string]bool),
	}
}

// Announce says that a batch begins. It does not block: the hot path waits for nobody. What cannot be announced is reported
// when it is done.
func (r *recoveries) Announce(b report.RecoveryBatch) {
	select {
	case r.news <- b:
	default:
		r.log.Warn("recovery not announced, too many at once", "recovery", recoveryID(b))
	}
}

// Report says that a batch is done. It returns after the disk has the report, if one is needed, so it must not be called by a
// lane's goroutine.
func (r *recoveries) Report(told report.RecoveryReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := recoveryID(told.Batch)
	if r.started[id] {
		delete(r.started, id)
		return
	}
	r.reports.add(bounded(told))
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func bounded(told report.RecoveryReport) report.RecoveryReport {
	told.Batch = contract.BoundBatch(told.Batch)
	var more int
	told.Lanes, more = contract.BoundLanes(told.Lanes)
	told.More += more
	return told
}

// run tells Temporal until ctx ends.
func (r *recoveries) run(ctx context.Context) {
	var parts sync.WaitGroup
	parts.Go(func() { r.announce(ctx) })
	parts.Go(func() { r.deliver(ctx) })
	parts.Wait()
}

func (r *recoveries) announce(ctx context.Context) {
	var starts sync.WaitGroup
	defer starts.Wait()
	slots := make(chan struct{}, announceMost)
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-r.news:
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return
			}
			starts.Go(func() {
				defer func() { <-slots }()
				if err := r.start(ctx, b, nil); err != nil {
					r.log.InfoContext(ctx, "recovery not announced; it goes on by itself", "recovery", recoveryID(b), "error", err)
				}
			})
		}
	}
}

// start starts the workflow of a batch. That it was started already is no error.
func (r *recoveries) start(ctx context.Context, b report.RecoveryBatch, told *report.RecoveryReport) error {
	ctx, cancel := context.WithTimeout(traces.Under(ctx, b.Trace), startLimit)
	defer cancel()
	b = contract.BoundBatch(b)
	id := recoveryID(b)
	_, err := r.client.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: id, TaskQueue: contract.TaskQueue, WorkflowRunTimeout: contract.RecoverTimeout,
		WorkflowIDReusePolicy:    enumspb.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
		WorkflowIDConflictPolicy: enumspb.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
		StaticSummary:            recoverySummary(b, told),
	}, contract.WorkflowRecoverLanes, contract.RecoverInput{Version: contract.Version, Batch: b, Report: told})
	var already *serviceerror.WorkflowExecutionAlreadyStarted
	if err != nil && !errors.As(err, &already) {
		return err
	}
	if told == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.started) >= startedKept {
			clear(r.started) // their reports will find the ids taken
		}
		r.started[id] = true
		r.reports.done(id) // in case it was done before this answer came
	}
	return nil
}

func recoverySummary(b report.RecoveryBatch, told *report.RecoveryReport) string {
	lanes := len(b.Lanes) + b.More
	if b.MidRun {
		text := fmt.Sprintf("%d lanes of %s on %s: %s", lanes, b.Pipeline, b.Worker, b.Reason)
		return text[:min(len(text), maxSummary)]
	}
	text := fmt.Sprintf("recovers %d lanes of %s on %s", lanes, b.Pipeline, b.Worker)
	if told != nil {
		const clock = "2006-01-02T15:04:05.000Z"
		text += fmt.Sprintf("; done without Temporal from %s to %s", b.Began.UTC().Format(clock), told.Ended.UTC().Format(clock))
	}
	return text[:min(len(text), maxSummary)]
}

// maxSummary bounds a summary; Temporal refuses longer ones.
const maxSummary = 200

// deliver starts the workflows of recoveries that Temporal did not hear of.
func (r *recoveries) deliver(ctx context.Context) {
	pause := time.Duration(0)
	for {
		r.mu.Lock()
		told, waits := r.reports.next()
		r.mu.Unlock()
		wake := r.wake
		var again <-chan time.Time
		if waits {
			wake = nil // one at a time, and not faster than the pause
			again = time.After(pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
			continue
		case <-again:
		}
		id := recoveryID(told.Batch)
		batch, done := told.Batch, told
		done.Batch = report.RecoveryBatch{}
		err := r.start(ctx, batch, &done)
		var never *serviceerror.InvalidArgument
		switch {
		case err == nil:
			r.log.InfoContext(ctx, "recovery is told to Temporal", "recovery", id, "mid_run", batch.MidRun)
		case errors.As(err, &never):
			r.log.ErrorContext(ctx, "Temporal refuses the report of a recovery; it is dropped", "recovery", id, "error", err)
		default:
			if pause == reportPause || pause == 0 {
				r.log.InfoContext(ctx, "recovery report waits for Temporal", "recovery", id, "error", err)
			}
			pause = min(max(2*pause, startPause), startPauseTop)
			continue
		}
		pause = reportPause
		r.mu.Lock()
		r.reports.done(id)
		r.mu.Unlock()
	}
}
