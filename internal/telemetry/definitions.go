package telemetry

// Labels by what they belong to.
var (
	ofLane       = []string{"pipeline", "topic", "partition"}
	ofReplica    = []string{"pipeline", "replica"}
	ofPipeline   = []string{"pipeline"}
	ofDependency = []string{"pipeline", "replica", "dependency"}
)

// with returns labels with one more.
func with(labels []string, more ...string) []string {
	return append(labels[:len(labels):len(labels)], more...)
}

// Definitions of everything that a process says of itself, by what it is about.
var (
	laneRecords = &Definition{"millrace.lane.records", Counter, noUnit, with(ofLane, "outcome"),
		"Records of the lane, by what became of them; it goes on over restarts, and back when the lane reads again"}
	laneRefused = &Definition{"millrace.refused.records", Counter, noUnit, with(ofLane, "reason"),
		"Records refused since the lane was acquired, by reason; millrace status NAME LANE shows the last of each"}
	laneOffset = &Definition{"millrace.lane.offset", Gauge, noUnit, ofLane,
		"Offset of the lane up to which Redis has everything"}
	laneLag = &Definition{"millrace.lane.lag", Gauge, noUnit, ofLane,
		"Records in the log that Redis does not have yet"}
	laneWatermark = &Definition{"millrace.lane.watermark.timestamp", Gauge, seconds, ofLane,
		"Watermark of the lane in event time, in seconds since the epoch; missing before its first event"}
	laneEntries = &Definition{"millrace.lane.entries", Gauge, noUnit, ofLane,
		"Entries (key and aggregates in a slice) that the lane holds in memory"}
	laneSlices = &Definition{"millrace.lane.slices", Gauge, noUnit, ofLane,
		"Slice generations that the lane holds in memory"}
	laneMemory = &Definition{"millrace.lane.memory", Gauge, bytes, ofLane,
		"Memory that the lane holds: its state and its commits"}
	laneCommits = &Definition{"millrace.lane.commits", Counter, noUnit, ofLane,
		"Commits that Redis has acknowledged since the lane was acquired"}
	laneWritten = &Definition{"millrace.lane.entries.written", Counter, noUnit, ofLane,
		"Entries written to Redis since the lane was acquired"}
	laneFormat = &Definition{"millrace.lane.state.format", Gauge, noUnit, ofLane,
		"Format in which the lane commits its state: 1 entries in fields, 2 state pages; missing before it is acquired"}
	lanePages = &Definition{"millrace.lane.pages", Gauge, noUnit, ofLane,
		"State pages in Redis that hold the lane's entries; of a lane in format 2"}
	lanePageBytes = &Definition{"millrace.lane.pages.size", Gauge, bytes, ofLane,
		"Bytes of these pages"}
	lanePageRuns = &Definition{"millrace.lane.pages.runs", Gauge, noUnit, ofLane,
		"Sorted runs above the last whole one, of the slice that has most: at 64 a merge is due"}
	laneDirtied = &Definition{"millrace.lane.pages.entries.dirtied", Counter, noUnit, ofLane,
		"Entries that had changed when a commit in pages was made, since the lane was acquired"}
	lanePageWritten = &Definition{"millrace.lane.pages.entries.written", Counter, noUnit, ofLane,
		"Entries written in pages since the lane was acquired; divided by those that had changed it is the write amplification of merges"}
	laneGap = &Definition{"millrace.lane.commit.gap", Gauge, seconds, ofLane,
		"Longest time between two acknowledged commits since the lane was acquired"}
	laneReseeds = &Definition{"millrace.lane.reseeds", Counter, noUnit, ofLane,
		"Times Redis had forgotten acknowledged writes and the lane wrote its state again"}
	laneUnsent = &Definition{"millrace.lane.unsent", Counter, noUnit, ofLane,
		"Records of a corrupt journal that are lost, and the late and dead-letter records in them with them"}
	laneState = &Definition{"millrace.lane.state", Gauge, noUnit, with(ofLane, "state"),
		"1 for the state the lane is in; parked waits for a decision, see millrace recover ls NAME"}
	laneJournalCommits = &Definition{"millrace.lane.journal.commits", Gauge, noUnit, ofLane,
		"Commits of the lane that are in the journal and not in Redis"}
	laneJournalBytes = &Definition{"millrace.lane.journal.pending", Gauge, bytes, ofLane,
		"Bytes of the commits of the lane that are in the journal and not in Redis"}
	laneStage = &Definition{"millrace.lane.stage", Counter, seconds, with(ofLane, "part", "stage"),
		"Time that the goroutines of the lane spent in each stage of their work since it was claimed; millrace status NAME --slow says what it means"}

	replicaMemory = &Definition{"millrace.replica.memory", Gauge, bytes, ofReplica,
		"Memory that the lanes of the replica hold"}
	replicaLimit = &Definition{"millrace.replica.memory.limit", Gauge, bytes, ofReplica,
		"Limit of the memory that the lanes of the replica hold (lane.memory_limit); at it lanes stop reading"}

	eventReadable = &Definition{"millrace.event.to.readable", Histogram, seconds, ofPipeline,
		"Time from an event's stamp (header mr-stamp, otherwise the record's timestamp in Kafka) until Redis has acknowledged it; " +
			"sampled, weighted by the records that each sample stands for"}
	windowEndPublished = &Definition{"millrace.window.end.to.published", Histogram, seconds, ofPipeline,
		"Time from the end of a window, in event time, until its first revision was published"}
	watermarkPublished = &Definition{"millrace.watermark.to.published", Histogram, seconds, ofPipeline,
		"Time from the commit with which the last lane's watermark passed a window's end until the window's first revision was published; " +
			"short by at most a commit interval"}
	commitDuration = &Definition{"millrace.commit.duration", Histogram, seconds, ofPipeline,
		"Time from handing a commit over until Redis or the journal has acknowledged it, with every try"}
	closeDuration = &Definition{"millrace.close.duration", Histogram, seconds, ofPipeline,
		"Time that merging and publishing a revision of a window took"}
	recoveryStep = &Definition{"millrace.recovery.step.duration", Histogram, seconds, with(ofPipeline, "step"),
		"Time that a step of a lane's recovery took: journal replays what was journalled, restore reads the state from Redis"}
	replayDuration = &Definition{"millrace.replay.duration", Histogram, seconds, ofPipeline,
		"Time that a replay or recount took to read its part of the log again and to compare"}
	callDuration = &Definition{"millrace.call.duration", Histogram, seconds, []string{"server", "operation", "outcome"},
		"Time that a call to Kafka, Redis or the write-ahead log took, by outcome: ok, refused (an answer that says no), timeout, error"}

	closingDelay = &Definition{"millrace.closing.delay", Gauge, seconds, ofPipeline,
		"Time since this process last found every window published whose end the watermark has passed; where the pipeline's windows are closed"}
	closingWatermark = &Definition{"millrace.closing.watermark.timestamp", Gauge, seconds, ofPipeline,
		"Watermark of the pipeline, the least of its lanes, in seconds since the epoch; where its windows are closed"}
	closingOpen = &Definition{"millrace.closing.open.windows", Gauge, noUnit, ofPipeline,
		"Windows of which lanes hold events; where the pipeline's windows are closed"}
	closingStage = &Definition{"millrace.closing.stage", Counter, seconds, with(ofPipeline, "stage"),
		"Time of the pipeline's closer by stage of its rounds, idle between them; where the pipeline's windows are closed"}
	windowsClosed = &Definition{"millrace.windows.closed", Counter, noUnit, ofPipeline,
		"Windows whose first revision this process published"}
	windowsFinal = &Definition{"millrace.windows.final", Counter, noUnit, ofPipeline,
		"Windows that this process made final: nothing changes them any more"}
	revisions = &Definition{"millrace.revisions", Counter, noUnit, with(ofPipeline, "reason"),
		"Revisions of windows that this process published, by reason"}
	publishedRows = &Definition{"millrace.published.rows", Counter, noUnit, ofPipeline,
		"Result rows (keys of windows) in the revisions that this process published"}
	mergeCache = &Definition{"millrace.merge.cache", Gauge, bytes, nil,
		"Memory that merged slices take which this process keeps for windows that overlap"}
	mergeCacheLimit = &Definition{"millrace.merge.cache.limit", Gauge, bytes, nil,
		"Limit of that memory (worker.merge_cache)"}
	mergedSlices = &Definition{"millrace.merged.slices", Counter, noUnit, []string{"source"},
		"Slices of lanes that went into windows which overlap enough for their slices to be kept, once for every window: " +
			"from the cache, or read from the lanes"}

	keptRows = &Definition{"millrace.kept.rows", Gauge, noUnit, ofPipeline,
		"Windows with a row in the ledger"}
	keptResults = &Definition{"millrace.kept.results", Gauge, noUnit, ofPipeline,
		"Windows with contents in Redis"}
	keptBacklog = &Definition{"millrace.kept.sweep.backlog", Gauge, noUnit, ofPipeline,
		"Windows that the sweep has still to look at in Redis"}
	keptOldest = &Definition{"millrace.kept.oldest.timestamp", Gauge, seconds, ofPipeline,
		"When the oldest final row in the ledger was written, in seconds since the epoch"}
	keptFloor = &Definition{"millrace.kept.floor.timestamp", Gauge, seconds, ofPipeline,
		"Every window that ends at or before this is final, in seconds since the epoch"}

	redisMemory = &Definition{"millrace.redis.memory", Gauge, bytes, with(ofPipeline, "kind"),
		"Memory in Redis that the pipeline's keys take, an estimate: the lanes' pages and their entries in fields, and the windows' contents, " +
			"as they were written by this process, with what Redis adds to each"}
	redisServer = &Definition{"millrace.redis.server.memory", Gauge, bytes, nil,
		"used_memory of the Redis server, of all nodes of a Cluster together; asked every 15 s"}
	redisServerLimit = &Definition{"millrace.redis.server.memory.limit", Gauge, bytes, nil,
		"maxmemory of the Redis server, of all nodes of a Cluster together; missing when it has none"}

	walUsed = &Definition{"millrace.wal.used", Gauge, bytes, nil,
		"Bytes of the write-ahead log of this worker that are in use"}
	walLimit = &Definition{"millrace.wal.limit", Gauge, bytes, []string{"limit"},
		"Limits of the write-ahead log: at soft lanes are throttled, at hard commits wait and lanes stop"}
	walLevel = &Definition{"millrace.wal.level", Gauge, noUnit, nil,
		"How full the write-ahead log is: 0 below the soft limit, 1 over it or the disk is short, 2 at the hard limit, out of space or failed"}
	walFailed = &Definition{"millrace.wal.failed", Gauge, noUnit, nil,
		"1 when a write to the log's disk failed: the log takes nothing more before the worker is restarted"}
	walCorrupt = &Definition{"millrace.wal.corrupt.ranges", Gauge, noUnit, nil,
		"Ranges of the log that cannot be read; what was in them is read again from Kafka"}
	walSegments = &Definition{"millrace.wal.segments", Gauge, noUnit, nil,
		"Segments of the write-ahead log with records"}
	walPending = &Definition{"millrace.wal.pending.commits", Gauge, noUnit, nil,
		"Commits in the write-ahead log that are not in Redis"}
	walWritten = &Definition{"millrace.wal.written", Counter, bytes, nil,
		"Bytes that the write-ahead log has acknowledged"}

	dependencyLevel = &Definition{"millrace.dependency.level", Gauge, noUnit, ofDependency,
		"Level of degradation: 0 normal, 1 journal, 2 throttled, 3 paused"}
	dependencyBreaker = &Definition{"millrace.dependency.breaker", Gauge, noUnit, with(ofDependency, "state"),
		"1 for the state the circuit breaker is in: closed, half-open, open"}
	dependencyOverride = &Definition{"millrace.dependency.override", Gauge, noUnit, with(ofDependency, "override"),
		"1 for the operator's override in force; missing when there is none"}
	dependencyChanges = &Definition{"millrace.dependency.changes", Counter, noUnit, with(ofDependency, "level"),
		"Times the level was entered; a rising rate is flapping"}
	dependencyTries = &Definition{"millrace.dependency.tries", Counter, noUnit, with(ofDependency, "outcome"),
		"Tries on the dependency, by outcome: succeeded, failed, cancelled"}

	conditions = &Definition{"millrace.conditions", Gauge, noUnit, with(ofPipeline, "kind"),
		"Conditions that keep the pipeline from its work, as this process sees them; docs/stuck-states.md describes the kinds"}
	pipelineConditions = &Definition{"millrace.pipeline.conditions", Gauge, noUnit, with(ofPipeline, "kind"),
		"Conditions of the pipeline that its workflow knows of, such as decisions and approvals that wait; " +
			"asked every 30 s by the process that closes its windows"}

	buildInfo = &Definition{"millrace.build.info", Gauge, noUnit, []string{"version", "go"},
		"1, with the build of the process as labels"}
	memoryLimit = &Definition{"millrace.memory.limit", Gauge, bytes, nil,
		"Limit that the worker or GOMEMLIMIT sets for Go's memory: near it the collector works harder; missing without one"}
	ready = &Definition{"millrace.ready", Gauge, noUnit, nil,
		"1 when the process takes tasks of Temporal, 0 when it does not: /readyz says why"}
	lastPoll = &Definition{"millrace.task.queue.last.poll.timestamp", Gauge, seconds, []string{"queue", "type"},
		"When Temporal last answered a poll of the queue by this process, with a task or without, in seconds since the epoch"}
	failedWorkflows = &Definition{"millrace.workflows.failed", Gauge, noUnit, []string{"workflow"},
		"Workflows of this type that failed or timed out in the last hour, of the latest hundred that Temporal lists; asked every minute"}

	runDuration = &Definition{"millrace.run.duration", Gauge, seconds, []string{"command"},
		"Time that a short run took; pushed by millrace dev --drain, feed, bench and replay"}
	runRecords = &Definition{"millrace.run.records", Gauge, noUnit, []string{"command"},
		"Records that a short run was about: fed, folded or read again"}
	runOutcome = &Definition{"millrace.run.outcome", Gauge, noUnit, []string{"command", "outcome"},
		"1 for how a short run ended: ok or failed"}
)

// definitions is every metric, in the order of docs/metrics.md.
var definitions = []struct {
	about string
	all   []*Definition
}{
	{"Latency", []*Definition{eventReadable, windowEndPublished, watermarkPublished, commitDuration, closeDuration, recoveryStep,
		replayDuration, callDuration}},
	{"Lanes", []*Definition{laneRecords, laneRefused, laneOffset, laneLag, laneWatermark, laneState, laneEntries, laneSlices, laneMemory,
		laneCommits, laneWritten, laneFormat, lanePages, lanePageBytes, lanePageRuns, laneDirtied, lanePageWritten, laneGap, laneReseeds, laneUnsent, laneJournalCommits, laneJournalBytes, laneStage, replicaMemory, replicaLimit}},
	{"Closing and what is kept", []*Definition{closingDelay, closingWatermark, closingOpen, closingStage, windowsClosed, windowsFinal, revisions,
		publishedRows, mergeCache, mergeCacheLimit, mergedSlices, keptRows, keptResults, keptBacklog, keptOldest, keptFloor}},
	{"Redis and the write-ahead log", []*Definition{redisMemory, redisServer, redisServerLimit, walUsed, walLimit, walLevel, walFailed,
		walCorrupt, walSegments, walPending, walWritten}},
	{"Dependencies and conditions", []*Definition{dependencyLevel, dependencyBreaker, dependencyOverride, dependencyChanges,
		dependencyTries, conditions, pipelineConditions}},
	{"Process and Temporal", []*Definition{buildInfo, memoryLimit, ready, lastPoll, failedWorkflows}},
	{"Short runs", []*Definition{runDuration, runRecords, runOutcome}},
}

// labelBounds says for every label what bounds the number of its values. A key, a window or an offset is never one.
var labelBounds = []struct{ label, bound string }{
	{"pipeline", "pipelines that run on the worker"},
	{"replica", "`replicas` of the spec"},
	{"topic", "`source.topics` of the spec"},
	{"partition", "partitions of these topics"},
	{"outcome", "a handful: what can become of a record, a try, a call or a run"},
	{"reason", "the reasons in the code for which records are refused, or revisions published"},
	{"source", "`cache`, `lanes`"},
	{"state", "states of a lane, or of a circuit breaker"},
	{"part", "`lane`, `reader`, `committer`"},
	{"stage", "the stages of pipeline/stage"},
	{"step", "`acquire`, `journal`, `restore`, `verify`, `resume`"},
	{"server", "`kafka`, `redis`, `wal`"},
	{"operation", "kinds of calls in the code"},
	{"kind", "states of docs/stuck-states.md, or `entries` and `contents` in Redis"},
	{"limit", "`soft`, `hard`"},
	{"dependency", "`redis`, `results`"},
	{"override", "`hold`, `open`, `close`"},
	{"level", "`normal`, `journal`, `throttled`, `paused`"},
	{"version", "builds; one per process"},
	{"go", "versions of Go; one per process"},
	{"queue", "`shared`, `host`, `disk`"},
	{"type", "`workflow`, `activity`"},
	{"workflow", "types of workflows"},
	{"command", "`dev`, `feed`, `bench`, `replay`"},
}
