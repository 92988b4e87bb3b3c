package contract

// Workflow types.
const (
	WorkflowPipeline     = "Pipeline"
	WorkflowReplica      = "Replica"
	WorkflowCloseWindows = "CloseWindows"
	WorkflowCloseWindow  = "CloseWindow"
)

// Activity names are bare method names, unique over all activity structs.
const (
	ActivityCheckStore     = "CheckStore"
	ActivityEnsureTopics   = "EnsureTopics"
	ActivityWriteDesired   = "WriteDesired"
	ActivityAwaitApplied   = "AwaitApplied"
	ActivityEndOffsets     = "EndOffsets"
	ActivityAwaitDrained   = "AwaitDrained"
	ActivityReconcile      = "Reconcile"
	ActivityReleaseReplica = "ReleaseReplica"
	ActivityClaim          = "Claim"
	ActivityRun            = "Run"
	ActivityNudge          = "Nudge"
	ActivityCloseDue       = "CloseDue"
	ActivityCloseOne       = "CloseOne"
	ActivityEmit           = "Emit"
)

// Updates of Pipeline. Every one is answered with a Receipt.
const (
	UpdateFlush  = "flush"
	UpdatePause  = "pause"
	UpdateResume = "resume"
	UpdateScale  = "scale"
	UpdateStop   = "stop"
)

// Signals. SignalStop asks a child to end; SignalReport is how a child tells its parent where it stands.
const (
	SignalStop   = "stop"
	SignalReport = "child-report"
)

// QueryStatus answers on every workflow with the status struct of its type.
const QueryStatus = "status"

// Reasons a window's revision was published for an operator; the closer's own reasons are watermark, late and final.
const (
	ReasonFlush = "flush"
	ReasonDrain = "drain"
)

// States of a pipeline as the status query and the memo show them.
const (
	StateStarting = "starting"
	StateRunning  = "running"
	StatePaused   = "paused"
	StateDraining = "draining"
	StateStopping = "stopping"
	StateStopped  = "stopped"
)

// States of a child as its parent knows them.
const (
	ChildStarting = "starting"
	ChildRunning  = "running" // open, nothing reported yet
	ChildPlaced   = "placed"  // a replica's hot path runs on the named worker
	ChildSeeking  = "seeking" // a replica looks for a worker
	ChildClosing  = "closing" // the closer is at work
	ChildBlocked  = "blocked" // the closer waits for an operator
	ChildEnded    = "ended"
)

// Outcomes of Run and CloseDue that are answers, not errors.
const (
	OutcomeStopped      = "stopped"       // asked to stop: committed and released
	OutcomeRenew        = "renew"         // time to continue as new; the hot path runs on and is adopted
	OutcomePipelineGone = "pipeline-gone" // the pipeline's workflow is closed, so nothing should run
	OutcomeClosed       = "closed"        // windows were closed
	OutcomeIdle         = "idle"          // nothing was closable for a long time
	OutcomeFailing      = "failing"       // a window failed repeatedly and needs a workflow of its own
)

// Types of application errors. Workflows decide on these strings.
const (
	ErrorInvalidInput = "invalid-input" // the caller's input is wrong; final
	ErrorInvalidSpec  = "invalid-spec"  // the spec does not parse; final
	ErrorPermanent    = "permanent"     // trying again cannot help: another format, wrong store policy; final
	ErrorMoved        = "moved"         // this process is going away; somebody else should take over at once
	ErrorDetached     = "detached"      // this attempt ends, the hot path runs on in the process
	ErrorLeaseHeld    = "lease-held"    // another worker holds the replica
	ErrorEngineFailed = "engine-failed" // the hot path ended by itself
	ErrorAttemptOver  = "attempt-over"  // Temporal no longer knows this attempt
	ErrorBusy         = "busy"          // another worker has fewer hot paths
	ErrorSuspended    = "suspended"     // an operator paused or reset the activity
	ErrorRefused      = "refused"       // an update that the pipeline's state does not allow
)
