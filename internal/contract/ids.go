package contract

import (
	"strconv"
	"strings"
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
func CloseWindowID(pipeline string, ref WindowRef) string {
	return "close:" + pipeline + ":" + ref.Window + ":" + strconv.FormatInt(ref.Start, 10)
}

// GroupInstanceID is the static member id of a replica in the pipeline's consumer group.
func GroupInstanceID(pipeline string, n int) string { return pipeline + "-" + strconv.Itoa(n) }

// PipelineOf returns the pipeline's name from the workflow id of a pipeline; ok is false for any other id.
func PipelineOf(workflowID string) (name string, ok bool) {
	return strings.CutPrefix(workflowID, "pipeline:")
}
