package telemetry

// Names of the metrics, in base units. Prometheus shows them with underscores, the unit and _total appended.
const (
	nameRecords   = "millrace.lane.records"         // records read, by outcome
	nameRefused   = "millrace.refused.records"      // records refused, by reason
	nameOffset    = "millrace.lane.offset"          // committed offset
	nameLag       = "millrace.lane.lag"             // records that wait in the log
	nameWatermark = "millrace.lane.watermark"       // seconds since the epoch
	nameEntries   = "millrace.lane.entries"         // entries held in memory
	nameSlices    = "millrace.lane.slices"          // slice generations held in memory
	nameBytes     = "millrace.lane.memory"          // bytes held by the lane
	nameCommits   = "millrace.lane.commits"         // acknowledged commits
	nameWritten   = "millrace.lane.entries.written" // Redis fields written
	nameCommit    = "millrace.lane.commit.duration" // seconds, of the last commit
	nameGap       = "millrace.lane.commit.gap"      // seconds, longest between two commits
	nameReseeds   = "millrace.lane.reseeds"         // times Redis had forgotten writes
	nameUnsent    = "millrace.lane.unsent"          // records of a corrupt journal whose side records are lost
	nameState     = "millrace.lane.state"           // 1 for the state the lane is in
	nameMemory    = "millrace.replica.memory"       // bytes of all lanes of a replica
	nameLimit     = "millrace.replica.memory.limit" // bytes

	nameBuild      = "millrace.build.info" // 1, with the build as labels
	nameConditions = "millrace.conditions" // what keeps a pipeline from its work, by kind

	nameRows    = "millrace.kept.rows"          // windows with a row in the ledger
	nameResults = "millrace.kept.results"       // of these, windows with contents in Redis
	nameOldest  = "millrace.kept.oldest"        // seconds since the epoch, when the oldest final row was written
	nameBacklog = "millrace.kept.sweep.backlog" // windows that the sweep has still to look at
	nameFloor   = "millrace.kept.floor"         // seconds since the epoch, up to where every window is final

	nameLevel    = "millrace.dependency.level"    // of degradation, 0 to 3
	nameBreaker  = "millrace.dependency.breaker"  // 1 for the state the breaker is in
	nameOverride = "millrace.dependency.override" // 1 for the override in force
	nameChanges  = "millrace.dependency.changes"  // by level entered
	nameTries    = "millrace.dependency.tries"    // by outcome
)
