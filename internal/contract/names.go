package contract

// Workflow types.
const (
	WorkflowPipeline     = "Pipeline"
	WorkflowReplica      = "Replica"
	WorkflowCloseWindows = "CloseWindows"
	WorkflowCloseWindow  = "CloseWindow"
	WorkflowRecoverLanes = "RecoverLanes"
	WorkflowDegrade      = "Degrade"
	WorkflowReplayWAL    = "ReplayWAL"
	WorkflowRemove       = "Remove"
	WorkflowReplay       = "Replay"
	WorkflowCompact      = "Compact"
)

// WorkflowTypes are the types of all workflows.
func WorkflowTypes() []string {
	return []string{
		WorkflowPipeline, WorkflowReplica, WorkflowCloseWindows, WorkflowCloseWindow, WorkflowRecoverLanes, WorkflowDegrade,
		WorkflowReplayWAL, WorkflowRemove, WorkflowReplay, WorkflowCompact,
	}
}

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
	ActivityLocateBegin    = "LocateBegin"
	ActivityBeginLanes     = "BeginLanes"
	ActivityClaim          = "Claim"
	ActivityRun            = "Run"
	ActivityNudge          = "Nudge"
	ActivityCloseDue       = "CloseDue"
	ActivityCloseOne       = "CloseOne"
	ActivityEmit           = "Emit"

	ActivitySearchAttributes = "SearchAttributes"

	ActivityRecoverStep     = "RecoverStep"
	ActivityDecideIncident  = "DecideIncident"
	ActivityLaneOwners      = "LaneOwners"
	ActivityWatchLevel      = "WatchLevel"
	ActivityOverrideLevel   = "OverrideLevel"
	ActivityOrderLevels     = "OrderLevels"
	ActivityJournalAccounts = "JournalAccounts"
	ActivityListChains      = "ListChains"
	ActivityReplaySegment   = "ReplaySegment"

	ActivitySurveyRemains = "SurveyRemains"
	ActivityAwaitReleased = "AwaitReleased"
	ActivityDeleteGroup   = "DeleteGroup"
	ActivityFenceLanes    = "FenceLanes"
	ActivityEndLedger     = "EndLedger"
	ActivityDeleteKeys    = "DeleteKeys"
	ActivityDeleteTopics  = "DeleteTopics"

	ActivitySweepShadows  = "SweepShadows"
	ActivityPlanReplay    = "PlanReplay"
	ActivityReplayRange   = "ReplayRange"
	ActivitySetReplayRate = "SetReplayRate"
	ActivityShowDiff      = "ShowDiff"
	ActivityEndShadow     = "EndShadow"

	ActivityCarryOut = "CarryOut"

	ActivityPlanCompact    = "PlanCompact"
	ActivityTakeStock      = "TakeStock"
	ActivityDeleteSchedule = "DeleteSchedule"
)

// Updates of Pipeline. Every one is answered with a Receipt.
const (
	UpdateFlush  = "flush"
	UpdatePause  = "pause"
	UpdateResume = "resume"
	UpdateScale  = "scale"
	UpdateStop   = "stop"

	// UpdateAwaitRunning commands nothing and is answered with a Running.
	UpdateAwaitRunning = "await-running"

	UpdateDegrade = "degrade" // override a dependency's level on all workers
)

// Updates of the workflows that ask: RecoverLanes about incidents and ReplayWAL about what cannot be read (decide), Degrade
// about the level (the others). Each is answered with a receipt of its own type.
const (
	UpdateDecide = "decide"
	UpdateHold   = "hold"  // stay at the level of now
	UpdateOpen   = "open"  // treat the dependency as away
	UpdateClose  = "close" // treat it as well
	UpdateAuto   = "auto"  // let the state machine decide again
)

// Updates of Replica, sent by workers. Each is answered with a PlaceReceipt.
const (
	UpdateHolderGone = "holder-gone" // the process that runs the hot path is gone: place it anew
	UpdateHandOver   = "hand-over"   // move the hot path to another process
)

// UpdateApprove lets a Remove go on after it has shown what it will delete, and a Replay publish what it has found.
const UpdateApprove = "approve"

// Updates of a Replay, beside UpdateApprove.
const (
	UpdateReject   = "reject"    // publish nothing
	UpdateSetRate  = "set-rate"  // how fast it reads
	UpdateShowDiff = "show-diff" // a page of what differs
)

// Signals. SignalStop asks a child to end; SignalReport is how a child tells its parent where it stands; SignalHostBack tells a
// RecoverLanes that its host polls again; SignalLevel tells a Degrade that a state machine has left normal.
const (
	SignalStop     = "stop"
	SignalReport   = "child-report"
	SignalHostBack = "host-back"
	SignalLevel    = "level"

	SignalReplayProgress = "replay-progress" // how far a ReplayRange has come

	SignalCarryOut   = "carry-out"   // a job for a CloseWindows
	SignalCarriedOut = "carried-out" // its answer
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
	StateFailed   = "failed"
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

// States of a RecoverLanes, a Degrade and a ReplayWAL.
const (
	StateRecovering = "recovering"
	StateHostGone   = "host-gone" // nobody polls the queue of the process or disk
	StateDeciding   = "deciding"  // waits for an operator
	StateDegraded   = "degraded"
	StateSettling   = "settling" // back at normal, stays open for a while
	StateReplaying  = "replaying"
	StateWaiting    = "waiting" // for lanes that drain their journal themselves
	StateDone       = "done"
)

// States of a Remove; it is done in StateDone.
const (
	StateSurveying = "surveying"
	StateAsking    = "asking"    // waits for an approval
	StateReleasing = "releasing" // waits until nobody holds anything of the pipeline
	StateRemoving  = "removing"
	StateGrace     = "grace" // only fenced metas are left
)

// States of a Replay, beside StateAsking and StateDone.
const (
	StateSweeping    = "sweeping" // deletes what dead shadows of the pipeline have left
	StatePlanning    = "planning"
	StateReading     = "reading"
	StateCarryingOut = "carrying-out" // the closer publishes corrections or writes certificates
	StateEnding      = "ending"       // deletes the shadow
)

// States of a Compact, beside StatePlanning and StateDone.
const (
	StateRollingUp = "rolling-up"
	StateArchiving = "archiving"
	StateCounting  = "counting" // what is kept and what has expired
)

// Outcomes of a Compact.
const (
	OutcomeCompacted  = "compacted"  // everything is done, but for windows that wait for their children
	OutcomeIncomplete = "incomplete" // somebody has to look
)

// Which events of a replay's range are late.
const (
	LatenessAsRead = "as-read" // those that were late when they were read
	LatenessNone   = "none"    // none: whatever has arrived counts

	// LatenessFromLate is as read, with what stands in the late topic counted in: how a window was counted, never an input.
	LatenessFromLate = "from-late"
)

// How far back a recount reads.
const (
	ScopeWhole       = "whole"             // from where no event of the window can lie before
	ScopeFirstOffset = "from first offset" // from the first event that each lane has counted
)

// Outcomes of a Replay, beside OutcomeDryRun.
const (
	OutcomeUnchanged  = "unchanged"   // a replay: nothing differs
	OutcomeCertified  = "certified"   // a recount: nothing differs, and the ledger says so
	OutcomeCarriedOut = "carried-out" // what differed was published, or has moved since
	OutcomeRejected   = "rejected"    // nothing was published
	OutcomeCancelled  = "cancelled"   // of a status alone: somebody has ended it
	OutcomeFailed     = "failed"      // of a status alone
)

// Kinds of jobs that a closer carries out, and what becomes of a window in one.
const (
	JobCorrections = "corrections" // publish what a replay has found
	JobCertify     = "certify"     // write what a recount has found equal
	JobRollup      = "rollup"      // roll final windows up
	JobArchive     = "archive"     // archive contents that are past their retention

	CarriedPublished = "published"
	CarriedCertified = "certified"
	CarriedMoved     = "moved"       // another revision stands there than the one it was compared with
	CarriedUnchanged = "unchanged"   // the content is already what it should be
	CarriedGone      = "gone"        // nothing was left that could be archived
	CarriedBefore    = "done-before" // by the same job
	CarriedFailed    = "failed"
)

// What published a window holds, each of which a recount compares with Kafka.
const (
	PlaceLedger  = "ledger"  // the window's row
	PlaceView    = "view"    // the contents in Redis
	PlaceResults = "results" // the rows in the result topic
	PlaceStates  = "states"  // the states that a roll-up still needs
)

// Steps of a Remove, in their order.
const (
	RemoveSchedule = "schedule" // delete the schedule that compacts the pipeline
	RemoveGroup    = "group"    // delete the consumer group
	RemoveFence    = "fence"    // take the lanes away from whoever owns them
	RemoveLedger   = "ledger"   // fence the closers, end the incarnation
	RemoveKeys     = "keys"     // delete all keys but the fenced metas
	RemoveTopics   = "topics"
	RemoveMetas    = "metas" // delete the fenced metas and whatever came meanwhile
)

// Roles of the topics that a pipeline writes.
const (
	RoleLedger     = "ledger"
	RoleResults    = "results"
	RoleStates     = "states"
	RoleLate       = "late"
	RoleDeadLetter = "dead letter"
)

// Outcomes of a Remove.
const (
	OutcomeRemoved     = "removed"
	OutcomeDryRun      = "dry-run"
	OutcomeNotApproved = "not-approved"
	OutcomeNothing     = "nothing" // nothing of the pipeline was left to remove
)

// Outcomes of a RecoverLanes, a Degrade, WatchLevel and a ReplayWAL.
const (
	OutcomeRecovered  = "recovered"
	OutcomeSuperseded = "superseded" // other owners have the lanes
	OutcomeGivenUp    = "given-up"
	OutcomeParked     = "parked" // an incident without a way out by choice
	OutcomeNormal     = "normal"
	OutcomeWorkerGone = "worker-gone" // nobody polls the process's queue
	OutcomeMoved      = "moved"       // the hot path left the process
	OutcomeChanged    = "changed"
	OutcomeDrained    = "drained"
	OutcomeAborted    = "aborted"
)

// Decisions about a journal that cannot be read.
const (
	ChoiceQuarantine = "quarantine" // set what cannot be read aside and go on without it
	ChoiceAbort      = "abort"      // leave the journal as it is
)

// States of a segment in a ReplayWAL.
const (
	SegmentWaiting   = "waiting"
	SegmentReplaying = "replaying"
	SegmentCorrupt   = "corrupt"
	SegmentDone      = "done"
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
	ErrorIncapable    = "incapable"     // this worker cannot run the spec; another one may
	ErrorSuspended    = "suspended"     // an operator paused or reset the activity
	ErrorRefused      = "refused"       // an update that the pipeline's state does not allow
	ErrorStale        = "stale"         // fenced, revoked or of another incarnation; final
	ErrorWALGone      = "wal-gone"      // nobody has polled a disk's queue for WALPatience
)
