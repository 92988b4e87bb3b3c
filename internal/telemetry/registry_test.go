package telemetry

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/contract"
	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRegistryAnswersPrometheus(t *testing.T) {
	r := newRegistry(t)
	r.ObserveBuild()
	watermark := int64(1500)
	r.ObserveEngines(func() []engine.Status {
		return []engine.Status{{Pipeline: "p", Replica: 1, MemoryUsed: 7, Lanes: []lane.Status{{
			Topic: "t", Partition: 3, State: lane.StateRunning, End: 20, Committed: 12, Watermark: &watermark,
			Counters: store.Counters{Read: 12, Folded: 8, Late: 2, Past: 2}, Refused: []report.RefusedRecords{{Reason: "too_far_past", Count: 2}},
			StateFormat: store.PageFormat, Pages: &report.LanePages{Pages: 5, Bytes: 600, Runs: 3, Dirtied: 70, Written: 140},
		}, {Topic: "t", Partition: 4, StateFormat: store.FieldFormat}}}}
	})
	r.ObserveConditions(func() map[string]map[string]int {
		return map[string]map[string]int{"p": {contract.ConditionLaneParked: 2, contract.ConditionStorm: 0}}
	})
	answer := httptest.NewRecorder()
	r.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	text := answer.Body.String()
	for _, want := range []string{`outcome="folded"`, `outcome="past"`, `millrace_refused_records_total{`, `reason="too_far_past"`,
		`millrace_lane_lag{`, `partition="3"`, `state="running"`, `millrace_replica_memory_bytes{`,
		`kind="lane-parked",pipeline="p"} 2`, `kind="storm"`,
		`millrace_lane_state_format{partition="3",pipeline="p",topic="t"} 2`, `millrace_lane_pages{partition="3",pipeline="p",topic="t"} 5`,
		`millrace_lane_pages_size_bytes{partition="3",pipeline="p",topic="t"} 600`,
		`millrace_lane_pages_runs{partition="3",pipeline="p",topic="t"} 3`,
		`millrace_lane_pages_entries_dirtied_total{partition="3",pipeline="p",topic="t"} 70`,
		`millrace_lane_pages_entries_written_total{partition="3",pipeline="p",topic="t"} 140`,
		`millrace_lane_state_format{partition="4",pipeline="p",topic="t"} 1`,
		`millrace_build_info{go="go1.`} {
		require.Contains(t, text, want)
	}
}
