package contract

import "time"

// sampleSince is the instant in samples.
var sampleSince = time.Date(2026, 11, 29, 12, 4, 0, 0, time.UTC)

var stuckStates = []StuckState{
	{
		Kind: ConditionOrphaned, Line: "{subject}; hot paths still run", Flows: true,
		Means: "The pipeline's workflow was terminated, cancelled or failed, and its hot paths have not noticed yet.",
		Bound: "Hot paths and closer end by themselves within 2 minutes of finding the workflow closed twice.",
		WayOut: "`millrace start FILE` adopts them; to end them at once, `temporal workflow terminate` on `replica:NAME:N` " +
			"and `close:NAME`",
		Sample: Condition{Subject: "terminated", Command: "millrace start FILE"},
	},
	{
		Kind: ConditionFailed, Line: "{subject}: {reason}",
		Means:  "The pipeline's workflow failed, was cancelled or terminated, and nothing runs.",
		Bound:  "none: it stays so until somebody starts the pipeline.",
		WayOut: "mend what the reason names, then `millrace start FILE`; a refused spec: another name, or `--discard-state --from ...`",
		Sample: Condition{
			Subject: "failed", Command: "millrace start FILE",
			Reason: "source topic orders does not exist; create it first",
		},
	},
	{
		Kind: ConditionNotStarted, Line: "not started",
		Means:  "Temporal knows no workflow of this pipeline.",
		Bound:  "none: it stays so until somebody starts the pipeline.",
		WayOut: "`millrace start FILE`",
		Sample: Condition{Command: "millrace start FILE"},
	},
	{
		Kind: ConditionFenced, Line: "stalled: a removal has fenced {lanes} and has not ended, see `{command}`",
		Means:  "A removal took the lanes away from their owners and was interrupted, or still goes on.",
		Bound:  "none once it was interrupted.",
		WayOut: "`millrace rm NAME` follows the removal, or finishes it",
		Sample: Condition{Subject: "orders/0", Reason: "remove:orders was cancelled", Command: "millrace rm orders"},
	},
	{
		Kind: ConditionNoWorker, Line: "stalled: no worker polls task queue " + TaskQueue,
		Means:  "No worker process is connected to Temporal. Hot paths of workers that lost Temporal run on.",
		Bound:  "none: it ends when a worker polls.",
		WayOut: "start a worker: `bin/worker`, or `millrace dev`",
		Sample: Condition{Command: "bin/worker"},
	},
	{
		Kind: ConditionHeld, Line: "stalled: {subject} takes no commits since {since} and nothing can be journalled ({reason})",
		Means: "A dependency is away, and there is no journal or it is full: back-pressure holds the lanes, nothing is lost.",
		Bound: "none: it ends when the dependency answers, or the journal has room.",
		WayOut: "repair the dependency; a full journal: free disk space or raise `--wal-hard-limit`; " +
			"`millrace degrade status NAME` says why",
		Page: true, Process: true,
		Sample: Condition{
			Subject: "redis on worker-1", Since: sampleSince, Command: "millrace degrade status orders",
			Reason: "100 of 100 tries failed within 10s, and there is no WAL",
		},
	},
	{
		Kind: ConditionLaneParked, Line: "stalled: {lanes} parked, {decide}",
		Means:  "An incident waits for a person: reading on would lose or repeat records. The lane holds every window open.",
		Bound:  "none: it waits for the decision.",
		WayOut: "`millrace recover ls NAME`, then `millrace recover decide WORKFLOW LANE CHOICE` or `--all CHOICE`",
		Page:   true, Process: true,
		Sample: Condition{
			Subject: "orders/0", Since: sampleSince, Command: "millrace recover decide recover:orders:PROCESS:3 --all CHOICE",
			Reason: "incident gap, offsets [1000, 1500)",
		},
	},
	{
		Kind: ConditionHostGone, Line: "stalled: {subject} waits for a process that does not answer since {since}",
		Means:  "A recovery began on a process that stopped answering. If another process owns the lanes it ends by itself.",
		Bound:  "The recovery checks every minute, and ends when the lanes have another owner.",
		WayOut: "bring the worker back, or `millrace recover decide WORKFLOW LANE give-up`",
		Page:   true,
		Sample: Condition{
			Subject: "orders/0", Since: sampleSince, Command: "millrace recover decide recover:orders:PROCESS:3 --all CHOICE",
			Reason: "worker-1 does not answer",
		},
	},
	{
		Kind: ConditionJournalAsks, Line: "degraded ({subject}: a journal cannot be read, decide with `{command}`)",
		Flows: true, Closes: true,
		Means:  "A journal left on a disk has a damaged segment. Lanes run; what the journal holds is not settled.",
		Bound:  "none: it waits for the decision.",
		WayOut: "`millrace wal decide NAME quarantine|abort --disk ID`",
		Page:   true,
		Sample: Condition{
			Subject: "replay-wal:orders:DISK", Since: sampleSince, Command: "millrace wal decide orders CHOICE --disk DISK",
			Reason: "segment 12 cannot be read",
		},
	},
	{
		Kind: ConditionJournalWaits, Line: "degraded ({subject} waits for its worker since {since})", Flows: true, Closes: true,
		Means:  "A worker that is gone left commits in the journal on its disk. Lanes run; others have read those records again.",
		Bound:  "The workflow fails after 24 hours and names what the disk holds; nothing is deleted.",
		WayOut: "bring a worker back with that WAL directory",
		Page:   true,
		Sample: Condition{
			Subject: "replay-wal:orders:DISK", Since: sampleSince,
			Reason: "worker-1 does not answer; its WAL holds 12 commits",
		},
	},
	{
		Kind: ConditionRecountDiffers, Line: "degraded ({subject}: what was published is not what Kafka holds: {reason}, see `{command}`)",
		Flows: true, Closes: true,
		Means: "A recount has read the range again and come to other contents than those that were published. It says which of ledger, " +
			"view and results is wrong, and keeps the difference until somebody decides.",
		Bound:  "7 days: nobody's decision counts as a rejection, and nothing is published. A notice comes a day before.",
		WayOut: "`millrace replay diff NAME ID`, then `millrace replay approve NAME ID CHECKSUM` or `millrace replay reject NAME ID`",
		Page:   true,
		Sample: Condition{
			Subject: "replay:orders:nightly-2026-11-29T03:00:00Z", Since: sampleSince,
			Command: "millrace replay show orders nightly-2026-11-29T03:00:00Z",
			Reason:  "1 of 24 windows differ: 0 keys added, 3 changed, 0 removed; wrong: view",
		},
	},
	{
		Kind: ConditionSeeking, Line: "seeking: {subject}: {reason}",
		Means:  "A hot path has no worker. Other hot paths of the pipeline take its lanes over, if there are any.",
		Bound:  "none without a worker that can run it; seconds with one.",
		WayOut: "start a worker that can run the pipeline, or `millrace scale NAME N`",
		Page:   true,
		Sample: Condition{
			Subject: "replica:orders:0", Since: sampleSince,
			Reason: "no worker can run it: worker-2: no WAL, and the pipeline wants one (overflow: journal)",
		},
	},
	{
		Kind: ConditionLaneUnowned, Line: "stalled: nobody commits for {lanes} since {since}",
		Means:  "No hot path has committed for a lane for a while, though it should every second.",
		Bound:  "A lane of a dead worker has a new owner in seconds.",
		WayOut: "check the replicas in `millrace status NAME`; `millrace scale NAME N` places hot paths anew",
		Sample: Condition{
			Subject: "orders/0", Since: sampleSince, Command: "millrace scale orders N",
			Reason: "the last commit is of then",
		},
	},
	{
		Kind: ConditionEngineTrouble, Line: "stalled: {subject}: {reason}",
		Means:   "A hot path cannot join its consumer group, or has ended with an error. It tries again for ever.",
		Bound:   "none: it ends when the server answers.",
		WayOut:  "repair the server that the reason names",
		Process: true,
		Sample:  Condition{Subject: "replica:orders:0", Reason: "kafka: no broker answers"},
	},
	{
		Kind: ConditionChildEnded, Line: "stalled: {subject} has ended: {reason}",
		Means:  "A child workflow ended though it is wanted. It is started again, after at most a minute.",
		Bound:  "1 minute until the next start.",
		WayOut: "`temporal workflow show --workflow-id CHILD` tells why; `millrace status NAME` shows the restarts",
		Page:   true,
		Sample: Condition{
			Subject: "close:orders", Since: sampleSince, Command: "temporal workflow show --workflow-id close:orders",
			Reason: "workflow execution terminated",
		},
	},
	{
		Kind: ConditionDegraded, Line: "degraded ({subject}: {reason} since {since})", Flows: true,
		Means:  "A dependency is away. Commits go to the journal, or results wait; no window closes, nothing is lost.",
		Bound:  "The journal's limit (`--wal-hard-limit`); then the pipeline is held.",
		WayOut: "repair the dependency; before maintenance `millrace degrade open NAME`, after it `millrace degrade auto NAME`",
		Page:   true, Process: true,
		Sample: Condition{
			Subject: "redis on worker-1", Since: sampleSince, Command: "millrace degrade status orders",
			Reason: "journal: 100 of 100 tries failed within 10s",
		},
	},
	{
		Kind: ConditionClosingBlocked, Line: "closing blocked: {subject}: {reason}", Flows: true,
		Means:  "A window could not be closed three times in a row and has a workflow of its own; the others go on.",
		Bound:  "none: it is tried again at least every five minutes.",
		WayOut: "mend what the reason names; `temporal workflow describe --workflow-id close:NAME:WINDOW:START` shows the last try",
		Page:   true, Process: true,
		Sample: Condition{
			Subject: "window hourly 2001-01-01T05:00:00Z", Since: sampleSince,
			Command: "temporal workflow describe --workflow-id close:orders:hourly:978325200000",
			Reason:  "incident row-too-large: a record has 3145758 bytes, topic orders.windows takes 1048064: raise its limit with ...",
		},
	},
	{
		Kind: ConditionClosingFails, Line: "closing blocked: {reason}", Flows: true,
		Means:   "The closer cannot look for windows at all, for example because it cannot read Redis or Kafka.",
		Bound:   "none: it is tried again at least every minute.",
		WayOut:  "repair the server that the reason names",
		Process: true,
		Sample: Condition{
			Subject: "close:orders", Since: sampleSince, Command: "temporal workflow describe --workflow-id close:orders",
			Reason: "read the lanes: connection refused",
		},
	},
	{
		Kind: ConditionWatermarkHeld, Line: "closing blocked: lane {subject} holds the watermark since {since}: {reason}", Flows: true,
		Means:   "One lane has held the watermark for a minute while others went on past the end of an open window, and is not idle.",
		Bound:   "`idle_timeout`, when it is set and nothing comes that could move the watermark; else none.",
		WayOut:  "feed the partition, or set `idle_timeout` in the spec; a parked lane: `millrace recover ls NAME`",
		Process: true,
		Sample:  Condition{Subject: "orders/3", Since: sampleSince, Reason: "no record since offset 5210"},
	},
	{
		Kind: ConditionRedisAway, Line: "unknown: Redis does not answer ({reason})",
		Means:  "The command itself cannot read Redis. What the hot paths make of it, they say themselves when Temporal answers.",
		Bound:  "none: it ends when Redis answers.",
		WayOut: "repair Redis, or name the right address with `--redis HOST:PORT`",
		Sample: Condition{Reason: "Redis at 127.0.0.1:6379 does not answer: connection refused"},
	},
	{
		Kind: ConditionKafkaAway, Line: "unknown: Kafka does not answer ({reason})",
		Means:  "The command itself cannot read Kafka.",
		Bound:  "none: it ends when Kafka answers.",
		WayOut: "repair Kafka, or name the right address with `--kafka HOST:PORT`",
		Sample: Condition{Reason: "no Kafka broker reachable at 127.0.0.1:9092"},
	},
	{
		Kind: ConditionCommandsUnread, Line: "degraded ({subject} does not hear commands: {reason})", Flows: true, Closes: true,
		Means:   "A hot path cannot read in Redis what is commanded; what it read before holds. Pause, resume and scale wait.",
		Bound:   "none: it is tried again every second.",
		WayOut:  "repair Redis",
		Process: true,
		Sample:  Condition{Subject: "replica:orders:0", Reason: "read the desired state of pipeline orders: connection refused"},
	},
	{
		Kind: ConditionLaneBlocked, Line: "degraded (lane {subject} waits: {reason})", Flows: true, Closes: true,
		Means:   "A lane waits for commits or for memory: back-pressure, as it should be.",
		Bound:   "none: it ends when Redis is fast enough, or other lanes have caught up.",
		WayOut:  "a faster Redis, more replicas (`millrace scale NAME N`), a greater `memory_limit`",
		Process: true,
		Sample:  Condition{Subject: "orders/0", Reason: "memory limit of 256 MiB is reached"},
	},
	{
		Kind: ConditionLongTransaction, Line: "publishing ({subject} since {since}: {reason})", Flows: true, Closes: true,
		Means: "A window of more than 4 MiB is published in a transaction of its own, which has been open for more than 10 seconds. " +
			"Whoever reads committed records of the result topic sees nothing that came after its begin until it ends.",
		Bound: "15 minutes, where brokers allow them (`transaction.max.timeout.ms`), for a window of more than 128 MiB, else one minute; " +
			"then brokers abort it, the window is tried again, and what it failed with says what to raise.",
		WayOut: "a faster Redis or Kafka; a worker that ends aborts it, and the next one begins anew. Smaller windows need " +
			"shorter ones",
		Process: true,
		Sample: Condition{
			Subject: "window hourly 2001-01-01T05:00:00Z", Since: sampleSince,
			Reason: "12000000 rows of revision 1 so far; readers of the result topic wait for its end",
		},
	},
	{
		Kind: ConditionWatermarkAhead, Line: "degraded (the watermark of lane {subject} is far ahead: {reason})", Flows: true, Closes: true,
		Means: "A record from the future has moved a lane's watermark by more than a day beyond the clock. Windows in between may be " +
			"final without their events; where events are planned that far ahead, all is well.",
		Bound:   "none: it ends when the clock has come that far.",
		WayOut:  "`millrace watermark reset NAME --from ...` after a stop, with `event.max_jump` or a smaller `max_future` in the spec",
		Process: true,
		Sample: Condition{
			Subject: "orders/2", Command: "millrace watermark reset orders --from ... --dry-run",
			Reason: "it is 2099-01-01T00:00:00Z, ahead of the clock: what is older counts as late",
		},
	},
	{
		Kind: ConditionRefusing, Line: "degraded (lane {subject} refuses its records: {reason})", Flows: true, Closes: true,
		Means: "Every record that a lane has read since it was taken over was refused: the records are counted, and stand in the " +
			"dead-letter topic if there is one.",
		Bound:   "none: it ends with the first good record. The lane holds no window open after `idle_timeout`.",
		WayOut:  "mend the producer or the spec; `millrace status NAME TOPIC/PARTITION` shows reasons and examples",
		Process: true,
		Sample:  Condition{Subject: "orders/0", Reason: "1200 of 1200 records are refused: not_json: at byte 0"},
	},
	{
		Kind: ConditionCompactFails, Line: "degraded ({subject}: {reason}, see `{command}`)", Flows: true, Closes: true,
		Means: "A run of `Compact` could not roll windows up or archive them, or roll-ups wait for a window that should have been final " +
			"long ago. Windows go on closing; nothing that is to be archived expires.",
		Bound: "none: the next run of the schedule tries again, and takes it back when it succeeds.",
		WayOut: "mend what the reason names, then `millrace compact run NAME`; where the states of a window are gone, the reason names " +
			"the `millrace recount` whose approval publishes them again; `millrace compact ls NAME` shows what each run came to, and " +
			"`millrace compact unschedule NAME` gives compaction up",
		Page: true,
		Sample: Condition{
			Subject: "compact:orders", Since: sampleSince, Command: "millrace compact ls orders",
			Reason: "1 window cannot be rolled up: daily 2001-01-01T00:00:00Z: the states of hourly 2001-01-01T05:00:00Z are gone",
		},
	},
	{
		Kind: ConditionStorm, Line: "degraded ({subject}: {reason})", Flows: true, Closes: true,
		Means:   "Lanes change owners too often, so recoveries are held back.",
		Bound:   "It ends when assignment has been quiet for the storm's span.",
		WayOut:  "look for workers that come and go; `millrace recover ls NAME`",
		Process: true,
		Sample: Condition{
			Subject: "replica:orders:0", Since: sampleSince,
			Reason: "7 changes of assignment, recoveries are held back by 800 ms",
		},
	},
	{
		Kind: ConditionClosingSuspended, Line: "{phase}, but no window closes: {subject} held by an operator: {reason}", Flows: true,
		OnPurpose: true,
		Means: "An operator's order, `open` or a `hold` above level normal, keeps commits in the journals, or results back. " +
			"Counts as healthy; no window closes before the order ends.",
		Bound:  "none: it lasts until `auto`. A journal that fills up holds the pipeline, whatever the order.",
		WayOut: "`millrace degrade auto NAME`",
		Page:   true, Process: true,
		Sample: Condition{
			Subject: "redis on worker-1", Since: sampleSince, Command: "millrace degrade auto orders",
			Reason: "open at level journal: maintenance",
		},
	},
	{
		Kind: ConditionOverride, Line: "{phase}, {subject} held by an operator: {reason}", Flows: true, Closes: true, OnPurpose: true,
		Means:  "An operator's order is in force, and windows close: `close`, or a `hold` at level normal. Counts as healthy.",
		Bound:  "none: it lasts until `auto`.",
		WayOut: "`millrace degrade auto NAME`",
		Page:   true, Process: true,
		Sample: Condition{
			Subject: "redis on worker-1", Since: sampleSince, Command: "millrace degrade auto orders",
			Reason: "hold at level normal: the nightly backup",
		},
	},
	{
		Kind: ConditionReplayAsks, Line: "{phase}; {subject} waits for an approval since {since}, see `{command}`", Flows: true,
		Closes: true, OnPurpose: true,
		Means: "A replay has found contents that differ from what was published, and publishes them only when somebody approves. " +
			"Counts as healthy.",
		Bound:  "7 days: nobody's approval counts as a rejection, and nothing is published. A notice comes a day before.",
		WayOut: "`millrace replay diff NAME ID`, then `millrace replay approve NAME ID CHECKSUM` or `millrace replay reject NAME ID`",
		Page:   true,
		Sample: Condition{
			Subject: "replay:orders:fix-1", Since: sampleSince, Command: "millrace replay show orders fix-1",
			Reason: "3 of 24 windows differ: 2 keys added, 5 changed, 0 removed",
		},
	},
	{
		Kind: ConditionPaused, Line: "paused on purpose since {since}: {reason}", OnPurpose: true,
		Means:  "An operator has paused the pipeline. Counts as healthy.",
		Bound:  "none: it lasts until a resume.",
		WayOut: "`millrace resume NAME`",
		Page:   true,
		Sample: Condition{Since: sampleSince, Reason: "broker maintenance"},
	},
	{
		Kind: ConditionDraining, Line: "draining: {reason}", OnPurpose: true, Flows: true, Closes: true,
		Means:  "A stop with drain reads to the end and publishes what is open. Counts as healthy.",
		Bound:  "the drain's `--timeout`, then the pipeline goes on and the receipt says why.",
		WayOut: "wait, or `millrace stop NAME` without a drain",
		Page:   true,
		Sample: Condition{Since: sampleSince, Reason: "waits for the lanes to reach the end"},
	},
	{
		Kind: ConditionStopping, Line: "stopping: {reason}", OnPurpose: true,
		Means:  "The pipeline is being stopped. Counts as healthy.",
		Bound:  "2 minutes for the children to end; those left end by themselves.",
		WayOut: "wait; the receipt names what did not end in time",
		Page:   true,
		Sample: Condition{Since: sampleSince, Reason: "waits for close:orders"},
	},
	{
		Kind: ConditionStopped, Line: "stopped", OnPurpose: true,
		Means:  "The pipeline was stopped by an operator. Counts as healthy.",
		Bound:  "none: it lasts until a start.",
		WayOut: "`millrace start FILE`",
		Page:   true,
		Sample: Condition{Since: sampleSince},
	},
	{
		Kind: ConditionTemporalAway, Line: "{phase}; Temporal does not answer ({reason})", Flows: true,
		Means:  "Events flow and lanes commit, recoveries go on by themselves; a closer under way goes on closing. Commands wait.",
		Bound:  "none: it ends when Temporal answers.",
		WayOut: "repair Temporal, or name the right address with `--temporal HOST:PORT`",
		Sample: Condition{Reason: "Temporal at 127.0.0.1:7233 does not answer"},
	},
	{
		Kind: ConditionUnanswered, Line: "{phase} as far as is known; no worker answers for its workflow ({reason})", Flows: true,
		Means: "Temporal has the pipeline's workflow, and no worker says how it is: the workers have just gone, or are too busy. " +
			"Commands wait. Temporal knows only after a minute that a worker is gone; from then on the state is `no-worker`.",
		Bound:  "a minute, if no worker is left; none while one is there that does not get to it.",
		WayOut: "see that a worker runs and reaches Temporal: `bin/worker`, or its log",
		Sample: Condition{Reason: "workflow pipeline:orders: context deadline exceeded", Command: "bin/worker"},
	},
	{
		Kind: ConditionStarting, Line: "starting: {reason}", OnPurpose: true,
		Means:  "The pipeline's servers are checked, its topics made, its children started.",
		Bound:  "none while a server is away: the checks are tried again.",
		WayOut: "`temporal workflow describe --workflow-id pipeline:NAME` shows the activity under way and its last failure",
		Page:   true,
		Sample: Condition{Since: sampleSince, Reason: "checks the servers"},
	},
}
