package contract

// Kinds of conditions. They are labels of the metric millrace_conditions and part of the JSON of `millrace status`.
const (
	ConditionOrphaned       = "orphaned"        // the pipeline's workflow is closed, hot paths still run
	ConditionFailed         = "failed"          // the pipeline's workflow failed, was cancelled or terminated; nothing runs
	ConditionNotStarted     = "not-started"     // there is no workflow of the pipeline
	ConditionStopped        = "stopped"         // the pipeline was stopped
	ConditionFenced         = "fenced"          // a removal has fenced lanes and has not ended
	ConditionNoWorker       = "no-worker"       // nobody polls the task queue
	ConditionRedisAway      = "redis-away"      // Redis does not answer the command
	ConditionKafkaAway      = "kafka-away"      // Kafka does not answer the command
	ConditionTemporalAway   = "temporal-away"   // Temporal does not answer the command or the worker
	ConditionUnanswered     = "unanswered"      // Temporal answers, and no worker does for the pipeline's workflow
	ConditionHeld           = "held"            // a dependency is away and nothing can be journalled: lanes stand still
	ConditionLaneParked     = "lane-parked"     // an incident of a lane waits for a decision
	ConditionHostGone       = "host-gone"       // a recovery waits for a process that does not answer
	ConditionJournalAsks    = "journal-asks"    // the replay of a journal waits for a decision
	ConditionJournalWaits   = "journal-waits"   // the replay of a journal waits for the worker that has the disk
	ConditionSeeking        = "seeking"         // a hot path has no worker
	ConditionLaneUnowned    = "lane-unowned"    // nobody commits for a lane
	ConditionEngineTrouble  = "engine-trouble"  // a hot path cannot talk to Kafka or read its orders
	ConditionCommandsUnread = "commands-unread" // a hot path cannot read what is commanded
	ConditionChildEnded     = "child-ended"     // a child workflow keeps ending
	ConditionClosingBlocked = "closing-blocked" // a window cannot be closed
	ConditionClosingFails   = "closing-fails"   // the closer cannot look for windows
	ConditionWatermarkHeld  = "watermark-held"  // one lane keeps every window open
	ConditionDegraded       = "degraded"        // a dependency is away; commits go to the journal, or results wait
	ConditionLaneBlocked    = "lane-blocked"    // a lane waits for commits or memory
	ConditionWatermarkAhead = "watermark-ahead" // a lane's watermark is far ahead of the clock
	ConditionRefusing       = "refusing"        // all recent records of a lane are refused
	ConditionCompactFails   = "compact-fails"   // roll-ups or archiving need somebody
	ConditionStorm          = "storm"           // lanes move too often
	ConditionOverride       = "override"        // an operator's order is in force, and windows close
	ConditionRecountDiffers = "recount-differs" // a recount has found that what was published is not what Kafka holds
	ConditionReplayAsks     = "replay-asks"     // what a replay has found waits for an approval

	// ConditionClosingSuspended: an operator's order keeps commits in the journals, or results back, so no window closes.
	ConditionClosingSuspended = "closing-suspended"

	// ConditionLongTransaction: a large window is on its way, and readers of the result topic wait for its end.
	ConditionLongTransaction = "long-transaction"

	ConditionPaused   = "paused"   // on purpose
	ConditionDraining = "draining" // on purpose
	ConditionStopping = "stopping" // on purpose
	ConditionStarting = "starting"
)

// StuckState describes a kind of condition: a state of a pipeline that can last. docs/stuck-states.md is made from the table.
type StuckState struct {
	Kind      string
	Line      string // of status and of the Pipeline page: {phase}, {lanes}, {subject}, {reason}, {since}, {command}, {decide}
	Flows     bool   // events are read and made durable
	Closes    bool   // windows are closed
	OnPurpose bool   // an operator wants it: it counts as healthy
	Means     string
	Bound     string    // how long it lasts at most, or that it has no bound
	WayOut    string    // the commands that lead out
	Page      bool      // the pipeline's page in Temporal's UI tells it: the pipeline's workflow knows of it
	Process   bool      // the worker where it arises tells it in /health and in the metric millrace_conditions
	Sample    Condition // one of this kind, for the documentation
}

// CheckCode is the exit code of `status --check` in this state.
func (s StuckState) CheckCode() int {
	if s.healthy() {
		return 0
	}
	return 1
}

// VerifyCode is the exit code of `verify` in this state when what was published is right. Verify reads Redis and Kafka itself,
// and with --spec it can do without Temporal.
func (s StuckState) VerifyCode() int {
	switch {
	case s.Kind == ConditionRedisAway, s.Kind == ConditionKafkaAway:
		return 3
	case s.healthy(), s.Unknown():
		return 0
	}
	return 4
}

// Unknown reports whether the state says no more than that Temporal could not be asked, which is no word about what was published.
func (s StuckState) Unknown() bool {
	return s.Kind == ConditionTemporalAway || s.Kind == ConditionUnanswered
}

// healthy reports whether `status --check` passes in this state.
func (s StuckState) healthy() bool { return s.OnPurpose || s.Flows && s.Closes }

// HealthyKind reports whether `status --check` passes with a condition of this kind.
func HealthyKind(kind string) bool {
	state, _ := stuckState(kind)
	return state.healthy()
}

// UnknownKind is StuckState.Unknown of a condition's kind.
func UnknownKind(kind string) bool {
	state, _ := stuckState(kind)
	return state.Unknown()
}

// StuckStates lists every state that can last, the worst first.
func StuckStates() []StuckState { return stuckStates }

func stuckState(kind string) (StuckState, bool) {
	for _, s := range stuckStates {
		if s.Kind == kind {
			return s, true
		}
	}
	return StuckState{}, false
}

// rank orders kinds, the worst first.
func rank(kind string) int {
	for i := range stuckStates {
		if stuckStates[i].Kind == kind {
			return i
		}
	}
	return len(stuckStates)
}
