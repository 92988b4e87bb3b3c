package traces

import (
	"strconv"

	"go.opentelemetry.io/otel/attribute"
)

// Names of spans. Those of workflows and activities are Temporal's: RunWorkflow:TYPE, RunActivity:TYPE and so on.
const (
	SpanSend        = "feed.send"      // a record, from the command line to the broker's acknowledgement
	SpanRecord      = "lane.record"    // a record with a trace of its own, from the fetch to the commit
	SpanBatch       = "lane.batch"     // a batch that the lane has picked itself
	SpanFetch       = "lane.fetch"     // the fetch that brought it
	SpanFold        = "lane.fold"      // deciding and folding
	SpanCommit      = "lane.commit"    // from handing the commit over until Redis has it
	SpanClose       = "window.close"   // a window: a revision, or a row that says more of it
	SpanMerge       = "window.merge"   // reading and merging the lanes' entries
	SpanPublish     = "window.publish" // one transaction: results and ledger row
	SpanShow        = "window.show"    // the view in Redis
	SpanCorrect     = "window.correct" // a revision that a replay corrects
	SpanRollUp      = "window.roll_up" // a window of a roll-up
	SpanShadowRead  = "shadow.read"    // reading the lanes of a shadow to their ends, and comparing
	SpanCompare     = "shadow.compare" // windows that have become complete
	SpanJob         = "closer."        // and the kind of a job: what a replay or a compaction asks of the closer
	SpanRecovery    = "recovery"       // a batch of lanes, from the first claim until all have an outcome
	SpanStep        = "recovery."      // and the name of the step, of one lane
	SpanDegradation = "degradation"    // of a dependency, from leaving the level normal until it is back
	SpanLevel       = "degradation."   // and the name of the level
	SpanCommand     = "millrace"       // a command of the command line
)

// Keys of attributes. Keys of events and contents of records never are attributes.
const (
	Pipeline   = attribute.Key("millrace.pipeline")
	Replica    = attribute.Key("millrace.replica")
	Lane       = attribute.Key("millrace.lane") // topic/partition
	Offset     = attribute.Key("millrace.offset")
	Records    = attribute.Key("millrace.records")
	Outcome    = attribute.Key("millrace.outcome") // what became of a record: folded, late, invalid, ...
	Slice      = attribute.Key("millrace.slice")   // width:start:generation, ms
	Commit     = attribute.Key("millrace.commit")  // offset up to which the commit goes
	Journaled  = attribute.Key("millrace.journaled")
	Window     = attribute.Key("millrace.window") // name/start
	Windows    = attribute.Key("millrace.windows")
	Revision   = attribute.Key("millrace.revision")
	Reason     = attribute.Key("millrace.reason")
	Final      = attribute.Key("millrace.final")
	Keys       = attribute.Key("millrace.keys")
	Events     = attribute.Key("millrace.events")
	Traced     = attribute.Key("millrace.traced_records") // that the window is known to hold
	Batch      = attribute.Key("millrace.recovery.batch")
	By         = attribute.Key("millrace.recovery.by") // temporal or inline
	Lanes      = attribute.Key("millrace.lanes")
	Entries    = attribute.Key("millrace.entries")
	Bytes      = attribute.Key("millrace.bytes")
	State      = attribute.Key("millrace.lane.state")
	Dependency = attribute.Key("millrace.dependency")
	Level      = attribute.Key("millrace.level")
)

// Attributes that OpenTelemetry names for messages.
const (
	Topic       = attribute.Key("messaging.destination.name")
	Partition   = attribute.Key("messaging.destination.partition.id")
	KafkaOffset = attribute.Key("messaging.kafka.offset")
)

// PartitionOf is the attribute of a partition, which OpenTelemetry takes for a text.
func PartitionOf(partition int32) attribute.KeyValue {
	return Partition.String(strconv.Itoa(int(partition)))
}

// System says that a message is one of Kafka.
var System = attribute.String("messaging.system", "kafka")
