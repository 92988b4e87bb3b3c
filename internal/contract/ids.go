package contract

import (
	"regexp"
	"strconv"
	"strings"

	"millrace/pipeline/report"
)

// TaskQueue is polled by every worker: workflows and all activities that any process can run.
const TaskQueue = "millrace"

// HostQueue is polled by one process only; hot paths live there.
func HostQueue(process string) string { return "millrace:p:" + process }

// PipelineID is the workflow id of a pipeline.
func PipelineID(pipeline string) string { return "pipeline:" + pipeline }

// ReplicaID is the workflow id of the n-th hot path of a pipeline, counted from 0.
func ReplicaID(pipeline string, n int) string {
	return "replica:" + pipeline + ":" + strconv.Itoa(n)
}

// CloseWindowsID is the workflow id of a pipeline's closer.
func CloseWindowsID(pipeline string) string { return "close:" + pipeline }

// CloseWindowID is the workflow id of one window that could not be closed with the others.
func CloseWindowID(pipeline string, ref report.WindowRef) string {
	return "close:" + pipeline + ":" + ref.Window + ":" + strconv.FormatInt(ref.Start, 10)
}

// DiskQueue is polled by the process that has the WAL directory with this id; what is in it belongs to the disk, not to a process.
func DiskQueue(disk string) string { return "millrace:d:" + disk }

// RecoverLanesID is the workflow id of the n-th recovery of a process.
func RecoverLanesID(pipeline, process string, n int64) string {
	return RecoverLanesPrefix(pipeline) + process + ":" + strconv.FormatInt(n, 10)
}

// RecoverLanesPrefix begins the ids of a pipeline's recoveries.
func RecoverLanesPrefix(pipeline string) string { return "recover:" + pipeline + ":" }

// DegradeID is the workflow id of what a worker goes through because of one dependency.
func DegradeID(pipeline, worker, dependency string) string {
	return DegradePrefix(pipeline) + degradeWorker(worker) + ":" + dependency
}

// degradeWorker is a worker's name as it stands in a workflow id: Temporal's HTTP API refuses slashes.
func degradeWorker(worker string) string { return strings.ReplaceAll(worker, "/", "_") }

// DegradePrefix begins the ids of a pipeline's degradations.
func DegradePrefix(pipeline string) string { return "degrade:" + pipeline + ":" }

// ReplayWALID is the workflow id of the replay of a pipeline's journal on one disk.
func ReplayWALID(pipeline, disk string) string { return replayWALPrefix(pipeline) + disk }

func replayWALPrefix(pipeline string) string { return "replay-wal:" + pipeline + ":" }

// ReplayID is the workflow id of a replay or recount of a pipeline.
func ReplayID(pipeline, id string) string { return ReplayPrefix(pipeline) + id }

// ReplayPrefix begins the ids of a pipeline's replays and recounts.
func ReplayPrefix(pipeline string) string { return "replay:" + pipeline + ":" }

// CompactID is the id of the schedule that compacts a pipeline, and the workflow id of a run without one. Temporal appends the
// time to the id of a run that a schedule starts. All runs report to the pipeline under this id: what one has found, the next one
// takes back.
func CompactID(pipeline string) string { return compactPrefix + pipeline }

const compactPrefix = "compact:"

// CompactOf returns the name of the pipeline that a workflow with this id compacts; ok is false for any other id.
func CompactOf(workflowID string) (pipeline string, ok bool) {
	name, ok := strings.CutPrefix(workflowID, compactPrefix)
	return scheduledAt.ReplaceAllString(name, ""), ok
}

// scheduledAt is what Temporal appends to the id of a workflow that a schedule starts.
var scheduledAt = regexp.MustCompile(`-\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$`)

// RecountScheduleID is the id of the schedule that recounts a pipeline.
func RecountScheduleID(pipeline string) string { return "recount:" + pipeline }

// Attached reports whether an id is that of a recovery, a degradation, a journal replay, a replay or the compaction of the pipeline:
// workflows that report to it and are not its children.
func Attached(pipeline, id string) bool {
	return strings.HasPrefix(id, RecoverLanesPrefix(pipeline)) || strings.HasPrefix(id, DegradePrefix(pipeline)) ||
		strings.HasPrefix(id, replayWALPrefix(pipeline)) || strings.HasPrefix(id, ReplayPrefix(pipeline)) || id == CompactID(pipeline)
}

// RemoveID is the workflow id of a pipeline's removal.
func RemoveID(pipeline string) string { return "remove:" + pipeline }

// PipelineOf returns the pipeline's name from the workflow id of a pipeline; ok is false for any other id.
func PipelineOf(workflowID string) (name string, ok bool) {
	return strings.CutPrefix(workflowID, "pipeline:")
}
