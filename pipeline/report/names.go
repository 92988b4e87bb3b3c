package report

// Steps of a recovery, and who came first to carry one out.
const (
	StepAcquire = "acquire" // become the owner
	StepJournal = "journal" // settle the lane's journal
	StepRestore = "restore" // read the state back
	StepVerify  = "verify"  // compare the committed offset with the log
	StepResume  = "resume"  // read on

	ByTemporal = "temporal"
	ByInline   = "inline" // the hot path itself, because Temporal did not answer in time
	ByMixed    = "mixed"
)

// States of a lane in a recovery.
const (
	LaneRecovering = "recovering"
	LaneRunning    = "running"
	LaneParked     = "parked"     // an incident waits for a decision
	LaneSuperseded = "superseded" // another owner has it, or it was revoked
	LaneGivenUp    = "given-up"   // by the operator, while its host was gone
)

// ChoiceGiveUp may be decided for a lane whose host is gone: the workflow waits for it no longer. The lane itself is not touched.
const ChoiceGiveUp = "give-up"

// ChoiceWait leaves a parked lane parked, and its incident open to another decision.
const ChoiceWait = "wait"

// Dependencies of a hot path.
const (
	DependencyRedis   = "redis"
	DependencyResults = "results"
)

// Levels that a hot path can be at because of a dependency.
const (
	LevelNormal    Level = "normal"    // commits go to the dependency
	LevelJournal   Level = "journal"   // commits go to the WAL, lanes go on
	LevelThrottled Level = "throttled" // the WAL is over its soft limit: intake is limited
	LevelPaused    Level = "paused"    // the WAL is full, or there is none: back-pressure to Kafka
)

// Overrides of a level.
const (
	OverrideHold  Override = "hold"  // the level stays as it is, and so does whether the dependency is tried
	OverrideOpen  Override = "open"  // as if the breaker were open, whatever the probes say
	OverrideClose Override = "close" // as if the breaker were closed, whatever the counts say
)

// What became of a chain of commits in a journal.
const (
	ChainNone       = "none" // nothing was left of it
	ChainDrained    = "drained"
	ChainSuperseded = "superseded"
)
