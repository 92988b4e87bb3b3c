package logs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.temporal.io/api/serviceerror"
	temporalotel "go.temporal.io/sdk/contrib/opentelemetry"
	sdklog "go.temporal.io/sdk/log"
)

func TestDurationsAndSizesAreReadable(t *testing.T) {
	var out bytes.Buffer
	New(&out, false, false).With("after", 90*time.Second).Info("x", "took", 1_234_567_890*time.Nanosecond, "pending_bytes", 8<<20,
		"bytes", uint64(100), "records", 8<<20, slog.Group("g", "wait", time.Minute))
	var line map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &line))
	require.Equal(t, "1.23s", line["took"])
	require.Equal(t, "1m30s", line["after"])
	require.Equal(t, "8.0 MiB", line["pending_bytes"])
	require.Equal(t, "100 B", line["bytes"])
	require.EqualValues(t, 8<<20, line["records"])
	require.Equal(t, map[string]any{"wait": "1m"}, line["g"])

	out.Reset()
	New(&out, true, false).Info("x", "took", 951*time.Nanosecond)
	require.Contains(t, out.String(), "took=951ns")
	out.Reset()
	New(&out, true, false).Debug("x")
	require.Empty(t, out.String())
	New(&out, true, true).Debug("x")
	require.NotEmpty(t, out.String())
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 951: "951ns", 1951 * time.Nanosecond: "1.95µs", 12345 * time.Microsecond: "12.3ms",
		999_999 * time.Microsecond: "1s",
		59_940 * time.Millisecond:  "59.9s", 62_700 * time.Millisecond: "1m3s",
		time.Hour: "1h", 90 * time.Minute: "1h30m", -1234 * time.Millisecond: "-1.23s",
		3*time.Hour + 5*time.Second: "3h0m5s",
	} {
		require.Equal(t, want, Duration(d))
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 8 << 20: "8.0 MiB", 1<<20 - 1: "1.0 MiB", 4 << 30: "4.0 GiB",
		1 << 60: "1024.0 PiB", -2048: "-2.0 KiB",
	} {
		require.Equal(t, want, Size(n))
	}
}

func TestLevelsOfTheSDK(t *testing.T) {
	for _, c := range []struct {
		name string
		log  func(sdklog.Logger)
		want string
	}{
		{"an attempt that is tried again", func(l sdklog.Logger) { l.Error(lineActivity, "Attempt", 1, "Error", errors.New("no leader")) },
			"WARN"},
		{"an attempt that was told to stop",
			func(l sdklog.Logger) { l.Error(lineActivity, "Error", fmt.Errorf("run: %w", context.Canceled)) }, "DEBUG"},
		{"a beat of a closed workflow", func(l sdklog.Logger) {
			l.Warn(lineHeartbeat, "Error", serviceerror.NewNotFound("workflow execution already completed"))
		}, "INFO"},
		{"a beat that did not arrive", func(l sdklog.Logger) {
			l.Warn(lineHeartbeat, "Error", serviceerror.NewUnavailable("connection refused"))
		}, "WARN"},
		{"a poll at the end", func(l sdklog.Logger) {
			l.Warn(linePoll, "Error", serviceerror.NewCanceled("grpc: the client connection is closing"))
		}, "DEBUG"},
		{"a poll while Temporal is away",
			func(l sdklog.Logger) { l.Warn(linePoll, "Error", serviceerror.NewUnavailable("connection refused")) }, "WARN"},
		{"shutting down while Temporal is away",
			func(l sdklog.Logger) {
				l.Warn(lineShutdown, "Error", serviceerror.NewUnavailable("connection refused"))
			}, "DEBUG"},
		{"a panic", func(l sdklog.Logger) { l.Error("Workflow panic", "Error", errors.New("x")) }, "ERROR"},
		{"with tags", func(l sdklog.Logger) { sdklog.With(l, "a", 1).Error(lineActivity, "Error", errors.New("x")) }, "WARN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			c.log(ForTemporal(New(&out, false, true)))
			require.Contains(t, out.String(), `"level":"`+c.want+`"`)
		})
	}
}

func TestLinesNameTheirSpan(t *testing.T) {
	provider := sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())))
	ctx, span := provider.Tracer("test").Start(context.Background(), "s")
	defer span.End()
	of := span.SpanContext()
	ids := fmt.Sprintf(`"trace_id":"%s","span_id":"%s"`, of.TraceID(), of.SpanID())

	var out bytes.Buffer
	log := New(&out, false, false)
	log.With("a", 1).InfoContext(ctx, "x", "b", 2)
	require.Contains(t, out.String(), `"a":1,"b":2,`+ids)
	out.Reset()
	log.Info("x")
	log.InfoContext(trace.ContextWithSpanContext(ctx, of.WithTraceFlags(0)), "x")
	require.NotContains(t, out.String(), "trace_id", "nobody records it")
	out.Reset()
	New(&out, true, false).InfoContext(ctx, "x")
	require.Contains(t, out.String(), "trace_id="+of.TraceID().String())

	made, err := temporalotel.NewTracer(temporalotel.TracerOptions{Tracer: provider.Tracer("test")})
	require.NoError(t, err)
	out.Reset()
	made.GetLogger(ForTemporal(log), made.SpanFromContext(ctx)).Info("x")
	require.Contains(t, out.String(), ids)
}

// TestTheSDKStillHasTheseLines reads its source: a new version may word them differently.
func TestTheSDKStillHasTheseLines(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "go.temporal.io/sdk").Output()
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "internal", "*.go"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var all strings.Builder
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		all.Write(text)
	}
	for _, line := range []string{lineActivity, lineHeartbeat, linePoll, lineShutdown} {
		require.Contains(t, all.String(), `"`+line+`"`)
	}
}
