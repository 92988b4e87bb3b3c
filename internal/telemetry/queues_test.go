package telemetry

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
)

// The queues of processes and disks have names without end; their labels have not.
func TestQueuesOfTheSDKAreBounded(t *testing.T) {
	r := newRegistry(t)
	handler := r.TemporalHandler().WithTags(map[string]string{"namespace": "n"})
	for _, queue := range []string{contract.TaskQueue, contract.HostQueue("0815"), contract.HostQueue("0816"), contract.DiskQueue("4711")} {
		handler.WithTags(map[string]string{tagQueue: queue}).Counter("temporal_workflow_failed").Inc(1)
	}
	families, err := r.registry.Gather()
	require.NoError(t, err)
	got := make(map[string]float64)
	for _, f := range families {
		if f.GetName() != "temporal_workflow_failed_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			got[m.GetLabel()[1].GetValue()] = valueOf(m)
		}
	}
	require.Equal(t, map[string]float64{contract.TaskQueue: 1, QueueHost: 2, QueueDisk: 1}, got)
}

// The metrics of orchestration are there as soon as somebody has been asked.
func TestTemporalIsObserved(t *testing.T) {
	r := newRegistry(t)
	polled := time.UnixMilli(1_500)
	r.ObserveTemporal(func() map[Poll]time.Time { return map[Poll]time.Time{{QueueShared, "workflow"}: polled} },
		func() Orchestration {
			return Orchestration{
				Conditions: map[string]map[string]int{"p": {contract.ConditionReplayAsks: 1}}, Failed: map[string]int{"Pipeline": 2},
			}
		})
	require.Equal(t, map[string]float64{
		"millrace_task_queue_last_poll_timestamp_seconds queue=shared type=workflow": 1.5,
		"millrace_pipeline_conditions kind=replay-asks pipeline=p":                   1,
		"millrace_workflows_failed workflow=Pipeline":                                2,
	}, gathered(t, r))
}
