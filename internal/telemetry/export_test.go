package telemetry

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"

	"millrace/pipeline/measure"
	"millrace/pipeline/merge"
)

// measured returns a process that has measured something of every kind.
func measured() *measure.Process {
	process := measure.NewProcess()
	p := process.Pipeline("orders")
	for _, h := range []*measure.Histogram{p.Readable, p.WindowEnd, p.Watermark, p.Commit, p.Close, p.Replay, p.Step("restore")} {
		h.ObserveN(300*time.Millisecond, 5)
	}
	p.Readable.Explain(300*time.Millisecond, measure.Trace{TraceID: [16]byte{1, 2}, SpanID: [8]byte{3}}, time.Now())
	p.Published(measure.Revision{Reason: "watermark", Number: 1, Final: true, Rows: 4, Bytes: 100})
	process.CallsTo("redis").Done("apply", measure.OK, time.Millisecond)
	return process
}

func TestMeasuresAreObserved(t *testing.T) {
	r := newRegistry(t)
	r.ObserveMeasures(measured())
	r.ObserveMergeCache(func() merge.CacheStats { return merge.CacheStats{Bytes: 7, Limit: 8, Hits: 9, Misses: 10} })
	got := gathered(t, r)
	for name, want := range map[string]float64{
		"millrace_event_to_readable_seconds pipeline=orders":                     5,
		"millrace_window_end_to_published_seconds pipeline=orders":               5,
		"millrace_watermark_to_published_seconds pipeline=orders":                5,
		"millrace_commit_duration_seconds pipeline=orders":                       5,
		"millrace_close_duration_seconds pipeline=orders":                        5,
		"millrace_replay_duration_seconds pipeline=orders":                       5,
		"millrace_recovery_step_duration_seconds pipeline=orders step=restore":   5,
		"millrace_call_duration_seconds operation=apply outcome=ok server=redis": 1,
		"millrace_windows_closed_total pipeline=orders":                          1,
		"millrace_windows_final_total pipeline=orders":                           1,
		"millrace_revisions_total pipeline=orders reason=watermark":              1,
		"millrace_published_rows_total pipeline=orders":                          4,
		"millrace_merge_cache_bytes":                                             7,
		"millrace_merge_cache_limit_bytes":                                       8,
		"millrace_merged_slices_total source=cache":                              9,
		"millrace_merged_slices_total source=lanes":                              10,
	} {
		require.Contains(t, got, name)
		require.Equal(t, want, got[name], name)
	}
}

// Where OpenMetrics is asked for, buckets name the traces that explain them.
func TestExemplarsAreServed(t *testing.T) {
	r := newRegistry(t)
	r.ObserveMeasures(measured())
	request := httptest.NewRequest("GET", "/metrics", nil)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	answer := httptest.NewRecorder()
	r.Handler().ServeHTTP(answer, request)
	require.Regexp(t, `millrace_event_to_readable_seconds_bucket\{pipeline="orders",le="[0-9.]+"\} 5.* # \{.*trace_id="0102000000`, answer.Body.String())
}

// A short run leaves its outcome, and all that its process has measured, at a Pushgateway.
func TestPush(t *testing.T) {
	var path string
	var pushed []byte
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		path = req.Method + " " + req.URL.Path
		pushed, _ = io.ReadAll(req.Body)
	}))
	defer gateway.Close()
	r := newRegistry(t)
	r.ObserveMeasures(measured())
	run := Run{Command: "feed", Took: 1500 * time.Millisecond, Records: 12, Failed: true}
	require.NoError(t, r.Push(t.Context(), gateway.URL, "host-1", run))
	require.Equal(t, "PUT /metrics/job/millrace_feed/instance/host-1", path)
	got := gathered(t, r)
	require.Equal(t, 1.5, got["millrace_run_duration_seconds command=feed"])
	require.Equal(t, 12.0, got["millrace_run_records command=feed"])
	require.Equal(t, 1.0, got["millrace_run_outcome command=feed outcome=failed"])
	for _, name := range []string{"millrace_run_outcome", "millrace_event_to_readable_seconds", "go_goroutines"} {
		require.Contains(t, string(pushed), name)
	}
}

// What is wrong with a Pushgateway is said without its address, which may hold a password.
func TestPushErrors(t *testing.T) {
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }))
	defer refusing.Close()
	for _, address := range []string{"http://u:hunter2@127.0.0.1:1", "hunter2", "ftp://hunter2", refusing.URL, ""} {
		err := newRegistry(t).Push(t.Context(), address, "host", Run{Command: "feed"})
		require.Error(t, err, address)
		require.NotContains(t, err.Error(), "hunter2")
	}
	require.NoError(t, CheckPushgateway("https://u:p@gateway:9091"))
	require.Error(t, CheckPushgateway("gateway:9091"))
}

// With an endpoint in the environment everything goes there over OTLP, the last of it when the process ends; without one nothing does.
func TestOTLP(t *testing.T) {
	received := make(chan *collectorpb.ExportMetricsServiceRequest, 10)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		var message collectorpb.ExportMetricsServiceRequest
		if proto.Unmarshal(body, &message) == nil {
			received <- &message
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	defer collector.Close()
	env := map[string]string{envEndpoint: collector.URL, envProtocol: protocolHTTP}
	for name, value := range env {
		t.Setenv(name, value)
	}
	r, err := NewRegistry(t.Context(), func(name string) string { return env[name] })
	require.NoError(t, err)
	r.ObserveMeasures(measured())
	require.NoError(t, r.Close(context.Background()))
	message := <-received
	resource := message.GetResourceMetrics()[0]
	require.Contains(t, resource.GetResource().String(), "millrace")
	byName := make(map[string]*metricspb.Metric)
	for _, scope := range resource.GetScopeMetrics() {
		for _, m := range scope.GetMetrics() {
			byName[m.GetName()] = m
		}
	}
	histogram := byName[eventReadable.Name].GetHistogram().GetDataPoints()
	require.Len(t, histogram, 1)
	require.EqualValues(t, 5, histogram[0].GetCount())
	require.Len(t, histogram[0].GetExemplars(), 1)
	require.Equal(t, 1.0, byName[windowsClosed.Name].GetSum().GetDataPoints()[0].GetAsDouble())

	env[envProtocol] = "carrier pigeon"
	_, err = NewRegistry(t.Context(), func(name string) string { return env[name] })
	require.ErrorContains(t, err, `OTEL_EXPORTER_OTLP_PROTOCOL is "carrier pigeon", want grpc or http/protobuf`)
	for _, off := range []map[string]string{{}, {envEndpoint: collector.URL, envExporter: "none"}} {
		reader, err := otlpReader(t.Context(), func(name string) string { return off[name] }, r.sources)
		require.NoError(t, err)
		require.Nil(t, reader)
	}
}
