package telemetry

import (
	"context"
	"errors"
	"io"
	"net/http"
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

func TestServerAnswers(t *testing.T) {
	var notReady error
	health := Health{Standing: contract.Standing{Line: "ok", Healthy: true}}
	r := newRegistry(t)
	s, err := Listen("127.0.0.1:0", r, func() error { return notReady }, func() Health { return health })
	require.NoError(t, err)
	defer s.Close(context.Background())
	r.ObserveBuild()
	watermark := int64(1500)
	r.ObserveEngines(func() []engine.Status {
		return []engine.Status{{Pipeline: "p", Replica: 1, MemoryUsed: 7, Lanes: []lane.Status{{
			Topic: "t", Partition: 3, State: lane.StateRunning, End: 20, Committed: 12, Watermark: &watermark,
			Counters: store.Counters{Read: 12, Folded: 8, Late: 2, Past: 2}, Refused: []report.RefusedRecords{{Reason: "too_far_past", Count: 2}},
		}}}}
	})
	r.ObserveConditions(func() map[string]map[string]int {
		return map[string]map[string]int{"p": {contract.ConditionLaneParked: 2, contract.ConditionStorm: 0}}
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	get := func(path string) (int, string) {
		resp, err := client.Get("http://" + s.Addr() + path)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	_, text := get("/metrics")
	for _, want := range []string{`outcome="folded"`, `outcome="past"`, `millrace_refused_records_total{`, `reason="too_far_past"`,
		`millrace_lane_lag{`, `partition="3"`, `state="running"`, `millrace_replica_memory_bytes{`,
		`kind="lane-parked",pipeline="p"} 2`, `kind="storm"`,
		`millrace_build_info{go="go1.`} {
		require.Contains(t, text, want)
	}
	code, _ := get("/readyz")
	require.Equal(t, 200, code)
	notReady = errors.New("Temporal is away")
	code, text = get("/readyz")
	require.Equal(t, 503, code)
	require.Contains(t, text, "Temporal is away")
	code, _ = get("/healthz")
	require.Equal(t, 200, code)

	code, text = get("/health")
	require.Equal(t, 200, code)
	require.Contains(t, text, `"line": "ok"`)
	health = Health{Standing: contract.Standing{Line: "p: stalled"}, Pipelines: map[string]contract.Standing{"p": {Line: "stalled"}}}
	code, text = get("/health")
	require.Equal(t, 503, code)
	require.Contains(t, text, `"line": "p: stalled"`)
}
