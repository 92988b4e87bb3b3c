package contract

import (
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// Times of the control plane. docs/workflows.md gives the reason for each.
const (
	BeatEvery            = time.Second      // of Run
	BeatTimeout          = 10 * time.Second // without a beat for this long the attempt is lost
	LeaseTTL             = 5 * time.Second
	LeaseEvery           = time.Second
	PresenceEvery        = 500 * time.Millisecond // between two beats of a process
	GoneAfter            = 2 * time.Second        // one that was seen and says nothing for this long is gone
	StrangerGoneAfter    = 6 * time.Second        // and one that was never seen since Redis was last away
	FormatSettles        = 30 * time.Second       // one that read no state pages holds them back for this long after it has gone
	SpreadAfter          = 10 * time.Second       // a fleet in which nothing moves for this long may move one hot path
	RefusedMoveFor       = 10 * time.Minute       // a process that refused a pipeline's hot path is not offered one
	OrphanGrace          = 10 * time.Minute
	OpenCheckEvery       = time.Minute
	ReconcileEvery       = 10 * time.Minute
	AppliedDeadline      = time.Minute
	FirstTry             = 2 * time.Second  // of a short step, after which the workflow says what it waits for
	WritePatience        = time.Minute      // how long an update waits for Redis before its answer comes first and the write later
	HaltPatience         = 10 * time.Second // how long a stop waits for Redis
	FlushPatience        = 30 * time.Minute // how long a flush tries to publish
	SurveyPatience       = time.Minute      // how long a Remove tries to find what is left
	RemovePatience       = time.Hour        // how long a Remove tries each step
	DrainStall           = time.Minute
	DefaultDrainTimeout  = time.Hour
	MaxDrainTimeout      = 7 * 24 * time.Hour
	ChildStopTimeout     = 2 * time.Minute
	RunLimit             = 30 * 24 * time.Hour // a run of any workflow continues as new after this
	MaxSignalsPerRun     = 5000
	StickyTimeout        = time.Second
	WorkerStopTimeout    = 30 * time.Second
	DeadlockTimeout      = 5 * time.Second
	ReplicaTaskTimeout   = 5 * time.Second
	CloseReturnAfter     = time.Minute    // CloseDue returns after this with at least one close
	CloseIdleAfter       = 12 * time.Hour // and after this without
	CloseReturnCount     = 200
	CloseAtOnceSize      = time.Minute // windows of this size or more are reported at once
	CloseFailuresAllowed = 3
	HostPatience         = 10 * time.Second // a host queue that nobody polls for this long is gone, for now
	HostLookEvery        = time.Minute      // between two queries of whether a host that is gone polls again
	IncidentLookEvery    = time.Minute      // between two queries of who owns a lane that waits for a decision
	RecoverTimeout       = 2 * time.Hour    // of one run of RecoverLanes
	RecoverRunLimit      = 90 * time.Minute // after which one that waits continues as new
	WatchRenew           = 23 * time.Hour   // WatchLevel returns after this without a change
	DegradeLinger        = time.Minute      // how long a Degrade stays open at normal, so that flapping is one run
	StartJitter          = time.Second      // a Degrade's start is spread over this
	WALPatience          = 24 * time.Hour   // how long a ReplayWAL waits for a worker that has the disk
	ApprovalPatience     = time.Hour        // how long a Remove waits for an approval
	ReleasePatience      = 15 * time.Minute // how long it waits for workers that still hold something of the pipeline
	MinRemoveGrace       = time.Second
	MaxRemoveGrace       = 24 * time.Hour
)

func retry(first, most time.Duration) *temporal.RetryPolicy {
	return &temporal.RetryPolicy{InitialInterval: first, MaximumInterval: most, BackoffCoefficient: 2}
}

func once() *temporal.RetryPolicy { return &temporal.RetryPolicy{MaximumAttempts: 1} }

// ClaimOptions are for Claim. Eager execution would pile all hot paths on the worker that runs the workflows.
func ClaimOptions() workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout:   2 * time.Second,
		RetryPolicy:           retry(200*time.Millisecond, 5*time.Second),
		DisableEagerExecution: true,
	}
}

// OfferOptions are for Claim on the queue of a process that is offered a hot path: somebody waits, and the hot path runs on meanwhile.
func OfferOptions(queue string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		TaskQueue:              queue,
		ScheduleToStartTimeout: 3 * time.Second,
		StartToCloseTimeout:    2 * time.Second,
		RetryPolicy:            once(),
	}
}

// RunOptions are for Run on one host queue: one attempt, because a frozen host would swallow further ones.
func RunOptions(queue string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		TaskQueue:              queue,
		ScheduleToStartTimeout: 5 * time.Second,
		StartToCloseTimeout:    10 * 365 * 24 * time.Hour,
		HeartbeatTimeout:       BeatTimeout,
		WaitForCancellation:    true,
		RetryPolicy:            once(),
	}
}

// ControlOptions are for short steps on desired state, topics and meta.
func ControlOptions() workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout: 10 * time.Second,
		RetryPolicy:         retry(500*time.Millisecond, 30*time.Second),
	}
}

// TryOptions are the options of the n-th try of a step, counted from 0. left is the time that remains for all of them; 0 is no bound. A
// try ends after a few attempts, so that the workflow learns why they fail: one, then three, then some minutes of them. A
// short step, one that does not beat, answers the first time within FirstTry or is tried again.
func TryOptions(o workflow.ActivityOptions, n int, left time.Duration) workflow.ActivityOptions {
	attempts := []int32{1, 3, 6, 10}
	policy := *o.RetryPolicy
	policy.MaximumAttempts = attempts[min(n, len(attempts)-1)]
	o.RetryPolicy = &policy
	if o.HeartbeatTimeout == 0 && n == 0 {
		o.StartToCloseTimeout = min(o.StartToCloseTimeout, FirstTry)
		o.ScheduleToCloseTimeout = FirstTry
	}
	if left > 0 {
		o.ScheduleToCloseTimeout = max(left, time.Second)
		if o.HeartbeatTimeout == 0 && n == 0 {
			o.ScheduleToCloseTimeout = min(o.ScheduleToCloseTimeout, FirstTry)
		}
	}
	return o
}

// SearchOptions are for SearchAttributes: a start does not wait for what only helps to find it.
func SearchOptions() workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout: FirstTry, ScheduleToCloseTimeout: FirstTry, RetryPolicy: once(), Summary: "which search attributes are there?",
	}
}

// NudgeOptions are for Nudge: a courtesy that may fail, since owners look every second anyway.
func NudgeOptions(queue string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		TaskQueue:              queue,
		ScheduleToStartTimeout: 5 * time.Second,
		StartToCloseTimeout:    10 * time.Second,
		RetryPolicy:            once(),
	}
}

// AwaitOptions are for AwaitApplied and AwaitDrained, which return by themselves at their deadline.
func AwaitOptions(deadline time.Duration) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout:    deadline + 10*time.Second,
		ScheduleToCloseTimeout: deadline + 30*time.Second,
		HeartbeatTimeout:       BeatTimeout,
		RetryPolicy:            retry(500*time.Millisecond, 10*time.Second),
	}
}

// CloseDueOptions are for CloseDue.
func CloseDueOptions() workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout: 24 * time.Hour,
		HeartbeatTimeout:    BeatTimeout,
		WaitForCancellation: true,
		RetryPolicy:         retry(time.Second, 15*time.Second),
	}
}

// CloseOneOptions are for the close of one window.
func CloseOneOptions() workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout: 30 * time.Minute,
		HeartbeatTimeout:    30 * time.Second,
		WaitForCancellation: true,
		RetryPolicy:         retry(5*time.Second, 5*time.Minute),
	}
}

// EmitOptions are for Emit: as the close of one window, but somebody waits for the answer.
func EmitOptions() workflow.ActivityOptions {
	o := CloseOneOptions()
	o.ScheduleToCloseTimeout = 30 * time.Minute
	o.RetryPolicy = retry(time.Second, 30*time.Second)
	return o
}

// SurveyOptions are for SurveyRemains, which reads and asks only.
func SurveyOptions() workflow.ActivityOptions {
	o := RemovalOptions()
	o.RetryPolicy.MaximumAttempts = 5
	return o
}

// AwaitReleasedOptions are for AwaitReleased, which returns by itself when the patience is over.
func AwaitReleasedOptions(patience time.Duration) workflow.ActivityOptions {
	o := RemovalOptions()
	o.StartToCloseTimeout = patience + time.Minute
	return o
}

// RemovalOptions are for the steps of a Remove. Each may be repeated, and is until it succeeds.
func RemovalOptions() workflow.ActivityOptions {
	return workflow.ActivityOptions{
		StartToCloseTimeout: 6 * time.Hour,
		HeartbeatTimeout:    BeatTimeout,
		WaitForCancellation: true,
		RetryPolicy:         retry(time.Second, time.Minute),
	}
}

// ChildOptions are for all children: they outlive the run that started them and are adopted by the next one.
func ChildOptions(id, summary string) workflow.ChildWorkflowOptions {
	return workflow.ChildWorkflowOptions{
		WorkflowID:            id,
		TaskQueue:             TaskQueue,
		WorkflowIDReusePolicy: enumspb.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		ParentClosePolicy:     enumspb.PARENT_CLOSE_POLICY_ABANDON,
		StaticSummary:         summary,
	}
}

// RecoverStepOptions are for RecoverStep on a host queue. The hot path goes on by itself when nobody comes, so three attempts do.
func RecoverStepOptions(queue string) workflow.ActivityOptions {
	o := hostOptions(queue, 30*time.Minute)
	o.HeartbeatTimeout = BeatTimeout
	o.RetryPolicy.NonRetryableErrorTypes = []string{ErrorStale}
	return o
}

// DecideOptions are for DecideIncident, OverrideLevel and JournalAccounts on a host queue: somebody waits for the answer.
func DecideOptions(queue string) workflow.ActivityOptions {
	o := hostOptions(queue, 30*time.Second)
	o.RetryPolicy.NonRetryableErrorTypes = []string{ErrorStale, ErrorRefused}
	return o
}

func hostOptions(queue string, limit time.Duration) workflow.ActivityOptions {
	o := workflow.ActivityOptions{
		TaskQueue:              queue,
		ScheduleToStartTimeout: HostPatience,
		StartToCloseTimeout:    limit,
		RetryPolicy:            retry(500*time.Millisecond, 5*time.Second),
	}
	o.RetryPolicy.MaximumAttempts = 3
	return o
}

// WatchLevelOptions are for WatchLevel on a host queue: one attempt, the workflow loops.
func WatchLevelOptions(queue string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		TaskQueue:              queue,
		ScheduleToStartTimeout: HostPatience,
		StartToCloseTimeout:    24 * time.Hour,
		HeartbeatTimeout:       BeatTimeout,
		RetryPolicy:            once(),
	}
}

// ListChainsOptions are for ListChains on a disk's queue. When nobody polls it the workflow waits.
func ListChainsOptions(disk string) workflow.ActivityOptions {
	return workflow.ActivityOptions{
		TaskQueue:              DiskQueue(disk),
		ScheduleToStartTimeout: HostPatience,
		StartToCloseTimeout:    10 * time.Minute,
		HeartbeatTimeout:       15 * time.Second,
		RetryPolicy:            retry(time.Second, time.Minute),
	}
}

// ReplaySegmentOptions are for ReplaySegment on a disk's queue: tried for ever, each time from where the last one was.
func ReplaySegmentOptions(disk string) workflow.ActivityOptions {
	o := ListChainsOptions(disk)
	o.StartToCloseTimeout = 6 * time.Hour
	o.WaitForCancellation = true
	return o
}
